//! What is sent and when: requests from datasets, and their arrival times, both made before a run starts
//! and seed-exact with `vllm bench serve`. Pure: bytes in, values out.
//! Deliberately absent: reading files, and anything about how requests travel.

mod arrival;
mod dataset_error;
mod python_random;
mod request;
mod sonnet;
mod tokens;

pub use arrival::{ArrivalProcess, Burstiness, Normalise, Ramp, RampShape, Rate, Schedule};
pub use dataset_error::{DatasetError, decode};
pub use python_random::{NumpyRandom, PythonRandom};
pub use request::{Message, Prompt, Request};
pub use sonnet::{SONNETS, Sonnet};
pub use tokens::TokenCounter;
