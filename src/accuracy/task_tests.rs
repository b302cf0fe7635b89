use super::*;

fn parse(text: &str) -> Result<Task, TaskError> {
    Task::parse(text, &mut |path| Err(TaskError::new(format!("no file {path}"))))
}

const SMALL: &str = "task: small\ndoc_to_text: '{{q}}'\ndoc_to_target: a\ntest_split: test\n";

#[test]
fn the_tasks_that_are_built_in_are_tasks() {
    for (name, text) in crate::accuracy::BUILT_IN {
        let task = parse(text).unwrap();
        assert_eq!((&*task.name, &*task.alias), (*name, *name));
        if *name == crate::accuracy::KV_PROBE {
            assert_eq!(task.filters().collect::<Vec<_>>(), ["recited"]);
            continue;
        }
        assert_eq!(task.filters().collect::<Vec<_>>(), ["strict-match", "flexible-extract"]);
        assert_eq!(task.generation["until"].as_array().unwrap().len(), 3);
        assert_eq!(task.version, json!(3.0));
    }
}

#[test]
fn what_is_not_said_is_what_the_harness_takes() {
    let task = parse(SMALL).unwrap();
    assert_eq!(task.filters().collect::<Vec<_>>(), ["none"]);
    assert_eq!(task.generation["until"], json!(["\n\n"]));
    assert_eq!(task.generation["temperature"], json!(0.0));
    assert_eq!((task.num_fewshot, task.repeats, &task.target_delimiter[..]), (0, 1, " "));
    let again = Task::from_declaration(task.config.clone()).unwrap();
    assert_eq!(again.config, task.config);
}

#[test]
fn a_file_may_stand_on_another() {
    let text = "include: base.yaml\ntask: derived\n";
    let task = Task::parse(text, &mut |path| {
        assert_eq!(path, "base.yaml");
        Ok(SMALL.to_owned())
    });
    assert_eq!(task.unwrap().name, "derived");
    let error = Task::parse(text, &mut |_| Ok(text.to_owned())).unwrap_err();
    assert!(error.to_string().contains("at most 8 steps"), "{error}");
}

#[test]
fn what_is_not_declared_or_not_known_is_refused() {
    for (line, word) in [
        ("process_docs: !function utils.f\n", "Python function"),
        ("doc_to_choice: '{{c}}'\n", "doc_to_choice"),
        ("output_type: multiple_choice\n", "multiple_choice"),
        ("num_fewshots: 3\n", "num_fewshots"),
        ("repeats: many\n", "repeats"),
        ("metric_list: [{metric: bleu}]\n", "bleu"),
        ("fewshot_config: {sampler: balanced}\n", "balanced"),
    ] {
        let error = parse(&format!("{SMALL}{line}")).unwrap_err().to_string();
        assert!(error.contains(word), "{line}{error}");
    }
    assert!(parse("- a\n").is_err());
}
