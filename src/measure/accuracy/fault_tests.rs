use super::super::{AccuracyFacts, ArmFacts, ArmResult, PairedScore, Score, TextEquality, Trend};
use super::*;
use crate::measure::testing::{assert_in_authority, at, failed, record, run};
use crate::measure::{Kind, Outcome, Reason, Summary, Warning};
use serde_json::{Map, Value};

fn facts(arms: &[&str]) -> AccuracyFacts {
    let arm = |name: &&str| ArmFacts {
        name: (*name).to_owned(),
        base_url: "embedded".to_owned(),
        model: "m".to_owned(),
        streamed: false,
    };
    AccuracyFacts {
        task: Map::new(),
        questions: 100,
        documents: 100,
        num_fewshot: 3,
        fewshot_seed: 1234,
        system_instruction: None,
        form: "text".to_owned(),
        generation: Map::new(),
        batch_size: 1,
        num_concurrent: 8,
        max_retries: 3,
        own_documents: false,
        arms: arms.iter().map(arm).collect(),
        margin: None,
        fail_under: None,
        max_error_rate: 0.05,
        limit: None,
        gen_kwargs: Map::new(),
        model_args: Map::new(),
        shaping: Map::new(),
        key: String::new(),
    }
}

fn arm(right: [usize; 2], errors: usize) -> ArmResult {
    let answered = 100 - errors;
    let score = |right: usize| Score {
        right,
        mean: Some(right as f64 / answered as f64),
        stderr: Some(0.01),
        interval: None,
        errors_as_wrong: None,
        invalid_share: None,
    };
    ArmResult {
        answered,
        errors,
        retried: 0,
        scores: right.map(score).to_vec(),
        cut_share: Some(0.0),
        empty_share: Some(0.0),
        swapped: None,
        mean_output_tokens: None,
        trend: None,
        by_length: Vec::new(),
    }
}

fn paired(only_baseline: usize, verdict: PairedVerdict) -> PairedScore {
    PairedScore {
        questions: 100,
        both: 50,
        only_baseline,
        only_candidate: 2,
        difference: Some(-0.05),
        interval: Some((-0.09, 0.02)),
        p_two_sided: Some(0.02),
        p_worse: Some(0.01),
        margin: 0.01,
        verdict,
        questions_needed: Some(5200),
    }
}

fn pair(scores: Vec<PairedScore>, is_floor: bool) -> PairedResult {
    PairedResult {
        baseline: 1,
        candidate: 0,
        is_floor,
        scores,
        texts: TextEquality::default(),
        p_falling: None,
    }
}

/// A hundred questions of 100 ms, read in two ways, the second one better; two arms and what compares them.
fn asked(change: impl FnOnce(&mut AccuracyFacts, &mut AccuracyResult)) -> Run {
    let mut run = run((0..100).map(|n| record(&format!("{} {}", 1000 * n, 1000 * n + 100))).collect());
    run.records.iter_mut().for_each(|record| record.kind = Kind::Question);
    let mut facts = facts(&["candidate", "baseline"]);
    let within = paired(2, PairedVerdict::WithinMargin);
    let mut result = AccuracyResult {
        task: "gsm8k".to_owned(),
        alias: "gsm8k".to_owned(),
        version: Value::Null,
        n_shot: 3,
        filters: vec!["strict".to_owned(), "flexible".to_owned()],
        arms: vec![arm([40, 60], 0), arm([45, 65], 0)],
        comparisons: vec![pair(vec![within.clone(), within], false)],
        task_hash: String::new(),
        documents: Vec::new(),
    };
    change(&mut facts, &mut result);
    (run.manifest.accuracy, run.accuracy) = (Some(facts), Some(result));
    run
}

fn found(run: &Run) -> Vec<AccuracyFault> {
    let reasons = Summary::of(run).validity.reasons;
    let faults = reasons.into_iter().map(|reason| {
        assert_in_authority(&serde_json::to_value(&reason).unwrap()["reason"]);
        let Reason::Accuracy { fault } = reason else { panic!("{reason:?}") };
        assert_in_authority(&serde_json::to_value(&fault).unwrap()["fault"]);
        assert!(!fault.what().is_empty() && !fault.what_to_do().is_empty());
        fault
    });
    faults.collect()
}

#[test]
fn requests_that_failed_and_were_sent_again_are_no_fault() {
    let mut run = asked(|_, _| ());
    for nth in 0..30 {
        let mut again = failed(&format!("{} {}", 1000 * nth + 500, 1000 * nth + 600), Outcome::Http5xx);
        again.kind = Kind::Question;
        run.records.push(again);
    }
    assert_eq!(found(&run), []);
    assert_eq!(Summary::of(&run).warnings, []);
}

