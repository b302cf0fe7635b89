use super::*;
use crate::accuracy::{BUILT_IN, read_documents};
use serde_json::json;

fn task(text: &str) -> Task {
    Task::parse(text, &mut |path| panic!("nothing includes {path}")).unwrap()
}

fn documents(texts: &[(&str, &str)]) -> Documents {
    let line =
        |(question, answer): &(&str, &str)| json!({"question": question, "answer": answer}).to_string();
    read_documents(&texts.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap()
}

fn asks(form: Form, num_fewshot: usize) -> Questions {
    Questions { form, num_fewshot, fewshot_seed: 1234, system_instruction: None }
}

fn pool(count: usize) -> Documents {
    let texts: Vec<(String, String)> = (0..count).map(|n| (format!("q{n}"), format!("a{n}"))).collect();
    documents(&texts.iter().map(|(q, a)| (&**q, &**a)).collect::<Vec<_>>())
}

/// The numbers of the worked examples before each question.
fn shots(prompts: &[Question]) -> Vec<Vec<usize>> {
    let numbers = |question: &Question| {
        let lines = question.prompt.lines().filter_map(|line| line.strip_prefix("Answer: a")?.parse().ok());
        lines.collect()
    };
    prompts.iter().map(numbers).collect()
}

#[test]
fn a_prompt_is_examples_and_then_the_question() {
    let gsm8k = task(BUILT_IN[0].1);
    let tests = documents(&[("How many?", "Two.\n#### 2")]);
    let train = documents(&[(" What? ", "One\n#### 1\n")]);
    let made = asks(Form::Text, 1).make(&gsm8k, &tests, Some(&train), &Selection::All).unwrap();
    let wanted = "Question:  What? \nAnswer: One\n#### 1\n\n\nQuestion: How many?\nAnswer:";
    assert_eq!((&*made[0].prompt, &made[0].target), (wanted, &json!("Two.\n#### 2")));
}

#[test]
fn examples_are_those_that_python_draws() {
    let gsm8k = task(BUILT_IN[0].1);
    let (tests, train) = (pool(3), pool(7473));
    let made = |count| asks(Form::Text, count).make(&gsm8k, &tests, Some(&train), &Selection::All).unwrap();
    assert_eq!(shots(&made(3)), [[6374, 3610, 957], [61, 742, 7462], [6610, 4769, 286]]);
    assert_eq!(shots(&made(5))[0], [6374, 3610, 957, 61, 742]);
}

#[test]
fn a_part_of_the_documents_keeps_its_examples() {
    let gsm8k = task(BUILT_IN[0].1);
    let (tests, train) = (pool(6), pool(100));
    let made = |selection| asks(Form::Text, 2).make(&gsm8k, &tests, Some(&train), &selection).unwrap();
    let all = made(Selection::All);
    assert_eq!(made(Selection::First(4)), all[..4]);
    assert_eq!(made(Selection::These(vec![4, 1])), [all[1].clone(), all[4].clone()]);
    let alone = made(Selection::TheseAlone(vec![1, 4]));
    assert_eq!(shots(&alone), shots(&all[..2]));
}

#[test]
fn a_document_is_no_example_of_its_own() {
    let platinum = task(BUILT_IN.iter().find(|(name, _)| *name == "gsm8k_platinum").unwrap().1);
    let tests = pool(4);
    let made = asks(Form::Text, 3).make(&platinum, &tests, Some(&tests), &Selection::All).unwrap();
    for (id, shots) in shots(&made).into_iter().enumerate() {
        assert!(shots.len() == 3 && !shots.contains(&id), "{shots:?}");
    }
    let too_many = asks(Form::Text, 4).make(&platinum, &tests, Some(&tests), &Selection::All).unwrap_err();
    assert!(too_many.to_string().contains("4 worked examples"), "{too_many}");
}

#[test]
fn a_conversation_has_a_turn_for_each_example_or_one_for_all() {
    let gsm8k = task(BUILT_IN[0].1);
    let (tests, train) = (pool(1), documents(&[("What?", "1")]));
    let asks = Questions { system_instruction: Some("Be brief.".into()), ..asks(Form::MultiTurn, 1) };
    let made = |asks: &Questions| asks.make(&gsm8k, &tests, Some(&train), &Selection::All).unwrap().remove(0);
    let multi = made(&asks);
    let wanted = concat!(
        r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Question: What?\nAnswer:"}, "#,
        r#"{"role": "assistant", "content": "1"}, {"role": "user", "content": "Question: q0\nAnswer:"}]"#
    );
    assert_eq!(multi.prompt, wanted);
    let single = made(&Questions { form: Form::SingleTurn, ..asks }).messages.unwrap();
    assert_eq!(single.len(), 2);
    assert_eq!(single[1].content, "Question: What?\nAnswer: 1\n\nQuestion: q0\nAnswer:");
}

#[test]
fn a_target_may_be_a_list_and_texts_are_delimited_once() {
    let made = |text: &str| {
        let document = read_documents(r#"{"q": "Q", "golds": ["a", "b"]}"#).unwrap();
        asks(Form::Text, 0).make(&task(text), &document, None, &Selection::All).unwrap().remove(0)
    };
    let base = "task: t\ndoc_to_text: '{{q}}'\ntest_split: test\n";
    assert_eq!(made(&format!("{base}doc_to_target: golds\n")).target, json!(["a", "b"]));
    let rendered =
        made(&format!("{base}doc_to_target: '{{{{golds}}}}'\ngen_prefix: 'So'\ndescription: 'Do:'\n"));
    assert_eq!(rendered.target, json!(["a", "b"]));
    assert_eq!(rendered.prompt, "Do:Q So");
}

#[test]
fn a_document_without_its_field_is_named() {
    let gsm8k = task(BUILT_IN[0].1);
    let broken = read_documents("{\"question\": \"a\", \"answer\": \"b\"}\n{\"answer\": \"c\"}").unwrap();
    let error = asks(Form::Text, 0).make(&gsm8k, &broken, None, &Selection::All).unwrap_err().to_string();
    assert!(error.starts_with("document 1: ") && error.contains("question"), "{error}");
}

#[test]
fn hashes_are_those_of_the_harness() {
    let question = Question {
        doc_id: 0,
        doc: json!({"question": "é\n", "answer": "1"}).as_object().unwrap().clone(),
        target: json!("1"),
        prompt: "é".into(),
        messages: None,
    };
    // hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest() and so on
    assert_eq!(question.doc_hash(), "c360f7dc1069246e832f68ae181379d05fcfe79f2e4c6d0f9ace31fa951f72ef");
    assert_eq!(question.target_hash(), "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b");
    assert_eq!(question.prompt_hash(), "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c");
}

#[test]
fn a_template_may_make_a_list_of_golds_and_a_field_is_what_it_is() {
    let list = "['a', 'b']";
    for (target, wanted) in [("'{{answer}}'", json!(["a", "b"])), ("answer", json!(list))] {
        let text = format!(
            "task: t\ndataset_path: json\ntest_split: test\ndoc_to_text: question\ndoc_to_target: {target}\n"
        );
        let tests = documents(&[("q", list)]);
        let made = asks(Form::Text, 0).make(&task(&text), &tests, None, &Selection::All).unwrap();
        assert_eq!(made[0].target, wanted, "{target}");
    }
}
