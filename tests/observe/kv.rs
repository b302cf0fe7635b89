//! KV that moves, or does not, in the embedded cluster.

use crate::common::{Ran, files_of, run_in, world};
use pdbench::Exit;
use pdbench::measure::{ServerNote, ServerSide, Warning};
use pdbench::runtime::Workers;
use std::path::Path;
use tempfile::tempdir;

async fn serve(place: &Path, words: &str) -> (Ran, ServerSide) {
    let arguments: Vec<&str> =
        ["serve", "--no-progress"].into_iter().chain(words.split_whitespace()).collect();
    let ran = run_in(place, &arguments, Workers::Local).await;
    let server = ran.run_file().summary.unwrap_or_else(|| panic!("{}", ran.stderr)).server.unwrap();
    (ran, server)
}

#[tokio::test(start_paused = true)]
async fn when_kv_stops_moving_in_the_run_the_report_says_since_when_and_what_it_costs() {
    let place = tempdir().unwrap();
    let words = "--num-prompts 200 --rate 10 --burstiness inf --sim-no-prefix-cache --probe none \
                 --sim-fault lose-kv-after=100@decode";
    let (ran, server) = serve(place.path(), words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let stop = server.kv.unwrap().stop.unwrap();
    // Request 101 is due after 10 s: the look behind that is the last one with KV that came.
    assert!((9.9..=11.2).contains(&stop.from_s) && stop.until_s.is_none(), "{stop:?}");
    assert!((85.0..=110.0).contains(&stop.requests), "{stop:?}");
    let (before, during) = (stop.ttft_before_ms.unwrap(), stop.ttft_during_ms.unwrap());
    assert!(before + 10.0 < during, "{before} {during}");
    assert!(ran.said().contains("KV no longer moved from t ="), "{}", ran.stdout);
    // All of it can be made again from the files.
    let before = files_of(&ran.directory());
    for name in ["anatomy.csv", "nodes.csv", "report.html"] {
        std::fs::remove_file(ran.directory().join(name)).unwrap();
    }
    let (stdout, stderr) = Default::default();
    let directory = ran.directory().display().to_string();
    let mut world = world(&["report", &directory], Workers::Local, &stdout, &stderr);
    assert_eq!(pdbench::run(&mut world).await, Exit::Valid);
    assert!(before == files_of(&ran.directory()), "report made other files than serve");
    assert_eq!(stdout.text(), ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_moves_no_kv_is_told_apart_from_one_that_does() {
    for (fault, moved) in [("lose-kv@decode", false), ("none", true)] {
        let place = tempdir().unwrap();
        let words =
            format!("--num-prompts 30 --rate 10 --sim-no-prefix-cache --sim-fault {fault} --sim 1p2d");
        let (ran, server) = serve(place.path(), &words).await;
        let kv = server.kv.unwrap();
        assert_eq!((kv.moved_nothing(), 0.0 < kv.external_tokens, kv.requests), (!moved, moved, 30.0));
        let warned = ran.run_file().summary.unwrap().warnings.iter().any(|warning| {
            matches!(warning, Warning::Server(ServerNote::NoKvMoved { requests, .. }) if *requests == 30.0)
        });
        assert_eq!(warned, !moved);
        let decode: Vec<f64> = server.nodes.iter().filter_map(|node| node.external_share()).collect();
        assert_eq!(decode.iter().any(|share| 0.9 < *share), moved, "{decode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_both_have_an_anatomy_of_their_own() {
    let place = tempdir().unwrap();
    let (ran, server) = serve(place.path(), "--num-prompts 30 --rate 10 --sim 2m").await;
    assert!(server.kv.is_none() && server.anatomy.is_some());
    assert!(ran.said().contains("First tokens come from nodes that do both"), "{}", ran.stdout);
    assert_eq!(server.roles.iter().map(|role| role.nodes).collect::<Vec<_>>(), [2]);
}
