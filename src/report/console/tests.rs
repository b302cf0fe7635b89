use super::super::testing::{HOSTILE, golden, with, with_accuracy};
use super::*;
use crate::measure::{Counts, Distribution, Measured, Percentile, Summary, TokenTotals, Validity, View};

/// The block of the compatibility notes, as vLLM printed it.
const VLLM: &str = include_str!("vllm_example.txt");

fn measured(key: &str, [mean, median, p99]: [f64; 3]) -> Measured {
    let p99 = Percentile { p: 99.0, value: Some(p99), interval: None, needs: 299 };
    let (mean, median) = (Some(mean), Some(median));
    let distribution = Distribution { count: 20, mean, median, percentiles: vec![p99], ..Default::default() };
    Measured { key: key.to_owned(), distribution }
}

fn numbers_of_the_example(summary: &mut Summary) {
    summary.counts = Counts { ok: 20, failed: 0, ..Counts::default() };
    summary.tokens = TokenTotals { input: 200, output: 400, ..TokenTotals::default() };
    summary.vllm = View {
        duration_s: Some(0.93),
        request_throughput_per_s: Some(21.504),
        request_goodput_per_s: None,
        output_throughput_per_s: Some(430.09),
        total_token_throughput_per_s: Some(645.14),
        max_output_tokens_per_s: Some(400.0),
        max_concurrent_requests: Some(20.0),
        metrics: vec![
            measured("ttft", [59.55, 60.09, 65.45]),
            measured("tpot", [6.62, 6.59, 7.16]),
            measured("itl", [6.62, 5.34, 13.33]),
            measured("e2el", [185.43, 186.08, 200.04]),
            measured("queue_time", [365.70, 357.95, 736.71]),
        ],
    };
}

#[test]
fn the_block_of_vllm_is_the_same_to_the_last_space() {
    with(
        |run, summary| {
            let settings = &mut run.manifest.settings;
            settings.request_rate = None;
            settings.slo = Default::default();
            settings.percentiles = vec![99.0];
            settings.percentile_metrics =
                ["client_queue_time", "ttft", "tpot", "itl", "e2el"].map(str::to_owned).to_vec();
            numbers_of_the_example(summary);
        },
        |reported| assert_eq!(vllm_block(reported), VLLM),
    );
}

#[test]
fn rate_and_goodput_have_their_lines_where_vllm_has_them() {
    with(
        |run, _| run.manifest.settings.percentiles = vec![50.0, 99.9],
        |reported| {
            let block = vllm_block(reported);
            let lines: Vec<&str> = block.lines().collect();
            assert_eq!(lines[4], "Request rate configured (RPS):           10.00     ");
            assert_eq!(lines[9], "Request goodput (req/s):                 4.62      ");
            assert!(block.contains("\nP50 TTFT (ms): ") && block.contains("\nP99.9 TTFT (ms): "));
        },
    );
}

#[test]
fn an_empty_run_prints_zeros_in_the_block_of_vllm_and_dashes_in_ours() {
    with(
        |run, summary| {
            run.records.clear();
            *summary = super::super::testing::summary(run);
        },
        |reported| {
            assert!(vllm_block(reported).contains("Mean TTFT (ms):                          0.00      \n"));
            let ours = strict_block(reported, Style::Plain);
            assert!(ours.contains("TTFT (ms)               –        –"), "{ours}");
        },
    );
}

#[test]
fn the_console_is_as_before() {
    with(|_, _| (), |reported| golden("console.txt", console(reported, Style::Plain).as_bytes()));
    with(
        |run, summary| {
            summary.validity = Validity { valid: true, reasons: vec![] };
            run.manifest.target.simulated = false;
            run.manifest.settings.percentiles = vec![50.0, 90.0, 95.0, 99.0, 99.9];
            summary.strict.metrics.iter_mut().for_each(|measured| {
                let values = (0..500).map(|i| 40.0 + f64::from(i)).collect();
                measured.distribution = Distribution::of(values, &run.manifest.settings.percentiles);
            });
        },
        |reported| golden("console-valid.txt", console(reported, Style::Plain).as_bytes()),
    );
}

#[test]
fn the_first_line_is_the_verdict_with_the_failures() {
    with(
        |_, summary| summary.validity = Validity { valid: true, reasons: vec![] },
        |reported| {
            let text = console(reported, Style::Plain);
            assert_eq!(text.lines().next(), Some("VALID: 9 ok, 2 failed of 12 sent (simulated)"));
        },
    );
}

