//! What the instances and the store count.

use super::{Bench, Reached};
use crate::measure::{CounterName, DecodeSide, GaugeName, NodeCounts, NodeDelta};
use crate::observe::Scraper;
use std::time::Duration;

/// Longest wait for a page of metrics.
const PATIENCE: Duration = Duration::from_secs(5);

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
    pub(super) async fn counts(&self) -> Vec<Option<NodeCounts>> {
        let mut counts = Vec::new();
        for instance in &self.decode {
            let scrape = instance.scraper().scrape().await;
            counts.push(scrape.ok().map(|scrape| NodeCounts::of(&scrape)));
        }
        counts
    }

    /// What the decode instances counted since then; `None` where not all of them tell.
    pub(super) async fn decode_side(&self, before: Vec<Option<NodeCounts>>) -> Option<DecodeSide> {
        let mut side = DecodeSide::default();
        for (before, after) in before.into_iter().zip(self.counts().await) {
            let delta = NodeDelta::between(&before?, &after?);
            side.local_compute += delta.grown(CounterName::LocalCompute)?;
            side.local_cache_hit += delta.grown(CounterName::LocalCacheHit)?;
            side.external_kv_transfer += delta.grown(CounterName::ExternalKv)?;
            side.preemptions += delta.grown(CounterName::Preemptions).unwrap_or(0.0);
        }
        Some(side)
    }

    /// Prompt tokens that one decode instance got from outside, in all its life.
    pub(super) async fn external_tokens(&self, nth: usize) -> Option<f64> {
        let scrape = self.decode[nth].scraper().scrape().await.ok()?;
        NodeCounts::of(&scrape).counter(CounterName::ExternalKv)
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
        NodeCounts::of(&scraper.scrape().await.ok()?).gauge(GaugeName::MasterKeys)
    }
}
