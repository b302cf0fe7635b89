//! The repeat mode: one request's decode leg many times at once, each copy read to its end and recorded.

use super::Proxy;
use super::answer::Answer;
use super::config::Benchmark;
use super::forward::leg_head;
use super::front::Ending;
use super::instance::Assigned;
use super::journey::{Departure, Journey};
use super::leg::{FaultKind, LegFault, LegWatch};
use super::problem::Problem;
use super::replica::{Recorder, Wanted};
use super::route::Job;
use super::upstream::{Request, connect, exchange};
use crate::cluster::Role;
use crate::measure::{Batch, Offset, Plateau, Prompts, RequestRecord};
use crate::runtime::{Clock, lock};
use crate::wire::Secret;
use crate::wire::dialect::Leg;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Asks for a batch, by the number of extra decodes.
pub(super) const REPEAT: &str = "x-pdbench-repeat-d-times";
/// Most extra decodes of one batch: every one is a connection.
const MOST: u32 = 65_536;
/// Connections that are being opened at a time.
const OPENING: usize = 256;

/// The repeat mode of a proxy.
#[derive(Debug)]
pub(super) struct Bench {
    /// Requests that pass before one fires by itself; `None` when none will.
    left: Mutex<Option<u32>>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// A batch is being prepared or runs.
    busy: bool,
    collector: Option<Arc<Collector>>,
}

/// The records of one batch.
#[derive(Debug)]
pub(super) struct Collector {
    pub clock: Clock,
    batch: Batch,
    /// Length of the prefill leg that came before, in ms.
    prefill_ms: Option<f64>,
    secrets: Vec<Secret>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    records: Vec<RequestRecord>,
    plateau: Option<Plateau>,
}

impl Collector {
    pub fn take(&self, record: RequestRecord) {
        let mut held = lock(&self.held);
        held.records.push(record);
        if held.records.len() == self.batch.expected {
            held.records.sort_by_key(|record| record.i);
            held.plateau = Some(Plateau::of(&held.records, &self.batch));
        }
    }

    /// A text without the keys that the batch was sent with.
    pub fn redacted(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| secret.redact(text))
    }

    fn is_done(&self) -> bool {
        lock(&self.held).plateau.is_some()
    }
}

impl Bench {
    pub fn new(config: Option<Benchmark>) -> Self {
        let trigger = config.and_then(|benchmark| benchmark.trigger);
        Self { left: Mutex::new(trigger.map(|trigger| trigger.repeat_p_request)), last: Mutex::default() }
    }

    /// Whether this request fires, by its header or by the rule, and how many extra decodes.
    pub fn asked(&self, proxy: &Proxy, headers: &HeaderMap) -> Result<Option<Fire>, Problem> {
        let times = match headers.get(REPEAT) {
            None => self.by_rule(proxy.config.benchmark),
            Some(_) if proxy.config.benchmark.is_none() => {
                let message = "is honoured in benchmark mode alone: start the proxy with --benchmark-mode";
                return Err(Problem::bad_request(format!("`{REPEAT}` {message}")));
            }
            Some(value) => {
                let times = value.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok());
                let fits = times.filter(|times| (1..=MOST).contains(times));
                let message = || format!("`{REPEAT}` wants a number of extra decodes from 1 to {MOST}");
                Some(fits.ok_or_else(|| Problem::bad_request(message()))?)
            }
        };
        let Some(times) = times.filter(|times| 0 < *times) else { return Ok(None) };
        let dialect = proxy.config.dialect;
        if !dialect.kv_outlives_its_request() {
            let message = format!(
                "dialect {dialect} binds the KV of a prefill to one request, so it cannot be decoded {times} times \
                 more: the repeat mode needs a store, dialect plain"
            );
            return Err(Problem::new(StatusCode::CONFLICT, message));
        }
        let mut last = lock(&self.last);
        if last.busy || last.collector.as_ref().is_some_and(|collector| !collector.is_done()) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "another batch is under way: see /benchmark/last",
            ));
        }
        last.busy = true;
        Ok(Some(Fire { bench: Arc::clone(&proxy.bench), times }))
    }

    /// The rule of the Gaudi fork's benchmark proxy: some requests pass, one fires, once in the proxy's life.
    fn by_rule(&self, benchmark: Option<Benchmark>) -> Option<u32> {
        let mut left = lock(&self.left);
        match *left {
            Some(0) => {
                *left = None;
                Some(benchmark?.trigger?.repeat_d_times)
            }
            Some(more) => {
                *left = Some(more - 1);
                None
            }
            None => None,
        }
    }

    /// `/benchmark/last`.
    pub fn report(&self) -> Value {
        let last = lock(&self.last);
        let Some(collector) = &last.collector else {
            return json!({ "state": if last.busy { "running" } else { "none" }, "records": [], "plateau": null });
        };
        let held = lock(&collector.held);
        json!({
            "state": if held.plateau.is_some() && !last.busy { "done" } else { "running" },
            "batch": collector.batch,
            "prefill_ms": collector.prefill_ms,
            "records": held.records,
            "plateau": held.plateau,
        })
    }

    /// Whether a batch is under way, and the last one's plateau.
    pub fn last(&self) -> (bool, Option<Plateau>) {
        let last = lock(&self.last);
        let plateau = last.collector.as_ref().and_then(|collector| lock(&collector.held).plateau.clone());
        (last.busy || last.collector.is_some() && plateau.is_none(), plateau)
    }
}

