//! Requests that go past the proxy: the client sends both legs itself, as the proxy's dialect has them. By turns with
//! requests through the proxy they show what the proxy costs.

use super::client::Client;
use super::requests::Writing;
use super::{Error, Exit, Instance};
use crate::cluster::Node;
use crate::load::{Lead, Place, Prepared, Then};
use crate::wire::Object;
use crate::wire::dialect::{Asked, Dialect, DialectError, Pair};
use crate::wire::openai::head_with;
use crate::wire::prometheus::Scrape;
use crate::workload::Request;
use std::net::SocketAddr;
use std::sync::Arc;

/// The instances behind the proxy, with where they are.
pub(super) struct Direct {
    pub(super) dialect: Dialect,
    pub(super) prefill: Vec<(Instance, SocketAddr)>,
    pub(super) decode: Vec<(Instance, SocketAddr)>,
    /// Half of the requests go through the proxy all the same.
    pub(super) by_turns: bool,
}

impl Direct {
    /// What the records call the proxy.
    pub(super) fn proxy_name(front: SocketAddr) -> String {
        format!("proxy {front}")
    }

    /// Where requests go: the front, the prefill instances, the decode instances.
    pub(super) fn places(&self, front: Place) -> Vec<Place> {
        let front = Place { name: Some(Self::proxy_name(front.address)), ..front };
        let behind = self.prefill.iter().chain(&self.decode).map(|(instance, address)| Place {
            address: *address,
            tls: None,
            tunnel: None,
            name: Some(instance.node.to_string()),
            greeting: None,
        });
        std::iter::once(front).chain(behind).collect()
    }

    /// Whether the request of this number goes past the proxy.
    pub(super) fn takes(&self, nth: usize) -> bool {
        !self.by_turns || nth % 2 == 1
    }

    /// One request with its prefill leg before it; instances take turns.
    pub(super) fn prepare(
        &self,
        writing: &Writing<'_>,
        request: &Request,
        nth: usize,
        id: &str,
    ) -> Result<Prepared, Error> {
        let turn = if self.by_turns { nth / 2 } else { nth };
        let (p, d) = (turn % self.prefill.len(), turn % self.decode.len());
        let legs = Legs {
            dialect: self.dialect,
            asked: writing.asked(request),
            prefill: self.prefill[p].0.clone(),
            decode: self.decode[d].0.clone(),
            id: format!("{}{id}", writing.id_prefix),
        };
        let (lead_id, bytes, lead) = legs.led(1 + p)?;
        Ok(Prepared {
            id: lead_id,
            place: 1 + self.prefill.len() + d,
            bytes,
            lead: Some(lead),
            prompt_tokens: request.prompt_tokens,
            prompt_tokens_source: writing.prompt_tokens_source,
            requested_tokens: request.output_tokens,
            ignore_eos: writing.options.ignore_eos,
            asking: None,
            attempt: 1,
        })
    }
}

/// Both legs of one request.
pub(super) struct Legs {
    pub(super) dialect: Dialect,
    pub(super) asked: Asked,
    pub(super) prefill: Instance,
    pub(super) decode: Instance,
    pub(super) id: String,
}

impl Legs {
    /// The decode leg behind its lead, which goes to `place`: request id, head and body as far as they are known, lead.
    pub(super) fn led(self, place: usize) -> Result<(String, Vec<u8>, Lead), Error> {
        let (id, lead) = self.prefill().map_err(unspeakable)?;
        let (bytes, then) = match self.decode(None) {
            Ok(bytes) => (bytes, None),
            // It is made from the prefill instance's answer.
            Err(DialectError::MissingField { .. }) => {
                let then: Then = Arc::new(move |answer| {
                    let answer = Object::parse(answer).map_err(|error| format!("no JSON object: {error}"))?;
                    self.decode(Some(&answer)).map_err(|error| error.to_string())
                });
                (Vec::new(), Some(then))
            }
            Err(error) => return Err(unspeakable(error)),
        };
        Ok((id, bytes, Lead { place, bytes: lead, then }))
    }

    /// Both legs, to be sent at once: request id, head and body of each.
    pub(super) fn both(&self) -> Result<(String, Vec<u8>, Vec<u8>), Error> {
        let (id, prefill) = self.prefill().map_err(unspeakable)?;
        Ok((id, prefill, self.decode(None).map_err(unspeakable)?))
    }

    fn pair(&self) -> Pair<'_> {
        pair(&self.prefill.node, &self.decode.node, &self.id)
    }

    /// Its request id, and head and body.
    fn prefill(&self) -> Result<(String, Vec<u8>), DialectError> {
        let leg = self.dialect.prefill_leg(&self.asked, &self.pair(), None)?;
        let bytes = head_with(&self.prefill.target, leg.path, &leg.request_id, &leg.headers, &leg.body);
        Ok((leg.request_id, bytes))
    }

    fn decode(&self, answer: Option<&Object>) -> Result<Vec<u8>, DialectError> {
        let leg = self.dialect.decode_leg(&self.asked, &self.pair(), answer)?;
        Ok(head_with(&self.decode.target, leg.path, &leg.request_id, &leg.headers, &leg.body))
    }
}

fn unspeakable(error: DialectError) -> Error {
    Error::new(Exit::Usage, "a leg cannot be written").caused_by(error)
}

/// What both legs of a request share whose client plays the proxy.
pub(super) fn pair<'a>(prefill: &'a Node, decode: &'a Node, request_id: &'a str) -> Pair<'a> {
    Pair { prefill, decode, request_id, nonce: nonce(request_id), metaserver: "", rank: 0 }
}

/// The same for both legs of a request and for no other of any run: its id has the run's in it (FNV-1a, 128 bits).
fn nonce(request_id: &str) -> u128 {
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    request_id.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

/// Processor time that a proxy says it has taken, seconds: that of its own thread where it shares a process.
pub(super) async fn cpu_seconds(client: &Client) -> Option<f64> {
    let scrape = Scrape::parse(&client.text("/metrics").await.ok()?).ok()?;
    let of = |name| scrape.sum(name, &[]);
    of("pdbench_proxy_thread_cpu_seconds_total").or_else(|| of("process_cpu_seconds_total"))
}
