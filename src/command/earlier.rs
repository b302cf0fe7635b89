//! Whether the target has seen these prompts before: runs beside this one with the same target, data and seed.

use super::input;
use crate::measure::Manifest;
use serde::Deserialize;
use std::path::Path;

/// What of an earlier `run.json` tells whether it sent the same prompts to the same target.
#[derive(Deserialize)]
struct Earlier {
    run_id: String,
    settings: Settings,
    target: Target,
    dataset: Dataset,
}

#[derive(Deserialize)]
struct Settings {
    seed: u64,
    #[serde(default)]
    salt: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    base_url: String,
}

#[derive(Deserialize)]
struct Dataset {
    sha256: String,
}

/// Ids of the runs under `output_dir` that sent what `manifest` is about to send, ascending. None for an embedded
/// cluster, which starts cold.
pub(super) fn same_prompts(output_dir: &Path, manifest: &Manifest) -> Vec<String> {
    if manifest.target.topology.is_some() {
        return Vec::new();
    }
    let files = input::run_files(output_dir);
    let earlier = files.filter_map(|bytes| serde_json::from_slice::<Earlier>(&bytes).ok());
    let mut ids: Vec<String> =
        earlier.filter(|earlier| earlier.is_like(manifest)).map(|earlier| earlier.run_id).collect();
    ids.sort_unstable();
    ids
}

impl Earlier {
    fn is_like(&self, manifest: &Manifest) -> bool {
        let settings = &manifest.settings;
        (self.settings.seed, &self.settings.salt) == (settings.seed, &settings.salt)
            && self.target.base_url == manifest.target.base_url
            && self.dataset.sha256 == manifest.dataset.sha256
            && self.run_id != manifest.run_id
    }
}