/// A request that fires; dropped, it makes room for another.
#[derive(Debug)]
pub(super) struct Fire {
    bench: Arc<Bench>,
    times: u32,
}

impl Drop for Fire {
    fn drop(&mut self) {
        lock(&self.bench.last).busy = false;
    }
}

/// Replicas with their places and connections, which wait for one word.
pub(super) struct Ready {
    fire: Fire,
    body: Vec<u8>,
    replicas: Vec<Replica>,
}

/// One replica before its release.
struct Replica {
    place: Assigned,
    connection: Result<TcpStream, LegFault>,
    id: String,
    head: Vec<u8>,
}

/// Gives every replica a place and opens its connection.
async fn prepare(
    proxy: &Arc<Proxy>,
    fire: Fire,
    job: Job,
    mut leg: Leg,
    passed: &[u8],
) -> Result<Ready, Problem> {
    let places = (0..fire.times).map(|_| proxy.roster.assign(Role::Decode, job)).collect::<Option<Vec<_>>>();
    let places = places.ok_or_else(|| Problem::unavailable(proxy.roster.why_none(Role::Decode)))?;
    let turns = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    for (at, place) in places.iter().enumerate() {
        let (turns, instance) = (Arc::clone(&turns), Arc::clone(&place.instance));
        let longest = proxy.config.timeouts.connect;
        opening.spawn(async move {
            let _turn = turns.acquire().await;
            let connection = connect(&instance, longest).await;
            if connection.is_err() {
                instance.suspicion.notify_one();
            }
            (at, connection)
        });
    }
    let mut connections: Vec<_> = places.iter().map(|_| None).collect();
    while let Some(Ok((at, connection))) = opening.join_next().await {
        connections[at] = Some(connection);
    }
    let unopened = || LegFault::new(FaultKind::Connect, "its connection was not opened");
    let request_id = leg.request_id.clone();
    let replicas = places.into_iter().zip(connections).zip(1..).map(|((place, connection), nth)| {
        leg.request_id = format!("{request_id}-r{nth}");
        let head = leg_head(&leg, &place.instance.name, passed);
        let connection = connection.unwrap_or_else(|| Err(unopened()));
        Replica { place, connection, id: leg.request_id.clone(), head }
    });
    let replicas = replicas.collect();
    Ok(Ready { fire, replicas, body: leg.body })
}

impl Journey {
    /// The prefill leg, then the decode leg and all of its copies at once.
    pub(super) async fn fired(mut self, fire: Fire) -> Departure {
        let leg = match self.decode_leg(None) {
            Ok(leg) => leg,
            Err(error) => return Err(self.unspeakable(&error)),
        };
        let (proxy, passed, job) = (Arc::clone(&self.proxy), self.passed.clone(), self.job);
        let (ended, ready) = tokio::join!(self.prefilled(), prepare(&proxy, fire, job, leg, &passed));
        if let Err(end) = ended {
            return self.prefill_failed(end).await;
        }
        let ready = match ready {
            Ok(ready) => ready,
            Err(problem) => {
                self.visit.end(Ending::Refused);
                return Err(problem);
            }
        };
        let request = self.decode_request(None)?;
        let mut tap = self.release(ready);
        tap.sent();
        match self.decoded_here(&request).await {
            Ok(answer) => {
                tap.head(answer.status, answer.headers.contains_key("content-encoding"));
                self.tap = Some(Box::new(tap));
                Ok(self.relay(answer, None, None).await)
            }
            Err(fault) => {
                tap.fail(&fault);
                Err(self.failed(Role::Decode, &fault))
            }
        }
    }

