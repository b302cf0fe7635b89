use crate::runtime::lock;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Decode legs that may ask for their prefill.
#[derive(Debug, Default)]
pub(super) struct Calls(Arc<Mutex<Expected>>);

#[derive(Debug, Default)]
struct Expected {
    /// By request id. A client may use one twice: the ticket tells whose it is.
    by_id: HashMap<String, (u64, oneshot::Sender<Box<RawValue>>)>,
    tickets: u64,
}

/// One that waits to be called.
#[derive(Debug)]
pub(super) struct Waiting {
    calls: Arc<Mutex<Expected>>,
    request_id: String,
    ticket: u64,
    receiver: oneshot::Receiver<Box<RawValue>>,
}

impl Calls {
    /// Expects a call for this request.
    pub fn expect(&self, request_id: &str) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        let mut expected = lock(&self.0);
        expected.tickets += 1;
        let ticket = expected.tickets;
        expected.by_id.insert(request_id.to_owned(), (ticket, sender));
        Waiting { calls: Arc::clone(&self.0), request_id: request_id.to_owned(), ticket, receiver }
    }

    /// Hands a call over to the first of these ids that waits for one; false when none does.
    pub fn deliver(&self, ids: &[&str], params: Box<RawValue>) -> bool {
        let mut expected = lock(&self.0);
        let found = ids.iter().find_map(|id| expected.by_id.remove(*id));
        found.is_some_and(|(_, sender)| sender.send(params).is_ok())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        lock(&self.0).by_id.len()
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
        let mut expected = lock(&self.calls);
        if expected.by_id.get(&self.request_id).is_some_and(|(ticket, _)| *ticket == self.ticket) {
            expected.by_id.remove(&self.request_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_that_is_used_twice_belongs_to_who_came_last() {
        let calls = Calls::default();
        let (first, second) = (calls.expect("r"), calls.expect("r"));
        assert!(first.called(Duration::from_secs(1)).await.is_none());
        assert_eq!(calls.len(), 1);
        let params: Box<RawValue> = serde_json::from_str("{}").unwrap();
        assert!(calls.deliver(&["x", "r"], params.clone()));
        assert_eq!(second.called(Duration::from_secs(1)).await.unwrap().get(), "{}");
        assert!(!calls.deliver(&["r"], params));
    }
}
