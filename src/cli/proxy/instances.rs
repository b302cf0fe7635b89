//! The ways in which scripts have their instances typed, and the nodes that come of them.

use super::{at_least_one, usage};
use crate::cluster::{Node, Role};
use crate::command::Error;
use crate::wire::dialect::Dialect;
use clap::Args;

/// Where the instances are, in any of three ways.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Instances")]
pub(super) struct Instances {
    /// Prefill instances as host:port, with facts behind a comma where a dialect needs them
    /// (host:port,bootstrap=8998); a port alone is the bootstrap port of the instance before it
    #[arg(long, short, value_name = "HOST:PORT", num_args = 1..)]
    prefill: Vec<String>,
    /// Decode instances as host:port, with facts behind a comma
    #[arg(long, short, value_name = "HOST:PORT", num_args = 1..)]
    decode: Vec<String>,
    /// Hosts of prefill instances; one host may have several ports, and one port serve for all hosts [default:
    /// localhost]
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',')]
    prefiller_hosts: Vec<String>,
    /// Ports of prefill instances [default: 8100]
    #[arg(long, value_name = "PORT", num_args = 1.., value_delimiter = ',')]
    prefiller_ports: Vec<u16>,
    /// Hosts of decode instances [default: localhost]
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',')]
    decoder_hosts: Vec<String>,
    /// Ports of decode instances [default: 8200]
    #[arg(long, value_name = "PORT", num_args = 1.., value_delimiter = ',')]
    decoder_ports: Vec<u16>,
    /// The same as --prefiller-hosts, for LMCache
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',')]
    prefiller_host: Vec<String>,
    /// The same as --prefiller-ports, for LMCache
    #[arg(long, value_name = "PORT", num_args = 1.., value_delimiter = ',')]
    prefiller_port: Vec<u16>,
    /// The same as --decoder-hosts, for LMCache
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',')]
    decoder_host: Vec<String>,
    /// The same as --decoder-ports, for LMCache
    #[arg(long, value_name = "PORT", num_args = 1.., value_delimiter = ',')]
    decoder_port: Vec<u16>,
    /// Prefill instances on one host, on successive ports from the one given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    num_prefillers: Option<usize>,
    /// Decode instances on one host, on successive ports from the one given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    num_decoders: Option<usize>,
    /// Where LMCache receivers take handshakes, a port for each tensor parallel rank [default with LMCache's flags:
    /// 8300]
    #[arg(long, value_name = "PORT", num_args = 1.., value_delimiter = ',')]
    decoder_init_port: Vec<u16>,
    /// Where LMCache receivers allocate, a port for each tensor parallel rank [default with LMCache's flags: 8400]
    #[arg(long, value_name = "PORT", num_args = 1.., value_delimiter = ',')]
    decoder_alloc_port: Vec<u16>,
    /// Bootstrap ports of the prefill instances: one for all, or one each
    #[arg(long, value_name = "PORT", num_args = 1..)]
    prefill_bootstrap_ports: Vec<u16>,
    /// Engine id of the prefill instance (dialect nixl-push)
    #[arg(long, value_name = "ID")]
    prefill_engine_id: Option<String>,
    /// Host of its NIXL handshake [default: the instance's]
    #[arg(long, value_name = "HOST")]
    prefill_kv_host: Option<String>,
    /// Port of its NIXL handshake [default: 5600]
    #[arg(long, value_name = "PORT")]
    prefill_side_channel_port: Option<u16>,
    /// Its tensor parallel size [default: 1]
    #[arg(long, value_name = "N")]
    prefill_tp_size: Option<u32>,
    /// Its pipeline parallel size [default: 1]
    #[arg(long, value_name = "N")]
    prefill_pp_size: Option<u32>,
}

/// Instances by role.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    pub(super) prefill: Vec<Node>,
    pub(super) decode: Vec<Node>,
}

/// Whose command line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `--prefill host:port… --decode host:port…`
    Listed,
    /// The same with bootstrap ports: both vLLM's Mooncake proxy and SGLang's router have it.
    Bootstrapped,
    /// The same with the coordinates of a pushing instance.
    Pushed,
    /// `--prefiller-hosts … --prefiller-ports …`
    Paired,
    /// `--prefiller-host … --prefiller-port …`, and what LMCache's proxy has beside them.
    Lmcache,
}

impl Way {
    pub(super) fn dialect(self) -> Result<Dialect, Error> {
        Ok(match self {
            Way::Listed => Dialect::Plain,
            Way::Pushed => Dialect::NixlPush,
            Way::Paired => Dialect::NixlPull,
            Way::Lmcache => Dialect::Lmcache,
            Way::Bootstrapped => {
                return Err(usage("bootstrap ports, and two dialects have them")
                    .help("add --dialect mooncake-p2p (vLLM) or --dialect sglang"));
            }
        })
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Way::Listed | Way::Bootstrapped => "--prefill and --decode",
            Way::Pushed => "--prefill-engine-id",
            Way::Paired => "--prefiller-hosts and --decoder-hosts",
            Way::Lmcache => "LMCache's flags",
        }
    }
}