#[test]
fn nothing_a_server_says_reaches_the_terminal_as_a_command() {
    with(
        |run, summary| {
            summary.client.evidence = vec![HOSTILE.to_owned()];
            run.manifest.state = crate::measure::State::Interrupted;
            run.manifest.interrupted_by = Some(HOSTILE.to_owned());
        },
        |reported| {
            let text = console(reported, Style::Plain);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
            assert!(text.contains("INTERRUPTED at 100 % of 12 requests planned:"));
        },
    );
}

#[test]
fn colour_changes_nothing_but_colours() {
    with(
        |_, _| (),
        |reported| {
            let coloured = console(reported, Style::Colour);
            let codes = ["1", "1;32", "1;31", "33", "0"].map(|code| format!("\u{1b}[{code}m"));
            let bare = codes.iter().fold(coloured.clone(), |text, code| text.replace(code.as_str(), ""));
            assert_ne!(bare, coloured);
            assert_eq!(bare, console(reported, Style::Plain));
        },
    );
}

#[test]
fn our_lines_fit_80_columns() {
    with(
        |_, _| (),
        |reported| {
            for line in strict_block(reported, Style::Plain).lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        },
    );
}

#[test]
fn a_percentile_among_timeouts_is_given_as_a_bound() {
    with(
        |_, summary| {
            let reason = crate::measure::Reason::CensoredPercentile {
                p: 99.0,
                timeouts: 2,
                of: 12,
                at_least_s: 600.0,
            };
            summary.validity.reasons = vec![reason];
        },
        |reported| {
            let ours = strict_block(reported, Style::Plain);
            assert!(ours.contains("TTFT (ms)           56.33    56.90  ≥ 600 s    60.90"), "{ours}");
            assert!(!ours.contains("TPOT (ms)           10.00    10.00  ≥ 600 s"), "{ours}");
        },
    );
}

#[test]
fn an_accuracy_run_has_lm_evals_table_the_arms_and_what_their_pairs_show() {
    with_accuracy(
        |_| (),
        |reported| {
            let text = console(reported, Style::Plain);
            golden("console-accuracy.txt", text.as_bytes());
            assert!(!text.contains("Serving Benchmark Result") && !text.contains("TTFT"), "{text}");
        },
    );
}

#[test]
fn the_first_line_of_an_accuracy_run_says_whose_answers_and_questions_they_are() {
    let first = |simulated, own| {
        let mut first = String::new();
        with_accuracy(
            |run| {
                run.manifest.target.simulated = simulated;
                let facts = run.manifest.accuracy.as_mut().unwrap();
                (facts.own_documents, facts.margin) = (own, None);
            },
            |reported| first = console(reported, Style::Plain).lines().next().unwrap().to_owned(),
        );
        first
    };
    let score = "VALID: gsm8k 57.14 % flexible-extract right, 23 of 24 answered";
    assert_eq!(first(false, false), score);
    assert_eq!(first(true, true), format!("{score} (simulated, the project's own documents)"));
}

#[test]
fn the_headline_of_a_comparison_is_its_verdict() {
    use crate::measure::PairedVerdict::{Unclear, WithinMargin, Worse};
    let said = |verdict| {
        let mut said = String::new();
        with_accuracy(
            |run| {
                let result = run.accuracy.as_mut().unwrap();
                result.comparisons[0].scores.iter_mut().for_each(|score| score.verdict = verdict);
            },
            |reported| {
                let text = console(reported, Style::Plain);
                let lines: Vec<&str> = text.lines().collect();
                let at =
                    lines.iter().position(|line| line.starts_with("candidate against baseline: ")).unwrap();
                let words = lines[at..at + 2].join(" ");
                said = words.split_whitespace().collect::<Vec<_>>().join(" ");
            },
        );
        said
    };
    assert!(
        said(Worse).contains(": WORSE, by more than chance (p = 0.3125) (strict-match)"),
        "{}",
        said(Worse)
    );
    assert!(said(WithinMargin).contains(": NO LOSS BEYOND 1 % (flexible-extract)"), "{}", said(WithinMargin));
    let unclear = said(Unclear);
    assert!(unclear.contains("CANNOT TELL whether the loss is below 1 %: about 53,000"), "{unclear}");
}

#[test]
fn an_accuracy_run_fits_80_columns_below_lm_evals_lines_and_steers_no_terminal() {
    with_accuracy(
        |run| {
            let arms = &mut run.manifest.accuracy.as_mut().unwrap().arms;
            arms.iter_mut().for_each(|arm| arm.model = "m".to_owned());
        },
        |reported| {
            let text = console(reported, Style::Plain);
            let below = text.split("pdbench (accuracy)").nth(1).unwrap();
            for line in below.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        },
    );
    with_accuracy(
        |_| (),
        |reported| {
            let text = console(reported, Style::Plain);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        },
    );
}
