//! `pdbench selftest`: holds what this machine measures against a server of known truth in a child process.

use super::child::SimChild;
use super::requests::Writing;
use super::{Error, Exit, SelftestPlan, Surroundings, preflight};
use crate::load::{KeepText, Live, Load, LoadConfig, Pacing, Pass, Place, ReadLimits, Timeouts};
use crate::measure::{
    Distribution, Kind, MeasuringErrors, PromptTokensSource, RequestRecord, Stamps, TrueTimes,
};
use crate::runtime::{Clock, Workers, lock};
use crate::sim::Truth;
use crate::wire::openai::{BodyOptions, ChatContent, TokensField};
use crate::wire::{Endpoint, Target};
use crate::workload::{Prompt, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Requests of a rung start over so long.
const START_S: f64 = 1.0;
/// Bound of the ITL error at p99 where the kernel stamps, ms …
const ITL_BOUND_KERNEL_MS: f64 = 0.1;
/// … and where this process does.
const ITL_BOUND_USER_MS: f64 = 1.0;

/// What one rung came to.
struct Rung {
    streams: u32,
    events_per_s: f64,
    errors: MeasuringErrors,
    busiest: Option<f64>,
    stamps: Stamps,
}

/// Climbs the ladder until a rung is out of bounds.
pub(super) async fn selftest(plan: SelftestPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    preflight::raise_descriptor_limit_fully();
    world.print(&format!(
        "A simulated server on this machine, a token every {} ms on each stream; errors in ms.\n\n{}\n",
        plan.gap_ms, "  streams  events/s   send p50    p99  TTFT p50    p99   ITL p50    p99  worker"
    ))?;
    let (mut best, mut missed) = (None, None);
    for &streams in &plan.streams {
        let rung = climb(&plan, streams, world).await?;
        let fault = fault(&plan, &rung);
        world.print(&line(&rung, fault.as_deref()))?;
        if let Some(exit) = world.interrupt.exit() {
            return Ok(exit);
        }
        match fault {
            None => best = Some(rung),
            Some(fault) => {
                missed = Some((streams, fault));
                break;
            }
        }
    }
    world.print(&conclusion(&plan, best.as_ref(), missed))?;
    Ok(if best.is_some() { Exit::Valid } else { Exit::Invalid })
}

/// One rung: a server with a truth log, a load, and the one held against the other.
async fn climb(plan: &SelftestPlan, streams: u32, world: &Surroundings) -> Result<Rung, Error> {
    let server = SimChild::start(&world.executable, &flags(plan, streams)).await?;
    let records = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&records);
    let died = |error| Error::new(Exit::Aborted, "the load ended early").caused_by(error);
    let config = load_config(&server, world);
    let sink = Arc::new(move |batch: Vec<RequestRecord>| {
        lock(&kept).extend(batch);
    });
    let mut load =
        Load::start(config, Arc::new(Live::default()), &(sink as crate::load::Sink)).map_err(died)?;
    let sent = load.pass(pass(plan, streams, &server)?, world.interrupt.signal()).await.map_err(died)?;
    load.finish().await.map_err(died)?;
    let truths = truths(&server.end().await?);
    let records = std::mem::take(&mut *lock(&records));
    let events: usize = records.iter().map(|record| record.events.len()).sum();
    let longest = sent.end.seconds_since(sent.start) - START_S;
    Ok(Rung {
        streams,
        events_per_s: events as f64 / longest.max(plan.gap_ms / 1e3),
        errors: MeasuringErrors::of(&records, |id| truths.get(id)),
        busiest: sent.watch.and_then(|watch| watch.busiest_shard),
        stamps: records.first().map_or(Stamps::User, |record| record.stamps),
    })
}

/// The server's parameters: one node, so that nothing stands before it, with tokens at a fixed pace and everything
/// else as good as free.
fn flags(plan: &SelftestPlan, streams: u32) -> Vec<String> {
    let room = u64::from(streams) * 2 * (tokens(plan) + 64);
    let pairs = [
        ("topology", "1m".to_owned()),
        ("decode-step-ms", plan.gap_ms.to_string()),
        ("decode-sequence-us", "0".to_owned()),
        ("decode-context-us", "0".to_owned()),
        ("prefill-tokens-per-s", "1e9".to_owned()),
        ("prefill-overhead-ms", "0".to_owned()),
        ("max-num-seqs", streams.to_string()),
        ("kv-capacity-tokens", room.to_string()),
    ];
    let typed = pairs.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    typed.chain(["--stagger".to_owned()]).collect()
}

/// Tokens of an answer that lasts as long as a rung.
fn tokens(plan: &SelftestPlan) -> u64 {
    (plan.length.as_secs_f64() * 1e3 / plan.gap_ms).max(2.0) as u64
}

