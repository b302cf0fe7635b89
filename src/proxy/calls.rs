use super::instance::lock;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Decode legs that may ask for their prefill, by request id.
#[derive(Debug, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<String, oneshot::Sender<Box<RawValue>>>>>);

/// One that waits to be called.
#[derive(Debug)]
pub(super) struct Waiting {
    calls: Arc<Mutex<HashMap<String, oneshot::Sender<Box<RawValue>>>>>,
    request_id: String,
    receiver: oneshot::Receiver<Box<RawValue>>,
}

impl Calls {
    /// Expects a call for this request.
    pub fn expect(&self, request_id: &str) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        lock(&self.0).insert(request_id.to_owned(), sender);
        Waiting { calls: Arc::clone(&self.0), request_id: request_id.to_owned(), receiver }
    }

    /// Hands a call over to the first of these ids that waits for one; false when none does.
    pub fn deliver(&self, ids: &[&str], params: Box<RawValue>) -> bool {
        let mut waiting = lock(&self.0);
        let sender = ids.iter().find_map(|id| waiting.remove(*id));
        sender.is_some_and(|sender| sender.send(params).is_ok())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl Waiting {
    /// What the decode instance sent along; `None` when it does not call in time.
    pub async fn called(mut self, longest: Duration) -> Option<Box<RawValue>> {
        timeout(longest, &mut self.receiver).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.request_id);
    }
}
