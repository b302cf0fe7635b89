//! Every way to break the embedded cluster is found, named and located, and nothing else is blamed.

use crate::setup::{Checked, check};
use pdbench::Exit;
use serde_json::{Value, json};

async fn broken(words: &str) -> Checked {
    let checked = check(words).await;
    let ran = &checked.ran;
    assert_eq!(ran.exit, Exit::Invalid, "{words}: {}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.starts_with("INVALID: ") && ran.stdout.contains("\n  help: "), "{}", ran.stdout);
    checked
}

fn fault(checked: &Checked, name: &str) -> Value {
    let found = checked.faults().into_iter().find(|fault| fault["fault"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {}", checked.ran.stdout))
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_is_told_by_what_fails_and_by_how_long_it_takes() {
    let checked = broken("--sim 1p2d --sim-dialect plain --sim-kill-store 0").await;
    let found = fault(&checked, "nothing_moved");
    assert_eq!((&found["at"]["at"], &found["cause"]["cause"]), (&json!("everywhere"), &json!("store_fails")));
    assert!(8.0 < found["seconds"][0].as_f64().unwrap() && found["seconds"][1].as_f64().unwrap() < 6.0);
    assert!(checked.ran.stdout.contains("as long as a time-out"), "{}", checked.ran.stdout);
    assert!(checked.ran.stdout.contains("start the store's master again"), "{}", checked.ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn kv_that_never_moves_is_found_though_every_text_is_right() {
    for (dialect, cause) in
        [("plain", "unknown"), ("nixl-pull", "transfers_fail"), ("mooncake-p2p", "not_fetched")]
    {
        let checked = broken(&format!("--sim 2p2d --sim-dialect {dialect} --sim-fault lose-kv")).await;
        let found = fault(&checked, "nothing_moved");
        assert_eq!(
            (&found["at"]["at"], &found["cause"]["cause"]),
            (&json!("everywhere"), &json!(cause)),
            "{dialect}"
        );
        assert!(checked.result.pairs.iter().all(|pair| pair.unmoved == pair.requests && pair.wrong == 0));
        assert!(!checked.named().contains(&"text_differs".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn made_up_kv_is_found_though_every_counter_is_perfect() {
    let checked = broken("--sim 1p1d --sim-fault made-up-kv@decode").await;
    assert_eq!(fault(&checked, "made_up")["node"], "decode 0");
    assert!(checked.named().contains(&"text_differs".to_owned()));
    assert!(!checked.named().contains(&"nothing_moved".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn kv_that_moves_in_part_is_no_chunk() {
    let checked = broken("--sim 1p1d --sim-dialect plain --sim-fault partial-put=96").await;
    let found = fault(&checked, "part_moved");
    assert_eq!(found["moved"], 96 * found["requests"].as_u64().unwrap());
    assert!(!checked.named().contains(&"text_differs".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn another_hash_seed_is_told_from_a_store_that_fails() {
    let checked = broken("--sim 1p2d --sim-dialect plain --sim-fault hash-seed=7@decode:1").await;
    let found = fault(&checked, "nothing_moved");
    assert_eq!(found["at"], json!({"at": "to", "decode": "decode 1"}));
    assert_eq!(found["cause"]["cause"], "other_names");
    assert!(checked.ran.stdout.contains("PYTHONHASHSEED"));
    assert_eq!(checked.bad_pairs(), [(0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn one_broken_link_is_named_and_no_other() {
    for (word, name) in
        [("lose-kv", "nothing_moved"), ("corrupt-kv=1", "text_differs"), ("swap-kv=1", "text_differs")]
    {
        let checked = broken(&format!("--sim 3p3d --sim-fault {word}@prefill:2-decode:1")).await;
        assert_eq!(checked.named(), [name], "{}", checked.ran.stdout);
        assert_eq!(fault(&checked, name)["at"]["links"], json!([["prefill 2", "decode 1"]]));
        assert_eq!(checked.bad_pairs(), [(2, 4)]);
    }
}

#[tokio::test(start_paused = true)]
async fn any_one_broken_pair_of_32_by_32_is_found() {
    for (word, prefill, decode) in [("lose-kv", 31, 31), ("corrupt-kv=1", 17, 5)] {
        let checked =
            broken(&format!("--sim 32p32d --sim-fault {word}@prefill:{prefill}-decode:{decode}")).await;
        assert_eq!(checked.bad_pairs(), [(prefill, 32 + decode)], "{}", checked.ran.stdout);
        assert!(checked.ran.records().len() <= 1050);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_unlike_the_others_is_named() {
    for (word, name, says) in [
        ("other-name@decode:1", "models", "decode 1 simulated-other"),
        ("max-len=4096@decode:0", "lengths", "decode 0 4096"),
        ("block-size=32@decode", "blocks", "decode 0 32"),
        ("other-weights@decode:1", "computes_other", "decode 1 says other text than prefill"),
    ] {
        let checked = broken(&format!("--sim 1p2d --sim-fault {word}")).await;
        let what =
            checked.result.faults.iter().find(|fault| serde_json::to_value(fault).unwrap()["fault"] == name);
        let what = what.unwrap_or_else(|| panic!("no {name}: {}", checked.ran.stdout)).what();
        assert!(what.contains(says), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_down_are_named_and_the_others_still_checked() {
    for (node, name) in [("prefill:1@0", "prefill 1"), ("decode:0@0", "decode 0")] {
        let checked = broken(&format!("--sim 2p2d --sim-kill-node {node}")).await;
        assert_eq!(fault(&checked, "silent")["node"], name);
        assert_eq!(checked.result.pairs.len(), 2, "{}", checked.ran.stdout);
        assert_eq!(checked.bad_pairs(), []);
    }
    // A side that is gone leaves the proxy's word for it.
    let checked = broken("--sim 1p1d --sim-kill-node prefill:0@0").await;
    assert!(checked.named().contains(&"proxy_fails".to_owned()), "{}", checked.ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn instances_that_fail_are_told_by_side() {
    let checked = broken("--sim 2p2d --sim-fault status=503@prefill:1").await;
    let found = fault(&checked, "pair_fails");
    assert_eq!(found["at"], json!({"at": "from", "prefill": "prefill 1"}));
    assert_eq!(found["outcome"], "http_5xx");
    // With status 200 and an error behind it.
    let checked = broken("--sim 1p2d --sim-fault error-after=2@decode:1").await;
    assert!(checked.named().contains(&"fails".to_owned()), "{}", checked.ran.stdout);
    assert_eq!(fault(&checked, "fails")["node"], "decode 1");
}

#[tokio::test(start_paused = true)]
async fn a_prefill_that_meets_its_stop_and_loses_its_kv_is_found() {
    let checked = broken("--sim 1p1d --sim-fault stop-drops-kv").await;
    assert_eq!(checked.named(), ["stop_loses_kv"], "{}", checked.ran.stdout);
    assert!(checked.ran.stdout.contains("ignore_eos or min_tokens"));
}
