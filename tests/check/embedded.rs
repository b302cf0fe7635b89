//! Checks of an embedded cluster that works.

use crate::common::{files_of, world};
use crate::setup::check;
use pdbench::Exit;
use pdbench::measure::Kind;
use pdbench::measure::check::{Step, Verdict};
use pdbench::runtime::Workers;

#[tokio::test(start_paused = true)]
async fn a_sound_cluster_passes_every_step_at_every_pair() {
    let checked = check("--sim 2p4d").await;
    let ran = &checked.ran;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.starts_with("VALID: 9 steps ok, 0 wrong, 0 not told; 8 of 8 pairs work;"),
        "{}",
        ran.stdout
    );
    assert_eq!(checked.named(), [""; 0]);
    for step in Step::ALL {
        assert_eq!(checked.verdict(step), Verdict::Ok, "{step:?}: {}", ran.stdout);
    }
    assert!(checked.result.pairs.iter().all(|pair| (pair.requests, pair.moved, pair.right) == (4, 4, 4)));
    assert!(ran.records().iter().all(|record| record.kind == Kind::Check && record.is_ok()));
    assert!(
        ran.stdout
            .trim_end()
            .lines()
            .rev()
            .take(5)
            .any(|line| line.contains("Not seen by this check: KV blocks"))
    );
    let below = ran.stdout.lines().skip(1).filter(|line| !line.starts_with("report: "));
    assert!(below.map(|line| line.chars().count()).all(|width| width <= 80), "{}", ran.stdout);

    // Everything derived can be made again.
    let before = files_of(&ran.directory());
    let directory = ran.directory().display().to_string();
    let (stdout, stderr) = Default::default();
    let mut world = world(&["report", &directory], Workers::Local, &stdout, &stderr);
    assert_eq!(pdbench::run(&mut world).await, Exit::Valid);
    let changed: Vec<_> =
        before.iter().zip(files_of(&ran.directory())).filter(|(a, b)| **a != *b).map(|(a, _)| &a.0).collect();
    assert!(changed.is_empty(), "{changed:?}");
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(page.contains("id=\"pairs\"") && page.contains("4 of 4 moved, 4 right"));
}

#[tokio::test(start_paused = true)]
async fn every_way_to_hand_kv_over_that_a_client_can_speak_is_checked_pair_by_pair() {
    for (dialect, least) in
        [("plain", 8), ("nixl-pull", 1), ("ascend", 1), ("mooncake-p2p", 1), ("p2p-addr", 1), ("sglang", 1)]
    {
        let checked = check(&format!("--sim 1p2d --sim-dialect {dialect}")).await;
        assert_eq!(checked.ran.exit, Exit::Valid, "{dialect}: {}{}", checked.ran.stdout, checked.ran.stderr);
        assert_eq!(checked.result.pairs.iter().filter(|pair| pair.verdict == Verdict::Ok).count(), 2);
        let words = &checked.result.steps.iter().find(|step| step.step == Step::KvMoves).unwrap().words;
        let left: u32 = words.split("at most ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((1..=16).contains(&left) && least <= left, "{dialect}: {words}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_only_a_proxy_can_speak_pairs_are_those_that_it_chooses() {
    let checked = check("--sim 1p2d --sim-dialect ascend-layerwise --sim-routing round-robin").await;
    assert_eq!(checked.ran.exit, Exit::Valid, "{}{}", checked.ran.stdout, checked.ran.stderr);
    assert!(checked.ran.stderr.contains("pairs through the proxy"));
    assert!(checked.result.pairs.iter().all(|pair| pair.verdict == Verdict::Ok && 0 < pair.requests));
}

#[tokio::test(start_paused = true)]
async fn the_same_check_gives_the_same_bytes() {
    let (one, other) = (check("--sim 1p2d").await, check("--sim 1p2d").await);
    let place =
        |text: &str| text.lines().filter(|line| !line.starts_with("report:")).collect::<Vec<_>>().join("\n");
    assert_eq!(place(&one.ran.stdout), place(&other.ran.stdout));
    assert_eq!(one.ran.records(), other.ran.records());
}

#[tokio::test(start_paused = true)]
async fn fewer_requests_leave_pairs_that_nobody_saw() {
    let checked = check("--sim 2p4d --requests 4").await;
    assert_eq!(checked.ran.exit, Exit::Valid, "{}", checked.ran.stdout);
    let not_told = checked.result.pairs.iter().filter(|pair| pair.verdict == Verdict::NotTold).count();
    assert_eq!(not_told, 4);
    assert!(checked.ran.stdout.starts_with("VALID: 9 steps ok, 0 wrong, 0 not told; 4 of 8 pairs work"));
}
