//! What the instances and the store count.

use super::{Bench, Reached};
use crate::measure::DecodeSide;
use crate::observe::{Scraper, growth};
use crate::wire::prometheus::Scrape;
use std::time::Duration;

/// Longest wait for a page of metrics.
const PATIENCE: Duration = Duration::from_secs(5);
const BY_SOURCE: &str = "vllm:prompt_tokens_by_source_total";
/// What `mooncake_master` calls the number of its keys.
const KEYS: &str = "master_key_count";

impl Reached {
    fn scraper(&self) -> Scraper {
        let path = format!("{}/metrics", self.target.base_path());
        Scraper::new(self.address, &self.target.authority(), &path, PATIENCE)
    }
}

impl Bench<'_> {
    /// A scraper of each decode instance, by its name.
    pub(super) fn scrapers(&self) -> Vec<(String, Scraper)> {
        self.decode.iter().map(|instance| (instance.node.to_string(), instance.scraper())).collect()
    }

    /// What each decode instance counts now, where it tells.
    pub(super) async fn scrapes(&self) -> Vec<Option<Scrape>> {
        let mut scrapes = Vec::new();
        for instance in &self.decode {
            scrapes.push(instance.scraper().scrape().await.ok());
        }
        scrapes
    }

    /// What the decode instances counted since then; `None` where not all of them tell.
    pub(super) async fn decode_side(&self, before: Vec<Option<Scrape>>) -> Option<DecodeSide> {
        let mut side = DecodeSide::default();
        for (before, after) in before.into_iter().zip(self.scrapes().await) {
            let (before, after) = (before?, after?);
            let by_source = |source| growth(&before, &after, BY_SOURCE, &[("source", source)]);
            side.local_compute += by_source("local_compute")?;
            side.local_cache_hit += by_source("local_cache_hit")?;
            side.external_kv_transfer += by_source("external_kv_transfer")?;
            side.preemptions += growth(&before, &after, "vllm:num_preemptions_total", &[]).unwrap_or(0.0);
        }
        Some(side)
    }

    /// Prompt tokens that one decode instance got from outside, in all its life.
    pub(super) async fn external_tokens(&self, nth: usize) -> Option<f64> {
        let scrape = self.decode[nth].scraper().scrape().await.ok()?;
        scrape.sum(BY_SOURCE, &[("source", "external_kv_transfer")])
    }

    /// Keys in the store, where its metrics were named.
    pub(super) async fn store_keys(&self) -> Option<f64> {
        let super::RepeatWay::Direct { store_metrics: Some(target), .. } = &self.plan.way else {
            return None;
        };
        let address = super::preflight::resolve(target, self.world).await.ok()?.into_iter().next()?;
        let path = match target.base_path() {
            "" => "/metrics",
            path => path,
        };
        let mut scraper = Scraper::new(address, &target.authority(), path, PATIENCE);
        scraper.scrape().await.ok()?.sum(KEYS, &[])
    }
}
