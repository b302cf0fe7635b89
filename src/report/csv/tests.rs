use super::super::testing::{golden, with, with_accuracy};
use super::*;

fn parsed(bytes: &[u8]) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn the_three_tables_are_as_before() {
    with(
        |_, _| (),
        |reported| {
            golden("requests.csv", &requests_csv(reported));
            golden("summary.csv", &summary_csv(reported));
            golden("timeline.csv", &timeline_csv(reported));
        },
    );
}

#[test]
fn a_cell_of_text_is_never_a_formula() {
    let table = [
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM", "'@SUM"),
        ("\t =1", "' =1"),
        ("a=b", "a=b"),
        ("\u{1b}[31mred", "[31mred"),
    ];
    for (raw, cell) in table {
        assert_eq!(text_cell(raw), cell);
    }
    assert_eq!(number_cell(Some(-1.5), 2), "-1.50");
    assert_eq!([number_cell(None, 2), number_cell(Some(f64::NAN), 2)], ["", ""]);
}

#[test]
fn requests_have_a_row_each_and_hostile_text_keeps_to_its_cell() {
    with(
        |_, _| (),
        |reported| {
            let rows = parsed(&requests_csv(reported));
            assert_eq!(rows.len(), 1 + reported.run.records.len());
            assert!(rows.iter().all(|row| row.len() == rows[0].len()));
            let error = rows[0].iter().position(|name| name == "error").unwrap();
            assert_eq!(rows[1 + 4][error], "'=cmd('calc')!A1no decode node");
            assert!(rows[0].iter().any(|name| name == "e2el_from_schedule_ms"));
        },
    );
}

#[test]
fn the_first_number_of_the_summary_is_its_verdict() {
    with(
        |_, summary| summary.validity = crate::measure::Validity { valid: true, reasons: vec![] },
        |reported| {
            assert_eq!(parsed(&summary_csv(reported))[1], ["", "validity", "", "verdict", "VALID", ""])
        },
    );
}

#[test]
fn an_accuracy_run_has_a_row_for_each_question_and_arm() {
    with_accuracy(
        |_| (),
        |reported| {
            let bytes = documents_csv(reported);
            golden("documents.csv", &bytes);
            let rows = parsed(&bytes);
            assert_eq!(rows.len(), 1 + 8 * 3);
            let column = |name: &str| rows[0].iter().position(|head| head == name).unwrap();
            // The first question has no answer from the candidate, the second a hostile one.
            assert_eq!(
                [&rows[1][column("outcome")], &rows[1][column("right_strict-match")]],
                ["http_5xx", ""]
            );
            assert_eq!(rows[1][column("attempts")], "4");
            assert_eq!(rows[4][column("extracted_flexible-extract")], "'=17");
            assert!(rows[4][column("text")].starts_with("'=wrong</script>"));
            assert!(!rows.iter().flatten().any(|cell| cell.contains(char::is_control)));
        },
    );
}

#[test]
fn scores_and_comparisons_are_numbers_of_the_summary() {
    with_accuracy(
        |_| (),
        |reported| {
            let rows = parsed(&summary_csv(reported));
            let value = |metric: &str, statistic: &str| {
                let found =
                    rows.iter().find(|row| row[0] == "accuracy" && row[1] == metric && row[3] == statistic);
                found.map(|row| (row[4].clone(), row[5].clone()))
            };
            assert_eq!(value("candidate,flexible-extract", "right"), Some(("4".to_owned(), "7".to_owned())));
            assert_eq!(value("candidate", "errors"), Some(("1".to_owned(), "8".to_owned())));
            let difference = value("candidate - baseline,strict-match", "difference");
            assert_eq!(difference, Some(("-0.285714".to_owned(), "7".to_owned())));
        },
    );
}
