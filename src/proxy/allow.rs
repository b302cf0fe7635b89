use crate::cluster::Node;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Instances that may be added while the proxy runs: `10.0.0.0/8`, `10.0.0.5`, `prefill-0` or `[fd00::]/8`, each with
/// `:port` or `:first-last` behind it where not every port will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    host: Hosts,
    ports: (u16, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Named(String),
    Within { network: IpAddr, bits: u32 },
}

impl Allowed {
    /// Whether it lets this instance in. Names are compared as names: what they resolve to is not asked.
    pub fn admits(&self, node: &Node) -> bool {
        let (first, last) = self.ports;
        let host = match (&self.host, node.host.parse::<IpAddr>()) {
            (Hosts::Named(name), _) => name.eq_ignore_ascii_case(&node.host),
            (Hosts::Within { network, bits }, Ok(address)) => {
                width(network) == width(&address) && prefix(network, *bits) == prefix(&address, *bits)
            }
            (Hosts::Within { .. }, Err(_)) => false,
        };
        host && (first..=last).contains(&node.port)
    }
}

fn width(address: &IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first `bits` bits of an address, as a number.
fn prefix(address: &IpAddr, bits: u32) -> u128 {
    let number = match address {
        IpAddr::V4(v4) => u128::from(u32::from(*v4)),
        IpAddr::V6(v6) => u128::from(*v6),
    };
    number.checked_shr(width(address) - bits).unwrap_or(0)
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` names no instances: want a host, an address or a network such as `10.0.0.0/8`, then `:port` or `:first-last` if need be"
            )
        };
        let (place, ports) = split_ports(text).ok_or_else(bad)?;
        let (place, bits) = match place.split_once('/') {
            Some((place, bits)) => (place, Some(bits.parse::<u32>().map_err(|_| bad())?)),
            None => (place, None),
        };
        let bare = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(place);
        let host = match (bare.parse::<IpAddr>(), bits) {
            (Ok(network), bits) => {
                let bits = bits.unwrap_or(width(&network));
                Hosts::Within { network, bits: Some(bits).filter(|b| *b <= width(&network)).ok_or_else(bad)? }
            }
            (Err(_), None) if format!("{bare}:1").parse::<Node>().is_ok() => Hosts::Named(bare.to_owned()),
            (Err(_), _) => return Err(bad()),
        };
        Ok(Self { host, ports })
    }
}

/// What stands before the ports, and the ports; all of them where there are none.
fn split_ports(text: &str) -> Option<(&str, (u16, u16))> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = text[after_bracket..].rfind(':').map(|at| at + after_bracket) else {
        return Some((text, (1, u16::MAX)));
    };
    let (first, last) = text[colon + 1..].split_once('-').unwrap_or((&text[colon + 1..], &text[colon + 1..]));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (0 < first && first <= last).then_some((&text[..colon], (first, last)))
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Hosts::Named(name) => f.write_str(name)?,
            Hosts::Within { network: IpAddr::V4(v4), bits } => write!(f, "{v4}/{bits}")?,
            Hosts::Within { network, bits } => write!(f, "[{network}]/{bits}")?,
        }
        match self.ports {
            (1, u16::MAX) => Ok(()),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_admits_what_it_names_and_nothing_else() {
        for (entry, node, admitted) in [
            ("10.0.0.0/8", "10.200.3.4:8100", true),
            ("10.0.0.0/8", "11.0.0.1:8100", false),
            ("10.0.0.0/8:8100-8199", "10.0.0.1:8200", false),
            ("10.0.0.0/8", "prefill-0:8100", false),
            ("10.0.0.5", "10.0.0.5:1", true),
            ("10.0.0.5", "10.0.0.6:1", false),
            ("10.0.0.5:80", "10.0.0.5:81", false),
            ("0.0.0.0/0", "8.8.8.8:53", true),
            ("0.0.0.0/0", "[::1]:53", false),
            ("prefill-0", "Prefill-0:8100", true),
            ("prefill-0:8100", "prefill-0:8101", false),
            ("prefill-0", "prefill-0.evil.example:8100", false),
            ("[fd00::]/8:8100", "[fd12::1]:8100", true),
            ("[fd00::]/8:8100", "[fe80::1]:8100", false),
        ] {
            let allowed: Allowed = entry.parse().unwrap();
            assert_eq!(allowed.admits(&node.parse().unwrap()), admitted, "{entry} {node}");
            assert_eq!(allowed.to_string().parse::<Allowed>().unwrap(), allowed, "{entry}");
        }
    }

    #[test]
    fn what_names_no_instances_is_refused() {
        for text in ["", "10.0.0.0/33", "name/8", "10.0.0.1:0", "10.0.0.1:9-8", "a/b/c", "10.0.0.0/x"] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }
}
