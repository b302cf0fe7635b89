//! What must not be kept: which parts of a command line, of headers and of bodies are secret.

use crate::wire::{HttpProxy, Secret, Target};
use serde_json::{Map, Value};

/// Shortest text that is taken out wherever it stands: shorter ones stand in answers by chance.
const LONG: usize = 8;
/// The same for what a name says is a secret.
const NAMED: usize = 4;

/// Everything secret that a run sends, so that it can be taken out of what a server says: the key, the values of
/// headers off the short list and their parts, and what the extra body has under a secret name.
pub(super) fn of(target: &Target, extra_body: &Map<String, Value>) -> Vec<Secret> {
    let mut texts: Vec<String> = target.api_key().map(|key| key.expose().to_owned()).into_iter().collect();
    for (name, value) in target.headers().iter().filter(|(name, _)| !is_open_header(name)) {
        let least = if is_secret_key(name) { NAMED } else { LONG };
        texts.extend(Some(value.expose().to_owned()).filter(|value| least <= value.len()));
        // A server may echo the key without the word before it, or one of several cookies.
        let parts = value.expose().split([' ', ';', ',', '=']).filter(|part| LONG <= part.len());
        texts.extend(parts.map(str::to_owned));
    }
    for (key, value) in extra_body {
        collect(value, is_secret_key(key), &mut texts);
    }
    let of_proxy = target.http_proxy().into_iter().flat_map(HttpProxy::secrets).map(Secret::expose);
    texts.extend(of_proxy.filter(|text| NAMED <= text.len()).map(str::to_owned));
    // A longer secret may hold a shorter one.
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.dedup();
    texts.into_iter().map(Secret::new).collect()
}

fn collect(value: &Value, secret: bool, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if secret && NAMED <= text.len() => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, secret, texts)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect(value, secret || is_secret_key(key), texts));
        }
        _ => {}
    }
}

/// Headers whose values may be shown.
const OPEN_HEADERS: [&str; 4] = ["accept", "content-type", "user-agent", "x-request-id"];

/// A command line without the values that may be secret: headers off a short list, keys of the body that look
/// like secrets, credentials in URLs.
pub(super) fn redacted(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut flag = String::new();
    for argument in arguments {
        let (name, value, joined) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
            Some((name, value)) => (name.replace('_', "-"), value, true),
            None if argument.starts_with("--") => {
                flag = argument.replace('_', "-");
                shown.push(argument.clone());
                continue;
            }
            None => (flag.clone(), argument.as_str(), false),
        };
        let value = redact_value(&name, value);
        shown.push(if joined { format!("{}={value}", &argument[..name.len()]) } else { value });
    }
    shown
}

fn redact_value(flag: &str, value: &str) -> String {
    match flag {
        "--header" => match value.split_once('=') {
            Some((name, _)) if is_open_header(name) => value.to_owned(),
            Some((name, _)) => format!("{name}=[redacted]"),
            None => "[redacted]".to_owned(),
        },
        "--extra-body" => match serde_json::from_str::<serde_json::Value>(value) {
            Ok(mut body) => {
                redact_json(&mut body);
                body.to_string()
            }
            Err(_) => "[redacted]".to_owned(),
        },
        // A password may hold what ends an authority, so that the last `@` counts, wherever it is.
        _ => {
            match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)))
            {
                Some((scheme, place)) => format!("{scheme}://[redacted]@{place}"),
                None => value.to_owned(),
            }
        }
    }
}

fn is_open_header(name: &str) -> bool {
    OPEN_HEADERS.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether a name says that its value is a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["key", "token", "secret", "auth", "cookie"].iter().any(|word| key.contains(word))
}

fn redact_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                if is_secret_key(key) && !value.is_number() {
                    *value = "[redacted]".into();
                } else {
                    redact_json(value);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(redact_json),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_with_their_parts_and_nothing_common_is_one() {
        let target = Target::parse("http://x")
            .and_then(|target| target.with_header("Authorization", "Bearer sk-hunter2"))
            .and_then(|target| target.with_header("X-data-parallel-rank", "0"))
            .and_then(|target| target.with_header("user-agent", "somebody else"))
            .unwrap();
        let body = serde_json::json!({
            "stop_token": "a", "tools": [{"api_key": "in-a-list"}], "auth": {"value": "below"}, "user": "not secret"
        });
        let found = of(&target, body.as_object().unwrap());
        let mut texts: Vec<&str> = found.iter().map(Secret::expose).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["Bearer sk-hunter2", "below", "in-a-list", "sk-hunter2"]);
    }

    #[test]
    fn a_stored_command_line_holds_no_secret() {
        let typed = [
            "pdbench",
            "serve",
            "--base-url",
            "http://user:hunter2@host:1/x",
            "--baseline-url=http://user:a/hunter2?hunter2#hunter2@host:2",
            "--header",
            "X-Api-Key=hunter2",
            "x-tenant=hunter2",
            "user-agent=me",
            "--extra_body={\"a\":{\"auth_token\":\"hunter2\"},\"max_tokens\":4}",
            "--label",
            "a@b",
        ];
        let shown = redacted(&typed.map(str::to_owned)).join(" ");
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in ["user-agent=me", "X-Api-Key=", "host:1/x", "host:2", "\"max_tokens\":4", "a@b"] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
