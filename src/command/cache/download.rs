//! Asks a server for a file, or for the rest of one. Deliberately absent: redirects, and trying again.

use super::part::Part;
use crate::command::client::{NoAnswer, builder};
use crate::report::WriteError;
use crate::wire::{HttpProxy, Target};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, LOCATION, RANGE};
use reqwest::{Response, StatusCode};
use std::time::Duration;
use url::Url;

/// Longest wait for a connection …
const CONNECT: Duration = Duration::from_secs(10);
/// … and for the next piece of an answer.
const READ: Duration = Duration::from_secs(30);

/// A file on a server.
pub(super) struct Source {
    http: reqwest::Client,
    url: String,
}

/// Why a file did not come.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no answer, or one without the file.
    NoAnswer(String),
    /// The answer broke off.
    Broken(String),
    /// It is longer than a file may be.
    TooLong,
    /// It cannot be kept.
    Write(WriteError),
}

/// What a server has to say to a request for a file from some byte on.
enum Answer {
    /// The file from its beginning.
    Whole(Response),
    /// What was asked for.
    Rest(Response),
    /// What has come so far is no beginning of it.
    Anew,
}

impl Source {
    /// The file at the base URL of `target`.
    pub(super) fn new(target: &Target, proxy: Option<&HttpProxy>) -> Result<Self, NoAnswer> {
        let client = builder(target, proxy)?;
        let client = client.user_agent(concat!("pdbench/", env!("CARGO_PKG_VERSION")));
        let http = client.connect_timeout(CONNECT).read_timeout(READ).build()?;
        Ok(Self { http, url: target.base_url() })
    }

    /// Adds to `part` what it lacks, and tells `progress` how much has come, of how much where the server says. A
    /// file has `most` bytes at most.
    pub(super) async fn complete(
        &self,
        part: &mut Part,
        most: u64,
        progress: &mut impl FnMut(u64, Option<u64>),
    ) -> Result<(), Fault> {
        let mut answer = match self.ask(part.bytes()).await? {
            Answer::Rest(answer) => answer,
            Answer::Whole(answer) => {
                part.restart()?;
                answer
            }
            Answer::Anew => {
                part.restart()?;
                match self.ask(0).await? {
                    Answer::Whole(answer) => answer,
                    Answer::Rest(answer) => return Err(unexpected(&answer)),
                    Answer::Anew => unreachable!("without a range there is nothing to begin anew"),
                }
            }
        };
        let total = answer.content_length().map(|rest| part.bytes().saturating_add(rest));
        if total.is_some_and(|total| most < total) {
            return Err(Fault::TooLong);
        }
        progress(part.bytes(), total);
        while let Some(piece) = answer.chunk().await.map_err(|error| broken(error, part.bytes(), total))? {
            if most < part.bytes() + piece.len() as u64 {
                return Err(Fault::TooLong);
            }
            part.append(&piece)?;
            progress(part.bytes(), total);
        }
        Ok(())
    }

    /// Asks for what comes after the first `from` bytes.
    async fn ask(&self, from: u64) -> Result<Answer, Fault> {
        // A compressed answer would have another sum, and ranges of its own.
        let request = self.http.get(&self.url).header(ACCEPT_ENCODING, "identity");
        let request = if from == 0 { request } else { request.header(RANGE, format!("bytes={from}-")) };
        let answer = request.send().await.map_err(|error| Fault::NoAnswer(why(error)))?;
        match answer.status() {
            StatusCode::OK => Ok(Answer::Whole(answer)),
            StatusCode::PARTIAL_CONTENT if 0 < from && starts_at(answer.headers()) == Some(from) => {
                Ok(Answer::Rest(answer))
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if 0 < from => Ok(Answer::Anew),
            _ => Err(unexpected(&answer)),
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Fault::Write(error)
    }
}

fn unexpected(answer: &Response) -> Fault {
    let status = answer.status();
    if !status.is_redirection() {
        return Fault::NoAnswer(format!("the server answers {status}"));
    }
    // The rest of it may hold what is secret.
    let host = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
    let host = host.and_then(|place| answer.url().join(place).ok());
    let place = host.as_ref().and_then(Url::host_str).map_or(String::new(), |host| format!(" to {host}"));
    Fault::NoAnswer(format!("the server answers {status} and points{place}, where pdbench does not follow"))
}

fn broken(error: reqwest::Error, bytes: u64, total: Option<u64>) -> Fault {
    let of = total.map_or(String::new(), |total| format!(" of {total}"));
    Fault::Broken(format!("the answer broke off after {bytes}{of} bytes: {}", why(error)))
}

/// Without the URL, which is told anyway.
fn why(error: reqwest::Error) -> String {
    NoAnswer::from(error.without_url()).to_string()
}

/// The first byte of a `content-range`, such as that of `bytes 100-199/200`.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_says_where_it_starts() {
        for (text, start) in [
            ("bytes 100-199/200", Some(100)),
            ("bytes 0-0/*", Some(0)),
            ("bytes */200", None),
            ("lines 1-2/3", None),
            ("bytes -5/9", None),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, text.parse().unwrap())]);
            assert_eq!(starts_at(&headers), start, "{text}");
        }
        assert_eq!(starts_at(&HeaderMap::new()), None);
    }
}
