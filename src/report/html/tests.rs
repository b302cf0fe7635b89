use super::super::testing::{HOSTILE, golden, with, with_accuracy};
use super::*;

fn page() -> String {
    let mut page = String::new();
    with(|_, _| (), |reported| page = report_html(reported));
    page
}

fn accuracy_page(change: impl FnOnce(&mut crate::measure::Run)) -> String {
    let mut page = String::new();
    with_accuracy(change, |reported| page = report_html(reported));
    page
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let from = text.find(open).unwrap() + open.len();
    &text[from..from + text[from..].find(close).unwrap()]
}

#[test]
fn the_page_is_as_before() {
    golden("report.html", page().as_bytes());
}

#[test]
fn the_policy_names_the_hash_of_the_one_style_sheet() {
    let page = page();
    let hash = base64(&style::sha256(between(&page, "<style>", "</style>").as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'");
    assert!(page.replace("&#39;", "'").contains(&policy), "{}", &page[..600]);
    assert_eq!(page.matches("<style").count(), 1);
}

#[test]
fn nothing_on_the_page_runs_or_loads() {
    nothing_runs_or_loads(&page());
    nothing_runs_or_loads(
        &accuracy_page(|_| ()).replace("http://pd:8000", "").replace("http://aggregated:8000", ""),
    );
}

fn nothing_runs_or_loads(page: &str) {
    assert_eq!(page.matches("<script").count(), 1, "the data block alone");
    assert_eq!(page.matches("</script").count(), 1);
    let body = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for forbidden in
        ["style=", " src=", "http://", "https://", "url(", "@import", "<link", "javascript:", " on"]
    {
        let found =
            body.match_indices(forbidden).find(|(at, _)| forbidden != " on" || is_handler(&body[*at..]));
        assert!(
            found.is_none(),
            "{forbidden}: {:?}",
            found.map(|(at, _)| &body[at..(at + 60).min(body.len())])
        );
    }
}

/// ` onclick=` and the like.
fn is_handler(text: &str) -> bool {
    text[1..].split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase()))
}

#[test]
fn hostile_text_stays_text() {
    let page = page();
    let shown = page.split("<script").next().unwrap();
    assert!(shown.contains("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;[31m"));
    assert!(!page.contains("alert(1)</script>"));
    assert!(!page.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{2028}'));
}

#[test]
fn the_data_block_is_the_run_itself() {
    let page = page();
    let data = between(&page, "id=\"pdbench-data\">", "</script>");
    assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["manifest"]["target"]["model"], format!("=model{HOSTILE}"));
    assert_eq!(data["summary"]["counts"]["ok"], 9);
    assert_eq!(data["timeline"]["bins"].as_array().unwrap().len(), 3);
}

#[test]
fn the_verdict_stands_before_every_number() {
    let page = page();
    let verdict = page.find("✕ INVALID").unwrap();
    assert!(verdict < page.find("class=\"cards\"").unwrap());
    assert!(page.contains("SIMULATED"));
}

#[test]
fn a_run_without_records_still_has_a_page() {
    with(
        |run, summary| {
            run.records.clear();
            run.manifest.target.simulated = false;
            *summary = super::super::testing::summary(run);
        },
        |reported| {
            let page = report_html(reported);
            assert!(page.contains('–') && !page.contains("NaN") && !page.contains("SIMULATED"));
            assert!(!page.contains("id=\"distributions\""));
        },
    );
}

#[test]
fn the_same_run_makes_the_same_page() {
    assert_eq!(page(), page());
}

/// Anchors of the sections that a page has.
fn sections(page: &str) -> Vec<&str> {
    page.split("<section class=\"card\" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn the_page_of_an_accuracy_run_is_as_before() {
    golden("report-accuracy.html", accuracy_page(|_| ()).as_bytes());
}

#[test]
fn an_accuracy_run_has_its_sections_and_none_that_only_streams_could_fill() {
    let page = accuracy_page(|_| ());
    let expected = [
        "warnings",
        "accuracy",
        "comparison",
        "discordant",
        "order",
        "lengths",
        "divergence",
        "unanswered",
        "throughput",
        "course",
        "outcomes",
        "client",
        "settings",
        "reading",
    ];
    assert_eq!(sections(&page), expected);
    assert!(
        !page.contains("NaN")
            && !page.split("<script").next().unwrap().contains("Median time to first token")
    );
    let serve = self::page();
    assert!(!sections(&serve).iter().any(|id| ["accuracy", "comparison", "discordant"].contains(id)));
}

#[test]
fn answers_and_questions_stay_text() {
    let page = accuracy_page(|_| ());
    let shown = page.split("<script type=\"application/json\"").next().unwrap();
    assert!(shown.contains("=wrong&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;[31m"));
    assert!(!shown.contains("<script") && !page.contains("alert(1)</script>"));
    assert!(!page.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{2028}'));
    assert!(!shown.contains('\u{202e}'));
    let data = between(&page, "id=\"pdbench-data\">", "</script>");
    assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["accuracy"]["arms"][0]["answered"], 7);
}

#[test]
fn a_loss_stands_before_a_gain_and_no_more_than_200_are_shown() {
    let page = accuracy_page(|_| ());
    let summaries: Vec<&str> =
        page.split("<summary>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    let expected = [
        "Document 1: right in baseline alone",
        "Document 2: right in baseline alone",
        "Document 3: right in baseline alone",
        "Document 7: right in candidate alone",
    ];
    assert_eq!(summaries.len(), 4);
    assert!(
        summaries.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)),
        "{summaries:?}"
    );
    let many = accuracy_page(|run| {
        let documents = &mut run.accuracy.as_mut().unwrap().documents;
        let one = documents[1].clone();
        documents.extend((8..310).map(|doc_id| crate::measure::DocumentResult { doc_id, ..one.clone() }));
    });
    assert_eq!(many.matches("<details").count(), 200);
    assert!(many.contains(" 106 are left out here"), "{:?}", many.find("left out"));
}

#[test]
fn intervals_are_drawn_for_each_arm_and_reading_and_held_against_the_margin() {
    let page = accuracy_page(|_| ());
    let scores = between(&page, "aria-label=\"Scores with their intervals\"", "</svg>");
    assert_eq!(scores.matches("<circle").count(), 6);
    let differences =
        between(&page, "aria-label=\"Differences to the baseline with their intervals\"", "</svg>");
    assert_eq!(differences.matches("<circle").count(), 4);
    assert!(differences.contains("margin"));
}

#[test]
fn characters_that_are_not_shown_are_not_counted_as_left_out() {
    let page = |question: String| {
        accuracy_page(|run| {
            let result = run.accuracy.as_mut().unwrap();
            result.documents[1].doc.insert("question".to_owned(), question.into());
        })
    };
    assert!(!page("a\u{7}".repeat(4000)).contains("more characters"));
    assert!(page("a\u{7}".repeat(4003)).contains("… (3 more characters)"));
}
