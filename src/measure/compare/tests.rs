use super::*;
use crate::measure::testing::{failed, record, run};
use crate::measure::{Better, Definition, Outcome, Run, Summary};
use serde_json::json;

/// A run of so many requests, 10 a second, whose TTFT is `ttft` ms and a little noise, with three tokens 20 ms apart.
fn loaded(count: u32, ttft: f64) -> Run {
    let one = |nth: u32| {
        let (sent, noise) = (100.0 * f64::from(nth), f64::from(nth * 7919 % 13) / 2.0);
        let first = sent + ttft + noise;
        record(&format!("{sent} {first} {} {}", first + 20.0, first + 40.0))
    };
    run((0..count).map(one).collect())
}

fn compared(run: &Run) -> ComparedRun {
    ComparedRun::of_run("run", run, &Summary::of(run))
}

fn side(name: &str, runs: &[&Run]) -> Side {
    Side { name: name.to_owned(), runs: runs.iter().map(|run| compared(run)).collect() }
}

fn row<'a>(table: &'a Table, key: &str, statistic: &str) -> &'a Row {
    let found = table.rows.iter().find(|row| row.what.key == key && row.what.statistic == statistic);
    found.unwrap_or_else(|| panic!("no {key} {statistic}"))
}

#[test]
fn a_faster_run_is_lower_and_better_with_an_interval_from_within() {
    let (slow, fast) = (loaded(400, 60.0), loaded(400, 40.0));
    let table = Table::of(vec![side("a", &[&slow]), side("b", &[&fast])], 0);
    let ttft = row(&table, "ttft", "p50");
    let difference = ttft.differences[1].as_ref().unwrap();
    assert_eq!((ttft.differences[0].as_ref(), difference.absolute), (None, -20.0));
    assert_eq!((difference.finding, difference.basis), (Some(Finding::Lower), Basis::WithinRuns));
    assert_eq!(difference.is_better(ttft.what.better), Some(true));
    let same = row(&table, "tpot", "mean").differences[1].as_ref().unwrap();
    assert_eq!(same.finding, Some(Finding::NoneFound));
    assert!(table.facts.is_empty(), "{:?}", table.facts);
    assert!(table.rows.iter().all(|row| row.what.definition != Some(Definition::Vllm)), "they agree");
}

#[test]
fn turning_a_comparison_round_turns_its_differences() {
    let (one, two) = (loaded(400, 60.0), loaded(400, 61.0));
    let sides = || vec![side("a", &[&one]), side("b", &[&two])];
    let (there, back) = (Table::of(sides(), 0), Table::of(sides(), 1));
    for (row, other) in there.rows.iter().zip(&back.rows) {
        let (Some(there), Some(back)) = (&row.differences[1], &other.differences[0]) else { continue };
        assert_eq!(there.absolute, -back.absolute);
        let turned = back.interval.map(|(low, high)| (-high, -low));
        assert_eq!((there.interval, there.basis), (turned, back.basis), "{:?}", row.what);
    }
}

#[test]
fn both_definitions_stand_there_where_they_differ() {
    let (plain, mut roles) = (loaded(120, 60.0), loaded(120, 60.0));
    for record in &mut roles.records {
        record.role = record.sent.map(|sent| sent + std::time::Duration::from_millis(5));
    }
    let table = Table::of(vec![side("a", &[&plain]), side("b", &[&roles])], 0);
    let ttft = table.rows.iter().filter(|row| row.what.key == "ttft" && row.what.statistic == "p50");
    let definitions: Vec<_> = ttft.map(|row| row.what.definition).collect();
    assert_eq!(definitions, [Some(Definition::Strict), Some(Definition::Vllm)]);
    let e2el = table.rows.iter().filter(|row| row.what.key == "e2el" && row.what.statistic == "p50");
    assert_eq!(e2el.count(), 1);
}

#[test]
fn runs_of_five_seeds_are_one_side_with_an_interval_between_them() {
    let runs: Vec<Run> = [60.0, 61.0, 59.0, 60.5, 60.2].map(|ttft| loaded(100, ttft)).to_vec();
    let mut others: Vec<Run> = [40.0, 41.0, 39.0, 40.5, 40.2].map(|ttft| loaded(100, ttft)).to_vec();
    for (nth, run) in others.iter_mut().enumerate() {
        run.manifest.settings.seed = nth as u64;
    }
    let sides =
        vec![side("a", &runs.iter().collect::<Vec<_>>()), side("b", &others.iter().collect::<Vec<_>>())];
    let table = Table::of(sides, 0);
    let difference = row(&table, "ttft", "p50").differences[1].as_ref().unwrap();
    assert_eq!((difference.basis, difference.finding), (Basis::BetweenRuns, Some(Finding::Lower)));
    assert!((difference.absolute + 20.0).abs() < 1e-9);
    let seeds: Vec<_> = table.facts.iter().filter(|fact| fact.name == "seed").collect();
    let told = [Some("0".to_owned()), Some("0, 1, 2, 3, 4".to_owned())];
    assert_eq!((seeds[0].weight, seeds[0].values.as_slice()), (Weight::Limits, told.as_slice()));
}

#[test]
fn what_makes_a_comparison_void_stands_before_what_limits_it_and_what_it_is_about() {
    let (one, mut two) = (loaded(100, 60.0), loaded(100, 60.0));
    two.manifest.target.model = "another".to_owned();
    two.manifest.target.base_url = "http://10.0.0.9:8000".to_owned();
    two.manifest.settings.request_rate = Some(4.0);
    for record in &mut two.records {
        record.prompt_tokens = 11;
    }
    let table = Table::of(vec![side("a", &[&one]), side("b", &[&two])], 0);
    let facts: Vec<_> = table.facts.iter().map(|fact| (fact.weight.word(), fact.name.as_str())).collect();
    let expected = [
        ("void", "model"),
        ("void", "prompt tokens a request"),
        ("limits", "request rate"),
        ("compared", "target"),
    ];
    assert_eq!(facts, expected);
}

