use super::documents::Documents;
use super::task::{ShotFormat, TaskError};
use crate::workload::PythonRandom;
use serde_json::{Map, Value};

/// Draws worked examples: one generator a task, whose state carries over from document to document.
pub(super) struct Sampler<'a> {
    pool: Vec<&'a Map<String, Value>>,
    first_n: bool,
    random: PythonRandom,
}

impl<'a> Sampler<'a> {
    /// From the task's own samples, or else from the documents of its split.
    pub(super) fn new(
        format: &'a ShotFormat,
        split: Option<&'a Documents>,
        seed: u64,
    ) -> Result<Self, TaskError> {
        let all = match (split, &format.samples) {
            (Some(documents), _) => documents,
            (None, Some(samples)) => samples,
            (None, None) => return Err(TaskError::new("the task has no worked examples to draw from")),
        };
        let pool = match &format.indices {
            None => all.iter().collect(),
            Some(indices) => {
                let one = |&index: &usize| {
                    all.get(index).ok_or_else(|| {
                        TaskError::new(format!("`fewshot_indices` has {index}, and there are {}", all.len()))
                    })
                };
                indices.iter().map(one).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { pool, first_n: format.first_n, random: PythonRandom::new(seed) })
    }

    /// `count` examples, none of which is `asked`, where that is of the same split.
    pub(super) fn draw(
        &mut self,
        count: usize,
        asked: Option<&Map<String, Value>>,
    ) -> Result<Vec<&'a Map<String, Value>>, TaskError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let drawn = if self.first_n { count } else { count + usize::from(asked.is_some()) };
        if self.pool.len() < drawn {
            let (wanted, there) = (count, self.pool.len());
            return Err(TaskError::new(format!(
                "{wanted} worked examples are wanted, and there are {there}"
            )));
        }
        if self.first_n {
            let others = self.pool.iter().copied().filter(|other| Some(*other) != asked);
            return Ok(others.take(count).collect());
        }
        let chosen = self.random.sample(self.pool.len(), drawn).into_iter().map(|at| self.pool[at]);
        let mut chosen: Vec<_> = chosen.filter(|one| Some(*one) != asked).take(count).collect();
        if chosen.len() < count {
            // The document stands in the pool more than once.
            let others: Vec<_> = self.pool.iter().copied().filter(|other| Some(*other) != asked).collect();
            chosen = self.random.sample(others.len(), count).into_iter().map(|at| others[at]).collect();
        }
        Ok(chosen)
    }
}
