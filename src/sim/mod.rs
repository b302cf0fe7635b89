//! A simulated PD cluster of known truth: nodes whose times follow a stated cost model, speaking vLLM's OpenAI
//! API and metrics. Each has a socket of its own, holds KV, hands it over in every dialect of the proxies in use,
//! or by a store, and can be made to fail. The truth log says what each request really met at each node, so that a
//! client's numbers can be held against it.
//! Deliberately absent: a proxy, which is the real one's task; threads, runtimes and files: the caller decides where
//! it runs and what is kept.

mod answer;
mod api;
mod book;
mod config;
mod cost;
mod counts;
mod door;
mod engine;
mod events;
mod fabric;
mod faults;
mod handoff;
mod known;
mod likelihood;
mod link;
mod metaserver;
mod metrics;
mod node;
mod nodes;
mod outgoing;
mod parameters;
mod pool;
mod prompt;
mod sequence;
mod serving;
mod store;
mod stream;
mod truth;
mod unstreamed;
mod wrong;

pub use book::{Book, BookError};
pub use config::{Config, Emission, KvConfig, Routing};
pub use cost::Cost;
pub use fabric::Delivery;
pub use faults::{Death, Fault, FaultKind, Faults};
pub use nodes::{SimCluster, SimNode, run};
pub use parameters::{FlagNames, PARAMETERS, Parameter};
pub use truth::{Ended, KvWrong, TRUTH_SCHEMA, Truth, TruthHeader, TruthSink};

use std::time::Duration;

/// What a simulated cluster did until it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered in full.
    pub complete: u64,
    /// Requests whose client went away, or that were cut by a stop.
    pub cancelled: u64,
    /// Requests that the cluster failed.
    pub error: u64,
    /// Requests refused with a 4xx status.
    pub rejected: u64,
    /// Prompt tokens of accepted requests.
    pub prompt_tokens: u64,
    /// Output tokens handed to sockets.
    pub output_tokens: u64,
    /// The longest a node acted after its due time, the timer's 1 ms rounding included: the machine could
    /// not keep the cost model's pace when this grows.
    pub worst_lateness: Duration,
}

impl Totals {
    fn add(&mut self, truth: &Truth) {
        match truth.ended {
            Ended::Complete => self.complete += 1,
            Ended::Cancelled => self.cancelled += 1,
            Ended::Error => self.error += 1,
        }
        self.prompt_tokens += u64::from(truth.prompt_tokens);
        self.output_tokens += u64::from(truth.output_tokens);
    }
}