#[test]
fn questions_without_an_answer_count_against_the_budget_of_each_arm() {
    let unanswered = |errors| asked(|_, result| result.arms[1] = arm([40, 60], errors));
    assert_eq!(found(&unanswered(5)), []);
    let warning = Warning::Unanswered { arm: "baseline".to_owned(), questions: 5, of: 100 };
    assert_eq!(Summary::of(&unanswered(5)).warnings, [warning]);
    let faults = found(&unanswered(6));
    assert_eq!(
        faults[0].what(),
        "baseline: 6 of 100 questions have no answer (6.0 %), more than the 5.0 % allowed"
    );
    assert_eq!((faults.len(), Summary::of(&unanswered(6)).warnings.len()), (1, 0));
}

#[test]
fn a_run_without_any_answer_is_invalid_even_if_nothing_failed() {
    let run = asked(|_, result| {
        result.arms.iter_mut().for_each(|arm| arm.answered = 0);
        result.comparisons.clear();
    });
    assert_eq!(Summary::of(&run).validity.reasons, [Reason::NoOkRequest]);
}

#[test]
fn a_loss_in_any_reading_is_a_fault_and_one_between_equal_servers_is_none() {
    let worse = |is_floor| {
        asked(|_, result| {
            let scores = vec![paired(11, PairedVerdict::Worse), paired(3, PairedVerdict::Unclear)];
            result.comparisons = vec![pair(scores, is_floor)];
        })
    };
    let faults = found(&worse(false));
    assert_eq!(
        faults[0].what(),
        "candidate answers worse than baseline: 11 questions right there alone, 2 here alone (strict, p = 1.00e-2)"
    );
    assert_eq!((faults.len(), found(&worse(true))), (1, vec![]));
}

#[test]
fn a_margin_counts_where_it_was_named_and_by_the_reading_that_decides() {
    let with = |margin, verdicts: [PairedVerdict; 2]| {
        asked(|facts, result| {
            facts.margin = margin;
            result.comparisons = vec![pair(verdicts.map(|verdict| paired(3, verdict)).to_vec(), false)];
        })
    };
    use PairedVerdict::{Unclear, WithinMargin, Worse};
    assert_eq!(found(&with(None, [Unclear, Unclear])), []);
    assert_eq!(found(&with(Some(0.01), [Unclear, WithinMargin])), []);
    let faults = found(&with(Some(0.01), [WithinMargin, Unclear]));
    assert_eq!(
        faults[0].what(),
        "not shown that candidate loses at most 1.0 % against baseline: the interval goes down to -9.00 % (flexible); \
         about 5200 questions would show it, if nothing is lost"
    );
    assert!(matches!(found(&with(Some(0.01), [WithinMargin, Worse]))[..], [AccuracyFault::Worse { .. }]));
}

#[test]
fn a_score_is_held_against_its_limit_by_the_best_reading() {
    let limited = |limit| asked(|facts, _| facts.fail_under = Some(limit));
    assert_eq!(found(&limited(0.6)), []);
    assert_eq!(found(&limited(0.61))[0].what(), "the score is 0.6000 (flexible), below the 0.61 asked for");
}

#[test]
fn a_fall_of_the_difference_outranks_that_of_the_score() {
    let falling = |p_arm, p_pair: Option<f64>| {
        asked(|_, result| {
            result.arms[0].trend = Some(Trend { windows: vec![(1, 1)], p_falling: p_arm });
            result.comparisons[0].p_falling = p_pair;
        })
    };
    assert_eq!(found(&falling(0.002, None)), []);
    assert_eq!(
        found(&falling(0.0005, None))[0].what(),
        "candidate: right answers become fewer over the run (p = 5.0e-4)"
    );
    assert_eq!(found(&falling(0.0005, Some(0.4))), []);
    assert_eq!(
        found(&falling(0.3, Some(0.0002)))[0].what(),
        "candidate falls behind baseline over the run (p = 2.0e-4)"
    );
}

#[test]
fn a_slow_client_spoils_no_answer_but_a_fault_of_our_own_does() {
    let mut late = asked(|_, _| ());
    for record in &mut late.records {
        record.ready = Some(at(f64::from(record.i)));
    }
    assert_eq!(Summary::of(&late).validity.reasons, []);
    let mut internal = asked(|_, _| ());
    internal.records[7].outcome = Outcome::Internal;
    assert_eq!(Summary::of(&internal).validity.reasons, [Reason::Internal { requests: 1, parts: vec![] }]);
}

