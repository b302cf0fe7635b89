//! The HTTP proxy that stands between this machine and a target, where there is one: its URL, what the environment
//! says of it, and how it is asked for a way through. Deliberately absent: proxies that are spoken to by TLS, and SOCKS.

use super::target::without_credentials;
use super::{Secret, base64};
use core::net::IpAddr;
use url::Url;

/// An HTTP proxy, spoken to in the clear.
#[derive(Clone, Debug)]
pub struct HttpProxy {
    host: String,
    port: u16,
    /// The value of `proxy-authorization`.
    authorization: Option<Secret>,
    /// The same as it stands in the URL, and taken apart: what must be shown nowhere.
    secrets: Vec<Secret>,
}

/// A proxy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not an HTTP proxy: {why}")]
pub struct HttpProxyError {
    /// What was given, without credentials.
    url: String,
    why: String,
}

impl HttpProxy {
    /// Parses `http://HOST:PORT`, perhaps with credentials before an `@`. Without a port it is 80's.
    ///
    /// # Errors
    /// When it is no such URL, or one of a proxy that would have to be spoken to otherwise.
    pub fn parse(text: &str) -> Result<Self, HttpProxyError> {
        let bad = |why: &str| HttpProxyError { url: without_credentials(text), why: why.to_owned() };
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| bad(&error.to_string()))?;
        match url.scheme() {
            "http" => {}
            "https" => return Err(bad("a proxy is not spoken to by TLS; want http://HOST:PORT")),
            scheme if scheme.starts_with("socks") => {
                return Err(bad("SOCKS is not spoken; want http://HOST:PORT"));
            }
            _ => return Err(bad("want http://HOST:PORT")),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has no path; want http://HOST:PORT"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        let given = !user.is_empty() || password.is_some();
        let password = password.unwrap_or_default();
        let pair = [user.as_slice(), b":", &password].concat();
        let authorization = given.then(|| format!("Basic {}", base64(&pair)));
        let mut secrets: Vec<Secret> = Vec::new();
        if let Some(authorization) = &authorization {
            let texts = [password, base64(&pair).into_bytes()];
            let texts = texts.into_iter().filter_map(|text| String::from_utf8(text).ok());
            secrets.extend(texts.chain([authorization.clone()]).map(Secret::new));
            secrets.extend(url.password().map(Secret::new));
        }
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization: authorization.map(Secret::new),
            secrets,
        })
    }

    /// The proxy that the environment names for a place: `http_proxy` or `https_proxy` by how the place is spoken to,
    /// else `all_proxy`, each in small letters first; none where `no_proxy` names the place.
    ///
    /// # Errors
    /// When what it names cannot be used.
    pub fn from_environment(
        tls: bool,
        host: &str,
        port: u16,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, HttpProxyError> {
        let either = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
            value.filter(|value| !value.trim().is_empty())
        };
        if either("no_proxy").is_some_and(|list| exempt(&list, host, port)) {
            return Ok(None);
        }
        let by_scheme = either(if tls { "https_proxy" } else { "http_proxy" });
        by_scheme.or_else(|| either("all_proxy")).map(|url| Self::parse(url.trim())).transpose()
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://host:port`, without credentials.
    pub fn url(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
    }

    /// The value of `proxy-authorization`.
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }

    /// What must be shown nowhere.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// Asks for a way to `place`, a `host:port`.
    pub fn connect(&self, place: &str) -> Vec<u8> {
        let mut text = format!("CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n");
        if let Some(authorization) = &self.authorization {
            text += &format!("proxy-authorization: {}\r\n", authorization.expose());
        }
        (text + "\r\n").into_bytes()
    }
}

/// Whether a list such as `localhost,.cluster.local,10.0.0.0/8,host:8000` names a place. `*` names all; a name stands
/// for those below it, too.
fn exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    let entries = list.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        let (name, of_port) = match entry.rsplit_once(':') {
            // More colons than one: an address, unless brackets say where it ends.
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => (name, Some(digits)),
            _ => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        // What is no port is that of no place.
        let is_port = |digits: &str| digits.parse() == Ok(port);
        of_port.is_none_or(is_port) && (name == "*" || covers(name, &host))
    })
}

/// Whether a name, an address or a block of addresses stands for a host.
fn covers(name: &str, host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return match name.split_once('/') {
            Some((block, bits)) => match (block.parse::<IpAddr>(), bits.parse::<u32>()) {
                (Ok(block), Ok(bits)) => in_block(address, block, bits),
                _ => false,
            },
            None => name.parse::<IpAddr>() == Ok(address),
        };
    }
    let name = name.trim_start_matches('*').trim_start_matches('.');
    !name.is_empty()
        && host.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn in_block(address: IpAddr, block: IpAddr, bits: u32) -> bool {
    let (address, block, len) = match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) => (address.to_bits().into(), block.to_bits().into(), 32),
        (IpAddr::V6(address), IpAddr::V6(block)) => (address.to_bits(), block.to_bits(), 128),
        _ => return false,
    };
    let differ: u128 = address ^ block;
    bits <= len && differ.checked_shr(len - bits).unwrap_or(0) == 0
}

