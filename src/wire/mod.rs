//! Protocols as pure code: bytes in, values out, and the other way round. HTTP/1.1 responses, event
//! streams, OpenAI bodies and chunks, the legs of a PD request, ZMTP, where requests go and who is believed to be there.
//! Deliberately absent: sockets, clocks, and any opinion on what a fault means for a measurement.

mod certificates;
mod coding;
pub mod dialect;
pub mod http1;
mod http_proxy;
mod object;
pub mod openai;
pub mod prometheus;
pub mod python_json;
mod server_timing;
pub mod sse;
mod target;
#[cfg(test)]
mod target_tests;
mod tls;
pub mod zmtp;

pub use coding::{base64, hexadecimal, sha256};
pub use http_proxy::{HttpProxy, HttpProxyError};
pub use object::Object;
pub use server_timing::{ServerTiming, server_timing};
pub use target::{Endpoint, Secret, Target, TargetError};
pub use tls::{Tls, TlsError, Trust, certificates, distrustful, tls_fault};
