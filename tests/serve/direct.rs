//! Requests whose legs the client sends itself, alone and by turns with requests through the proxy.

use crate::common::{Ran, run_in};
use pdbench::Exit;
use pdbench::measure::{EndedIn, Outcome};
use pdbench::runtime::Workers;
use tempfile::{TempDir, tempdir};

async fn embedded(arguments: &[&str]) -> (Ran, TempDir) {
    let place = tempdir().unwrap();
    let base = ["serve", "--sim", "1p1d", "--num-prompts", "20", "--rate", "5", "--output-len", "10"];
    let ran = run_in(place.path(), &[&base[..], arguments].concat(), Workers::Local).await;
    (ran, place)
}

#[tokio::test(start_paused = true)]
async fn past_the_proxy_a_request_takes_what_its_legs_take() {
    for dialect in ["nixl-pull", "ascend", "plain"] {
        let (direct, _place) = embedded(&["--direct", "--dialect", dialect]).await;
        assert_eq!(direct.exit, Exit::Valid, "{dialect}: {}{}", direct.stdout, direct.stderr);
        let (through, _place) = embedded(&["--sim-dialect", dialect]).await;
        let (direct, through) = (direct.main_records(), through.main_records());
        assert!(direct.iter().all(|record| record.node.as_deref().unwrap().starts_with("127.0.0.1:")));
        for (direct, through) in direct.iter().zip(&through) {
            let ttft = |record: &pdbench::measure::RequestRecord| {
                1e3 * record.events.first().unwrap().seconds_since(record.sent.unwrap())
            };
            // Both clocks go in steps of 1 ms, once more for each leg.
            assert!(
                (ttft(direct) - ttft(through)).abs() <= 3.0,
                "{dialect}: {} {}",
                ttft(direct),
                ttft(through)
            );
            let prefill_ms = direct.server_timing.as_ref().unwrap()["prefill"];
            assert!(5.0 < prefill_ms && prefill_ms < ttft(direct), "{dialect}: {prefill_ms}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn by_turns_a_run_says_what_the_proxy_costs() {
    let (ran, _place) = embedded(&["--direct", "--through-proxy"]).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let cost = ran.run_file().summary.unwrap().proxy_cost.unwrap();
    assert_eq!((cost.through, cost.direct, cost.failed_through, cost.failed_direct), (10, 10, 0, 0));
    let ttft = cost.added.iter().find(|added| added.metric == "ttft" && added.p == 50.0).unwrap();
    assert!(ttft.added_ms.abs() <= 5.0, "{ttft:?}");
    assert!(ran.stdout.contains("Proxy cost (ms)"), "{}", ran.stdout);
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(page.contains("What the proxy costs"));
}

#[tokio::test(start_paused = true)]
async fn a_prefill_leg_that_fails_is_the_failure_of_its_request_and_names_the_instance() {
    let (ran, _place) = embedded(&["--direct", "--probe", "none", "--sim-fault", "status=503@prefill"]).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}{}", ran.stdout, ran.stderr);
    for record in ran.main_records() {
        assert_eq!((record.outcome, record.ended_in), (Outcome::Http5xx, EndedIn::End), "{:?}", record.error);
        assert!(record.error.as_deref().unwrap().starts_with("prefill leg: "), "{:?}", record.error);
        assert!(record.events.is_empty() && record.output_tokens == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_past_a_proxy_is_refused() {
    for (arguments, says) in [
        (&["--direct", "--dialect", "sglang"][..], "cannot be spoken without a proxy"),
        (&["--direct", "--base-url", "http://127.0.0.1:1"], "both kinds of instances"),
        (&["--direct", "--repeat-d-times", "3"], "cannot be used with"),
    ] {
        let place = tempdir().unwrap();
        let ran = run_in(place.path(), &[&["serve"][..], arguments].concat(), Workers::Local).await;
        assert_eq!(ran.exit, Exit::Usage, "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    }
}
