//! One test for each fault that the proxies in use have, and for each way in which a leg can fail.

use crate::fake::{Act, Fake, chunk, json, prefilled, stream, stream_head, token, wait};
use crate::setup::{COMPLETION, Proxy, config};
use pdbench::proxy::FirstToken;
use pdbench::runtime::Stop;
use pdbench::wire::dialect::Dialect;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn an_upstream_error_keeps_its_status_and_its_body() {
    for (status, leg) in [(400, "prefill"), (503, "prefill"), (404, "decode"), (500, "decode")] {
        let error = format!(r#"{{"error":{{"message":"no {status}"}}}}"#);
        let failing = vec![json(status, &error, 1)];
        let (p, d) = match leg {
            "prefill" => (Fake::start(failing), Fake::start(vec![stream(&["a"], 0)])),
            _ => (Fake::start(vec![prefilled(0)]), Fake::start(failing)),
        };
        let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
        let answer = proxy.complete().await;
        assert_eq!((answer.status, answer.text), (status, error));
        let instance = if leg == "prefill" { p.name() } else { d.name() };
        let named =
            ["x-pdbench-leg", "x-pdbench-instance"].map(|name| crate::client::header(&answer.head, name));
        assert_eq!(named, [Some(leg), Some(instance.as_str())]);
        assert_eq!(proxy.ended("upstream_status").await, 1.0);
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_successful_prefill_is_no_success() {
    let disguises = [
        json(200, "null", 0),
        json(200, r#"{"error":{"message":"out of memory"}}"#, 0),
        vec![
            stream_head(),
            chunk("data: {\"error\":{\"message\":\"out of memory\"}}\n\n"),
            crate::fake::end(),
        ],
        vec![stream_head(), crate::fake::end()],
        vec![stream_head(), chunk(&token("a")), Act::Close],
        vec![Act::Close],
    ];
    for disguise in disguises {
        let (p, d) = (Fake::start(vec![disguise]), Fake::start(vec![stream(&["a"], 0)]));
        let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
        let answer = proxy.complete().await;
        assert_eq!((answer.status, answer.json()["error"]["leg"].as_str()), (502, Some("prefill")));
        assert!(d.got().is_empty());
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_answer_evicts_nobody() {
    let p = Fake::start(vec![json(500, "{}", 0), prefilled(0)]);
    let d = Fake::start(vec![stream(&["a"], 0)]);
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    assert_eq!(proxy.complete().await.status, 500);
    assert_eq!(proxy.complete().await.tokens(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_decode_instance_that_is_gone_is_told_before_the_head() {
    let (p, mut d) = (Fake::start(vec![prefilled(5)]), Fake::start(vec![stream(&["a"], 0)]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    d.kill().await;
    let answer = proxy.complete().await;
    assert_eq!(answer.status, 502);
    let error = &answer.json()["error"];
    assert_eq!(
        (error["leg"].as_str(), error["instance"].as_str()),
        (Some("decode"), Some(d.name().as_str()))
    );
    // It is known to be down now: nobody is sent there.
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.text.contains("no decode instance is up"), "{}", answer.text);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_decode_instance_that_dies_cuts_the_answer() {
    let script = vec![stream_head(), chunk(&token("a")), wait(5), chunk(&token("b")), Act::Close];
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![script]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.whole, answer.tokens()), (200, false, "ab".to_owned()));
    assert_eq!(proxy.ended("broken").await, 1.0);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_seen_after_the_bytes_that_came_with_it() {
    let last = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n";
    let script = vec![Act::Write(last.into()), Act::Close];
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![script]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let answer = proxy.complete().await;
    assert_eq!((answer.text.as_str(), answer.whole), ("abc", false));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_both_legs() {
    for in_prefill in [true, false] {
        let (hang, none) = (vec![stream_head(), Act::Hang], vec![Act::Hang]);
        let p = Fake::start(vec![if in_prefill { none } else { prefilled(0) }]);
        let d = Fake::start(vec![hang]);
        let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
        let client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
        sleep(Duration::from_millis(20)).await;
        assert_eq!((p.cut(), d.cut(), d.got().len()), (0, 0, usize::from(!in_prefill)));
        drop(client);
        sleep(Duration::from_millis(1)).await;
        assert_eq!((p.cut(), d.cut()), (usize::from(in_prefill), usize::from(!in_prefill)));
        assert_eq!(proxy.ended("aborted_by_client").await, 1.0);
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_while_idle_is_replaced_once() {
    let mut keep_then_close = stream(&["a"], 0);
    keep_then_close.push(wait(50));
    keep_then_close.push(Act::Close);
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![keep_then_close]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    for _ in 0..3 {
        assert_eq!(proxy.complete().await.tokens(), "a");
        sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(proxy.ended("ok").await, 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_needs_is_not_kept() {
    let mut keep_then_close = stream(&["a"], 0);
    keep_then_close.extend([wait(50), Act::Close]);
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![keep_then_close]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let idle = async |fake: &Fake| {
        let labels = [("instance", fake.name())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        proxy.metrics().await.sum("pdbench_proxy_idle_connections", &labels).unwrap()
    };
    assert_eq!(proxy.complete().await.tokens(), "a");
    assert_eq!((idle(&p).await, idle(&d).await), (1.0, 1.0));
    // The next check of the instances finds what they have closed …
    sleep(Duration::from_secs(6)).await;
    assert_eq!((idle(&p).await, idle(&d).await), (1.0, 0.0));
    // … and, in the end, what they have not.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(idle(&p).await, 0.0);
    assert_eq!(proxy.complete().await.tokens(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_decode_leg_goes_elsewhere_where_its_instance_takes_no_connection() {
    for (dialect, first_token, moved) in [
        (Dialect::Plain, FirstToken::Decode, true),
        (Dialect::Plain, FirstToken::Prefill, true),
        (Dialect::NixlPull, FirstToken::Decode, true),
        (Dialect::Ascend, FirstToken::Decode, true),
        // Its prefill leg has sent the KV to the instance that is gone.
        (Dialect::P2pAddr, FirstToken::Decode, false),
    ] {
        let p = Fake::start(vec![prefilled(0)]);
        let (mut gone, d) = (Fake::start(vec![]), Fake::start(vec![stream(&["P", "b"], 0)]));
        let mut config = config(dialect, &[&p], &[&gone, &d]);
        config.first_token = first_token;
        for node in config.prefill.iter_mut().chain(&mut config.decode) {
            node.kv.address = Some(node.authority());
        }
        let proxy = Proxy::start(config).await;
        gone.kill().await;
        let answer = proxy.complete().await;
        let labels = [("instance", gone.name())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        let counted = proxy.metrics().await.sum("pdbench_proxy_legs_moved_total", &labels);
        assert_eq!(counted, Some(f64::from(u8::from(moved))), "{dialect}");
        if moved {
            assert_eq!((answer.status, answer.tokens()), (200, "Pb".to_owned()), "{dialect}");
        } else {
            assert_eq!((answer.status, answer.header("x-pdbench-leg")), (502, Some("decode")));
        }
        if moved && first_token == FirstToken::Decode {
            assert_eq!(answer.header("x-pdbench-decode"), Some(d.name().as_str()), "{dialect}");
        }
        assert_eq!((p.got().len(), d.got().len()), (1, usize::from(moved)), "{dialect}");
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefill_leg_goes_elsewhere_where_its_instance_takes_no_connection() {
    for (dialect, first_token) in [
        (Dialect::Plain, FirstToken::Decode),
        (Dialect::Plain, FirstToken::Prefill),
        (Dialect::NixlPull, FirstToken::Decode),
        (Dialect::P2pAddr, FirstToken::Decode),
    ] {
        let (mut gone, p) = (Fake::start(vec![]), Fake::start(vec![prefilled(0)]));
        let d = Fake::start(vec![stream(&["P", "b"], 0)]);
        let mut config = config(dialect, &[&gone, &p], &[&d]);
        config.first_token = first_token;
        for node in config.prefill.iter_mut().chain(&mut config.decode) {
            node.kv.address = Some(node.authority());
        }
        let proxy = Proxy::start(config).await;
        gone.kill().await;
        let answer = proxy.complete().await;
        assert_eq!((answer.status, answer.tokens()), (200, "Pb".to_owned()), "{dialect}");
        assert_eq!(answer.header("x-pdbench-prefill"), Some(p.name().as_str()), "{dialect}");
        let labels = [("role", "prefill"), ("instance", &gone.name())];
        let moved = proxy.metrics().await.sum("pdbench_proxy_legs_moved_total", &labels);
        assert_eq!((moved, p.got().len(), d.got().len()), (Some(1.0), 1, 1), "{dialect}");
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_decode_leg_goes_elsewhere_once() {
    let p = Fake::start(vec![prefilled(0)]);
    let mut decode = [Fake::start(vec![]), Fake::start(vec![]), Fake::start(vec![stream(&["a"], 0)])];
    let proxy = Proxy::start(config(Dialect::Plain, &[&p], &decode.each_ref())).await;
    decode[0].kill().await;
    decode[1].kill().await;
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.header("x-pdbench-instance")), (502, Some(decode[1].name().as_str())));
    assert_eq!(proxy.complete().await.tokens(), "a");
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_an_instance_may_have_seen_is_not_sent_again() {
    let p = Fake::start(vec![prefilled(0)]);
    let d = Fake::start(vec![stream(&["a"], 0), vec![wait(2000), Act::Close], stream(&["c"], 0)]);
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    assert_eq!(proxy.complete().await.tokens(), "a");
    assert_eq!(proxy.complete().await.status, 502);
    assert_eq!(d.got().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_proxy_starts_before_its_instances() {
    let (mut p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]));
    p.kill().await;
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.text.contains(&p.name()), "{}", answer.text);
    assert_eq!(proxy.get("/health").await.status, 200);
    assert_eq!(proxy.status().await["instances"][0]["state"], "starting");
    p.restart();
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(proxy.complete().await.tokens(), "a");
    assert_eq!(proxy.status().await["ready"], true);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_killed_is_taken_back() {
    for kill_prefill in [true, false] {
        let slow = vec![stream_head(), chunk(&token("a")), Act::Hang];
        let mut p =
            Fake::start(vec![if kill_prefill { vec![Act::Hang] } else { prefilled(0) }, prefilled(0)]);
        let mut d = Fake::start(if kill_prefill { vec![] } else { vec![slow] });
        d.state.lock().unwrap().scripts.push(stream(&["b"], 0));
        let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
        let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
        sleep(Duration::from_millis(20)).await;
        let killed = if kill_prefill { &mut p } else { &mut d };
        killed.kill().await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.whole), if kill_prefill { (502, true) } else { (200, false) });
        sleep(Duration::from_millis(10)).await;
        assert_eq!(proxy.complete().await.status, 503);
        killed.restart();
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(proxy.complete().await.tokens(), "b");
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_says_it_is_ill_gets_nothing() {
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    d.state.lock().unwrap().health = 503;
    sleep(Duration::from_secs(6)).await;
    let answer = proxy.complete().await;
    assert!(answer.status == 503 && answer.text.contains("/health answers 503"), "{}", answer.text);
    d.state.lock().unwrap().health = 200;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(proxy.complete().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn silence_is_ended_by_the_clock() {
    let silent = vec![stream_head(), chunk(&token("a")), Act::Hang];
    for (p_script, d_script, status) in [(vec![Act::Hang], stream(&[], 0), 504), (prefilled(0), silent, 200)]
    {
        let (p, d) = (Fake::start(vec![p_script]), Fake::start(vec![d_script]));
        let mut config = config(Dialect::Plain, &[&p], &[&d]);
        config.timeouts.head = Duration::from_secs(20);
        config.timeouts.idle = Duration::from_secs(10);
        let proxy = Proxy::start(config).await;
        let begun = tokio::time::Instant::now();
        let answer = proxy.complete().await;
        assert_eq!((answer.status, answer.whole), (status, status == 504));
        let waited = if status == 504 { 20_000..20_010 } else { 10_000..10_010 };
        assert!(waited.contains(&(answer.at - begun).as_millis()), "{:?}", answer.at - begun);
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_in_json() {
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]));
    let mut config = config(Dialect::Plain, &[&p], &[&d]);
    config.body_limit = 100;
    let proxy = Proxy::start(config).await;
    let long = format!("{{\"prompt\":\"{}\"}}", "x".repeat(100));
    for (method, path, body, status) in [
        ("POST", "/v1/completions", "null", 400),
        ("POST", "/v1/completions", "{", 400),
        ("POST", "/v1/completions", long.as_str(), 413),
        ("GET", "/v1/completions", "", 405),
        ("POST", "/v1/embeddings", "{}", 404),
    ] {
        let answer = proxy.request(method, path, "", body).await.answer().await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_u64()),
            (status, Some(u64::from(status)))
        );
    }
    assert!(p.got().is_empty());
    assert_eq!(proxy.ended("refused").await, 3.0);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_requests_end_or_cuts_them() {
    for (how, whole) in [(Stop::Drain, true), (Stop::Now, false)] {
        let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a", "b"], 50)]));
        let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
        let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
        sleep(Duration::from_millis(60)).await;
        let (totals, answer) = tokio::join!(proxy.stop(how), client.answer());
        assert_eq!(answer.whole, whole);
        assert_eq!((totals.ok, totals.aborted_by_client), (u64::from(whole), u64::from(!whole)));
    }
}
