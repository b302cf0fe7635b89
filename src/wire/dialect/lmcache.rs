//! LMCache: the prefill instance is asked with token ids and gives the first token, the decode instance goes on
//! behind it. Both are asked by `/v1/completions`, chats too, so that their answers are turned back into chats.
//!
//! The decode instance counts the first token to the prompt: `max_tokens` and `min_tokens` are one less for it, and
//! the usage that it reports is put right (`join.rs`). Where the client named no `max_tokens`, a completion has the
//! server's 16; a chat has none.

use super::{Asked, Dialect, DialectError, Leg, Notice, Pair, body};
use crate::wire::{Endpoint, Object};
use serde::Serialize;

const DIALECT: Dialect = Dialect::Lmcache;
/// What vLLM takes for a completion without `max_tokens`.
const DEFAULT_MAX_TOKENS: u64 = 16;
/// What of a chat decides over its tokens, besides the messages.
const TEMPLATE_FIELDS: [&str; 9] = [
    "model",
    "messages",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
    "tools",
];

#[derive(Serialize)]
struct Params<'a> {
    ret_first_tok: bool,
    disagg_spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    req_id: String,
    receiver_host: &'a str,
    receiver_init_port: &'a [u16],
    receiver_alloc_port: &'a [u16],
}

/// The prompt's token ids, where the client sent them or somebody has asked.
pub(super) fn prompt_ids(asked: &Asked) -> Option<Vec<u32>> {
    asked.token_ids.clone().or_else(|| asked.body.get("prompt")).or_else(|| {
        let only: Vec<Vec<u32>> = asked.body.get("prompt")?;
        <[_; 1]>::try_from(only).ok().map(|[ids]| ids)
    })
}

/// The question what the prompt's tokens are.
pub(super) fn tokenize_body(asked: &Asked) -> Vec<u8> {
    let mut body = Object::default();
    let mut copy = |key: &str| {
        if let Some(value) = asked.body.raw(key) {
            body.set_raw(key, value.to_owned());
        }
    };
    match asked.endpoint {
        Endpoint::Completions => {
            ["model", "add_special_tokens"].into_iter().for_each(&mut copy);
            // A list of one prompt is that prompt; longer ones were refused.
            let only = asked.body.get::<Vec<String>>("prompt").and_then(|list| list.into_iter().next());
            match only {
                Some(prompt) => body.set("prompt", prompt),
                None => copy("prompt"),
            }
        }
        Endpoint::Chat => {
            TEMPLATE_FIELDS.into_iter().for_each(&mut copy);
            if asked.body.raw("add_generation_prompt").is_none() {
                body.set("add_generation_prompt", true);
            }
        }
    }
    body.to_bytes()
}

pub(super) fn prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Result<Leg, DialectError> {
    let mut body = body::one_token_at_once(&ids_body(asked, None)?);
    let kv = &pair.decode.kv;
    for (ports, fact) in [(&kv.init_ports, "init"), (&kv.alloc_ports, "alloc")] {
        if ports.is_empty() {
            return Err(body::missing(DIALECT, fact, pair.decode));
        }
    }
    let disagg_spec = Spec {
        req_id: notice_id(pair),
        receiver_host: &pair.decode.host,
        receiver_init_port: &kv.init_ports,
        receiver_alloc_port: &kv.alloc_ports,
    };
    body.set("kv_transfer_params", Params { ret_first_tok: true, disagg_spec });
    Ok(completions_leg(pair, &body))
}

pub(super) fn decode_leg(
    asked: &Asked,
    answer: Option<&Object>,
    pair: &Pair<'_>,
) -> Result<Leg, DialectError> {
    let params: Option<Object> = answer.and_then(|answer| answer.get("kv_transfer_params"));
    let first: Option<u32> = params.and_then(|params| params.get("first_tok"));
    let field = "kv_transfer_params.first_tok";
    let first = first.ok_or(DialectError::MissingField { leg: "prefill", field, dialect: DIALECT })?;
    let mut body = ids_body(asked, Some(first))?;
    // Without the key a completion would end after 16 tokens.
    body.set("max_tokens", max_tokens(asked).map(|tokens| tokens.saturating_sub(1)));
    if let Some(least) = body.get::<u64>("min_tokens") {
        body.set("min_tokens", least.saturating_sub(1));
    }
    Ok(completions_leg(pair, &body))
}

/// The request as a completion of token ids, with the first of the answer behind them.
fn ids_body(asked: &Asked, first: Option<u32>) -> Result<Object, DialectError> {
    let unsupported = |what| DialectError::Unsupported { dialect: DIALECT, what };
    if asked.body.get::<u64>("n").is_some_and(|n| 1 < n) {
        return Err(unsupported("`n` above 1, whose answers would have one first token: send it without"));
    }
    let wants_logprobs =
        asked.body.raw("logprobs").is_some_and(|value| !["null", "false"].contains(&value.get()));
    if wants_logprobs && (asked.endpoint == Endpoint::Chat || !asked.streams()) {
        return Err(unsupported(
            "log probabilities of a chat, or without a stream: ask for a stream of completions",
        ));
    }
    let ids = prompt_ids(asked);
    let mut ids =
        ids.ok_or_else(|| unsupported("a prompt whose tokens were not asked for: send text or token ids"))?;
    ids.extend(first);
    let mut body = asked.body.clone();
    if asked.endpoint == Endpoint::Chat {
        body.remove("messages");
        if let Some(tokens) = max_tokens(asked) {
            body.set("max_tokens", tokens);
        }
        body.remove("max_completion_tokens");
        // A chat's switch would be a completion's number.
        body.remove("logprobs");
        body.remove("top_logprobs");
    }
    body.set("prompt", ids);
    Ok(body)
}

fn completions_leg(pair: &Pair<'_>, body: &Object) -> Leg {
    Leg {
        path: Endpoint::Completions.path(),
        request_id: pair.request_id.to_owned(),
        headers: Vec::new(),
        body: body.to_bytes(),
    }
}

/// How many tokens the client wants at most, by the server's rules.
fn max_tokens(asked: &Asked) -> Option<u64> {
    let most = asked.body.get::<u64>("max_tokens");
    match asked.endpoint {
        Endpoint::Completions if asked.body.raw("max_tokens").is_some() => most,
        Endpoint::Completions => Some(DEFAULT_MAX_TOKENS),
        Endpoint::Chat => asked.body.get("max_completion_tokens").or(most),
    }
}

/// Whether the first token was the last: one was asked for, or the model ended.
pub(super) fn is_whole(asked: &Asked, answer: &Object) -> bool {
    let choices: Option<Vec<Object>> = answer.get("choices");
    let reason = choices.and_then(|choices| choices.first()?.get::<String>("finish_reason"));
    max_tokens(asked).is_some_and(|most| most <= 1) || reason.is_some_and(|reason| reason != "length")
}

/// Each rank of the prefill instance tells once that the KV has left; LMCache counts the receiver's ports for that.
pub(super) fn notice(pair: &Pair<'_>) -> Notice {
    Notice { request_id: notice_id(pair), times: pair.decode.kv.init_ports.len() }
}

/// Of our own making: a client may use an id twice.
fn notice_id(pair: &Pair<'_>) -> String {
    body::uuid(pair.nonce)
}
