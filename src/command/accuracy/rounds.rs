//! The asking itself: every question once, then those without an answer again, as often as it may help.

use super::AccuracyPlan;
use super::asking::{Arm, Asker, Try};
use crate::accuracy::unanswered;
use crate::command::client::Client;
use crate::command::ending::ended_early;
use crate::command::{Error, Exit, Surroundings, preflight, progress};
use crate::load::{Ending, Live, Load, Pass, PassReport, Prepared, Share, Sink, WatchReport};
use crate::measure::{AccuracyFacts, Kind, Outcome, RequestRecord};
use crate::runtime::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub(super) struct Rounds<'a> {
    pub(super) plan: &'a AccuracyPlan,
    pub(super) asker: &'a Asker<'a>,
    pub(super) arms: &'a [Arm<'a>],
    pub(super) facts: &'a AccuracyFacts,
    pub(super) repeats: usize,
}

/// Longest rest before a further try, unless the server asks for a longer one …
const LONGEST_REST: Duration = Duration::from_secs(10);
/// … up to this.
const LONGEST_WISH: Duration = Duration::from_secs(60);

impl Rounds<'_> {
    /// Asks until every question has its answer, no further try may help, or somebody says stop; and what went wrong with
    /// showing it. `clients` are those of the deployments, by place.
    pub(super) async fn run(
        &self,
        load: &mut Load,
        heard: &Heard,
        clients: &[&Client],
        live: &Live,
        world: &mut Surroundings,
    ) -> Result<(PassReport, Option<String>), Error> {
        let earlier = heard.so_far();
        let before = || earlier.iter().filter(|record| record.kind == Kind::Question);
        let begun = before().map(|record| record.scheduled).min();
        // No request has the id of one that an earlier part of the run sent.
        let tried = before().map(|record| record.attempt).max().unwrap_or(0);
        let (mut whole, mut fault): (Option<PassReport>, Option<String>) = (None, None);
        let mut note = |(report, broken): Passed| {
            let stopped = report.ending != Ending::Complete;
            whole = Some(match whole.take() {
                None => report,
                Some(before) => joined(before, report),
            });
            fault = fault.take().or(broken);
            stopped
        };
        for again in 0..=self.plan.max_retries {
            load.flush().await.map_err(ended_early)?;
            let records = heard.so_far();
            let wanted = self.wanted(&records, again);
            if wanted.is_empty() {
                break;
            }
            let attempt = tried.saturating_add(again).saturating_add(1);
            let mut requests = self.requests(&wanted, attempt);
            if again == 0 {
                // A fault that all would meet is met once.
                let scouts = scouts(&mut requests, &records);
                let ids: Vec<String> = scouts.iter().map(|request| request.id.clone()).collect();
                if note(self.pass(load, scouts, Vec::new(), live, world).await?) {
                    break;
                }
                load.flush().await.map_err(ended_early)?;
                let met = heard.so_far().into_iter().filter(|record| ids.contains(&record.id));
                if let Some(record) = met.into_iter().find(refuses_all) {
                    return Err(self.refusal(clients, &record).await);
                }
            }
            if requests.is_empty() {
                continue;
            }
            let schedule = self.schedule(&requests, &records, again);
            if note(self.pass(load, requests, schedule, live, world).await?) {
                break;
            }
        }
        let mut whole = whole.expect("a run begins with questions that want an answer");
        // What was asked before a resume is a part of the run.
        whole.start = begun.map_or(whole.start, |begun| begun.min(whole.start));
        Ok((whole, fault))
    }

    /// Why a deployment cannot be asked at all.
    async fn refusal(&self, clients: &[&Client], record: &RequestRecord) -> Error {
        let arm = self.arm(record.asking.as_ref().map_or(0, |asking| asking.arm));
        preflight::refusal(clients[arm.place], arm.path, record).await
    }

    /// Makes sure that a run that goes on has questions left.
    pub(super) fn check_left(&self, records: &[RequestRecord]) -> Result<(), Error> {
        match self.wanted(records, 0).is_empty() {
            true => Err(Error::new(Exit::Usage, "every question of this run has its answer already")
                .help("`pdbench report` makes its files again")),
            false => Ok(()),
        }
    }

    /// Arm, question and number of answers still wanted, arms taking turns.
    fn wanted(&self, records: &[RequestRecord], again: u32) -> Vec<(usize, usize, usize)> {
        let mut wanted = unanswered(self.facts, self.repeats, self.facts.questions, records);
        // Answers of an earlier run are all there will be.
        wanted.retain(|(arm, ..)| self.arms.iter().any(|asked| asked.number == *arm));
        if 0 < again {
            let lost = last_failures(records);
            wanted.retain(|(arm, question, _)| {
                lost.get(&(*arm, *question)).is_none_or(|record| !hopeless(record))
            });
        }
        let order = self.order();
        wanted.sort_by_key(|(arm, question, _)| (order[*question], *arm));
        wanted
    }

    /// The place of each question in the order of sending.
    fn order(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..self.asker.questions.len()).collect();
        if self.plan.as_lm_eval {
            numbers.sort_by_key(|&number| {
                std::cmp::Reverse(self.asker.questions[number].prompt.chars().count())
            });
        }
        let mut places = vec![0; numbers.len()];
        for (place, number) in numbers.into_iter().enumerate() {
            places[number] = place;
        }
        places
    }

    fn requests(&self, wanted: &[(usize, usize, usize)], attempt: u32) -> Vec<Prepared> {
        let batched = 1 < self.plan.batch_size;
        // Arm and questions of each.
        let mut asked: Vec<(usize, Vec<usize>)> = Vec::new();
        if batched {
            let mut by_arm: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (arm, question, count) in wanted {
                by_arm.entry(*arm).or_default().extend(std::iter::repeat_n(*question, *count));
            }
            let chunks = by_arm.iter().flat_map(|(arm, questions)| {
                let chunks = questions.chunks(self.plan.batch_size).enumerate();
                chunks.map(|(nth, chunk)| (nth, (*arm, chunk.to_vec())))
            });
            let mut chunks: Vec<_> = chunks.collect();
            // Stable: arms take turns.
            chunks.sort_by_key(|(nth, _)| *nth);
            asked.extend(chunks.into_iter().map(|(_, one)| one));
        } else {
            for &(arm, question, count) in wanted {
                asked.extend(std::iter::repeat_n((arm, vec![question]), count));
            }
        }
        let numbered = asked.iter().enumerate();
        let one = |(nth, (arm, questions)): (usize, &(usize, Vec<usize>))| {
            self.asker.prepare(self.arm(*arm), questions, batched, Try { attempt, nth })
        };
        numbered.map(one).collect()
    }

    fn arm(&self, number: usize) -> &Arm<'_> {
        self.arms.iter().find(|arm| arm.number == number).expect("what is wanted is of an arm that is asked")
    }

    /// When each is sent, from the start of its pass: at once, or after a rest that doubles from try to try.
    fn schedule(&self, requests: &[Prepared], records: &[RequestRecord], again: u32) -> Vec<Duration> {
        if again == 0 {
            return Vec::new();
        }
        let rest = LONGEST_REST.min(Duration::from_secs(1) * 2_u32.saturating_pow(again - 1));
        let lost = last_failures(records);
        let wish = |request: &Prepared| {
            let asking = request.asking.as_ref()?;
            let question = *asking.questions.first()? as usize;
            let wish = lost.get(&(asking.arm, question))?.retry_after_s?;
            Some(Duration::from_secs(wish.into()).min(LONGEST_WISH))
        };
        let mut longest = rest;
        requests
            .iter()
            .map(|request| {
                // A schedule ascends.
                longest = longest.max(wish(request).unwrap_or(rest));
                longest
            })
            .collect()
    }

    async fn pass(
        &self,
        load: &mut Load,
        requests: Vec<Prepared>,
        schedule: Vec<Duration>,
        live: &Live,
        world: &mut Surroundings,
    ) -> Result<Passed, Error> {
        let planned = requests.len();
        let mut pass = Pass {
            max_concurrency: Some(self.plan.num_concurrent),
            share: Share::EachPlace,
            ..Pass::at_once(Kind::Question, requests)
        };
        if !schedule.is_empty() {
            pass.schedule = schedule;
        }
        let sending = load.pass(pass, world.interrupt.signal());
        let (report, fault) = match self.plan.serve.progress && 1 < planned {
            true => progress::shown(sending, planned, live, world).await,
            false => (sending.await, None),
        };
        Ok((report.map_err(ended_early)?, fault))
    }
}

