//! Faults of the client itself, and of those who run it: a processor that was not there, a wall clock that is set, a
//! display that breaks, a signal. In virtual time.

use crate::common::script::{Act, ScriptServer, chunk, stream_head, token, whole};
use crate::common::{Ran, run_world};
use pdbench::Exit;
use pdbench::command::{InterruptedBy, Surroundings};
use pdbench::measure::{Outcome, Reason};
use pdbench::runtime::Workers;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use tokio::sync::mpsc::unbounded_channel;

async fn load(
    scripts: Vec<Vec<Act>>,
    arguments: &[&str],
    change: impl FnOnce(&mut Surroundings),
) -> (Ran, TempDir) {
    let server = ScriptServer::start(scripts).await;
    let place = tempdir().unwrap();
    let base =
        ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m", "--probe", "none"];
    let arguments = [&base[..], &["--sonnet-output-len", "4"], arguments].concat();
    let ran = run_world(place.path(), &arguments, Workers::Local, change).await;
    (ran, place)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_could_not_keep_up_makes_the_run_invalid_and_keeps_it() {
    let stolen = [vec![Act::Jump(Duration::from_millis(500))], whole(4)].concat();
    let scripts = vec![whole(4), whole(4), stolen, whole(4)];
    let (ran, _place) = load(scripts, &["--num-prompts", "100", "--rate", "100"], |_| {}).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stdout);
    assert!(ran.stdout.starts_with("INVALID") && ran.stdout.contains("SATURATED"), "{}", ran.stdout);
    let records = ran.main_records();
    assert!(records.len() == 100 && records.iter().all(|record| record.is_ok()));
    let late = |most: u64| {
        let late = |record: &&pdbench::measure::RequestRecord| {
            Duration::from_millis(most) < record.sent.unwrap() - record.ready.unwrap()
        };
        records.iter().filter(late).count()
    };
    assert!(20 < late(100) && late(600) == 0, "{} {}", late(100), late(600));
    let reasons = ran.run_file().summary.unwrap().validity.reasons;
    assert!(matches!(reasons[..], [Reason::ClientSaturated { .. }]), "{reasons:?}");
    for file in ["summary.csv", "requests.csv", "timeline.csv", "report.html"] {
        assert!(ran.directory().join(file).is_file(), "no {file}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_back_changes_no_duration() {
    let plain = load(vec![whole(4)], &["--num-prompts", "20", "--rate", "10"], |_| {}).await;
    let set = load(vec![whole(4)], &["--num-prompts", "20", "--rate", "10"], |world| {
        let (steps, wall_clock) =
            (Mutex::new(0), std::mem::replace(&mut world.wall_clock, Box::new(jiff::Zoned::now)));
        world.wall_clock = Box::new(move || {
            let mut steps = steps.lock().unwrap();
            *steps += 1;
            wall_clock().checked_sub(jiff::Span::new().hours(*steps)).unwrap()
        });
    })
    .await;
    let times = |ran: &Ran| {
        let of = |record: &pdbench::measure::RequestRecord| {
            (record.scheduled, record.sent, record.finished, record.events.iter().collect::<Vec<_>>())
        };
        ran.main_records().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(times(&plain.0), times(&set.0));
    assert_ne!(plain.0.run_file().manifest.started, set.0.run_file().manifest.started);
}

/// Takes everything but a line of progress.
struct Brittle;

impl Write for Brittle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(!String::from_utf8_lossy(bytes).contains(" done, "), "this display cannot show progress");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_progress_display_that_panics_ends_alone_and_the_run_is_kept_as_invalid() {
    let (ran, _place) = load(vec![whole(4)], &["--num-prompts", "40", "--rate", "1"], |world| {
        world.stderr = Box::new(Brittle);
    })
    .await;
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stdout);
    assert_eq!(ran.main_records().iter().filter(|record| record.is_ok()).count(), 40);
    let file = ran.run_file();
    assert_eq!(file.manifest.broken, ["the progress display panicked"]);
    assert!(ran.stdout.starts_with("INVALID"), "{}", ran.stdout);
    assert!(ran.stdout.contains("the progress display panicked"), "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn after_a_signal_answers_that_never_end_are_waited_for_as_long_as_said_and_no_longer() {
    for (by, exit, patience) in
        [(InterruptedBy::Interrupt, Exit::Interrupted, 10), (InterruptedBy::Terminate, Exit::Terminated, 5)]
    {
        let hangs = vec![stream_head(), chunk(&token("a")), Act::Hang];
        let scripts = vec![whole(4), hangs];
        let (ran, _place) = load(scripts, &["--num-prompts", "100", "--rate", "1"], |world| {
            let (sender, signals) = unbounded_channel();
            let interrupt = world.interrupt.clone();
            tokio::spawn(async move { interrupt.obey(signals, |_| {}).await });
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(20)).await;
                sender.send(by).unwrap();
                std::future::pending::<()>().await;
            });
        })
        .await;
        assert_eq!(ran.exit, exit, "{}", ran.stderr);
        let records = ran.main_records();
        assert!((5..40).contains(&records.len()), "{}", records.len());
        let cut = records.iter().filter(|record| record.outcome == Outcome::CancelledAtEnd);
        let ends: Vec<u64> = cut.map(|record| Duration::from(record.finished).as_secs()).collect();
        assert_eq!(ends.len(), records.len() - 1);
        assert!(ends.iter().all(|&end| (20 + patience..22 + patience).contains(&end)), "{ends:?}");
        assert!(ran.stdout.contains("INTERRUPTED at"), "{}", ran.stdout);
        assert!(ran.run_file().summary.is_some());
    }
}
