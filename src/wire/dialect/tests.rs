//! What each leg carries, field by field.

use super::*;
use serde_json::{Value, json};

const KV: &str = r#"{"do_remote_prefill":true, "remote_block_ids":[[1, 2]], "odd_field_of_tomorrow":1.50}"#;

fn asked(endpoint: Endpoint, body: &Value) -> Asked {
    Asked { endpoint, body: Object::parse(body.to_string().as_bytes()).unwrap(), token_ids: None }
}

fn completion() -> Asked {
    asked(
        Endpoint::Completions,
        &json!({"model": "m", "prompt": "x", "max_tokens": 9, "min_tokens": 9, "stream": true,
            "stream_options": {"include_usage": true}, "odd": [1]}),
    )
}

fn chat() -> Asked {
    asked(
        Endpoint::Chat,
        &json!({"model": "m", "messages": [], "max_completion_tokens": 9, "stream": true, "odd": [1]}),
    )
}

fn node(text: &str) -> Node {
    text.parse().unwrap()
}

/// The pair of the two instances, with everything else fixed.
fn pair<'a>(prefill: &'a Node, decode: &'a Node) -> Pair<'a> {
    Pair {
        prefill,
        decode,
        request_id: "id-1",
        nonce: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        metaserver: "http://proxy:8000/v1/metaserver",
        rank: 3,
    }
}

const UUID: &str = "01234567-89ab-4def-8123-456789abcdef";

fn body(leg: &Leg) -> Value {
    serde_json::from_slice(&leg.body).unwrap()
}