#[test]
fn failures_are_compared_as_shares() {
    let (one, mut two) = (loaded(400, 60.0), loaded(400, 60.0));
    for record in two.records.iter_mut().take(40) {
        *record = failed("0 60", Outcome::Reset);
    }
    let table = Table::of(vec![side("a", &[&one]), side("b", &[&two])], 0);
    let share = row(&table, "failure_share", "");
    assert_eq!([share.cells[0].value, share.cells[1].value], [Some(0.0), Some(10.0)]);
    let difference = share.differences[1].as_ref().unwrap();
    assert_eq!((difference.relative, difference.is_better(Better::Lower)), (None, Some(false)));
    assert_eq!(compared(&two).standing.valid, Some(false));
}

#[test]
fn a_percentile_of_too_few_values_is_missing_and_said_to_be() {
    let table = Table::of(vec![side("a", &[&loaded(120, 60.0)]), side("b", &[&loaded(400, 60.0)])], 0);
    let p99 = row(&table, "ttft", "p99");
    assert!(p99.cells[0].value.is_none() && p99.cells[1].value.is_some() && p99.differences[1].is_none());
    assert!(table.sides[0].runs[0].too_few.contains(&TooFew {
        name: "TTFT p99".to_owned(),
        count: 120,
        needs: 299
    }));
}

/// What `vllm bench serve` 0.30 saves of a run, with its lists or without.
fn saved(run: &Run, detailed: bool) -> Vec<u8> {
    let summary = Summary::of(run);
    let view = summary.view(Definition::Vllm);
    let mut keys = json!({
        "date": "20260102-030405", "backend": "vllm", "model_id": "model", "num_prompts": run.records.len(),
        "request_rate": "inf", "burstiness": 1.0, "max_concurrency": null, "duration": view.duration_s,
        "completed": summary.counts.ok, "failed": summary.counts.failed,
        "total_input_tokens": summary.tokens.input, "total_output_tokens": summary.tokens.output,
        "request_throughput": view.request_throughput_per_s, "request_goodput": null,
        "output_throughput": view.output_throughput_per_s,
        "total_token_throughput": view.total_token_throughput_per_s,
    });
    for key in ["ttft", "tpot", "itl"] {
        let values = view.distribution(key).unwrap();
        keys[format!("mean_{key}_ms")] = json!(values.mean);
        keys[format!("median_{key}_ms")] = json!(values.median);
        keys[format!("p99_{key}_ms")] = json!(values.value(99.0));
    }
    if detailed {
        let seconds = |of: &dyn Fn(&crate::measure::RequestRecord) -> f64| -> Vec<f64> {
            run.records.iter().map(of).collect()
        };
        let first = |record: &crate::measure::RequestRecord| record.events.first().unwrap().as_secs_f64();
        let sent = |record: &crate::measure::RequestRecord| record.sent.unwrap().as_secs_f64();
        keys["start_times"] = json!(seconds(&|record| 1000.0 + sent(record)));
        keys["ttfts"] = json!(seconds(&|record| first(record) - sent(record)));
        keys["latencies"] = json!(seconds(&|record| record.finished.as_secs_f64() - sent(record)));
        keys["input_lens"] = json!(seconds(&|record| f64::from(record.prompt_tokens)));
        keys["output_lens"] = json!(seconds(&|record| f64::from(record.output_tokens)));
        keys["itls"] = run.records.iter().map(|_| json!([0.02, 0.02])).collect();
        keys["errors"] = run.records.iter().map(|_| json!("")).collect();
    }
    keys.to_string().into_bytes()
}

#[test]
fn a_result_file_of_vllm_is_compared_by_its_definitions() {
    let run = loaded(400, 60.0);
    for detailed in [true, false] {
        let file = ComparedRun::of_result_file("file", &saved(&run, detailed)).unwrap();
        assert_eq!((file.standing.valid, file.standing.summary_only), (None, !detailed));
        let file = Side { name: "file".to_owned(), runs: vec![file] };
        let table = Table::of(vec![side("run", &[&run]), file], 0);
        for statistic in ["mean", "p50"] {
            let ttft = row(&table, "ttft", statistic);
            let difference = ttft.differences[1].as_ref().unwrap();
            assert_eq!(ttft.what.definition, Some(Definition::Vllm));
            assert!(difference.absolute.abs() < 1e-6, "{difference:?}");
            assert_eq!((difference.finding.is_some(), difference.interval.is_some()), (detailed, detailed));
        }
        assert!(row(&table, "ttft", "p90").cells[1].value.is_some() == detailed);
        let untold: Vec<&str> = table.untold.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            untold.contains(&"dataset") && untold.contains(&"seed") && !untold.contains(&"model"),
            "{untold:?}"
        );
    }
}

#[test]
fn a_file_that_is_no_result_is_refused_with_what_it_lacks() {
    let table = [
        ("[1]", "it is not JSON of one result"),
        ("{}", "it has no number `completed`: it is no result of `vllm bench serve`"),
        (
            r#"{"completed": 3}"#,
            "it has no number `request_throughput`: it is no result of `vllm bench serve`",
        ),
    ];
    for (text, says) in table {
        let error = ComparedRun::of_result_file("file", text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), says);
    }
    let twice = [saved(&loaded(20, 60.0), false), b"\n".to_vec(), saved(&loaded(20, 60.0), false)].concat();
    let error = ComparedRun::of_result_file("file", &twice).unwrap_err();
    assert_eq!(error.to_string(), "it holds 2 results, one behind the other");
}
