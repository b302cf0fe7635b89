//! What the nodes of a cluster share: the link, the KV store, and the places where a prefill node leaves KV for
//! the decode node that will ask for it. Nothing here outlives its use: what nobody fetches expires, what a dead
//! node held goes with it, and whoever stops waiting leaves no trace.

use super::Config;
use super::door::Slot;
use super::known::Memory;
use super::link::Link;
use super::metrics::Metrics;
use super::sequence::Job;
use super::store::Store;
use crate::cluster::Role;
use crate::runtime::{Clock, lock};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Fabric {
    /// The one link.
    pub link: Link,
    /// What prompts ask that were made into token ids.
    pub memory: Memory,
    store: Option<Mutex<Store>>,
    /// When the store dies.
    store_dies: Option<Instant>,
    store_timeout: Duration,
    hold: Duration,
    wait: Duration,
    places: Mutex<BTreeMap<String, Place>>,
    members: Mutex<Vec<Member>>,
    deliveries: Mutex<Option<mpsc::UnboundedSender<Delivery>>>,
    numbers: AtomicU64,
}

/// A node, as others know it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub role: Role,
    pub index: usize,
    pub address: SocketAddr,
    pub engine_id: String,
}

/// KV that reached a decode node without having been asked for: what LMCache's receiver tells the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `disagg_spec.req_id` of the prefill leg.
    pub request_id: String,
    /// Index of the node among those of its role.
    pub node: usize,
}

/// KV that a prefill node has for somebody. Dropping it frees the node's blocks.
#[derive(Debug)]
pub(super) struct Offer {
    /// Whose it is.
    pub engine_id: String,
    /// Where that engine listens.
    pub address: SocketAddr,
    /// Tokens of the prompt, and its hash.
    pub tokens: u32,
    pub hash: u64,
    /// When it could leave.
    pub ready: Instant,
    /// When it reached the decode node, where it was sent without being asked for.
    pub arrives: Option<Instant>,
    /// False when it was lost.
    pub there: bool,
    /// The prefill node's blocks.
    pub held: Option<Slot<Job>>,
    /// Where NixlConnector counts it when it expires; other connectors count nothing.
    pub expired: Option<Metrics>,
}

#[derive(Debug)]
enum Place {
    Offered(u64, Box<Offer>, AbortHandle),
    Awaited(u64, oneshot::Sender<Offer>),
}

impl Fabric {
    /// An idle fabric.
    pub fn new(config: &Config, clock: Clock) -> Arc<Self> {
        let kv = &config.kv;
        let blocks = kv.store_capacity_tokens / config.cost.block_tokens;
        let store =
            kv.store.then(|| Mutex::new(Store::new(blocks, Duration::from_secs_f64(kv.store_lease_s))));
        Arc::new(Self {
            link: Link::new(config.cost.clone()),
            memory: Memory::default(),
            store,
            store_dies: kv.store_dies_s.map(|at| clock.at(Duration::from_secs_f64(at))),
            store_timeout: Duration::from_secs_f64(kv.store_timeout_s),
            hold: Duration::from_secs_f64(kv.hold_s),
            wait: Duration::from_secs_f64(kv.wait_s),
            places: Mutex::default(),
            members: Mutex::default(),
            deliveries: Mutex::default(),
            numbers: AtomicU64::new(0),
        })
    }

