use super::allow::Allowed;
use super::route::Policy;
use crate::cluster::Node;
use crate::wire::Secret;
use crate::wire::dialect::Dialect;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// What a proxy is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the legs are spoken.
    pub dialect: Dialect,
    /// How instances are chosen.
    pub policy: Policy,
    /// Seed of everything that is drawn: the random policy, nonces, request ids.
    pub seed: u64,
    /// Which leg the client's first token comes from.
    pub first_token: FirstToken,
    /// Prefill instances at the start; they need not be up yet.
    pub prefill: Vec<Node>,
    /// Decode instances at the start.
    pub decode: Vec<Node>,
    /// Model name for `/v1/models` while no instance answers.
    pub model: Option<String>,
    /// Bearer token for the instances; without it the client's own `authorization` is passed on.
    pub instance_key: Option<Secret>,
    /// Who may add and remove instances.
    pub admin: Admin,
    /// Longest context of every instance, in tokens: requests are kept from instances that cannot hold them. `None`
    /// takes what each instance says at `/v1/models`, where it says it.
    pub max_model_len: Option<u64>,
    /// Longest request body, in bytes.
    pub body_limit: usize,
    /// How instances are watched.
    pub health: Health,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// The repeat mode, where it may be used.
    pub benchmark: Option<Benchmark>,
    /// Where prefill instances push their notifications (`lmcache`); without it the decode leg does not wait.
    pub kv_notify: Option<Arc<TcpListener>>,
    /// Where decode instances reach this proxy's `/v1/metaserver` (`ascend-layerwise`); `None` makes it up from the
    /// listener's address.
    pub metaserver_url: Option<String>,
}

/// Which leg the client's first token comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstToken {
    /// The whole answer is the decode instance's.
    #[default]
    Decode,
    /// The prefill instance's stream, then the decode instance's without its first event.
    Prefill,
}

/// Who may add and remove instances.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// What `x-api-key` must hold; without it the endpoints are not there.
    pub key: Option<Secret>,
    /// What may be added beside the instances of the start.
    pub allowed: Vec<Allowed>,
}

/// How instances are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Between two checks of an instance that is up.
    pub interval: Duration,
    /// Between two checks of one that is not.
    pub interval_down: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            interval_down: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
    }
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to an instance.
    pub connect: Duration,
    /// From a leg's last byte to the head of its answer; an answer that is no stream has it at its end.
    pub head: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For a notification, or for the call to `/v1/metaserver`.
    pub kv_ready: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(3600),
            idle: Duration::from_secs(600),
            kv_ready: Duration::from_secs(60),
        }
    }
}

/// The repeat mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Benchmark {
    /// Fire without being asked by a header; `None` waits for the header alone.
    pub trigger: Option<Trigger>,
}

/// When the repeat mode fires by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Requests that pass before the one that fires.
    pub repeat_p_request: u32,
    /// Extra decodes that it fires.
    pub repeat_d_times: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            policy: Policy::default(),
            seed: 0,
            first_token: FirstToken::default(),
            prefill: Vec::new(),
            decode: Vec::new(),
            model: None,
            instance_key: None,
            admin: Admin::default(),
            max_model_len: None,
            body_limit: 32 << 20,
            health: Health::default(),
            timeouts: Timeouts::default(),
            benchmark: None,
            kv_notify: None,
            metaserver_url: None,
        }
    }
}
