use super::super::testing::{HOSTILE, golden, with};
use super::*;

fn page() -> String {
    let mut page = String::new();
    with(|_, _| (), |reported| page = report_html(reported));
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
    let page = page();
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
