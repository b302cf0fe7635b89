use crate::cli::{Outside, Parsed, parse};
use crate::command::{
    DatasetPlan, Existing, Plan, ProbePrompt, Salt, ServePlan, TargetPlan, TokenizerPlan, TrustPlan,
};
use crate::load::KeepText;
use crate::measure::Detail;
use crate::wire::Endpoint;
use crate::workload::{ArrivalProcess, Burstiness, Random, RandomForm, RangeRatio, Templating};

fn plan(line: &str) -> ServePlan {
    match outcome(line) {
        Ok(plan) => plan,
        Err(message) => panic!("{line}: {message}"),
    }
}

/// The plan of a command line, or the message that refuses it.
fn outcome(line: &str) -> Result<ServePlan, String> {
    let words: Vec<String> =
        ["pdbench", "serve"].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect();
    let outside = Outside { variable: &|_| None, key_file: &|_| Ok(String::new()) };
    match parse(&words, &outside) {
        Ok(Parsed::Plan(plan)) => match *plan {
            Plan::Serve(plan) => Ok(plan),
            other => Err(format!("{other:?}")),
        },
        Ok(Parsed::Refused(message)) => Err(message),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.message()),
    }
}

#[test]
fn nothing_typed_is_the_embedded_cluster_at_8_requests_per_second() {
    let plan = plan("");
    assert!(matches!(plan.target, TargetPlan::Embedded(_)));
    assert_eq!(plan.arrivals, ArrivalProcess::Gamma { rate: 8.0, burstiness: 1.0 });
    let DatasetPlan::Sonnet { path: None, sonnet } = plan.dataset else { panic!("not sonnet") };
    assert_eq!(
        (sonnet.num_prompts, sonnet.input_len, sonnet.output_len, sonnet.prefix_len),
        (200, 550, 150, 200)
    );
}

#[test]
fn a_rate_alone_stays_embedded_and_a_target_does_not() {
    assert!(matches!(plan("--rate inf").target, TargetPlan::Embedded(_)));
    for line in [
        "--base-url http://127.0.0.1:1",
        "--host 127.0.0.1",
        "--port 1",
        "--model m",
        "--endpoint /v1/completions",
    ] {
        let plan = plan(&format!("{line} --dataset-name sonnet"));
        assert!(matches!(plan.target, TargetPlan::Remote(_)), "{line}");
        let DatasetPlan::Sonnet { sonnet, .. } = plan.dataset else { panic!("not sonnet") };
        assert_eq!((plan.arrivals, sonnet.num_prompts), (ArrivalProcess::AllAtOnce, 1000));
    }
    let simulated = plan("--sim 2p4d --model m");
    let TargetPlan::Embedded(sim) = simulated.target else { panic!("not embedded") };
    assert_eq!((sim.config.topology.to_string().as_str(), sim.config.model.as_str()), ("2p4d", "m"));
}

#[test]
fn the_guides_command_line_parses_as_it_stands() {
    let plan = plan(
        "--backend vllm --model /models/deepseek --dataset-name sonnet --request-rate inf --host 127.0.0.1 \
         --port 8868 --sonnet-input-len 2000 --sonnet-output-len 1000 --sonnet-prefix-len 100 \
         --trust-remote-code --max-concurrency 1024 --num-prompts 1 --ignore-eos --burstiness 1000 \
         --dataset-path benchmarks/sonnet.txt",
    );
    assert_eq!((plan.max_concurrency, plan.ignore_eos, plan.probe), (Some(1024), true, ProbePrompt::First));
    assert_eq!((plan.burstiness, plan.endpoint), (Burstiness::Shape(1000.0), Endpoint::Completions));
    let TargetPlan::Remote(target) = plan.target else { panic!("not remote") };
    assert_eq!(target.base_url(), "http://127.0.0.1:8868");
}

