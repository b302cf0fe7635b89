//! Asks a target for what is not load: its health, its models, its version.

use crate::wire::{HttpProxy, Target, distrustful, tls_fault};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A client of one target at one address: no redirects, no HTTP proxy but the target's.
pub(super) struct Client {
    http: reqwest::Client,
    target: Target,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    why: String,
    /// TLS did not come about, and will not by waiting.
    pub(super) by_tls: bool,
}

impl Client {
    /// A client that goes where the load goes.
    pub(super) fn new(target: &Target, address: SocketAddr) -> Result<Self, NoAnswer> {
        // Without a configuration of ours it would look for one of its own and find none.
        let tls = target.tls().map_or_else(distrustful, |tls| tls.config().as_ref().clone());
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve(target.first_hop().0, address)
            .tls_backend_preconfigured(tls)
            .timeout(Duration::from_secs(10));
        let http = match target.http_proxy() {
            None => client.build()?,
            Some(proxy) => client.proxy(through(proxy)?).build()?,
        };
        Ok(Self { http, target: target.clone() })
    }

    /// Where it asks.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response, NoAnswer> {
        let mut request = self.http.get(self.target.url(path));
        for (name, value) in self.target.headers() {
            request = request.header(name, value.expose());
        }
        if let Some(key) = self.target.api_key() {
            request = request.bearer_auth(key.expose());
        }
        Ok(request.send().await?)
    }

    /// The text of a page that is there.
    pub(super) async fn text(&self, path: &str) -> Result<String, NoAnswer> {
        let answer = self.get(path).await?;
        if !answer.status().is_success() {
            return Err(NoAnswer::new(format!("{path} answers {}", answer.status())));
        }
        Ok(answer.text().await?)
    }

    /// Ready unless `/health` says otherwise; many proxies have no such page.
    pub(super) async fn health(&self) -> Result<(), NoAnswer> {
        let status = self.get("/health").await?.status();
        if status.is_server_error() { Err(NoAnswer::new(format!("/health says {status}"))) } else { Ok(()) }
    }

    /// Ids of the models that the target lists.
    pub(super) async fn models(&self) -> Result<Vec<String>, NoAnswer> {
        Ok(self.listed().await?.into_iter().map(|(id, _)| id).collect())
    }

    /// Tokens that a model takes, prompt and answer together, where the target tells.
    pub(super) async fn max_model_len(&self, model: &str) -> Option<u64> {
        let list = self.list().await.ok()?;
        let mut models = list["data"].as_array()?.iter();
        models.find(|listed| listed["id"] == model)?["max_model_len"].as_u64()
    }

    /// The models that the target lists, each with the tokens that it takes, where the target says so.
    pub(super) async fn models_and_lengths(&self) -> Result<Vec<(String, Option<u64>)>, NoAnswer> {
        let list = self.list().await?;
        let models = list["data"].as_array().into_iter().flatten();
        let told = |model: &serde_json::Value| {
            Some((model["id"].as_str()?.to_owned(), model["max_model_len"].as_u64()))
        };
        Ok(models.filter_map(told).collect())
    }

    /// The models that the target lists: id, and what is behind it where the target says so.
    pub(super) async fn listed(&self) -> Result<Vec<(String, Option<String>)>, NoAnswer> {
        let list = self.list().await?;
        let models = list["data"].as_array().into_iter().flatten();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Ok(models.filter_map(|model| Some((text(&model["id"])?, text(&model["root"])))).collect())
    }

    async fn list(&self) -> Result<serde_json::Value, NoAnswer> {
        let answer = self.get("/v1/models").await?;
        if !answer.status().is_success() {
            return Err(NoAnswer::new(format!("/v1/models answers {}", answer.status())));
        }
        Ok(answer.json().await?)
    }

    /// Whether the target says that it is pdbench's own simulator.
    pub(super) async fn is_simulator(&self) -> bool {
        let Ok(answer) = self.get("/version").await else { return false };
        let version: Option<serde_json::Value> = answer.json().await.ok();
        version
            .is_some_and(|version| version["version"].as_str().is_some_and(|v| v.starts_with("pdbench-sim")))
    }
}

/// The HTTP proxy as this client knows one.
pub(super) fn through(proxy: &HttpProxy) -> Result<reqwest::Proxy, NoAnswer> {
    let all = reqwest::Proxy::all(proxy.url())?;
    let Some(authorization) = proxy.authorization() else { return Ok(all) };
    let mut value = reqwest::header::HeaderValue::from_str(authorization.expose())
        .map_err(|_| NoAnswer::new("the credentials of the HTTP proxy are no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(all.custom_http_auth(value))
}

impl NoAnswer {
    fn new(why: String) -> Self {
        Self { why, by_tls: false }
    }
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        match tls_error(&error) {
            Some(fault) => Self { why: tls_fault(fault), by_tls: true },
            // Its own words are only what was asked; the last cause is why it failed.
            None => Self::new(match last_cause(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            }),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl StdError for NoAnswer {}

fn last_cause(error: &reqwest::Error) -> Option<&(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source()).last()
}

/// The error of TLS under an error of HTTP. An error of input and output holds another, and gives as its source only
/// what lies under that.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(fault) = error.downcast_ref() {
        return Some(fault);
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => tls_error(held),
        None => tls_error(error.source()?),
    }
}