/// Bytes of a text in which `%41` stands for `A`.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hexadecimal =
            after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match hexadecimal.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &after[2..]).0,
            None => (bytes.push(*first), rest = after).0,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_become_a_header_and_are_shown_nowhere() {
        let proxy = HttpProxy::parse("http://me:p%40ss%2Fword@proxy:3128").unwrap();
        // As `printf 'me:p@ss/word' | base64` has it.
        assert_eq!(proxy.authorization().unwrap().expose(), "Basic bWU6cEBzcy93b3Jk");
        assert_eq!((proxy.host(), proxy.port(), proxy.url().as_str()), ("proxy", 3128, "http://proxy:3128"));
        let secrets: Vec<&str> = proxy.secrets().iter().map(Secret::expose).collect();
        assert_eq!(secrets, ["p@ss/word", "bWU6cEBzcy93b3Jk", "Basic bWU6cEBzcy93b3Jk", "p%40ss%2Fword"]);
        let asked = String::from_utf8(proxy.connect("host:443")).unwrap();
        let head = "CONNECT host:443 HTTP/1.1\r\nhost: host:443\r\nproxy-authorization: Basic bWU6cEBzcy93b3Jk\r\n\r\n";
        assert_eq!(asked, head);
        assert!(HttpProxy::parse("proxy").unwrap().authorization().is_none());
        assert_eq!(HttpProxy::parse("[::1]:1/").unwrap().url(), "http://[::1]:1");
    }

    #[test]
    fn what_is_no_plain_http_proxy_is_refused_without_its_secret() {
        for (url, says) in [
            ("https://u:hunter2@x:3128", "not spoken to by TLS"),
            ("socks5h://u:hunter2@x:1080", "SOCKS"),
            ("ftp://x", "want http://HOST:PORT"),
            ("http://u:hunter2@x:99999", "port"),
            ("http://u:a/hunter2@x:3128", "not an HTTP proxy"),
            ("http://u:a#hunter2@x:3128", "not an HTTP proxy"),
            ("http://x/path", "no path"),
            ("http://", "not an HTTP proxy"),
        ] {
            let error = HttpProxy::parse(url).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn the_environment_names_a_proxy_by_scheme_and_exempts_hosts() {
        let set =
            [("http_proxy", "plain:1"), ("HTTPS_PROXY", "http://secure:2"), ("NO_PROXY", "localhost, .lan")];
        let variable =
            |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let of = |tls, host| {
            HttpProxy::from_environment(tls, host, 80, &variable).unwrap().map(|proxy| proxy.url())
        };
        assert_eq!(of(false, "a.example").as_deref(), Some("http://plain:1"));
        assert_eq!(of(true, "a.example").as_deref(), Some("http://secure:2"));
        assert_eq!((of(false, "localhost"), of(true, "node.lan")), (None, None));
        let all = |name: &str| (name == "ALL_PROXY").then(|| "all:3".to_owned());
        let of_all = HttpProxy::from_environment(true, "x", 443, &all).unwrap();
        assert_eq!(of_all.unwrap().url(), "http://all:3");
        assert!(HttpProxy::from_environment(true, "x", 443, &|_| Some(String::new())).unwrap().is_none());
        let socks = |name: &str| (name == "all_proxy").then(|| "socks5://x".to_owned());
        assert!(HttpProxy::from_environment(true, "x", 443, &socks).is_err());
    }

    #[test]
    fn a_list_of_exemptions_knows_names_ports_addresses_and_blocks() {
        for (list, host, port, expected) in [
            ("*", "anything", 80, true),
            ("example.com", "example.com", 80, true),
            ("example.com", "a.example.com", 80, true),
            (".example.com", "A.Example.com", 80, true),
            ("*.example.com", "a.example.com", 80, true),
            ("example.com", "badexample.com", 80, false),
            ("a,b", "b", 80, true),
            ("host:8000", "host", 8000, true),
            ("host:8000", "host", 8001, false),
            ("host:abc", "host", 8000, false),
            ("10.0.0.0/8", "10.200.3.4", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("0.0.0.0/0", "11.0.0.1", 80, true),
            ("10.0.0.0/40", "10.0.0.0", 80, false),
            ("127.0.0.1", "127.0.0.1", 80, true),
            ("0.0.1", "127.0.0.1", 80, false),
            ("fd00::/8", "fd12::1", 80, true),
            ("::1", "::1", 80, true),
            ("[::1]:8000", "::1", 8000, true),
            ("[::1]:8000", "::1", 80, false),
            (" , ", "x", 80, false),
        ] {
            assert_eq!(exempt(list, host, port), expected, "{list} {host}:{port}");
        }
    }
}
