use serde::{Deserialize, Serialize};

/// Why KV did not arrive, as far as counters tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// The store's master does not answer.
    StoreSilent {
        /// Why, in the words of who asked.
        why: String,
    },
    /// The store's operations fail.
    StoreFails {
        /// Keys.
        keys: f64,
    },
    /// Prefill puts nothing into the store.
    NotStored,
    /// Prefill stores, and decode does not find it.
    OtherNames,
    /// The connector's transfers fail.
    TransfersFail {
        /// How many.
        transfers: f64,
    },
    /// Decode does not fetch what prefill offers.
    NotFetched,
    /// The counters say nothing.
    Unknown,
}

impl Cause {
    /// Behind what was seen.
    pub(super) fn words(&self) -> String {
        match self {
            Cause::StoreSilent { why } => format!("; the store's master does not answer: {why}"),
            Cause::StoreFails { keys } => format!("; operations of the store failed for {keys} keys"),
            Cause::NotStored => "; prefill put nothing into the store".to_owned(),
            Cause::OtherNames => "; prefill stores it, and decode finds none of it".to_owned(),
            Cause::TransfersFail { transfers } => format!("; {transfers} transfers failed"),
            Cause::NotFetched | Cause::Unknown => String::new(),
        }
    }

    /// What to do about it.
    pub(super) fn what_to_do(&self) -> &'static str {
        match self {
            Cause::StoreSilent { .. } | Cause::StoreFails { .. } => {
                "start the store's master again, then the instances: they do not come back to it by themselves"
            }
            Cause::NotStored => {
                "check kv_role kv_producer and the store's address at the prefill instances; LMCache on CPU needs its \
                 plugin, and takes `mooncake_master_server_addr` only"
            }
            Cause::OtherNames => {
                "start every instance with one PYTHONHASHSEED, one --block-size and one store: blocks are named by hash"
            }
            Cause::TransfersFail { .. } => {
                "look at the connector's errors in the decode log: side channel host and port, UCX_TLS, network"
            }
            Cause::NotFetched => {
                "check --dialect and kv_role kv_consumer at the decode instances; kv_transfer_params may be dropped on the way"
            }
            Cause::Unknown => {
                "check, in this order: is the store's master up (--store URL looks), has every instance the same \
                 PYTHONHASHSEED, is --dialect that of the connector, do the logs name the connector at all"
            }
        }
    }
}