fn answer() -> Object {
    Object::parse(format!(r#"{{"choices":[],"kv_transfer_params":{KV}}}"#).as_bytes()).unwrap()
}

/// Both legs between instances without facts.
fn legs(dialect: Dialect, asked: &Asked) -> (Leg, Leg) {
    let (p, d) = (node("p:8100,engine=e0,kv=10.0.0.1:21001"), node("d:8200,kv=10.0.0.2:22001"));
    let pair = pair(&p, &d);
    let called = RawValue::from_string(KV.to_owned()).unwrap();
    let prefill = dialect.prefill_leg(asked, &pair, Some(&called)).unwrap();
    let decode = dialect.decode_leg(asked, &pair, Some(&answer())).unwrap();
    (prefill, decode)
}

/// All but LMCache, whose bodies are made anew, and the one whose legs are the same.
const COPIED: [Dialect; 7] = [
    Dialect::Plain,
    Dialect::NixlPull,
    Dialect::Ascend,
    Dialect::NixlPush,
    Dialect::MooncakeP2p,
    Dialect::P2pAddr,
    Dialect::AscendLayerwise,
];

#[test]
fn every_prefill_makes_one_token_and_keeps_what_it_does_not_know() {
    for dialect in COPIED {
        let at_once = !matches!(dialect, Dialect::Plain | Dialect::P2pAddr);
        let leg = body(&legs(dialect, &completion()).0);
        assert_eq!((&leg["max_tokens"], &leg["min_tokens"]), (&1.into(), &1.into()), "{dialect}");
        assert_eq!((&leg["odd"], &leg["prompt"]), (&json!([1]), &"x".into()), "{dialect}");
        assert_eq!(leg["stream"], !at_once, "{dialect}");
        assert_eq!(leg.get("stream_options").is_none(), at_once, "{dialect}");
        let leg = body(&legs(dialect, &chat()).0);
        assert_eq!((&leg["max_tokens"], &leg["max_completion_tokens"]), (&1.into(), &1.into()), "{dialect}");
    }
}

#[test]
fn every_decode_is_the_clients_request_and_has_its_id() {
    for dialect in COPIED {
        for asked in [completion(), chat()] {
            let (prefill, decode) = legs(dialect, &asked);
            let mut kept = body(&decode);
            kept.as_object_mut().unwrap().shift_remove("kv_transfer_params");
            assert_eq!(kept.to_string().into_bytes(), asked.body.to_bytes(), "{dialect}");
            assert_eq!((prefill.path, decode.path), (asked.endpoint.path(), asked.endpoint.path()));
            assert_eq!(prefill.request_id, decode.request_id, "{dialect}");
            let own = dialect == Dialect::P2pAddr;
            assert_eq!(prefill.request_id == "id-1", !own, "{dialect}");
        }
    }
}

#[test]
fn least_tokens_are_only_lowered_and_only_ascend_sets_them() {
    for dialect in COPIED {
        let ascend = matches!(dialect, Dialect::Ascend | Dialect::AscendLayerwise);
        let mut asked = completion();
        asked.body.set("min_tokens", 0);
        let expected = if ascend { 1 } else { 0 };
        assert_eq!(body(&legs(dialect, &asked).0)["min_tokens"], expected, "{dialect}");
        asked.body.remove("min_tokens");
        assert_eq!(body(&legs(dialect, &asked).0).get("min_tokens").is_some(), ascend, "{dialect}");
    }
}

#[test]
fn the_transfer_parameters_are_those_of_the_connector() {
    let wanted = |transfer: bool| {
        let mut params = json!({"do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null,
            "remote_block_ids": null, "remote_host": null, "remote_port": null});
        if transfer {
            params["transfer_id"] = format!("xfer-{UUID}").into();
        }
        params
    };
    let given: Value = serde_json::from_str(KV).unwrap();
    let table = [
        (Dialect::Plain, Value::Null, Value::Null),
        (Dialect::P2pAddr, Value::Null, Value::Null),
        (Dialect::NixlPull, wanted(false), given.clone()),
        (Dialect::Ascend, wanted(false), given.clone()),
        (
            Dialect::NixlPush,
            wanted(true),
            json!({"do_remote_decode": false, "do_remote_prefill": true, "remote_engine_id": "e0",
                "remote_host": "p", "remote_port": 5600, "tp_size": 1, "pp_size": 1,
                "remote_request_id": "id-1", "transfer_id": format!("xfer-{UUID}")}),
        ),
        (
            Dialect::MooncakeP2p,
            json!({"do_remote_decode": true, "do_remote_prefill": false, "transfer_id": format!("xfer-{UUID}")}),
            json!({"do_remote_decode": false, "do_remote_prefill": true,
                "remote_bootstrap_addr": "http://p:8998", "remote_engine_id": "e0",
                "transfer_id": format!("xfer-{UUID}")}),
        ),
        (
            Dialect::AscendLayerwise,
            given,
            json!({"do_remote_decode": false, "do_remote_prefill": true,
                "metaserver": "http://proxy:8000/v1/metaserver"}),
        ),
    ];
    for (dialect, prefill, decode) in table {
        let legs = legs(dialect, &completion());
        let params = |leg: &Leg| body(leg).get("kv_transfer_params").cloned().unwrap_or(Value::Null);
        assert_eq!((params(&legs.0), params(&legs.1)), (prefill, decode), "{dialect}");
    }
}

#[test]
fn what_an_instance_says_of_its_kv_is_handed_on_byte_for_byte() {
    for (dialect, leg) in [
        (Dialect::NixlPull, legs(Dialect::NixlPull, &completion()).1),
        (Dialect::AscendLayerwise, legs(Dialect::AscendLayerwise, &completion()).0),
    ] {
        assert!(String::from_utf8(leg.body).unwrap().contains(KV), "{dialect}");
    }
}

#[test]
fn a_prefill_that_says_nothing_of_its_kv_is_an_error() {
    let (p, d) = (node("p:1"), node("d:2"));
    for answer in [r#"{"choices":[]}"#, r#"{"kv_transfer_params":null}"#, r#"{"kv_transfer_params":{ }}"#] {
        let answer = Object::parse(answer.as_bytes()).unwrap();
        let error = Dialect::NixlPull.decode_leg(&completion(), &pair(&p, &d), Some(&answer)).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.status()),
            (
                "the prefill instance answered without `kv_transfer_params`, which dialect nixl-pull hands on",
                502
            )
        );
    }
}

