//! What is sent and when: requests from datasets, and their arrival times, both made before a run starts
//! and seed-exact with `vllm bench serve`. Pure: bytes in, values out.
//! Deliberately absent: reading files, and anything about how requests travel.

mod arrival;
mod python_random;
mod request;

pub use arrival::{ArrivalProcess, Burstiness, Normalise, Ramp, RampShape, Rate, Schedule};
pub use python_random::{NumpyRandom, PythonRandom};
pub use request::{Message, Prompt, Request};