    /// The client's own key, which nobody else may read.
    fn client_key(&self) -> Option<Secret> {
        let lines = String::from_utf8_lossy(&self.passed);
        let value = lines.lines().find_map(|line| line.strip_prefix("authorization: "))?;
        value.rsplit(' ').next().map(Secret::new)
    }

    /// Releases all replicas at once; the recorder is for this request's own decode leg, which is one of them.
    fn release(&self, ready: Ready) -> Recorder {
        let Ready { fire, body, replicas } = ready;
        let proxy = &self.proxy;
        let told = |key: &str| self.asked.body.get::<u32>(key);
        let wanted = Wanted {
            requested_tokens: told("max_completion_tokens").or_else(|| told("max_tokens")),
            ignore_eos: self.asked.body.get("ignore_eos").unwrap_or(false),
            prompt_tokens: u32::try_from(self.job.prompt_tokens).unwrap_or(u32::MAX),
        };
        let nodes =
            proxy.roster.instances(Role::Decode).iter().map(|instance| instance.name.clone()).collect();
        let batch = Batch { expected: replicas.len() + 1, prompts: Prompts::Same, nodes, decode_side: None };
        let secrets = proxy.config.instance_key.iter().cloned().chain(self.client_key()).collect();
        let collector = Arc::new(Collector {
            clock: proxy.clock,
            batch,
            prefill_ms: self.timing.prefill_ms(),
            secrets,
            held: Mutex::default(),
        });
        lock(&fire.bench.last).collector = Some(Arc::clone(&collector));
        let at: Offset = proxy.clock.now().into();
        let record =
            |i: u32, id: String, node: &str| Recorder::new(Arc::clone(&collector), i, id, node, wanted, at);
        let own = record(0, self.request_id.clone(), &self.decode.instance.name);
        let body: Arc<[u8]> = body.into();
        let (go, going) = watch::channel(false);
        for (i, replica) in (1..).zip(replicas) {
            let recorder = record(i, replica.id.clone(), &replica.place.instance.name);
            let (body, going, proxy) = (Arc::clone(&body), going.clone(), Arc::clone(proxy));
            let mut watches = lock(&self.proxy.watches);
            while watches.try_join_next().is_some() {}
            watches.spawn(fly(proxy, replica, recorder, body, going));
        }
        go.send_replace(true);
        // From here on the records tell whether the batch is under way.
        drop(fire);
        own
    }
}

/// One replica to its end.
async fn fly(
    proxy: Arc<Proxy>,
    replica: Replica,
    mut recorder: Recorder,
    body: Arc<[u8]>,
    mut going: watch::Receiver<bool>,
) {
    let Replica { place, connection, head, .. } = replica;
    // The sender has said so or is gone, having said so.
    let _ = going.wait_for(|go| *go).await;
    let watch = LegWatch::start(&place.instance);
    let timeouts = proxy.config.timeouts;
    recorder.sent();
    let request = Request { head: &head, body: &body };
    let answered = match connection {
        Ok(connection) => exchange(connection, &request, &timeouts).await.map_err(|failure| failure.fault),
        Err(fault) => Err(fault),
    };
    let mut answer = match Answer::of(answered, watch, timeouts.idle) {
        Ok(answer) => answer,
        Err(fault) => return recorder.fail(&fault),
    };
    recorder.head(answer.status, answer.headers.contains_key("content-encoding"));
    loop {
        match answer.body.next().await {
            Some(Ok(bytes)) => recorder.body(&bytes),
            Some(Err(fault)) => return recorder.fail(&fault),
            None => return recorder.whole(),
        }
    }
}