#[test]
fn a_missing_fact_is_named_with_what_to_type() {
    let (p, d) = (node("p:1"), node("d:2"));
    for (dialect, says) in [
        (Dialect::NixlPush, "needs `engine` of instance p:1: name it as `p:1,engine=…`"),
        (Dialect::MooncakeP2p, "needs `engine` of instance p:1"),
        (Dialect::P2pAddr, "needs `kv` of instance p:1"),
    ] {
        let error = dialect.decode_leg(&completion(), &pair(&p, &d), None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let mut asked = completion();
    asked.token_ids = Some(vec![1]);
    let error = Dialect::Lmcache.prefill_leg(&asked, &pair(&p, &d), None).unwrap_err();
    assert!(error.to_string().contains("needs `init` of instance d:2"), "{error}");
}

#[test]
fn facts_of_the_deployment_reach_the_leg() {
    let p = node("[::1]:8100,engine=e,side-channel=10.0.0.9:5601,tp=2,pp=4,bootstrap=9000");
    let d = node("d:2");
    let push = body(&Dialect::NixlPush.decode_leg(&completion(), &pair(&p, &d), None).unwrap());
    let params = &push["kv_transfer_params"];
    assert_eq!((&params["remote_host"], &params["remote_port"]), (&"10.0.0.9".into(), &5601.into()));
    assert_eq!((&params["tp_size"], &params["pp_size"]), (&2.into(), &4.into()));
    let mooncake = body(&Dialect::MooncakeP2p.decode_leg(&completion(), &pair(&p, &d), None).unwrap());
    assert_eq!(mooncake["kv_transfer_params"]["remote_bootstrap_addr"], "http://[::1]:9000");
    let sglang = body(&Dialect::Sglang.decode_leg(&completion(), &pair(&p, &d), None).unwrap());
    assert_eq!((&sglang["bootstrap_host"], &sglang["bootstrap_port"]), (&"[::1]".into(), &9000.into()));
}

#[test]
fn the_addresses_of_both_sides_are_in_the_request_id() {
    let (prefill, _) = legs(Dialect::P2pAddr, &completion());
    let hex = UUID.replace('-', "");
    let expected = format!("___prefill_addr_10.0.0.1:21001___decode_addr_10.0.0.2:22001_{hex}");
    assert_eq!(prefill.request_id, expected);
}

#[test]
fn mooncake_names_the_rank_and_asks_for_its_engine_first() {
    let (prefill, decode) = legs(Dialect::MooncakeP2p, &completion());
    assert_eq!(prefill.headers, [("x-data-parallel-rank", "3".to_owned())]);
    assert_eq!(decode.headers, []);
    let before = Dialect::MooncakeP2p.asks_before(&completion(), &node("p:1,bootstrap=9000"));
    assert_eq!(before, Before::Bootstrap { authority: "p:9000".to_owned(), path: "/query" });
    assert_eq!(Dialect::MooncakeP2p.asks_before(&completion(), &node("p:1,engine=e")), Before::Nothing);
}

#[test]
fn both_sides_of_sglang_get_the_same_body_and_meet_in_a_room() {
    let (prefill, decode) = legs(Dialect::Sglang, &completion());
    assert_eq!(prefill, decode);
    let body = body(&prefill);
    assert_eq!((&body["max_tokens"], &body["bootstrap_port"]), (&9.into(), &8998.into()));
    assert!(body["bootstrap_room"].as_u64().unwrap() < 1 << 63);
}

#[test]
fn lists_of_prompts_are_refused_where_kv_belongs_to_one_request() {
    let mut asked = completion();
    for (prompt, count) in [
        (json!(["a", "b"]), 2),
        (json!([[1], [2, 3], [4]]), 3),
        (json!([1, 2]), 1),
        (json!(["a"]), 1),
        (json!("a"), 1),
    ] {
        asked.body.set("prompt", &prompt);
        assert_eq!(asked.prompts(), count, "{prompt}");
    }
    asked.body.set("prompt", ["a", "b"]);
    let (p, d) = (node("p:1,kv=a:1"), node("d:2,kv=b:2"));
    for dialect in Dialect::ALL {
        let leg = dialect.prefill_leg(&asked, &pair(&p, &d), None);
        let passed = matches!(dialect, Dialect::Plain | Dialect::P2pAddr | Dialect::Sglang);
        assert_eq!(leg.is_ok(), passed, "{dialect}");
        assert!(leg.err().is_none_or(|error| error.status() == 400), "{dialect}");
    }
}

fn with_ids(mut asked: Asked) -> Asked {
    asked.token_ids = Some(vec![5, 6]);
    asked
}

#[test]
fn lmcache_is_told_token_ids_and_where_the_kv_goes() {
    let (p, d) = (node("p:1"), node("d:2,init=7300+7301,alloc=7400+7401"));
    let leg = Dialect::Lmcache.prefill_leg(&with_ids(chat()), &pair(&p, &d), None).unwrap();
    assert_eq!(leg.path, "/v1/completions");
    assert_eq!(
        body(&leg),
        json!({"model": "m", "stream": false, "odd": [1], "max_tokens": 1, "prompt": [5, 6],
            "kv_transfer_params": {"ret_first_tok": true, "disagg_spec": {"req_id": UUID, "receiver_host": "d",
                "receiver_init_port": [7300, 7301], "receiver_alloc_port": [7400, 7401]}}})
    );
    let notice = Dialect::Lmcache.notice(&pair(&p, &d)).unwrap();
    assert_eq!(notice, Notice { request_id: UUID.to_owned(), times: 2 });
    assert_eq!(Dialect::Plain.notice(&pair(&p, &d)), None);
}

#[test]
fn lmcache_decodes_behind_the_first_token() {
    let (p, d) = (node("p:1"), node("d:2,init=1,alloc=2"));
    let answer = Object::parse(br#"{"kv_transfer_params":{"first_tok":7}}"#).unwrap();
    for (asked, max_tokens, min_tokens) in [
        (completion(), json!(8), json!(8)),
        (chat(), json!(8), Value::Null),
        // vLLM's own default of a completion is 16.
        (asked(Endpoint::Completions, &json!({"prompt": [5, 6]})), json!(15), Value::Null),
        (asked(Endpoint::Chat, &json!({"messages": []})), Value::Null, Value::Null),
    ] {
        let body =
            body(&Dialect::Lmcache.decode_leg(&with_ids(asked), &pair(&p, &d), Some(&answer)).unwrap());
        let field = |key| body.get(key).cloned().unwrap_or(Value::Null);
        assert_eq!(
            (field("prompt"), field("max_tokens"), field("min_tokens")),
            (json!([5, 6, 7]), max_tokens, min_tokens)
        );
        assert!(body.get("kv_transfer_params").is_none() && body.get("messages").is_none());
    }
    let error = Dialect::Lmcache.decode_leg(&with_ids(completion()), &pair(&p, &d), None).unwrap_err();
    assert!(error.to_string().contains("kv_transfer_params.first_tok"), "{error}");
}

#[test]
fn lmcache_asks_for_the_tokens_that_it_was_not_given() {
    let p = node("p:1");
    let tokenize = |asked: &Asked| -> Value {
        match Dialect::Lmcache.asks_before(asked, &p) {
            Before::Tokenize { path: "/tokenize", body } => serde_json::from_slice(&body).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(tokenize(&completion()), json!({"model": "m", "prompt": "x"}));
    let mut listed = completion();
    listed.body.set("prompt", ["only"]);
    assert_eq!(tokenize(&listed), json!({"model": "m", "prompt": "only"}));
    assert_eq!(tokenize(&chat()), json!({"model": "m", "messages": [], "add_generation_prompt": true}));
    for ids in [json!([5, 6]), json!([[5, 6]])] {
        let given = asked(Endpoint::Completions, &json!({"prompt": ids}));
        assert_eq!(Dialect::Lmcache.asks_before(&given, &p), Before::Nothing);
    }
    assert_eq!(Dialect::Lmcache.asks_before(&with_ids(completion()), &p), Before::Nothing);
}

#[test]
fn one_token_or_an_early_end_needs_no_decode_leg() {
    let answer = |reason: &str| {
        Object::parse(format!(r#"{{"choices":[{{"finish_reason":"{reason}"}}]}}"#).as_bytes()).unwrap()
    };
    let mut one = completion();
    one.body.set("max_tokens", 1);
    for (dialect, asked, reason, whole) in [
        (Dialect::Lmcache, &one, "length", true),
        (Dialect::Lmcache, &completion(), "length", false),
        (Dialect::Lmcache, &completion(), "stop", true),
        (Dialect::Plain, &one, "stop", false),
    ] {
        assert_eq!(dialect.ends_with_prefill(asked, &answer(reason)), whole, "{dialect} {reason}");
    }
}

#[test]
fn lmcache_refuses_what_its_first_token_cannot_carry() {
    let (p, d) = (node("p:1"), node("d:2,init=1,alloc=2"));
    let with = |key: &str, value: Value, mut asked: Asked| {
        asked.body.set(key, value);
        with_ids(asked)
    };
    for asked in [
        with("n", json!(2), completion()),
        with("logprobs", json!(true), chat()),
        with("stream", json!(false), with("logprobs", json!(1), completion())),
    ] {
        let error = Dialect::Lmcache.prefill_leg(&asked, &pair(&p, &d), None).unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
    }
    let streamed = with("logprobs", json!(1), completion());
    assert!(Dialect::Lmcache.prefill_leg(&streamed, &pair(&p, &d), None).is_ok());
}
