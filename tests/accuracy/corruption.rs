//! KV that arrives wrong, found by what the model answers.

use crate::common::Ran;
use crate::setup::{accuracy, faults, gsm8k, result};
use pdbench::Exit;
use pdbench::measure::{PairedResult, PairedVerdict};
use tempfile::tempdir;

const PAIR: &str = "--sim 1p1d --baseline-sim 1m";

/// The comparison of the two arms, which answered every question.
fn only_pair(ran: &Ran) -> PairedResult {
    let result = result(ran);
    assert!(result.arms.iter().all(|arm| arm.errors == 0), "{}", ran.stdout);
    let [pair] = <[PairedResult; 1]>::try_from(result.comparisons).unwrap();
    assert_eq!(((pair.baseline, pair.candidate), pair.is_floor), ((1, 0), false));
    pair
}

/// Pairs see a loss that the two scores, each with its own interval, do not.
fn assert_only_pairs_see_it(ran: &Ran) {
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stdout);
    let pair = only_pair(ran);
    let result = result(ran);
    for (filter, score) in pair.scores.iter().enumerate() {
        assert_eq!(score.verdict, PairedVerdict::Worse, "{score:?}");
        assert!(score.p_worse.unwrap() < 0.005, "{score:?}");
        // A damaged prompt is never answered right where the same prompt undamaged was not.
        assert_eq!(score.only_candidate, 0, "{score:?}");
        assert!(score.interval.unwrap().1 < 0.0, "{score:?}");
        let [candidate, baseline] = [0, 1].map(|arm| result.arms[arm].scores[filter].interval.unwrap());
        assert!(
            baseline.0 < candidate.1 && candidate.0 < baseline.1,
            "{candidate:?} and {baseline:?} lie apart"
        );
    }
    assert!(faults(ran).iter().all(|fault| fault == "worse"), "{:?}", faults(ran));
    assert!(ran.stdout.starts_with("INVALID: candidate answers worse than baseline: "), "{}", ran.stdout);
}

/// Nothing is lost.
fn assert_nothing_is_lost(ran: &Ran) {
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
    let pair = only_pair(ran);
    assert_eq!(pair.texts.equal, pair.texts.questions);
    for score in &pair.scores {
        assert_eq!(score.verdict, PairedVerdict::WithinMargin, "{score:?}");
        assert_eq!((score.only_baseline, score.only_candidate), (0, 0));
    }
    assert!(ran.stdout.contains("NO LOSS BEYOND"), "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_damaged_kv_is_found_by_pairs_and_by_nothing_else() {
    let place = tempdir().unwrap();
    let words = format!("gsm8k {PAIR} --sim-right 0.9 --sim-fault corrupt-kv=0.08@decode --margin 0.05");
    assert_only_pairs_see_it(&accuracy(place.path(), &words).await);
}

#[tokio::test(start_paused = true)]
async fn without_damage_a_loss_beyond_the_margin_is_excluded() {
    let place = tempdir().unwrap();
    let words = format!("gsm8k {PAIR} --sim-right 0.9 --margin 0.05");
    assert_nothing_is_lost(&accuracy(place.path(), &words).await);
}

#[tokio::test(start_paused = true)]
async fn too_few_questions_for_the_margin_fail_the_run_and_say_how_many_would_do() {
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), &format!("gsm8k {PAIR} --sim-right 0.9 --margin 0.01")).await;
    assert_eq!(
        (ran.exit, faults(&ran)),
        (Exit::Invalid, vec!["margin_not_shown".to_owned()]),
        "{}",
        ran.stdout
    );
    let pair = only_pair(&ran);
    assert!(pair.scores.iter().all(|score| score.verdict == PairedVerdict::Unclear));
    // As many as make the interval of no difference narrower than the margin: about z²/margin.
    let needed = pair.scores[0].questions_needed.unwrap();
    assert!((370..=400).contains(&needed), "{needed}");
    // Without a margin nothing has to be shown.
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), &format!("gsm8k {PAIR} --sim-right 0.9")).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn damage_that_grows_with_the_load_makes_the_run_invalid_without_any_baseline() {
    let place = tempdir().unwrap();
    let ran =
        accuracy(place.path(), "gsm8k --sim 1p1d --sim-right 0.9 --sim-fault corrupt-kv-rising=200@decode")
            .await;
    assert_eq!((ran.exit, faults(&ran)), (Exit::Invalid, vec!["falling".to_owned()]), "{}", ran.stdout);
    assert!(
        ran.stdout.starts_with("INVALID: candidate: right answers become fewer over the run"),
        "{}",
        ran.stdout
    );
    let trend = result(&ran).arms[0].trend.clone().unwrap();
    assert!(trend.p_falling < 0.001, "{trend:?}");
    let right = |windows: &[(usize, usize)]| windows.iter().map(|(right, _)| right).sum::<usize>();
    assert!(right(&trend.windows[5..]) + 15 < right(&trend.windows[..5]), "{trend:?}");
}

#[tokio::test(start_paused = true)]
async fn damage_that_grows_shows_in_the_difference_to_a_baseline_that_does_not_fall() {
    let place = tempdir().unwrap();
    let words = format!("gsm8k {PAIR} --sim-right 0.9 --sim-fault corrupt-kv-rising=200@decode");
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Invalid);
    let found = faults(&ran);
    assert!(found.contains(&"worse".to_owned()) && found.contains(&"falling".to_owned()), "{found:?}");
    assert!(ran.stdout.contains("candidate falls behind baseline over the run"), "{}", ran.stdout);
    let baseline = result(&ran).arms[1].trend.clone().unwrap();
    assert!(0.01 < baseline.p_falling, "{baseline:?}");
}

#[tokio::test(start_paused = true)]
async fn two_damaged_answers_in_a_hundred_are_found_on_the_real_questions() {
    let Some(data) = gsm8k("two_damaged_answers_in_a_hundred_are_found_on_the_real_questions") else {
        return;
    };
    let words = format!("gsm8k --dataset-path {data} {PAIR} --sim-right 0.7 --margin 0.01");
    let place = tempdir().unwrap();
    let damaged = accuracy(place.path(), &format!("{words} --sim-fault corrupt-kv=0.02@decode")).await;
    assert_only_pairs_see_it(&damaged);
    let pair = only_pair(&damaged);
    assert_eq!(pair.texts.questions, 1319);
    // Of 26 expected damages about seven in ten hit an answer that was right.
    let different = pair.texts.questions - pair.texts.equal;
    assert!((14..=40).contains(&different), "{different}");
    let place = tempdir().unwrap();
    assert_nothing_is_lost(&accuracy(place.path(), &words).await);
}
