//! Watches instances: one task each, which asks `/health` in turn, or at once when a leg to the instance failed.

use super::Proxy;
use super::before::learn_engine;
use super::forward::get_head;
use super::instance::Instance;
use super::upstream::{self, Request, connect};
use crate::wire::Object;
use std::sync::Arc;
use tokio::time::{sleep, timeout};

/// Most bytes read of an answer about an instance.
const LONGEST: usize = 1 << 20;

/// Watches an instance until it is removed.
pub(super) async fn watch(proxy: Arc<Proxy>, instance: Arc<Instance>) {
    let health = proxy.config.health;
    while !instance.is_removed() {
        instance.pool.sweep();
        let checked = timeout(health.timeout, check(&proxy, &instance)).await;
        let checked =
            checked.unwrap_or_else(|_| Err(format!("no answer to /health within {:?}", health.timeout)));
        let known = match checked {
            Ok(()) if !instance.is_up() => get_to_know(&proxy, &instance).await,
            Ok(()) => {
                keep_knowing(&proxy, &instance).await;
                Ok(())
            }
            down => down,
        };
        match known {
            Ok(()) => instance.admit(),
            Err(why) => instance.mark_down(&why),
        }
        instance.looked.notify_one();
        let interval = if instance.is_up() { health.interval } else { health.interval_down };
        tokio::select! {
            () = sleep(interval) => {}
            () = instance.suspicion.notified() => {}
        }
    }
}

/// One `GET /health` on a connection of its own, so that what is checked includes taking one. A server without that
/// path is one that answers.
async fn check(proxy: &Proxy, instance: &Arc<Instance>) -> Result<(), String> {
    let connection = connect(instance, proxy.config.timeouts.connect).await.map_err(|fault| fault.message)?;
    let head = get_head("/health", &instance.name, "connection: close\r\n");
    let answered = upstream::status(connection, &Request::bare(&head), &proxy.config.timeouts).await;
    match answered.map_err(|fault| fault.message)? {
        200..300 | 404 | 405 => Ok(()),
        status => Err(format!("/health answers {status}")),
    }
}

/// Asks an instance that comes up for what requests to it have to know.
async fn get_to_know(proxy: &Proxy, instance: &Arc<Instance>) -> Result<(), String> {
    let longest = proxy.config.health.timeout;
    let engine = timeout(longest, learn_engine(proxy, instance)).await;
    engine.unwrap_or_else(|_| Err(format!("its bootstrap server did not answer within {longest:?}")))?;
    learn(proxy, instance).await;
    Ok(())
}

/// Asks an instance that is up for its engine again: it may have been started anew between two checks, and requests
/// that name the engine of before would have their prompts computed twice. One that does not say keeps its engine.
async fn keep_knowing(proxy: &Proxy, instance: &Arc<Instance>) {
    let _ = timeout(proxy.config.health.timeout, learn_engine(proxy, instance)).await;
}

/// Asks an instance that comes up how long a context it holds, where nobody has said it.
async fn learn(proxy: &Proxy, instance: &Arc<Instance>) {
    if instance.knows_max_model_len() {
        return;
    }
    let asked = timeout(proxy.config.health.timeout, get(proxy, instance, "/v1/models")).await;
    let Ok(Some(bytes)) = asked else { return };
    let models = Object::parse(&bytes).ok().and_then(|models| models.get::<Vec<Object>>("data"));
    let longest = models.iter().flatten().filter_map(|model| model.get::<u64>("max_model_len")).max();
    if let Some(longest) = longest {
        instance.learn_max_model_len(longest);
    }
}

/// The body of a successful `GET`.
pub(super) async fn get(proxy: &Proxy, instance: &Arc<Instance>, path: &str) -> Option<Vec<u8>> {
    let head = get_head(path, &instance.name, &proxy.instance_authorization());
    let answer = upstream::ask(instance, &Request::bare(&head), &proxy.config.timeouts).await.ok()?;
    if !answer.is_success() {
        return None;
    }
    answer.collect(LONGEST).await.ok()
}
