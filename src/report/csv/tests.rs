use super::super::testing::{golden, with};
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
