//! Protocols as pure code: bytes in, values out, and the other way round. HTTP/1.1 responses, event
//! streams, OpenAI bodies and chunks, where requests go.
//! Deliberately absent: sockets, clocks, and any opinion on what a fault means for a measurement.

pub mod http1;
pub mod openai;
pub mod prometheus;
pub mod sse;
mod target;

pub use target::{Endpoint, Secret, Target, TargetError};
