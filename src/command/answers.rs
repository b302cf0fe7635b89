//! What the simulated model knows, from a file.

use super::{Error, Exit, Plan, SimPlan, TargetPlan, input};
use crate::sim::Book;
use std::path::PathBuf;
use std::sync::Arc;

/// Questions with worked answers, for the simulated model.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswersPlan {
    /// The file, a line of JSON for each.
    pub path: PathBuf,
    /// How often the model is right, from 0 to 1.
    pub right: f64,
}

/// Reads the answers for the plan's simulated cluster, if it has one that is to know some.
pub(super) fn learn(plan: &mut Plan) -> Result<(), Error> {
    let target = match plan {
        Plan::Sim(sim) => return sim.learn(),
        Plan::Serve(serve) => &mut serve.target,
        Plan::Repeat(repeat) => &mut repeat.serve.target,
        Plan::Accuracy(accuracy) => &mut accuracy.serve.target,
        Plan::Check(check) => &mut check.serve.target,
        _ => return Ok(()),
    };
    if let TargetPlan::Embedded(sim) = target { sim.learn() } else { Ok(()) }
}

impl SimPlan {
    /// Reads its answers, if it has a file of them, into its cluster's book.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is no question with an answer.
    pub(super) fn learn(&mut self) -> Result<(), Error> {
        let Some(AnswersPlan { path, right }) = &self.answers else { return Ok(()) };
        let bytes = input::read(path, "answers")?;
        let book = Book::parse(&bytes, *right).map_err(|error| {
            let place = format!("{}:{}", path.display(), error.line);
            Error::new(Exit::Usage, format!("cannot take answers from {place}: {}", error.why))
                .help(r#"each line needs {"question": "…", "answer": "… #### 7"}"#)
        })?;
        self.config.book = Some(Arc::new(book));
        Ok(())
    }
}