impl Instances {
    /// The nodes, without the facts that have flags of their own. With `needed` there has to be one of each role.
    pub(super) fn nodes(&self, needed: bool) -> Result<(Way, Nodes), Error> {
        let way = self.way()?;
        let nodes = match way {
            Way::Paired | Way::Lmcache => Nodes {
                prefill: pairs(
                    "prefiller",
                    [&self.prefiller_hosts, &self.prefiller_host],
                    [&self.prefiller_ports, &self.prefiller_port],
                    self.num_prefillers,
                    8100,
                )?,
                decode: pairs(
                    "decoder",
                    [&self.decoder_hosts, &self.decoder_host],
                    [&self.decoder_ports, &self.decoder_port],
                    self.num_decoders,
                    8200,
                )?,
            },
            _ => Nodes {
                prefill: listed("--prefill", &self.prefill)?,
                decode: listed("--decode", &self.decode)?,
            },
        };
        for (role, nodes) in [(Role::Prefill, &nodes.prefill), (Role::Decode, &nodes.decode)] {
            if needed && nodes.is_empty() {
                return Err(usage(format!("no {role} instance")).help(format!(
                    "name one with --{role} HOST:PORT, or allow it to be added with --allow-instance"
                )));
            }
            if let Some(twice) = nodes.iter().enumerate().find(|(at, node)| {
                nodes[..*at].iter().any(|other| (&other.host, other.port) == (&node.host, node.port))
            }) {
                return Err(usage(format!("{role} instance {} is named twice", twice.1)).help("name it once"));
            }
        }
        Ok((way, nodes))
    }

    fn way(&self) -> Result<Way, Error> {
        let listed = !self.prefill.is_empty() || !self.decode.is_empty();
        let names = |plural: &[String], ports: &[u16]| !plural.is_empty() || !ports.is_empty();
        let plural = names(&self.prefiller_hosts, &self.prefiller_ports)
            || names(&self.decoder_hosts, &self.decoder_ports);
        let lmcache = names(&self.prefiller_host, &self.prefiller_port)
            || names(&self.decoder_host, &self.decoder_port)
            || self.num_prefillers.is_some()
            || self.num_decoders.is_some();
        let receiver = !self.decoder_init_port.is_empty() || !self.decoder_alloc_port.is_empty();
        let bootstrap = |word: &String| is_bootstrap_port(word);
        match (listed, plural || lmcache) {
            (true, true) => Err(usage("the instances are named in two ways").help(
                "want either --prefill and --decode, or the flags that begin with --prefiller and --decoder",
            )),
            (_, true) if lmcache || receiver => Ok(Way::Lmcache),
            (_, true) => Ok(Way::Paired),
            _ if self.prefill_engine_id.is_some() => Ok(Way::Pushed),
            _ if !self.prefill_bootstrap_ports.is_empty() || self.prefill.iter().any(bootstrap) => {
                Ok(Way::Bootstrapped)
            }
            _ => Ok(Way::Listed),
        }
    }

    /// Adds the facts that have flags of their own where an instance does not name them, and sees that the dialect
    /// has all it needs.
    pub(super) fn facts(&self, dialect: Dialect, nodes: &mut Nodes) -> Result<(), Error> {
        self.bootstrap_ports(&mut nodes.prefill)?;
        if self.prefill_engine_id.is_some() && 1 < nodes.prefill.len() {
            return Err(usage("one --prefill-engine-id for several prefill instances")
                .help("name each as HOST:PORT,engine=ID"));
        }
        for node in &mut nodes.prefill {
            let kv = &mut node.kv;
            kv.engine_id = kv.engine_id.take().or_else(|| self.prefill_engine_id.clone());
            kv.side_channel_host = kv.side_channel_host.take().or_else(|| self.prefill_kv_host.clone());
            kv.side_channel_port = kv.side_channel_port.or(self.prefill_side_channel_port);
            kv.tensor_parallel = kv.tensor_parallel.or(self.prefill_tp_size);
            kv.pipeline_parallel = kv.pipeline_parallel.or(self.prefill_pp_size);
        }
        let paired = self.way()? == Way::Lmcache;
        // Decode instances on successive ports of one host have successive ports for LMCache too.
        let successive = self.num_decoders.is_some_and(|count| count == nodes.decode.len() && 1 < count);
        for (at, node) in nodes.decode.iter_mut().enumerate() {
            let step = if successive { at as u16 } else { 0 };
            let ports = |given: &[u16], default: u16| -> Vec<u16> {
                let given = if given.is_empty() && paired { vec![default] } else { given.to_vec() };
                given.into_iter().map(|port| port.saturating_add(step)).collect()
            };
            if node.kv.init_ports.is_empty() {
                node.kv.init_ports = ports(&self.decoder_init_port, 8300);
            }
            if node.kv.alloc_ports.is_empty() {
                node.kv.alloc_ports = ports(&self.decoder_alloc_port, 8400);
            }
        }
        for (role, nodes) in [(Role::Prefill, &nodes.prefill), (Role::Decode, &nodes.decode)] {
            for node in nodes {
                dialect.fits(role, node).map_err(|error| usage(error.to_string()))?;
            }
        }
        Ok(())
    }

