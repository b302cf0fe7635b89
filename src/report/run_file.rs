//! `run.json`: the manifest from the start of a run on, its summary from the end on. Bytes in, bytes
//! out; the writer and `command` own the file.

use crate::measure::{RunFile, SCHEMA};

/// A `run.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// It is not JSON, or not a run.
    #[error("run.json is not a run's manifest")]
    NotARun(#[source] serde_json::Error),
    /// It was written in another schema.
    #[error("run.json has schema {found}; this pdbench reads schema {SCHEMA}")]
    Schema {
        /// The schema it names.
        found: u64,
    },
}

/// The file's bytes: JSON, indented, with a line end.
///
/// # Errors
/// Never for a run made by this program; JSON has no way to fail on it.
pub fn run_file_bytes(file: &RunFile) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(file)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the file's bytes; the schema is judged before anything else.
///
/// # Errors
/// When the bytes are not a run in a schema that this program knows.
pub fn read_run_file(bytes: &[u8]) -> Result<RunFile, RunFileError> {
    #[derive(serde::Deserialize)]
    struct Schema {
        schema: u64,
    }
    let Schema { schema: found } = serde_json::from_slice(bytes).map_err(RunFileError::NotARun)?;
    if found != u64::from(SCHEMA) {
        return Err(RunFileError::Schema { found });
    }
    serde_json::from_slice(bytes).map_err(RunFileError::NotARun)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{manifest, run, summary, with_accuracy};
    use super::*;

    #[test]
    fn a_run_file_reads_back_as_it_was_written() {
        let run = run();
        for summary in [None, Some(summary(&run))] {
            let file = RunFile { manifest: manifest(), summary, accuracy: None };
            let bytes = run_file_bytes(&file).unwrap();
            let back = read_run_file(&bytes).unwrap();
            assert!(run_file_bytes(&back).unwrap() == bytes);
            assert_eq!(bytes.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn what_an_accuracy_run_asked_and_what_came_of_it_read_back_apart() {
        with_accuracy(
            |_| {},
            |reported| {
                let (manifest, mut accuracy) = (reported.run.manifest.clone(), reported.run.accuracy.clone());
                let summary = Some(reported.summary.clone());
                let file = RunFile { manifest, summary, accuracy: accuracy.clone() };
                let back = read_run_file(&run_file_bytes(&file).unwrap()).unwrap();
                assert_eq!(back.manifest.accuracy, reported.run.manifest.accuracy);
                // The documents are in files of their own.
                accuracy.as_mut().unwrap().documents.clear();
                assert_eq!(back.accuracy, accuracy);
            },
        );
    }

    #[test]
    fn a_file_of_another_schema_is_refused_by_its_number() {
        let error = read_run_file(br#"{"schema": 7}"#).unwrap_err();
        assert_eq!(error.to_string(), "run.json has schema 7; this pdbench reads schema 1");
        assert!(matches!(read_run_file(b"[]"), Err(RunFileError::NotARun(_))));
    }
}
