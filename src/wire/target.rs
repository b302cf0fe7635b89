use super::http_proxy::HttpProxy;
use super::tls::{Tls, TlsError, Trust};
use rustls::pki_types::ServerName;
use std::fmt;
use url::Url;

/// Which API the measured requests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Endpoint; 2] = [Endpoint::Completions, Endpoint::Chat];

    /// Its usual path.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Completions => "/v1/completions",
            Endpoint::Chat => "/v1/chat/completions",
        }
    }

    /// The name that `vllm bench serve --backend` has for it.
    pub fn backend(self) -> &'static str {
        match self {
            Endpoint::Completions => "openai",
            Endpoint::Chat => "openai-chat",
        }
    }
}

/// A text that does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text of somebody who may have quoted it, without it.
    pub fn redact(&self, text: String) -> String {
        let quoted = !self.0.is_empty() && text.contains(&self.0);
        if quoted { text.replace(&self.0, "[redacted]") } else { text }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where requests go: base URL, headers, key, TLS.
#[derive(Clone, Debug)]
pub struct Target {
    tls: Option<Tls>,
    host: String,
    port: u16,
    base_path: String,
    headers: Vec<(String, Secret)>,
    /// The Bearer token, and where it came from, in words.
    api_key: Option<Box<(Secret, String)>>,
    http_proxy: Option<Box<HttpProxy>>,
}

/// A target that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("`{url}` is not a base URL: {why}")]
    NotAUrl {
        /// What was given, without credentials.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A URL that ends in the path of another API than the one that was asked for.
    #[error("`{url}` ends in {ends_in}, and the requests go to {endpoint}")]
    OtherEndpoint {
        /// The base URL.
        url: String,
        /// The path at its end.
        ends_in: &'static str,
        /// The path that was asked for.
        endpoint: String,
    },
    /// A header that would break the request apart.
    #[error("header `{name}` {why}")]
    BadHeader {
        /// The header's name, escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Target {
    /// Parses a base URL such as `http://127.0.0.1:8000` or `https://host/prefix`. Under https nobody is believed
    /// before [`Target::trusting`] says whom to believe.
    ///
    /// # Errors
    /// When it is no http or https URL, or carries credentials, a query or a fragment.
    pub fn parse(base_url: &str) -> Result<Self, TargetError> {
        let bad =
            |why: &str| TargetError::NotAUrl { url: without_credentials(base_url), why: why.to_owned() };
        let with_scheme =
            if base_url.contains("://") { base_url.to_owned() } else { format!("http://{base_url}") };
        // A password may hold what ends an authority: then the parser would take it for a path.
        if base_url.contains('@') {
            return Err(bad(
                "an `@` is that of credentials, which do not belong in a URL; set OPENAI_API_KEY",
            ));
        }
        let url = Url::parse(&with_scheme).map_err(|error| bad(&error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(bad("want http://HOST:PORT or https://HOST:PORT"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("a base URL has no query and no fragment"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match url.scheme() {
            "https" => {
                let name = ServerName::try_from(host.clone());
                Some(Tls::distrustful(name.map_err(|_| bad("no certificate can be for that host name"))?))
            }
            _ => None,
        };
        Ok(Self {
            tls,
            host,
            port: url.port_or_known_default().ok_or_else(|| bad("it names no port"))?,
            base_path: url.path().trim_end_matches('/').to_owned(),
            headers: Vec::new(),
            api_key: None,
            http_proxy: None,
        })
    }

    /// Believes these certificates, where the URL is an https one.
    ///
    /// # Errors
    /// When they make no configuration.
    pub fn trusting(mut self, trust: &Trust) -> Result<Self, TlsError> {
        if let Some(tls) = &mut self.tls {
            *tls = Tls::new(tls.server_name().clone(), trust)?;
        }
        Ok(self)
    }

    /// Takes off the base URL's end what the path of the requests has too, so that the whole URL, or one that ends
    /// in `/v1`, may be given.
    ///
    /// # Errors
    /// When the URL ends in the path of another API.
    pub fn for_endpoint(mut self, path: &str) -> Result<Self, TargetError> {
        let base = self.base_path.as_str();
        let other = Endpoint::ALL.map(Endpoint::path).into_iter().find(|&other| base.ends_with(other));
        let kept = match (base.strip_suffix(path), other) {
            (Some(kept), _) => kept,
            (None, Some(ends_in)) => {
                return Err(TargetError::OtherEndpoint {
                    url: self.base_url(),
                    ends_in,
                    endpoint: path.to_owned(),
                });
            }
            (None, None) => without_doubled_version(base, path),
        };
        self.base_path.truncate(kept.trim_end_matches('/').len());
        Ok(self)
    }

    /// The URL of a path of the API, such as `/v1/models`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin(), without_doubled_version(&self.base_path, path))
    }

    /// Sends `key`, which came `from` there, as the Bearer token; a header `authorization` that was given goes before it.
    ///
    /// # Errors
    /// When it holds a control character.
    pub fn with_api_key(mut self, key: Secret, from: &str) -> Result<Self, TargetError> {
        check_value("authorization", key.expose())?;
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            self.api_key = Some(Box::new((key, from.to_owned())));
        }
        Ok(self)
    }

    /// Sends a header with each request.
    ///
    /// # Errors
    /// When name or value would break the request apart.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, TargetError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(TargetError::BadHeader {
                name: name.escape_debug().to_string(),
                why: "is not a header name",
            });
        }
        check_value(name, value)?;
        self.headers.push((name.to_owned(), Secret::new(value)));
        Ok(self)
    }

    /// Goes through an HTTP proxy.
    pub fn through(self, http_proxy: Option<HttpProxy>) -> Self {
        Self { http_proxy: http_proxy.map(Box::new), ..self }
    }

    /// The HTTP proxy on the way.
    pub fn http_proxy(&self) -> Option<&HttpProxy> {
        self.http_proxy.as_deref()
    }

    /// Host and port that connections are opened to.
    pub fn first_hop(&self) -> (&str, u16) {
        self.http_proxy.as_ref().map_or((&self.host, self.port), |proxy| (proxy.host(), proxy.port()))
    }

    /// What stands before the path of a request: all of the URL where an HTTP proxy reads it.
    pub fn request_base(&self) -> String {
        if self.is_relayed() { self.base_url() } else { self.base_path.clone() }
    }

    /// What each request tells the HTTP proxy that relays it.
    pub fn proxy_authorization(&self) -> Option<&Secret> {
        self.http_proxy.as_ref().filter(|_| self.is_relayed()).and_then(|proxy| proxy.authorization())
    }

    /// What opens a way through the HTTP proxy, before TLS.
    pub fn tunnel(&self) -> Option<Vec<u8>> {
        let proxy = self.http_proxy.as_ref().filter(|_| self.tls.is_some())?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Some(proxy.connect(&format!("{host}:{}", self.port)))
    }

    /// An HTTP proxy reads the requests themselves.
    fn is_relayed(&self) -> bool {
        self.http_proxy.is_some() && self.tls.is_none()
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path in front of the endpoint's, empty or `/…` without a trailing slash.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// `host:port`, as the `host` header has it: without the port that the scheme implies, which some gateways
    /// would take for a part of the name.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let implied = if self.tls.is_some() { 443 } else { 80 };
        if self.port == implied { host } else { format!("{host}:{}", self.port) }
    }

    /// Base URL without credentials.
    pub fn base_url(&self) -> String {
        format!("{}{}", self.origin(), self.base_path)
    }

    fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// How to speak TLS with it; `None` under http.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Headers sent with each request.
    pub fn headers(&self) -> &[(String, Secret)] {
        &self.headers
    }

    /// The Bearer token.
    pub fn api_key(&self) -> Option<&Secret> {
        self.api_key.as_ref().map(|key| &key.0)
    }

    /// Where the Bearer token came from, in words.
    pub fn api_key_from(&self) -> Option<&str> {
        self.api_key.as_ref().map(|key| key.1.as_str())
    }
}

/// The base path without the `/v1` at its end that the path after it begins with.
fn without_doubled_version<'a>(base: &'a str, path: &str) -> &'a str {
    if path.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base }
}

fn check_value(name: &str, value: &str) -> Result<(), TargetError> {
    if value.chars().any(|c| c.is_control() && c != '\t') {
        let name = name.escape_debug().to_string();
        return Err(TargetError::BadHeader { name, why: "has a control character in its value" });
    }
    Ok(())
}

/// A URL as it may be shown: what stands before its last `@` is cut, wherever that is, for a password may hold what ends
/// an authority.
pub(super) fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let shown = rest.rsplit_once('@').map_or(rest.to_owned(), |(_, shown)| format!("…@{shown}"));
    let shown = if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") };
    shown.escape_debug().to_string()
}
