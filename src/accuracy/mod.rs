//! Is it still right? Tasks, their documents and worked examples become questions; answers are filtered and scored
//! as lm_eval scores them, to the last bit; two runs over the same questions are compared in pairs. Pure: bytes and
//! records in, values out.
//! Deliberately absent: sending, files, what a result looks like, and tasks as code: a task is data.

mod documents;
mod filter;
mod fold;
mod pattern;
mod probe;
mod python;
mod question;
mod score;
mod shots;
mod statistics;
mod task;
mod template;
mod yaml;

pub use documents::{Documents, read_documents};
pub use fold::{ARMS, fold, unanswered};
pub use probe::{KV_PROBE, KvProbe};
pub use question::{Form, Question, Questions, Selection};
pub use task::{Task, TaskError};

/// The declarations of the tasks that need nothing but documents, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("gsm8k", include_str!("../../datasets/tasks/gsm8k.yaml")),
    ("gsm8k_cot_zeroshot", include_str!("../../datasets/tasks/gsm8k_cot_zeroshot.yaml")),
    ("gsm8k_platinum", include_str!("../../datasets/tasks/gsm8k_platinum.yaml")),
    (KV_PROBE, include_str!("../../datasets/tasks/kv-probe.yaml")),
];
