//! `/metrics`: what each leg and each client's request came to.

use super::Proxy;
use super::front::Ending;
use super::instance::{Instance, State};
use super::leg::Told;
use crate::cluster::Role;
use crate::wire::prometheus::{Histogram, Kind, Writer};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// One histogram of a leg: its name, what it measures, where it is kept.
type LegHistogram = (&'static str, &'static str, fn(&Told) -> &Histogram);

/// One number of an instance: its name, what it is, where it comes from.
type InstanceNumber = (&'static str, &'static str, fn(&Instance) -> f64);

const HISTOGRAMS: &[LegHistogram] = &[
    ("pdbench_proxy_leg_connect_seconds", "Time to open a connection to an instance.", |told| &told.connect),
    ("pdbench_proxy_leg_head_seconds", "Time from a leg's start to the head of its answer.", |told| {
        &told.head
    }),
    (
        "pdbench_proxy_leg_first_byte_seconds",
        "Time from a leg's start to the first byte of its answer's body.",
        |told| &told.first_byte,
    ),
    ("pdbench_proxy_leg_seconds", "Time from a leg's start to its end, however it ended.", |told| {
        &told.whole
    }),
];

/// The whole exposition.
pub(super) fn expose(proxy: &Proxy) -> String {
    let mut writer = Writer::default();
    clients(&mut writer, proxy);
    legs(&mut writer, proxy);
    benchmark(&mut writer, proxy);
    process(&mut writer);
    writer.finish()
}

fn clients(writer: &mut Writer, proxy: &Proxy) {
    let name = "pdbench_proxy_requests_in_flight";
    writer.family(name, Kind::Gauge, "Requests of clients that are not answered whole yet.");
    writer.sample(name, &[], f64::from(proxy.front.in_flight()));
    let name = "pdbench_proxy_requests_total";
    writer.family(name, Kind::Counter, "Requests of clients, by how they ended.");
    let totals = proxy.front.totals();
    for ending in Ending::ALL {
        writer.sample(name, &[("outcome", ending.word())], totals.of(ending) as f64);
    }
    let name = "pdbench_proxy_waiting_for_decode_calls";
    writer.family(name, Kind::Gauge, "Requests whose decode instance has not asked for their prefill yet.");
    writer.sample(name, &[], proxy.calls.len() as f64);
    let name = "pdbench_proxy_waiting_for_notifications";
    writer.family(name, Kind::Gauge, "Requests whose prefill instance has not told yet where their KV is.");
    writer.sample(name, &[], proxy.notices.len() as f64);
}

fn legs(writer: &mut Writer, proxy: &Proxy) {
    let mut instances = proxy.roster.instances(Role::Prefill);
    instances.extend(proxy.roster.instances(Role::Decode));
    let roles: Vec<String> = instances.iter().map(|instance| instance.role.to_string()).collect();
    let each = |writer: &mut Writer, name: &str, value: fn(&Instance) -> f64| {
        for (instance, role) in instances.iter().zip(&roles) {
            writer.sample(name, &[("role", role), ("instance", &instance.name)], value(instance));
        }
    };
    let gauges: [InstanceNumber; 4] = [
        ("pdbench_proxy_instance_up", "1 while the instance takes requests.", |instance| {
            f64::from(instance.state().0 == State::Up)
        }),
        ("pdbench_proxy_instance_requests_in_flight", "Requests assigned to the instance.", |instance| {
            f64::from(instance.in_flight())
        }),
        ("pdbench_proxy_legs_in_flight", "Legs sent to the instance and not ended.", |instance| {
            f64::from(instance.stats.in_flight.load(Relaxed))
        }),
        ("pdbench_proxy_idle_connections", "Connections to the instance that are kept open.", |instance| {
            instance.pool.len() as f64
        }),
    ];
    for (name, help, value) in gauges {
        writer.family(name, Kind::Gauge, help);
        each(writer, name, value);
    }
    let counters: [InstanceNumber; 4] = [
        ("pdbench_proxy_leg_bytes_total", "Bytes of answers' bodies read from the instance.", |instance| {
            instance.stats.bytes.load(Relaxed) as f64
        }),
        ("pdbench_proxy_leg_events_total", "Events of streams read from the instance.", |instance| {
            instance.stats.events.load(Relaxed) as f64
        }),
        (
            "pdbench_proxy_leg_stale_retries_total",
            "Legs sent again because their kept-alive connection had been closed.",
            |instance| instance.stats.stale_retries.load(Relaxed) as f64,
        ),
        (
            "pdbench_proxy_legs_moved_total",
            "Legs sent to another instance because this one took no connection.",
            |instance| instance.stats.moved.load(Relaxed) as f64,
        ),
    ];
    for (name, help, value) in counters {
        writer.family(name, Kind::Counter, help);
        each(writer, name, value);
    }
    let told: Vec<(&Arc<Instance>, &String, Told)> = instances
        .iter()
        .zip(&roles)
        .map(|(instance, role)| (instance, role, instance.stats.told()))
        .collect();
    let name = "pdbench_proxy_legs_total";
    writer.family(name, Kind::Counter, "Legs by status class of their answer, or by how they failed.");
    for (instance, role, told) in &told {
        for (class, count) in &told.ended {
            let labels = [("role", role.as_str()), ("instance", instance.name.as_str()), ("class", *class)];
            writer.sample(name, &labels, *count as f64);
        }
    }
    for (name, help, histogram) in HISTOGRAMS {
        writer.family(name, Kind::Histogram, help);
        for (instance, role, told) in &told {
            let labels = [("role", role.as_str()), ("instance", instance.name.as_str())];
            writer.histogram(name, &labels, histogram(told));
        }
    }
}

