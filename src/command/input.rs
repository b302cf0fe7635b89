//! Reads the files that a run is made from and hands over their bytes.

use super::{Error, Exit, TokenizerPlan};
use crate::report::plain;
use crate::workload::TokenizerFiles;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// The bytes of a tokenizer's files.
pub(super) struct TokenizerBytes {
    tokenizer: Vec<u8>,
    /// The other files, in the order of [`BESIDES`], where they are.
    besides: [Option<Vec<u8>>; 3],
}

const TOKENIZER: &str = "tokenizer.json";
const BESIDES: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

impl TokenizerBytes {
    pub(super) fn borrowed(&self) -> TokenizerFiles<'_> {
        let [config, special_tokens_map, chat_template] = self.besides.each_ref().map(Option::as_deref);
        TokenizerFiles { tokenizer: &self.tokenizer, config, special_tokens_map, chat_template }
    }
}

/// The tokenizer that there is for a plan, and what to say where there is none.
pub(super) fn found_tokenizer(plan: &TokenizerPlan) -> Result<(TokenizerPlan, Option<String>), Error> {
    match plan {
        TokenizerPlan::Directory(directory) if !directory.join(TOKENIZER).is_file() => {
            let shown = directory.display();
            let what = match directory.is_dir() {
                true => format!("--tokenizer `{shown}` has no {TOKENIZER}"),
                false => format!("--tokenizer `{shown}` is not a local directory"),
            };
            Err(Error::new(Exit::Usage, what).help(format!(
                "name a directory with the model's {TOKENIZER}; nothing is downloaded. --skip-tokenizer-init \
                 estimates lengths as 4 bytes a token"
            )))
        }
        TokenizerPlan::IfLocal(directory) if !directory.join(TOKENIZER).is_file() => {
            let note = format!(
                "no tokenizer: `{}` is no local directory with a {TOKENIZER}; prompt lengths are estimated as 4 bytes \
                 a token (--tokenizer DIR counts them)\n",
                plain(&directory.display().to_string())
            );
            Ok((TokenizerPlan::Estimate, Some(note)))
        }
        found => Ok((found.clone(), None)),
    }
}

/// The files of a tokenizer's directory.
pub(super) fn tokenizer(directory: &Path) -> Result<TokenizerBytes, Error> {
    let optional = |name: &str| {
        let path = directory.join(name);
        path.is_file().then(|| read(&path, "the tokenizer")).transpose()
    };
    let [config, map, template] = BESIDES;
    Ok(TokenizerBytes {
        tokenizer: read(&directory.join(TOKENIZER), "the tokenizer")?,
        besides: [optional(config)?, optional(map)?, optional(template)?],
    })
}

/// A file's bytes.
pub(super) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "check the path; it is taken from the current directory",
            io::ErrorKind::PermissionDenied => "make the file readable for this user",
            _ => "name a readable file",
        };
        Error::new(Exit::Usage, format!("cannot read {what} from `{}`", path.display()))
            .caused_by(error)
            .help(help)
    })
}

/// A file to write lines to, made anew.
pub(super) fn create(path: &Path, what: &str) -> Result<io::BufWriter<fs::File>, Error> {
    let file = fs::File::create(path).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot write {what} to `{}`", path.display()))
            .caused_by(error)
            .help("name a file in a directory that is there and writable")
    })?;
    Ok(io::BufWriter::new(file))
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
