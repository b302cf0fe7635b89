use std::fmt;
use std::str::FromStr;

/// An instance of a PD deployment, as it is typed: `host:port`, then `,key=value` for each fact about its KV side that
/// a dialect may need and cannot ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Name or IP address; IPv6 without brackets.
    pub host: String,
    /// Port of its HTTP server.
    pub port: u16,
    /// How its KV side is reached.
    pub kv: KvFacts,
}

/// How the KV side of an instance is reached. What is absent was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KvFacts {
    /// `kv=host:port`: the ZMQ address of vLLM's P2pNcclConnector.
    pub address: Option<String>,
    /// `bootstrap=port`: the bootstrap server of a Mooncake or SGLang prefill instance, mostly 8998.
    pub bootstrap_port: Option<u16>,
    /// `engine=id`: the engine id of NIXL, or of Mooncake where it is not asked for.
    pub engine_id: Option<String>,
    /// `side-channel=port` or `side-channel=host:port`: where NIXL exchanges its handshake, mostly port 5600.
    pub side_channel_port: Option<u16>,
    /// The host there, where it is not the HTTP server's.
    pub side_channel_host: Option<String>,
    /// `tp=n`: tensor parallel size.
    pub tensor_parallel: Option<u32>,
    /// `pp=n`: pipeline parallel size.
    pub pipeline_parallel: Option<u32>,
    /// `init=port+port…`: where an LMCache receiver takes handshakes, one for each tensor parallel rank.
    pub init_ports: Vec<u16>,
    /// `alloc=port+port…`: where an LMCache receiver allocates, one for each tensor parallel rank.
    pub alloc_ports: Vec<u16>,
}

impl Node {
    /// Host and port as a URL's authority: IPv6 in brackets.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

impl FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let place = parts.next().unwrap_or_default();
        let place = place.strip_prefix("http://").unwrap_or(place).trim_end_matches('/');
        let (host, port) = split_place(place).ok_or_else(|| {
            format!("`{text}` is not an instance: want host:port, such as `10.0.0.1:8100`, `prefill-0:8100` or `[::1]:8100`")
        })?;
        let mut kv = KvFacts::default();
        for part in parts {
            kv.take(part).map_err(|why| format!("`{text}` is not an instance: {why}"))?;
        }
        Ok(Self { host, port, kv })
    }
}

fn split_place(place: &str) -> Option<(String, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    let (host, bracketed) = match host.strip_prefix('[') {
        Some(rest) => (rest.strip_suffix(']')?, true),
        None => (host, false),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let numbered = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '%');
    let fits = !host.is_empty() && host.chars().all(|c| if bracketed { numbered(c) } else { named(c) });
    fits.then(|| (host.to_owned(), port))
}

impl KvFacts {
    fn take(&mut self, part: &str) -> Result<(), String> {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        let count = || value.parse::<u32>().ok().filter(|count| 0 < *count);
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let port = || number(value);
        let ports = || value.split('+').map(number).collect::<Option<Vec<_>>>();
        let bad = |what: &str| format!("`{part}` wants {what}");
        match key {
            // It goes into a request id, and so into a header.
            "kv" => match split_place(value) {
                Some(_) => self.address = Some(value.to_owned()),
                None => return Err(bad("host:port")),
            },
            "engine" if !value.is_empty() => self.engine_id = Some(value.to_owned()),
            "engine" => return Err(bad("an id")),
            "bootstrap" => self.bootstrap_port = Some(port().ok_or_else(|| bad("a port"))?),
            "side-channel" => match split_place(value) {
                Some((host, port)) => {
                    (self.side_channel_host, self.side_channel_port) = (Some(host), Some(port));
                }
                None => self.side_channel_port = Some(port().ok_or_else(|| bad("a port, or host:port"))?),
            },
            "tp" => self.tensor_parallel = Some(count().ok_or_else(|| bad("a number from 1"))?),
            "pp" => self.pipeline_parallel = Some(count().ok_or_else(|| bad("a number from 1"))?),
            "init" => self.init_ports = ports().ok_or_else(|| bad("ports joined by `+`"))?,
            "alloc" => self.alloc_ports = ports().ok_or_else(|| bad("ports joined by `+`"))?,
            _ => {
                return Err(format!(
                    "`{key}` is not known: want kv, bootstrap, engine, side-channel, tp, pp, init or alloc"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_host_and_port_with_facts_behind() {
        let node: Node =
            "prefill-0:8100,kv=10.0.0.1:21001,bootstrap=8998,init=7300+7301,tp=2".parse().unwrap();
        assert_eq!((node.to_string(), node.kv.bootstrap_port), ("prefill-0:8100".to_owned(), Some(8998)));
        assert_eq!(
            (node.kv.address.as_deref(), node.kv.init_ports),
            (Some("10.0.0.1:21001"), vec![7300, 7301])
        );
        assert_eq!("http://[::1]:80/".parse::<Node>().unwrap().authority(), "[::1]:80");
    }

    #[test]
    fn what_is_no_instance_is_refused_with_what_would_be() {
        for (text, says) in [
            ("10.0.0.1", "want host:port"),
            ("10.0.0.1:0", "want host:port"),
            ("a/b:80", "want host:port"),
            ("::1:80", "want host:port"),
            ("a:80,tp=0", "`tp=0` wants a number from 1"),
            ("a:80,colour=red", "`colour` is not known"),
        ] {
            let error = text.parse::<Node>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