/// How a pass went, and what went wrong with showing it.
type Passed = (PassReport, Option<String>);

/// Takes one request for each place out of the others: of questions that nobody refused before, where there are some.
fn scouts(requests: &mut Vec<Prepared>, records: &[RequestRecord]) -> Vec<Prepared> {
    let lost = last_failures(records);
    let refused = |request: &Prepared| {
        let asking = request.asking.as_ref().expect("every request asks something");
        let of =
            |&question: &u32| lost.get(&(asking.arm, question as usize)).is_some_and(|lost| hopeless(lost));
        asking.questions.iter().any(of)
    };
    let places: BTreeSet<usize> = requests.iter().map(|request| request.place).collect();
    let mut scouts = Vec::with_capacity(places.len());
    for place in places {
        let to_it = |request: &Prepared| request.place == place;
        let best = requests.iter().position(|request| to_it(request) && !refused(request));
        let at = best.or_else(|| requests.iter().position(to_it)).expect("places are those of requests");
        scouts.push(requests.remove(at));
    }
    scouts
}

/// Two passes as one: of the watch over the client, the worse.
fn joined(before: PassReport, after: PassReport) -> PassReport {
    let watch = match (before.watch, after.watch) {
        (Some(mut one), Some(other)) => {
            one.in_flight.extend(other.in_flight);
            Some(WatchReport {
                tick_p99_late_ms: larger(one.tick_p99_late_ms, other.tick_p99_late_ms),
                busiest_shard: larger(one.busiest_shard, other.busiest_shard),
                in_flight: one.in_flight,
            })
        }
        // One that died is missed.
        _ => None,
    };
    PassReport { start: before.start, sent: before.sent + after.sent, watch, ..after }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).max_by(f64::total_cmp)
}