#[test]
fn an_address_of_either_kind_and_a_pasted_url_name_the_target() {
    for (line, base_url) in [
        ("--host ::1", "http://[::1]:8000"),
        ("--host [::1] --port 1", "http://[::1]:1"),
        ("--host localhost", "http://localhost:8000"),
        ("--base-url https://x/v1", "https://x"),
        ("--base-url https://x/v1/completions/", "https://x"),
        ("--base-url x:8000/v1/chat/completions --backend openai-chat", "http://x:8000"),
        ("--base-url http://x/v1 --endpoint /completions", "http://x/v1"),
    ] {
        let TargetPlan::Remote(target) = plan(&format!("{line} --dataset-name sonnet")).target else {
            panic!("{line} is not remote")
        };
        assert_eq!(target.base_url(), base_url, "{line}");
    }
}

#[test]
fn certificates_are_checked_unless_it_is_said_otherwise() {
    for (flags, trust) in [
        ("", TrustPlan::Authorities(None)),
        ("--ca-file a.pem", TrustPlan::Authorities(Some("a.pem".into()))),
        ("--insecure", TrustPlan::Anyone),
    ] {
        assert_eq!(plan(&format!("--base-url https://x --dataset-name sonnet {flags}")).trust, trust);
    }
    assert!(matches!(plan("--insecure").target, TargetPlan::Embedded(_)));
}

#[test]
fn a_target_outside_gets_random_prompts_of_vllms_lengths() {
    assert!(plan("--port 1").ignore_eos && !plan("").ignore_eos);
    let DatasetPlan::Random(random) = plan("--port 1").dataset else { panic!("not random") };
    assert_eq!(random, Random::default());
    let typed = "--port 1 --dataset-name random --input-len 7 --output-len 5 --random-prefix-len 3 \
                 --random-range-ratio {\"input\":0.5,\"output\":0} --random-token-ids --num-prompts 2 --seed 9";
    let DatasetPlan::Random(random) = plan(typed).dataset else { panic!("not random") };
    assert_eq!((random.input_len, random.output_len, random.prefix_len), (7, 5, 3));
    assert_eq!(
        (random.range_ratio, random.form),
        (RangeRatio { input: 0.5, output: 0.0 }, RandomForm::TokenIds)
    );
    assert_eq!((random.num_prompts, random.seed), (2, 9));
}

#[test]
fn a_chat_template_is_for_the_completions_that_are_sent() {
    let templating = |line: &str| match plan(line).dataset {
        DatasetPlan::Sonnet { sonnet, .. } => sonnet.templating,
        DatasetPlan::Custom { custom, .. } => custom.templating,
        other => panic!("{other:?}"),
    };
    assert_eq!(templating(""), Templating::Sent);
    assert_eq!(templating("--backend openai-chat"), Templating::Counted);
    let custom = "--dataset-name custom --dataset-path x --skip-chat-template";
    assert_eq!(templating(custom), Templating::Off);
}

#[test]
fn the_tokenizer_is_the_models_unless_another_is_named() {
    let tokenizer = |line: &str| plan(line).tokenizer;
    assert_eq!(tokenizer("--port 1"), TokenizerPlan::Estimate);
    assert_eq!(tokenizer("--model m"), TokenizerPlan::IfLocal("m".into()));
    assert_eq!(
        tokenizer("--model m --tokenizer t --tokenizer-mode slow"),
        TokenizerPlan::Directory("t".into())
    );
    assert_eq!(tokenizer("--tokenizer t --skip-tokenizer-init"), TokenizerPlan::Estimate);
}

#[test]
fn underscores_do_as_well_as_dashes() {
    assert_eq!(plan("--max_concurrency=3 --num_prompts 4").max_concurrency, Some(3));
}

