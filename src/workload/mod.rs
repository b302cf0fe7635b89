//! What is sent and when: requests from datasets, and their arrival times, both made before a run starts
//! and seed-exact with `vllm bench serve`. Pure: bytes in, values out.
//! Deliberately absent: reading files, and anything about how requests travel.

mod arrival;
mod byte_pairs;
mod custom;
mod dataset_error;
mod direct;
mod numpy_generator;
mod pieces;
mod python_random;
mod random;
mod reencode;
mod request;
mod sharegpt;
mod sonnet;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;
mod tokenizer_config;
mod tokens;

pub use arrival::{ArrivalProcess, Burstiness, Normalise, Ramp, RampShape, Rate, Schedule};
pub use custom::{Custom, Order, OutputLen, Oversample};
pub use dataset_error::{DatasetError, decode};
pub use numpy_generator::NumpyGenerator;
pub use python_random::{NumpyRandom, PythonRandom};
pub use random::{Random, RandomForm, RangeRatio};
pub use request::{Message, Prompt, Request};
pub use sharegpt::ShareGpt;
pub use sonnet::{SONNETS, Sonnet};
pub use template::ChatTemplate;
pub use tokenizer::{Ends, Tokenizer, TokenizerFiles};
pub use tokens::{Templating, TokenCounter};

/// What a run sends and when: as many requests as arrival times.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Requests in the order in which they are sent.
    pub requests: Vec<Request>,
    /// When each is due, from the start of the run.
    pub schedule: Schedule,
}

impl Workload {
    /// Gives each request its arrival time.
    pub fn new(requests: Vec<Request>, process: ArrivalProcess, seed: u32, normalise: Normalise) -> Self {
        let schedule = Schedule::new(process, requests.len(), seed, normalise);
        Self { requests, schedule }
    }
}