    fn bootstrap_ports(&self, prefill: &mut [Node]) -> Result<(), Error> {
        let ports = &self.prefill_bootstrap_ports;
        if !ports.is_empty() && ports.len() != 1 && ports.len() != prefill.len() {
            return Err(usage(format!(
                "{} bootstrap ports for {} prefill instances",
                ports.len(),
                prefill.len()
            ))
            .help("--prefill-bootstrap-ports wants one for all, or one each"));
        }
        for (at, node) in prefill.iter_mut().enumerate() {
            let port = ports.get(at).or_else(|| ports.first());
            node.kv.bootstrap_port = node.kv.bootstrap_port.or(port.copied());
        }
        Ok(())
    }
}

/// `--prefill http://host:8100 8998` names a bootstrap port, or `none`, behind its instance.
fn is_bootstrap_port(word: &str) -> bool {
    word.eq_ignore_ascii_case("none") || word.bytes().all(|byte| byte.is_ascii_digit())
}

fn listed(flag: &str, words: &[String]) -> Result<Vec<Node>, Error> {
    let mut nodes: Vec<Node> = Vec::new();
    for word in words {
        if is_bootstrap_port(word) {
            let last = nodes.last_mut().filter(|_| flag == "--prefill");
            let last =
                last.ok_or_else(|| usage(format!("{flag}: `{word}` is not an instance: want host:port")))?;
            let port = word.parse::<u16>().ok().filter(|port| *port != 0);
            if port.is_none() && !word.eq_ignore_ascii_case("none") {
                return Err(usage(format!("{flag}: `{word}` is not a port")).help("want 1 to 65535"));
            }
            last.kv.bootstrap_port = last.kv.bootstrap_port.or(port);
        } else {
            nodes.push(word.parse().map_err(|error: String| usage(format!("{flag}: {error}")))?);
        }
    }
    Ok(nodes)
}

/// Hosts and ports as nodes: one to one; or one host with several ports, or several hosts with one port; or one of
/// both and how many, on successive ports. What is absent has the default that the scripts have.
fn pairs(
    role: &str,
    hosts: [&Vec<String>; 2],
    ports: [&Vec<u16>; 2],
    count: Option<usize>,
    default_port: u16,
) -> Result<Vec<Node>, Error> {
    let mut hosts: Vec<&str> = hosts.into_iter().flatten().map(|host| host.trim()).collect();
    let mut ports: Vec<u16> = ports.into_iter().flatten().copied().collect();
    if hosts.is_empty() {
        hosts.push("localhost");
    }
    if ports.is_empty() {
        ports.push(default_port);
    }
    let wanted = match (hosts.len(), ports.len(), count) {
        (1, 1, Some(count)) => {
            let first = ports[0];
            ports = (first..=u16::MAX).take(count).collect();
            if ports.len() < count {
                return Err(usage(format!("{count} {role}s from port {first} on have no ports below 65536"))
                    .help("begin lower, or name fewer"));
            }
            count
        }
        (hosts, 1, _) => hosts,
        (1, ports, _) => ports,
        (hosts, ports, _) if hosts == ports => hosts,
        (hosts, ports, _) => {
            return Err(usage(format!("{hosts} {role} hosts and {ports} {role} ports"))
                .help("want as many ports as hosts, or one port for all hosts, or one host for all ports"));
        }
    };
    if count.is_some_and(|count| count != wanted && count != 1) {
        return Err(usage(format!("--num-{role}s names another number than the {wanted} of the lists"))
            .help("leave it out, or name one host and one port"));
    }
    (0..wanted)
        .map(|at| {
            // The shorter list has one entry, for all.
            let (host, port) = (hosts[at.min(hosts.len() - 1)], ports[at.min(ports.len() - 1)]);
            let place = match host.contains(':') && !host.starts_with('[') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            };
            place.parse().map_err(|error: String| usage(error))
        })
        .collect()
}