fn load_config(server: &SimChild, world: &Surroundings) -> LoadConfig {
    let (pacing, stamps) = match world.workers {
        Workers::Threads => (Pacing::Thread { spin: Duration::from_micros(200) }, Stamps::Kernel),
        Workers::Local => (Pacing::Runtime, Stamps::User),
    };
    LoadConfig {
        places: vec![Place { address: server.address, tls: None, tunnel: None, name: None, greeting: None }],
        shards: world.host.cores.saturating_sub(1).clamp(1, 16),
        timeouts: Timeouts::default(),
        read_limits: ReadLimits::default(),
        keep_text: KeepText::Nothing,
        stamps,
        clock: Clock::start(),
        workers: world.workers,
        pacing,
        secrets: Arc::new([]),
    }
}

fn pass(plan: &SelftestPlan, streams: u32, server: &SimChild) -> Result<Pass, Error> {
    let target = Target::parse(&format!("http://{}", server.address))
        .map_err(|error| Error::new(Exit::Preflight, "cannot use the simulated server").caused_by(error))?;
    let writing = Writing {
        target: &target,
        endpoint: Endpoint::Completions,
        path: Endpoint::Completions.path(),
        options: BodyOptions {
            model: "simulated".to_owned(),
            logprobs: None,
            ignore_eos: true,
            chat_content: ChatContent::default(),
            chat_tokens_field: TokensField::default(),
            extra: serde_json::Map::new(),
        },
        id_prefix: "selftest-".to_owned(),
        prompt_tokens_source: PromptTokensSource::Estimate,
    };
    let request = |number: u32| Request {
        prompt: Prompt::Text(format!("stream {number}")),
        prompt_tokens: 4,
        output_tokens: tokens(plan) as u32,
    };
    let requests = (0..streams).map(|number| writing.prepare(&request(number), &number.to_string()));
    let at = |number: u32| Duration::from_secs_f64(START_S * f64::from(number) / f64::from(streams));
    let schedule = (0..streams).map(at).collect();
    Ok(Pass { schedule, ..Pass::at_once(Kind::Main, requests.collect()) })
}

/// The truth log's lines by request id.
fn truths(log: &[String]) -> HashMap<String, TrueTimes> {
    let truths = log.iter().filter_map(|line| serde_json::from_str::<Truth>(line).ok());
    let times = |truth: Truth| TrueTimes { received: truth.received_us, writes: truth.writes_us };
    truths.map(|truth| (truth.id.clone(), times(truth))).collect()
}

fn itl_bound(plan: &SelftestPlan, stamps: Stamps) -> f64 {
    plan.itl_bound_ms.unwrap_or(match stamps {
        Stamps::Kernel => ITL_BOUND_KERNEL_MS,
        Stamps::User => ITL_BOUND_USER_MS,
    })
}

/// What is out of bounds, in words.
fn fault(plan: &SelftestPlan, rung: &Rung) -> Option<String> {
    let errors = &rung.errors;
    if 0 < errors.unmatched {
        return Some(format!("{} requests failed", errors.unmatched));
    }
    let bounds = [
        ("sends", &errors.send_ms, plan.send_bound_ms),
        ("TTFT", &errors.ttft_ms, plan.ttft_bound_ms),
        ("ITL", &errors.itl_ms, itl_bound(plan, rung.stamps)),
    ];
    bounds.into_iter().find_map(|(name, values, bound)| {
        let p99 = values.value(99.0)?;
        (bound < p99).then(|| format!("{name} {p99:.3} ms off at p99, bound {bound}"))
    })
}

fn line(rung: &Rung, fault: Option<&str>) -> String {
    let pair = |values: &Distribution| {
        let figure = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.3}"));
        format!("{:>8} {:>6}", figure(values.median), figure(values.value(99.0)))
    };
    let errors = &rung.errors;
    let busiest = rung.busiest.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    format!(
        "{:>9} {:>9.0}   {}  {}  {}  {busiest:>6}{}\n",
        rung.streams,
        rung.events_per_s,
        pair(&errors.send_ms),
        pair(&errors.ttft_ms),
        pair(&errors.itl_ms),
        fault.map_or(String::new(), |fault| format!("\n          out of bounds: {fault}")),
    )
}

fn conclusion(plan: &SelftestPlan, best: Option<&Rung>, missed: Option<(u32, String)>) -> String {
    let Some(best) = best else {
        let (streams, fault) = missed.unwrap_or_default();
        return format!("\nNot even {streams} streams are measured within the bounds: {fault}.\n");
    };
    let stamps = match best.stamps {
        Stamps::Kernel => "the kernel",
        Stamps::User => "this process",
    };
    let end = match missed {
        None => ", the end of the ladder".to_owned(),
        Some((streams, fault)) => format!("; {streams} streams are too many ({fault})"),
    };
    format!(
        "\nThis machine, shared with the server, measures {} streams and {:.0} events/s{end}.\nBounds at p99: sends {} ms \
         late, TTFT {} ms and ITL {} ms off; events are stamped by {stamps}.\n",
        best.streams,
        best.events_per_s,
        plan.send_bound_ms,
        plan.ttft_bound_ms,
        itl_bound(plan, best.stamps),
    )
}
