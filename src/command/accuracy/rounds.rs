//! The asking itself: every question once, then those without an answer again, as often as it may help.

use super::AccuracyPlan;
use super::asking::{Arm, Asker};
use crate::accuracy::unanswered;
use crate::command::ending::ended_early;
use crate::command::serve::Reached;
use crate::command::{Error, Exit, Surroundings, preflight, progress};
use crate::load::{Ending, Live, Load, Pass, PassReport, Prepared, Sink, WatchReport};
use crate::measure::{AccuracyFacts, Kind, Outcome, RequestRecord};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Asks until every question has its answer, no further try may help, or somebody says stop.
    pub(super) async fn run(
        &self,
        load: &mut Load,
        heard: &Heard,
        reached: &Reached,
        live: &Live,
        world: &mut Surroundings,
    ) -> Result<PassReport, Error> {
        let mut whole: Option<PassReport> = None;
        let earlier = heard.so_far();
        let questions = earlier.iter().filter(|record| record.kind == Kind::Question);
        let begun = questions.map(|record| record.scheduled).min();
        for attempt in 1..=self.plan.max_retries + 1 {
            load.flush().await.map_err(ended_early)?;
            let records = heard.so_far();
            let wanted = self.wanted(&records, attempt);
            if wanted.is_empty() {
                break;
            }
            let mut requests: Vec<Prepared> = self.requests(&wanted, attempt);
            if whole.is_none() {
                // The first one alone: a fault that all would meet is met once.
                let rest = requests.split_off(1.min(requests.len()));
                let first = self.pass(load, requests, Vec::new(), live, world).await?;
                let stopped = first.ending != Ending::Complete;
                whole = Some(first);
                if stopped {
                    break;
                }
                load.flush().await.map_err(ended_early)?;
                if let Some(record) = heard.so_far().last().filter(|record| hopeless(record)) {
                    return Err(preflight::refusal(reached.client(), &self.plan.serve.path, record).await);
                }
                requests = rest;
            }
            if requests.is_empty() {
                continue;
            }
            let schedule = self.schedule(&requests, &records, attempt);
            let report = self.pass(load, requests, schedule, live, world).await?;
            let stopped = report.ending != Ending::Complete;
            whole = Some(match whole {
                None => report,
                Some(before) => joined(before, report),
            });
            if stopped {
                break;
            }
        }
        let mut whole = whole.expect("a run begins with questions that want an answer");
        // What was asked before a resume is a part of the run.
        whole.start = begun.map_or(whole.start, |begun| begun.min(whole.start));
        Ok(whole)
    }

    /// Makes sure that a run that goes on has questions left.
    pub(super) fn check_left(&self, records: &[RequestRecord]) -> Result<(), Error> {
        match self.wanted(records, 1).is_empty() {
            true => Err(Error::new(Exit::Usage, "every question of this run has its answer already")
                .help("`pdbench report` makes its files again")),
            false => Ok(()),
        }
    }

    /// Arm, question and number of answers still wanted, arms taking turns.
    fn wanted(&self, records: &[RequestRecord], attempt: u32) -> Vec<(usize, usize, usize)> {
        let mut wanted = unanswered(self.facts, self.repeats, self.facts.questions, records);
        // Answers of an earlier run are all there will be.
        wanted.retain(|(arm, ..)| self.arms.iter().any(|asked| asked.number == *arm));
        if 1 < attempt {
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
        if !batched {
            let one = |&(arm, question, count): &(usize, usize, usize)| {
                let arm = self.arm(arm);
                std::iter::repeat_with(move || self.asker.prepare(arm, &[question], false, attempt))
                    .take(count)
            };
            return wanted.iter().flat_map(one).collect();
        }
        let mut by_arm: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (arm, question, count) in wanted {
            by_arm.entry(*arm).or_default().extend(std::iter::repeat_n(*question, *count));
        }
        let mut chunks: Vec<(usize, usize, Prepared)> = Vec::new();
        for (arm, questions) in by_arm {
            for (nth, chunk) in questions.chunks(self.plan.batch_size).enumerate() {
                chunks.push((nth, arm, self.asker.prepare(self.arm(arm), chunk, true, attempt)));
            }
        }
        chunks.sort_by_key(|(nth, arm, _)| (*nth, *arm));
        chunks.into_iter().map(|(.., request)| request).collect()
    }

    fn arm(&self, number: usize) -> &Arm<'_> {
        self.arms.iter().find(|arm| arm.number == number).expect("what is wanted is of an arm that is asked")
    }

    /// When each is sent, from the start of its pass: at once, or after a rest that doubles from try to try.
    fn schedule(&self, requests: &[Prepared], records: &[RequestRecord], attempt: u32) -> Vec<Duration> {
        if attempt == 1 {
            return Vec::new();
        }
        let rest = LONGEST_REST.min(Duration::from_secs(1) * 2_u32.saturating_pow(attempt - 2));
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
    ) -> Result<PassReport, Error> {
        let deployments = 1 + self.arms.iter().map(|arm| arm.place).max().unwrap_or(0);
        let planned = requests.len();
        let mut pass = Pass {
            max_concurrency: Some(self.plan.num_concurrent * deployments),
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
        if let Some(fault) = fault {
            world.note(&format!("warning: {fault}\n"));
        }
        report.map_err(ended_early)
    }
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

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<RequestRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether another try would meet the same.
fn hopeless(record: &RequestRecord) -> bool {
    match record.outcome {
        Outcome::Http4xx => record.http_status != Some(408),
        Outcome::Tls | Outcome::Redirect | Outcome::BadEncoding | Outcome::TooLarge => true,
        _ => false,
    }
}
