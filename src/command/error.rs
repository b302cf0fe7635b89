use std::error::Error as StdError;

/// How a run of the program ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The verb did what it was asked, and a measured run is valid.
    Valid,
    /// The run is invalid, or a threshold was missed.
    Invalid,
    /// Wrong usage, configuration or dataset.
    Usage,
    /// The target cannot be used; no load was sent.
    Preflight,
    /// Given up during the load.
    Aborted,
    /// The results could not be written, or not all of them.
    NotWritten,
    /// Stopped by SIGINT, results saved.
    Interrupted,
    /// Stopped by SIGTERM, results saved.
    Terminated,
}

impl Exit {
    /// The process's exit status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Valid => 0,
            Exit::Invalid => 1,
            Exit::Usage => 2,
            Exit::Preflight => 3,
            Exit::Aborted => 4,
            Exit::NotWritten => 5,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }
}

/// What stopped the program: what was being done, with which value, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// The exit status.
    pub exit: Exit,
    what: String,
    help: Option<String>,
    #[source]
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that ends the program with `exit`.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), help: None, cause: None }
    }

    /// Says what to do about it.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says what lies underneath.
    pub fn caused_by(self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// What lies underneath, in words.
    pub(super) fn cause_text(&self) -> Option<String> {
        self.cause.as_ref().map(ToString::to_string)
    }

    /// The whole message: what happened, why, what to do. Ends with a line end.
    pub fn message(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        if let Some(help) = &self.help {
            text += &format!("\nhelp: {help}");
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_why_and_what_to_do() {
        let error = Error::new(Exit::Usage, "cannot read prompts from `x`")
            .caused_by("line 14: missing field `prompt`")
            .help("each line needs a prompt");
        assert_eq!(
            error.message(),
            "error: cannot read prompts from `x`: line 14: missing field `prompt`\nhelp: each line needs a prompt\n"
        );
    }
}
