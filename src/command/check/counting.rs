//! What the instances count, round by round.

use super::ground::Spot;
use crate::command::{Surroundings, preflight};
use crate::measure::check::Growth;
use crate::measure::{CounterName, GaugeName, NodeCounts, NodeDelta};
use crate::observe::Scraper;
use crate::wire::Target;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Longest wait for a page of metrics.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks …
const LOOK: Duration = Duration::from_millis(100);
/// … of which there are so many, until all requests that were sent are counted.
const LOOKS: usize = 10;

/// The instances' counters.
pub(super) struct Counting {
    nodes: Vec<Option<(Scraper, NodeCounts)>>,
}

/// A scraper of an instance's metrics.
pub(super) fn scraper(spot: &Spot) -> Scraper {
    let path = format!("{}/metrics", spot.target.base_path());
    Scraper::new(spot.address, &spot.target.authority(), &path, PATIENCE)
}

impl Counting {
    /// From what they count now; an instance without metrics is left out.
    pub(super) async fn begin(spots: &mut [Spot]) -> Self {
        let mut nodes = Vec::with_capacity(spots.len());
        for spot in spots {
            let scraper = spot.scraper.take();
            nodes.push(scraper.map(|scraper| (scraper, NodeCounts::default())));
        }
        let mut counting = Self { nodes };
        for (at, now) in counting.look().await {
            if let Some((_, before)) = &mut counting.nodes[at] {
                *before = now;
            }
        }
        counting
    }

    /// What each counted since the round before, once they have counted what was expected: requests at one of them, or
    /// at all together.
    pub(super) async fn settle(
        &mut self,
        expected: &Option<Vec<(Option<usize>, f64)>>,
    ) -> Vec<(usize, Growth)> {
        let mut looks = 0;
        let now = loop {
            sleep(LOOK).await;
            let now = self.look().await;
            looks += 1;
            let all = expected.as_ref().is_none_or(|expected| self.has_all(&now, expected));
            if all || looks == LOOKS {
                break now;
            }
        };
        let mut growth = Vec::with_capacity(now.len());
        for (at, now) in now {
            if let Some((_, before)) = &mut self.nodes[at] {
                growth.extend(Growth::of(&NodeDelta::between(before, &now)).map(|growth| (at, growth)));
                *before = now;
            }
        }
        growth
    }

    fn has_all(&self, now: &[(usize, NodeCounts)], expected: &[(Option<usize>, f64)]) -> bool {
        let finished = |at: usize| {
            let (_, before) = self.nodes[at].as_ref()?;
            let now = now.iter().find(|(node, _)| *node == at).map(|(_, now)| now)?;
            NodeDelta::between(before, now).finished()
        };
        let at_one = |node: usize| -> f64 {
            expected.iter().filter(|(at, _)| *at == Some(node)).map(|(_, requests)| requests).sum()
        };
        let anywhere: f64 =
            expected.iter().filter(|(at, _)| at.is_none()).map(|(_, requests)| requests).sum();
        let total: f64 = (0..self.nodes.len()).filter_map(finished).sum();
        // One that does not tell is not waited for.
        (0..self.nodes.len()).all(|at| finished(at).is_none_or(|finished| at_one(at) <= finished))
            && anywhere <= total
    }

    /// What all of them count now.
    async fn look(&mut self) -> Vec<(usize, NodeCounts)> {
        let mut scrapes = JoinSet::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let Some((scraper, before)) = node.take() else { continue };
            scrapes.spawn(async move {
                let mut scraper = scraper;
                let scrape = scraper.scrape().await.ok();
                (at, scraper, before, scrape)
            });
        }
        let mut all = Vec::new();
        while let Some(done) = scrapes.join_next().await {
            let Ok((at, scraper, before, scrape)) = done else { continue };
            self.nodes[at] = Some((scraper, before));
            all.extend(scrape.map(|scrape| (at, NodeCounts::of(&scrape))));
        }
        all.sort_by_key(|(at, _)| *at);
        all
    }
}

/// Keys in the store, as its master says; `None` where it does not.
pub(super) async fn store_keys(target: &Target, world: &Surroundings) -> Result<Option<f64>, String> {
    let addresses = preflight::resolve(target, world).await.map_err(|error| error.to_string())?;
    let Some(&address) = addresses.first() else { return Err("its name has no address".to_owned()) };
    let path = match target.base_path() {
        "" => "/metrics",
        path => path,
    };
    let mut scraper = Scraper::new(address, &target.authority(), path, PATIENCE);
    let scrape = scraper.scrape().await.map_err(|error| error.to_string())?;
    let counts = NodeCounts::of(&scrape);
    Ok(counts.gauge(GaugeName::MasterKeys).or(counts.counter(CounterName::MasterPuts)))
}