#[test]
fn texts_that_part_as_often_as_the_baselines_own_show_nothing() {
    for (first, second, p) in
        [((0, 48), (0, 48), 1.0), ((5, 48), (0, 48), 0.0280), ((8, 64), (9, 64), 0.6982)]
    {
        assert!((as_many_by_chance(first, second) - p).abs() < 1e-3, "{}", as_many_by_chance(first, second));
    }
}

#[test]
fn a_client_that_could_not_keep_up_is_told_although_the_run_is_valid() {
    let mut run = asked(|_, _| ());
    for record in &mut run.records {
        record.ready = Some(at(1000.0 * f64::from(record.i)));
        record.sent = Some(at(1000.0 * f64::from(record.i) + 50.0));
    }
    let summary = Summary::of(&run);
    assert_eq!(
        (summary.client.state, summary.validity.valid),
        (crate::measure::ClientState::Saturated, true)
    );
    assert_eq!(summary.warnings, [Warning::ClientDegraded { evidence: summary.client.evidence.clone() }]);
}

#[test]
fn the_median_time_of_an_even_number_of_answers_lies_between_the_two_in_the_middle() {
    let mut run = asked(|_, _| ());
    run.records.truncate(2);
    for (record, took) in run.records.iter_mut().zip([100.0, 300.0]) {
        record.finished = at(1000.0 * f64::from(record.i) + took);
    }
    let median = crate::measure::accuracy::median_answer_ms(&run).unwrap();
    assert!((median - 200.0).abs() < 1e-6, "{median}");
}

#[test]
fn a_client_that_is_late_by_little_of_an_answer_is_not_degraded() {
    // 1.5 ms is more than the 1 ms for short answers, and less than a hundredth of one that takes a second.
    for (took, degraded) in [(100.0, true), (900.0, false)] {
        let mut run = asked(|_, _| ());
        for record in &mut run.records {
            let due = 1000.0 * f64::from(record.i) + 50.0;
            record.events = Default::default();
            (record.scheduled, record.ready) = (at(due), Some(at(due)));
            (record.sent, record.finished) = (Some(at(due + 1.5)), at(due + 1.5 + took));
        }
        let warnings = Summary::of(&run).warnings;
        assert_eq!(
            matches!(warnings[..], [Warning::ClientDegraded { .. }]),
            degraded,
            "{took}: {warnings:?}"
        );
    }
}

#[test]
fn what_is_odd_about_the_answers_has_its_warning_and_nothing_that_concerns_streams() {
    let run = asked(|facts, result| {
        facts.own_documents = true;
        result.arms[0].cut_share = Some(0.02);
        result.arms[1].cut_share = Some(0.01);
        result.arms[1].empty_share = Some(0.5);
    });
    let mut run = run;
    run.manifest.target.simulated = true;
    run.manifest.dataset.token_counter = "estimate".to_owned();
    run.records.iter_mut().for_each(|record| record.flag(crate::measure::Flag::BufferedByProxy));
    let expected = [
        Warning::SimulatedTarget,
        Warning::OwnDocuments { task: "gsm8k".to_owned() },
        Warning::CutAnswers { arm: "candidate".to_owned(), share: 0.02 },
        Warning::EmptyAnswers { arm: "baseline".to_owned(), share: 0.5 },
    ];
    let warnings = Summary::of(&run).warnings;
    assert_eq!(warnings, expected);
    for warning in &warnings {
        assert_in_authority(&serde_json::to_value(warning).unwrap()["warning"]);
        assert!(!warning.text().is_empty() && !warning.try_this().is_empty());
    }
    if let Some(facts) = &mut run.manifest.accuracy {
        facts.arms[0].streamed = true;
    }
    let streamed = Summary::of(&run).warnings;
    assert!(streamed.contains(&Warning::BufferedByProxy { requests: 100, of: 100 }), "{streamed:?}");
}

#[test]
fn a_probe_of_a_model_that_does_not_recite_says_what_it_is_worth() {
    let warned = |right: [usize; 2], baseline: bool| {
        let run = asked(|_, result| {
            for (arm, right) in result.arms.iter_mut().zip(right) {
                arm.swapped = Some(0);
                arm.scores.iter_mut().for_each(|score| score.right = right);
            }
            if !baseline {
                result.comparisons.clear();
            }
        });
        let warnings = Summary::of(&run).warnings;
        warnings.iter().for_each(|warning| {
            assert_in_authority(&serde_json::to_value(warning).unwrap()["warning"]);
        });
        warnings
    };
    let said = |right, compared| vec![Warning::NotRecited { right, of: 100, compared }];
    assert_eq!(warned([0, 0], true), said(0, true));
    assert_eq!(warned([50, 100], false), said(50, false));
    assert_eq!(warned([51, 0], false), []);
    // What the candidate alone does not say is a finding, and no property of the model.
    assert_eq!(warned([0, 90], true), []);
}