#[test]
fn bad_values_are_refused_with_what_would_do() {
    for (line, says) in [
        ("--rate 0", "`0` is not a rate"),
        ("--rate -1", "`-1` is not a rate"),
        ("--burstiness -1", "`-1` is not a burstiness"),
        ("--rate nan", "`nan` is not a rate"),
        ("--burstiness 0", "`0` is not a burstiness"),
        ("--burstiness NaN", "is not a burstiness"),
        ("--max-concurrency 0", "not a whole number above 0"),
        ("--num-prompts 0", "not a whole number above 0"),
        ("--max-duration 0", "seconds above 0"),
        ("--dataset-name timed_trace", "choose one of random, sonnet, sharegpt, custom"),
        ("--dataset-name prefix_repetition", "not built yet"),
        ("--dataset-name sharegpt", "--dataset-path"),
        ("--dataset-name random --random-range-ratio 1", "`1` is not a range ratio"),
        ("--port 1 --backend openai-chat --random-token-ids", "only completions"),
        ("--port 1 --input-len 5 --random-input-len 5", "--random-input-len"),
        ("--dataset-name nonsense", "`nonsense` is not a dataset"),
        ("--dataset-name custom", "--dataset-path"),
        ("--base-url ftp://x --dataset-name sonnet", "http://HOST:PORT"),
        ("--base-url http://x/v1/chat/completions --dataset-name sonnet", "--backend openai-chat"),
        ("--base-url http://x --dataset-name sonnet --ca-file f", "https://"),
        ("--ca-file f", "https://"),
        ("--base-url https://x --dataset-name sonnet --ca-file f --insecure", "--insecure"),
        ("--port 1 --dataset-name sonnet --sim-decode-step-ms 5", "add --sim"),
        ("--port 1 --dataset-name sonnet --header no-equals-sign", "NAME=VALUE"),
        ("--goodput ttft=3", "--goodput"),
        ("--percentile-metrics ttft,nonsense", "`nonsense` is not one of ttft"),
        ("--metric-percentiles 100.1", "from 0 to 100"),
        ("--metadata a=b c", "`c` in --metadata has no `=`"),
        ("--use-beam-search", "unexpected argument"),
        ("--best-of 2", "unexpected argument"),
        ("--save-detail", "--save-detailed"),
        ("--extra-body [1]", "not a JSON object"),
        ("--temperature nan", "finite"),
        ("--request-id-prefix a/b", "cannot begin a request id"),
        ("--nonsense", "--nonsense"),
        ("--max-concurency 3", "--max-concurrency"),
        ("--tokenizer x --tokenizer-mode mistral", "--tokenizer-mode"),
    ] {
        let message = outcome(line).expect_err(line);
        assert!(message.contains(says), "{line}: {message}");
    }
}

#[test]
fn sampling_comes_before_the_extra_body() {
    let plan = plan(r#"--temperature 0 --extra-body {"temperature":1,"seed":2}"#);
    assert_eq!(serde_json::to_string(&plan.extra_body).unwrap(), r#"{"temperature":1,"seed":2}"#);
}

#[test]
fn a_result_file_is_asked_for_as_in_vllm() {
    assert_eq!((plan("").result, plan("--save-detailed --result-dir d").result), (None, None));
    let plan =
        plan("--append-result --save-detailed --result-dir d --result-filename f --metadata b=1 a=x=y b=2");
    let result = plan.result.expect("a result");
    assert_eq!((result.existing, result.detail), (Existing::Append, Detail::Detailed));
    assert_eq!(plan.save_text, KeepText::All);
    assert_eq!(serde_json::to_string(&plan.metadata).unwrap(), r#"{"b":"2","a":"x=y"}"#);
}

#[test]
fn percentiles_are_taken_in_the_order_in_which_they_were_typed() {
    assert_eq!(plan("--metric-percentiles 99,50,99.9,50,100").percentiles, [99.0, 50.0, 99.9, 100.0]);
    assert_eq!(plan("--percentile-metrics ttft,e2el").percentile_metrics, ["ttft", "e2el"]);
}

#[test]
fn a_salt_is_the_runs_own_unless_it_is_given() {
    assert_eq!((plan("").salt, plan("--salt").salt), (None, Some(Salt::OfTheRun)));
    assert_eq!(plan("--salt pepper --rate inf").salt, Some(Salt::Text("pepper".to_owned())));
}
