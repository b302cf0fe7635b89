//! What has to be known before the first leg: token ids, engines, notifications to expect.

use super::journey::Journey;
use super::leg::{FaultKind, LegFault};
use super::notices::Waiting;
use super::problem::Problem;
use super::upstream::{Request, ask};
use super::{Proxy, forward, instance::Instance};
use crate::cluster::{Node, Role};
use crate::wire::Object;
use crate::wire::dialect::{Asked, Before, Leg, engines};
use std::sync::Arc;
use tokio::time::Instant;

/// Longest answer with token ids.
const LONGEST: usize = 64 << 20;
/// Data parallel rank that prefill legs are sent to.
pub(super) const RANK: u32 = 0;

impl Journey {
    /// Asks what the dialect has to know of this request.
    pub(super) async fn ask_before(&mut self) -> Result<(), Problem> {
        let node = self.prefill.instance.node();
        let Before::Tokenize { path, body } = self.proxy.config.dialect.asks_before(&self.asked, &node)
        else {
            // Engines are learnt when an instance comes up.
            return Ok(());
        };
        let leg = Leg { path, request_id: self.request_id.clone(), headers: Vec::new(), body };
        let head = forward::leg_head(&leg, &self.prefill.instance.name, &self.passed);
        let ids = self
            .token_ids(&Request { head: &head, body: &leg.body })
            .await
            .map_err(|fault| self.failed(Role::Prefill, &fault))?;
        self.asked.token_ids = Some(ids);
        Ok(())
    }

    async fn token_ids(&self, request: &Request<'_>) -> Result<Vec<u32>, LegFault> {
        let answer = ask(&self.prefill.instance, request, &self.proxy.config.timeouts).await?;
        let (status, good) = (answer.status, answer.is_success());
        let body = answer.collect(LONGEST).await?;
        let ids = Object::parse(&body).ok().filter(|_| good).and_then(|said| said.get("tokens"));
        ids.ok_or_else(|| {
            LegFault::new(FaultKind::Protocol, format!("/tokenize answered {status} and no list `tokens`"))
        })
    }

    /// The notification that this request's prefill will bring, where somebody listens for it.
    pub(super) fn expect_notice(&self) -> Option<Waiting> {
        self.proxy.config.kv_notify.as_ref()?;
        let (prefill, decode) = (self.prefill.instance.node(), self.decode.instance.node());
        let notice = self.proxy.config.dialect.notice(&self.pair(&prefill, &decode))?;
        Some(self.proxy.notices.expect(notice))
    }

    /// Waits until the KV is said to be at the decode instance.
    pub(super) async fn noticed(&mut self, notice: Option<Waiting>) -> Result<(), LegFault> {
        let Some(notice) = notice else { return Ok(()) };
        let begun = Instant::now();
        let longest = self.proxy.config.timeouts.kv_ready;
        let told = notice.told(longest).await;
        self.timing.kv_ready = Some(begun.elapsed());
        match told {
            true => Ok(()),
            false => Err(LegFault::new(FaultKind::Timeout, format!("no word of its KV within {longest:?}"))),
        }
    }
}

/// Asks a prefill instance that comes up for its engines, where the dialect has to name one.
pub(super) async fn learn_engine(proxy: &Proxy, instance: &Arc<Instance>) -> Result<(), String> {
    if instance.role != Role::Prefill {
        return Ok(());
    }
    let nothing =
        Asked { endpoint: crate::wire::Endpoint::Completions, body: Object::default(), token_ids: None };
    let Before::Bootstrap { authority, path } = proxy.config.dialect.asks_before(&nothing, &instance.given)
    else {
        return Ok(());
    };
    let place: Node = authority.parse()?;
    let server = Instance::new(Role::Prefill, place, None);
    let head = forward::get_head(path, &server.name, "");
    let told = async {
        let answer = ask(&server, &Request::bare(&head), &proxy.config.timeouts).await?;
        answer.collect(LONGEST).await
    };
    let bytes = told.await.map_err(|fault| format!("bootstrap server {authority}: {fault}"))?;
    let engines = engines(&bytes).map_err(|error| format!("bootstrap server {authority}: {error}"))?;
    let engine = engines.get(&RANK).cloned();
    let engine =
        engine.ok_or_else(|| format!("bootstrap server {authority} names no engine of rank {RANK}"))?;
    instance.learn(|node| node.kv.engine_id = Some(engine));
    Ok(())
}
