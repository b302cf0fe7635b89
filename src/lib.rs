//! `pdbench` measures prefill/decode (PD) disaggregated LLM serving.

pub mod cli;
pub mod cluster;
pub mod command;
pub mod load;
pub mod measure;
pub mod report;
pub mod runtime;
pub mod sim;
pub mod wire;
pub mod workload;
