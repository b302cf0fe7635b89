//! Looks at all nodes at once, again and again, and hands over what has changed.

use super::{NotScraped, Scraper};
use crate::measure::{Observation, Offset, Series, ServerRole, UP, is_kept};
use crate::runtime::{Clock, Worker, Workers};
use crate::wire::prometheus::Scrape;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Takes what a look has found; called from the watcher's own worker.
pub type Sink = Box<dyn FnMut(Vec<Observation>) + Send>;

/// A node that is watched.
#[derive(Debug)]
pub struct WatchedNode {
    /// What it is called in the results.
    pub name: String,
    /// What it does.
    pub role: ServerRole,
    /// Asks it.
    pub scraper: Scraper,
}

/// Watches nodes on a worker of its own until it is ended.
#[derive(Debug)]
pub struct Watcher {
    asks: mpsc::UnboundedSender<oneshot::Sender<()>>,
    worker: Worker<()>,
}

impl Watcher {
    /// Starts to watch. The first look is the first one asked for; from then on there is one `every` so often, if that
    /// is set.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        nodes: Vec<WatchedNode>,
        every: Option<Duration>,
        clock: Clock,
        sink: Sink,
        workers: Workers,
    ) -> io::Result<Self> {
        let (asks, asked) = mpsc::unbounded_channel();
        let nodes = nodes.into_iter().map(|node| Some(Known { node, told: BTreeMap::new() })).collect();
        let watch = Watch { nodes, clock, sink };
        Ok(Self { asks, worker: workers.start("observe", watch.run(every, asked))? })
    }

    /// Looks at all nodes now; ends when all have answered, or have not in time.
    pub async fn look(&self) {
        let (done, looked) = oneshot::channel();
        // A watcher that died is told of when it is ended.
        let _ = self.asks.send(done);
        let _ = looked.await;
    }

    /// Ends the watch; false when it had died.
    pub async fn end(self) -> bool {
        drop(self.asks);
        self.worker.join().await.is_some()
    }
}

/// A node with what it told last, by series.
struct Known {
    node: WatchedNode,
    told: BTreeMap<Arc<Series>, f64>,
}

struct Watch {
    /// A node is away while it is asked.
    nodes: Vec<Option<Known>>,
    clock: Clock,
    sink: Sink,
}

impl Watch {
    async fn run(mut self, every: Option<Duration>, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let mut next: Option<Instant> = None;
        loop {
            let tick = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ask = asked.recv() => {
                    let Some(done) = ask else { return };
                    let began = Instant::now();
                    self.look().await;
                    next = next.or(every.map(|every| began + every));
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                () = tick => {
                    self.look().await;
                    // Looks that could not be made in time are left out.
                    next = next.zip(every).map(|(last, every)| (last + every).max(Instant::now()));
                }
            }
        }
    }

    /// One look at all nodes at once: all its lines have the instant at which it began.
    async fn look(&mut self) {
        let at = Offset::from(self.clock.now());
        let mut asking = JoinSet::new();
        for (nth, slot) in self.nodes.iter_mut().enumerate() {
            let Some(mut known) = slot.take() else { continue };
            asking.spawn(async move {
                let scrape = known.node.scraper.scrape_only(is_kept).await;
                (nth, known, scrape)
            });
        }
        let mut scrapes = Vec::new();
        while let Some(answer) = asking.join_next().await {
            let (nth, known, scrape) = answer.expect("a scrape has no way to panic, and nobody aborts it");
            self.nodes[nth] = Some(known);
            scrapes.push((nth, scrape));
        }
        scrapes.sort_by_key(|(nth, _)| *nth);
        let mut lines = Vec::new();
        for (nth, scrape) in scrapes {
            if let Some(known) = &mut self.nodes[nth] {
                known.note(at, scrape, &mut lines);
            }
        }
        (self.sink)(lines);
    }
}

impl Known {
    /// The lines of a scrape: that it was made, and what is another than before.
    fn note(&mut self, at: Offset, scrape: Result<Scrape, NotScraped>, lines: &mut Vec<Observation>) {
        let mut line = |series: Arc<Series>, value| lines.push(Observation { at, series, value });
        let scrape = match scrape {
            Ok(scrape) => scrape,
            Err(error) => {
                let why = error.why().chars().take(200).collect();
                return line(self.series(UP, [("why".to_owned(), why)].into()), Some(0.0));
            }
        };
        line(self.series(UP, BTreeMap::new()), Some(1.0));
        let mut now: BTreeMap<Arc<Series>, f64> = BTreeMap::new();
        for sample in &scrape.samples {
            // One engine has one model: its name would only make each line longer.
            let labels = sample.labels.iter().filter(|(key, _)| key != "model_name").cloned();
            *now.entry(self.series(&sample.name, labels.collect())).or_default() += sample.value;
        }
        for series in self.told.keys().filter(|series| !now.contains_key(*series)) {
            line(Arc::clone(series), None);
        }
        for (series, value) in now.iter().filter(|(series, value)| self.told.get(*series) != Some(value)) {
            // The series that was told first is the one that all lines share.
            let known = self.told.get_key_value(series).map_or(series, |(known, _)| known);
            line(Arc::clone(known), Some(*value));
        }
        self.told.retain(|series, _| now.contains_key(series));
        for (series, value) in now {
            self.told.entry(series).and_modify(|known| *known = value).or_insert(value);
        }
    }

    fn series(&self, name: &str, labels: BTreeMap<String, String>) -> Arc<Series> {
        let WatchedNode { name: node, role, .. } = &self.node;
        Arc::new(Series { node: node.clone(), role: *role, name: name.to_owned(), labels })
    }
}