/// The records of the run so far, beside the journal.
#[derive(Clone)]
pub(super) struct Heard(Arc<Mutex<Vec<RequestRecord>>>);

impl Heard {
    pub(super) fn new(records: Vec<RequestRecord>) -> Self {
        Self(Arc::new(Mutex::new(records)))
    }

    /// A sink that keeps what it hands on.
    pub(super) fn and(&self, sink: Sink) -> Sink {
        let heard = self.clone();
        Arc::new(move |records| {
            heard.kept().extend(records.iter().cloned());
            sink(records);
        })
    }

    fn so_far(&self) -> Vec<RequestRecord> {
        let mut records = self.kept().clone();
        records.sort_by_key(|record| record.i);
        records
    }

    fn kept(&self) -> MutexGuard<'_, Vec<RequestRecord>> {
        lock(&self.0)
    }
}

/// The last failure of each question that has one.
fn last_failures(records: &[RequestRecord]) -> BTreeMap<(usize, usize), &RequestRecord> {
    let mut last = BTreeMap::new();
    for record in records {
        let Some(asking) = record.asking.as_ref().filter(|_| !record.is_ok()) else { continue };
        last.extend(asking.questions.iter().map(|&question| ((asking.arm, question as usize), record)));
    }
    last
}

/// Whether every other question would meet the same.
fn refuses_all(record: &RequestRecord) -> bool {
    match record.outcome {
        Outcome::Http4xx => matches!(record.http_status, Some(401 | 403 | 404 | 405 | 407)),
        Outcome::Tls | Outcome::Redirect | Outcome::BadEncoding => true,
        Outcome::Dns | Outcome::ConnectRefused | Outcome::ConnectTimeout => true,
        _ => false,
    }
}

/// Whether another try would meet the same.
fn hopeless(record: &RequestRecord) -> bool {
    match record.outcome {
        Outcome::Http4xx => record.http_status != Some(408),
        Outcome::Tls | Outcome::Redirect | Outcome::BadEncoding | Outcome::TooLarge => true,
        _ => false,
    }
}