    /// The KV store, if there is one.
    pub fn store(&self) -> Option<MutexGuard<'_, Store>> {
        self.store.as_ref().map(lock)
    }

    /// Whether there is a KV store.
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// How long a request waits for the store in vain; `None` while it lives.
    pub fn store_is_dead(&self) -> Option<Duration> {
        let died = self.store_dies.is_some_and(|dies| dies <= Instant::now());
        died.then_some(self.store_timeout)
    }

    /// How long a decode node waits for KV that was promised.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Takes in a node that listens on `address`, and names its engine: `prefill-0`, and `prefill-0-r1` after
    /// its first restart.
    pub fn join(&self, role: Role, index: usize, address: SocketAddr) -> Member {
        let mut members = lock(&self.members);
        let before = members.iter().filter(|other| (other.role, other.index) == (role, index)).count();
        let engine_id = match before {
            0 => format!("{role}-{index}"),
            restarts => format!("{role}-{index}-r{restarts}"),
        };
        let member = Member { role, index, address, engine_id };
        members.push(member.clone());
        member
    }

    /// The node that listens on `port`, the last one to do so.
    pub fn member_at(&self, port: u16) -> Option<Member> {
        lock(&self.members).iter().rev().find(|member| member.address.port() == port).cloned()
    }

    /// Where deliveries are told from now on.
    pub fn tell_deliveries(&self, to: mpsc::UnboundedSender<Delivery>) {
        *lock(&self.deliveries) = Some(to);
    }

    /// Tells of a delivery, if somebody listens.
    pub fn delivered(&self, delivery: Delivery) {
        if let Some(listener) = &*lock(&self.deliveries) {
            // Whoever listened may be gone: then nobody waits for it.
            let _ = listener.send(delivery);
        }
    }

    /// Leaves `offer` under `key`: for who waits there, or for who comes before it expires.
    pub fn offer(self: &Arc<Self>, key: String, offer: Offer) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut places = lock(&self.places);
        let offer = match places.remove(&key) {
            Some(Place::Awaited(_, waiting)) => match waiting.send(offer) {
                Ok(()) => return,
                Err(offer) => offer,
            },
            Some(Place::Offered(_, _, timer)) => {
                timer.abort();
                offer
            }
            None => offer,
        };
        let (fabric, expiring, hold) = (Arc::downgrade(self), key.clone(), self.hold);
        let timer = tokio::spawn(async move {
            sleep(hold).await;
            if let Some(fabric) = fabric.upgrade() {
                fabric.expire(&expiring, number);
            }
        });
        places.insert(key, Place::Offered(number, Box::new(offer), timer.abort_handle()));
    }

    fn expire(&self, key: &str, number: u64) {
        let mut places = lock(&self.places);
        if !matches!(places.get(key), Some(Place::Offered(offered, ..)) if *offered == number) {
            return;
        }
        if let Some(Place::Offered(_, offer, _)) = places.remove(key)
            && let Some(metrics) = &offer.expired
        {
            metrics.lock().kv_expired += 1;
        }
    }

    /// Takes what is offered under `key`, waiting for it up to `wait`.
    pub async fn take(&self, key: &str, wait: Duration) -> Option<Offer> {
        let (waiting, number) = {
            let mut places = lock(&self.places);
            if matches!(places.get(key), Some(Place::Offered(..)))
                && let Some(Place::Offered(_, offer, timer)) = places.remove(key)
            {
                timer.abort();
                return Some(*offer);
            }
            if wait.is_zero() {
                return None;
            }
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let (sender, waiting) = oneshot::channel();
            places.insert(key.to_owned(), Place::Awaited(number, sender));
            (waiting, number)
        };
        let _left = Waiting { fabric: self, key, number };
        timeout(wait, waiting).await.ok()?.ok()
    }

    /// Forgets what the engine `engine_id` offered: it is gone.
    pub fn forget(&self, engine_id: &str) {
        lock(&self.places).retain(|_, place| match place {
            Place::Offered(_, offer, timer) if offer.engine_id == engine_id => {
                timer.abort();
                false
            }
            _ => true,
        });
    }
}

/// Somebody who waits at a place; leaves it in any case.
struct Waiting<'a> {
    fabric: &'a Fabric,
    key: &'a str,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut places = lock(&self.fabric.places);
        if matches!(places.get(self.key), Some(Place::Awaited(number, _)) if *number == self.number) {
            places.remove(self.key);
        }
    }
}
