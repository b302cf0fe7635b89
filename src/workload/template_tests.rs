use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    now: String,
    tokens: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    messages: Vec<Message>,
    rendered: Option<String>,
    refused: Option<String>,
}

fn template(source: &str) -> Result<ChatTemplate, DatasetError> {
    ChatTemplate::parse(source, &[], DateTime::constant(2026, 1, 2, 3, 4, 5, 0))
}

#[test]
fn conversations_are_rendered_as_transformers_renders_them() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/chat-templates.json")).unwrap();
    let tokens: Vec<(String, String)> = golden.tokens.into_iter().collect();
    let now: DateTime = golden.now.parse().unwrap();
    assert!(28 <= golden.cases.len());
    for case in golden.cases {
        let template = ChatTemplate::parse(&golden.templates[&case.template], &tokens, now).unwrap();
        let place = format!("`{}`, {}", case.template, case.conversation);
        match (template.render(&case.messages), case.rendered, case.refused) {
            (Ok(rendered), Some(wanted), None) => assert_eq!(rendered, wanted, "{place}"),
            (Err(error), None, Some(why)) => assert!(error.to_string().contains(&why), "{place}: {error}"),
            (rendered, wanted, _) => panic!("{place}: {rendered:?} is not {wanted:?}"),
        }
    }
}

#[test]
fn a_template_that_is_none_is_refused_with_a_way_out() {
    let error = template("{% for %}").unwrap_err();
    assert!(error.to_string().starts_with("the chat template fails: "), "{error}");
    assert!(error.help().contains("--skip-chat-template"));
}

#[test]
fn a_generation_tag_without_an_end_is_an_error_and_not_a_panic() {
    assert!(template("{% generation").is_err());
    assert!(template("{% generation %}a").is_err());
}
