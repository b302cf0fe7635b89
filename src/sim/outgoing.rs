//! Where KV goes: what a node does with it after the last token, and the ways to and from the store.

use super::answer::Answer;
use super::counts::StoreOperation;
use super::fabric::{Delivery, Offer};
use super::faults::{FaultKind, Faults};
use super::handoff::{Give, Leg, pull_key, pull_params};
use super::node::{Node, Outgoing, delivered_key};
use super::prompt::{Prompt, mix};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

impl Node {
    /// Does with `outgoing` what its leg asks for, and gives the `kv_transfer_params` of the answer. KV for the
    /// store has arrived there when it is done; what others fetch, or what is delivered, goes on without it.
    pub async fn settle(self: Arc<Self>, outgoing: Outgoing) -> Option<Value> {
        let Outgoing { leg, slot, prompt, full_id, ready, faults, by_length } = outgoing;
        let lost = faults.lose_kv() || faults.has(FaultKind::StopDropsKv) && !by_length;
        let first_token = || json!({ "first_tok": Answer::first_id(&prompt, &self.config) });
        let offer = Offer {
            engine_id: self.member.engine_id.clone(),
            address: self.member.address,
            tokens: prompt.tokens,
            hash: prompt.hash,
            ready,
            arrives: None,
            there: !lost,
            held: Some(slot).filter(|_| !lost),
            expired: matches!(leg, Leg::Give(Give::Answer)).then(|| self.metrics.clone()),
        };
        match leg {
            Leg::Give(Give::Answer) => {
                self.metrics.lock().nixl = true;
                let request = format!("{full_id}-{:08x}", self.named.fetch_add(1, Ordering::Relaxed));
                let (engine_id, address) = (&self.member.engine_id, self.member.address);
                let blocks = u64::from(prompt.tokens).div_ceil(self.config.cost.block_tokens);
                let params = pull_params(engine_id, address, &request, blocks);
                self.fabric.offer(pull_key(engine_id, &request), offer);
                Some(params)
            }
            Leg::Give(Give::Meet(key)) => {
                self.fabric.offer(key, offer);
                None
            }
            Leg::Give(Give::Push(key)) => {
                let arrives = self.send(offer, &faults, move |node, offer| node.fabric.offer(key, offer));
                debug_assert!(ready <= arrives);
                None
            }
            Leg::Give(Give::Deliver { port, request_id }) => {
                if let Some(to) = self.fabric.member_at(port).filter(|_| offer.there) {
                    let key = delivered_key(&to.engine_id, prompt.hash);
                    self.send(offer, &faults, move |node, offer| {
                        node.fabric.offer(key, offer);
                        node.fabric.delivered(Delivery { request_id, node: to.index });
                    });
                }
                Some(first_token())
            }
            Leg::Give(Give::FirstToken) => {
                self.save(&prompt, ready, &faults, lost).await;
                Some(first_token())
            }
            Leg::Alone => {
                self.save(&prompt, ready, &faults, lost).await;
                None
            }
            Leg::Fetch(_) => None,
        }
    }

    /// Puts the KV of `offer` on the link without having been asked; `leave` is called when it has arrived. The
    /// node's blocks are free from then on.
    fn send(
        self: &Arc<Self>,
        mut offer: Offer,
        faults: &Faults,
        leave: impl FnOnce(&Node, Offer) + Send + 'static,
    ) -> Instant {
        if !offer.there {
            let ready = offer.ready;
            leave(self, offer);
            return ready;
        }
        let tokens = u64::from(offer.tokens);
        let arrives = self.fabric.link.occupy(tokens, offer.ready, faults.slowness());
        // A node that dies takes what is on its way with it.
        let node = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep_until(arrives).await;
            offer.arrives = Some(arrives);
            offer.held = None;
            if let Some(node) = node.upgrade() {
                leave(&node, offer);
            }
        });
        arrives
    }

    /// Puts the full blocks of `prompt` that the store does not have into it.
    async fn save(&self, prompt: &Prompt, ready: Instant, faults: &Faults, lost: bool) {
        let mut keys = store_keys(prompt, faults);
        let Some(mut missing) = self.fabric.store().map(|store| store.missing(&keys)) else { return };
        let asked = StoreOperation { keys: keys.len() as u64, ..StoreOperation::default() };
        if let Some(timeout) = self.fabric.store_is_dead() {
            sleep_until(ready + timeout).await;
            let failed = StoreOperation { failed_keys: keys.len() as u64, time: timeout, ..asked };
            return self.metrics.lock().store_operation("save_put", failed);
        }
        self.metrics.lock().store_operation("save_exists", asked);
        if let Some(most) =
            faults.find(|kind| if let FaultKind::PartialPut(n) = kind { Some(n) } else { None })
        {
            keys.truncate((u64::from(most) / self.config.cost.block_tokens) as usize);
            missing.retain(|key| keys.contains(key));
        }
        if missing.is_empty() || lost {
            return;
        }
        let tokens = missing.len() as u64 * self.config.cost.block_tokens;
        let at = self.fabric.link.occupy(tokens, ready, faults.slowness());
        sleep_until(at).await;
        let failed_keys = self.fabric.store().map_or(0, |mut store| store.put(&missing, at)) as u64;
        self.metrics.lock().store_operation(
            "save_put",
            StoreOperation {
                keys: missing.len() as u64,
                bytes: self.config.cost.kv_bytes(tokens),
                failed_keys,
                time: at - ready,
            },
        );
    }

    /// Fetches the beginning of `prompt` that the store has, behind `local_tokens`: how many tokens are here
    /// then, and when; `None` when the store has no more than the node.
    pub(super) fn load(
        &self,
        prompt: &Prompt,
        local_tokens: u32,
        received: Instant,
        faults: &Faults,
    ) -> Option<(u32, Instant)> {
        let block = self.config.cost.block_tokens;
        let most = (u64::from(prompt.tokens).saturating_sub(1) / block) as usize;
        let keys = store_keys(prompt, faults);
        let found = self.fabric.store()?.look_up(&keys[..most.min(keys.len())], received);
        let mut counts = self.metrics.lock();
        counts.external_queries += u64::from(prompt.tokens - local_tokens);
        counts.store_operation(
            "lookup_exists",
            StoreOperation { keys: most as u64, time: Duration::ZERO, ..StoreOperation::default() },
        );
        let here = found as u64 * block;
        let tokens = here.checked_sub(u64::from(local_tokens)).filter(|tokens| 0 < *tokens)?;
        let keys = tokens / block;
        if faults.lose_kv() {
            counts.store_operation(
                "load_get",
                StoreOperation { keys, failed_keys: keys, ..Default::default() },
            );
            return None;
        }
        let at = self.fabric.link.occupy(tokens, received, faults.slowness());
        let bytes = self.config.cost.kv_bytes(tokens);
        counts
            .store_operation("load_get", StoreOperation { keys, bytes, failed_keys: 0, time: at - received });
        Some((here as u32, at))
    }
}

/// What a node calls the full blocks of `prompt` in the store.
fn store_keys(prompt: &Prompt, faults: &Faults) -> Vec<u64> {
    let seed = faults.find(|kind| if let FaultKind::HashSeed(seed) = kind { Some(seed) } else { None });
    let key = |hash: &u64| seed.map_or(*hash, |seed| mix(hash ^ mix(seed.into())));
    prompt.blocks.iter().map(key).collect()
}