/// The last batch of the repeat mode.
fn benchmark(writer: &mut Writer, proxy: &Proxy) {
    if proxy.config.benchmark.is_none() {
        return;
    }
    let (running, plateau) = proxy.bench.last();
    let mut gauge = |name: &str, help: &str, value: f64| {
        writer.family(name, Kind::Gauge, help);
        writer.sample(name, &[], value);
    };
    gauge("pdbench_benchmark_running", "1 while a batch is under way.", f64::from(running));
    let Some(plateau) = plateau else { return };
    gauge("pdbench_benchmark_valid", "1 when the last batch counts.", f64::from(plateau.is_valid()));
    let counts = [
        ("pdbench_benchmark_replicas_expected", "Replicas that there should have been.", plateau.expected),
        ("pdbench_benchmark_replicas", "Replicas with a record.", plateau.replicas),
        ("pdbench_benchmark_replicas_ok", "Replicas that ended ok.", plateau.ok),
    ];
    for (name, help, count) in counts {
        gauge(name, help, count as f64);
    }
    let figures = [
        (
            "pdbench_benchmark_plateau_decode_tokens_per_second",
            "Aggregate decode throughput while all replicas generate.",
            plateau.decode_tok_per_s,
        ),
        ("pdbench_benchmark_plateau_seconds", "Length of that time.", plateau.length_s()),
        (
            "pdbench_benchmark_tokens_per_second_with_ramp_and_drain",
            "Tokens from the first send to the last token: no measure of decoding.",
            plateau.tok_per_s_with_ramp_and_drain,
        ),
    ];
    for (name, help, figure) in figures {
        if let Some(figure) = figure {
            gauge(name, help, figure);
        }
    }
}

/// What the process uses, and the thread that answers: they differ where the proxy is embedded.
fn process(writer: &mut Writer) {
    let seconds = |usage: &Usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    };
    let whole = getrusage(UsageWho::RUSAGE_SELF);
    if let Ok(usage) = &whole {
        let name = "process_cpu_seconds_total";
        writer.family(name, Kind::Counter, "CPU time of the process, user and system.");
        writer.sample(name, &[], seconds(usage));
        let name = "pdbench_proxy_peak_resident_bytes";
        writer.family(name, Kind::Gauge, "Most memory that the process had resident so far.");
        // Linux tells it in KiB.
        writer.sample(name, &[], usage.max_rss() as f64 * 1024.0);
    }
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) {
        let name = "pdbench_proxy_thread_cpu_seconds_total";
        writer.family(name, Kind::Counter, "CPU time of the thread that runs the proxy.");
        writer.sample(name, &[], seconds(&usage));
    }
}
