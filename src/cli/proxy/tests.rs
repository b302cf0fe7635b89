use super::*;
use crate::cluster::Node;
use clap::{CommandFactory as _, Parser};

#[derive(Debug, Parser)]
struct Verb {
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// The plan of a command line, with underscores as the scripts have them.
fn plan(line: &str) -> Result<ProxyPlan, String> {
    let words = ["proxy"].into_iter().chain(line.split_whitespace()).map(super::super::dashed);
    let verb = Verb::try_parse_from(words).map_err(|error| error.to_string())?;
    verb.proxy.plan().map_err(|error| error.message())
}

fn nodes(nodes: &[Node]) -> String {
    nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(" ")
}

/// Dialect, prefill instances, decode instances.
fn deployment(line: &str) -> (Dialect, String, String) {
    let config = plan(line).unwrap().config;
    (config.dialect, nodes(&config.prefill), nodes(&config.decode))
}

#[test]
fn the_flags_are_well_formed() {
    Verb::command().debug_assert();
}

#[test]
fn the_command_lines_of_the_scripts_mean_what_they_mean_there() {
    for (line, dialect, prefill, decode) in [
        // vLLM's disagg_proxy_demo and its kin.
        (
            "--model m --prefill 10.0.0.1:8100 10.0.0.2:8100 --decode 10.0.0.3:8200 10.0.0.3:8201 --port 8000",
            Dialect::Plain,
            "10.0.0.1:8100 10.0.0.2:8100",
            "10.0.0.3:8200 10.0.0.3:8201",
        ),
        ("-m m -p localhost:1 -d prefill-0:2", Dialect::Plain, "localhost:1", "prefill-0:2"),
        (
            "--model m --prefill a:1 --decode b:2 --prefill-engine-id e --prefill-kv-host 10.0.0.9",
            Dialect::NixlPush,
            "a:1",
            "b:2",
        ),
        // vLLM's toy proxy, vllm-ascend's load balancer.
        (
            "--host 127.0.0.1 --prefiller-hosts h0 h1 --prefiller-ports 8100 8101 --decoder-hosts h2 --decoder-ports 8200",
            Dialect::NixlPull,
            "h0:8100 h1:8101",
            "h2:8200",
        ),
        ("--prefiller-hosts ::1 --decoder-hosts h", Dialect::NixlPull, "[::1]:8100", "h:8200"),
        (
            "--prefiller-hosts h --prefiller-ports 1 2 --decoder-hosts a b --decoder-ports 3 --max-retries 3 --retry-delay 0.001",
            Dialect::NixlPull,
            "h:1 h:2",
            "a:3 b:3",
        ),
        // LMCache's.
        (
            "--host localhost --port 9000 --prefiller-host p --prefiller-port 8100 --decoder-host d --decoder-port 8200",
            Dialect::Lmcache,
            "p:8100",
            "d:8200",
        ),
        (
            "--prefiller-host p --num-prefillers 2 --decoder-host d --num_decoders 2 --decoder-init-port 8300 --proxy-port 8500",
            Dialect::Lmcache,
            "p:8100 p:8101",
            "d:8200 d:8201",
        ),
        (
            "--prefiller-host p,q --prefiller-port 8100 --decoder-host d --decoder-port 8200,8202",
            Dialect::Lmcache,
            "p:8100 q:8100",
            "d:8200 d:8202",
        ),
        // vLLM's Mooncake proxy, SGLang's balancers.
        (
            "--dialect mooncake-p2p --prefill http://p:8100 9000 --prefill http://q:8100 none --decode http://d:8200 --decode http://e:8200",
            Dialect::MooncakeP2p,
            "p:8100 q:8100",
            "d:8200 e:8200",
        ),
    ] {
        assert_eq!(deployment(line), (dialect, prefill.to_owned(), decode.to_owned()), "{line}");
    }
}

#[test]
fn an_explicit_dialect_goes_before_the_one_of_the_script() {
    let (dialect, ..) = deployment("--prefiller-hosts a --decoder-hosts b --dialect ascend");
    assert_eq!(dialect, Dialect::Ascend);
    let (dialect, ..) = deployment("--prefiller-host a --decoder-host b --dialect plain");
    assert_eq!(dialect, Dialect::Plain);
    for name in Dialect::ALL.map(Dialect::name) {
        let line = format!("-p a:1,kv=a:3,engine=e -d b:2,kv=b:3,init=4,alloc=5 --dialect {name}");
        assert_eq!(deployment(&line).0.name(), name);
    }
}

#[test]
fn every_fact_that_has_a_flag_reaches_its_instances() {
    let config = plan(
        "--prefiller-host p --decoder-host d --num-decoders 2 --decoder-init-port 7300,7310 --decoder-alloc-port 7400,7410",
    )
    .unwrap()
    .config;
    assert_eq!(config.decode[0].kv.init_ports, [7300, 7310]);
    assert_eq!(
        (&config.decode[1].kv.init_ports[..], &config.decode[1].kv.alloc_ports[..]),
        (&[7301, 7311][..], &[7401, 7411][..])
    );
    let two_hosts = plan("--prefiller-host p --decoder-host d e").unwrap().config;
    assert_eq!(
        (&two_hosts.decode[1].kv.init_ports[..], &two_hosts.decode[1].kv.alloc_ports[..]),
        (&[8300][..], &[8400][..])
    );

    let push = "-p a:1 -d b:2 --prefill-engine-id e --prefill-kv-host h --prefill-side-channel-port 5601 --prefill-tp-size 2 --prefill-pp-size 3";
    let kv = plan(push).unwrap().config.prefill[0].kv.clone();
    assert_eq!((kv.engine_id.as_deref(), kv.side_channel_host.as_deref()), (Some("e"), Some("h")));
    assert_eq!(
        (kv.side_channel_port, kv.tensor_parallel, kv.pipeline_parallel),
        (Some(5601), Some(2), Some(3))
    );

    for line in [
        "--dialect sglang -p a:1 b:1 -d c:2 --prefill-bootstrap-ports 9000",
        "--dialect sglang -p a:1 b:1 -d c:2 --prefill-bootstrap-ports 9000 9000",
        "--dialect mooncake-p2p -p a:1 9000 -p b:1,bootstrap=9000 -d c:2",
    ] {
        let ports: Vec<_> =
            plan(line).unwrap().config.prefill.iter().map(|node| node.kv.bootstrap_port).collect();
        assert_eq!(ports, [Some(9000), Some(9000)], "{line}");
    }
}

#[test]
fn the_forks_flags_mean_what_they_mean_there() {
    let line = "--model m --prefill a:1 --decode b:2 --port 8868 --generator_on_p_node --roundrobin \
                --benchmark_mode --repeat_p_request 1 --repeat_d_times 1023";
    let plan = plan(line).unwrap();
    let config = plan.config;
    assert_eq!((plan.port, config.model.as_deref()), (8868, Some("m")));
    assert_eq!((config.first_token, config.policy), (FirstToken::Prefill, Policy::RoundRobin));
    let trigger = Trigger { repeat_p_request: 1, repeat_d_times: 1023 };
    assert_eq!(config.benchmark, Some(Benchmark { trigger: Some(trigger) }));
}

#[test]
fn nothing_but_instances_is_a_careful_proxy() {
    let plan = plan("-p a:1 -d b:2").unwrap();
    assert_eq!((plan.host.as_str(), plan.port, plan.kv_notify), ("127.0.0.1", 8000, None));
    let config = plan.config;
    assert_eq!((config.benchmark, config.admin.allowed.len(), config.metaserver_url), (None, 0, None));
    assert_eq!((config.first_token, config.policy), (FirstToken::Decode, Policy::default()));
    assert_eq!((config.health, config.timeouts), (Health::default(), Timeouts::default()));
}

#[test]
fn notifications_are_lmcaches_and_can_be_left_out() {
    let lmcache = "--prefiller-host p --decoder-host d";
    let place = |line: &str| plan(line).unwrap().kv_notify;
    assert_eq!(place(lmcache), Some(("127.0.0.1".to_owned(), 8500)));
    assert_eq!(
        place(&format!("{lmcache} --proxy-host 10.0.0.1 --proxy_port 7500")),
        Some(("10.0.0.1".to_owned(), 7500))
    );
    assert_eq!(place(&format!("{lmcache} --host 0.0.0.0")), Some(("0.0.0.0".to_owned(), 8500)));
    assert_eq!(place(&format!("{lmcache} --kv-notify none")), None);
    assert_eq!(plan(lmcache).unwrap().config.first_token, FirstToken::Prefill);
}

#[test]
fn patience_and_policies_are_as_typed() {
    let line = "-p a:1 -d b:2 --health-interval 0.5 --health-timeout 2 --connect-timeout 3 --head-timeout 4 \
                --idle-timeout 6 --kv-ready-timeout 7 --max-model-len 4096 --seed 9";
    let plan_of = plan(line).unwrap();
    let (health, timeouts) = (plan_of.config.health, plan_of.config.timeouts);
    let seconds = Duration::from_secs;
    assert_eq!(
        (health.interval, health.interval_down),
        (Duration::from_millis(500), Duration::from_millis(500))
    );
    assert_eq!((health.timeout, timeouts.connect, timeouts.head), (seconds(2), seconds(3), seconds(4)));
    assert_eq!((timeouts.idle, timeouts.kv_ready), (seconds(6), seconds(7)));
    assert_eq!((plan_of.config.max_model_len, plan_of.seed), (Some(4096), Some(9)));
    for (word, policy) in [
        ("round-robin", Policy::RoundRobin),
        ("least-in-flight", Policy::LeastInFlight),
        ("least-tokens", Policy::LeastTokens),
        ("ascend-score", Policy::Ascend),
        ("random", Policy::Random),
    ] {
        let line = format!("-p a:1 -d b:2 --policy {word}");
        assert_eq!(plan(&line).unwrap().config.policy, policy, "{word}");
    }
    let ascend = "--prefiller-hosts a --decoder-hosts b --dialect ascend";
    assert_eq!(plan(ascend).unwrap().config.policy, Policy::Ascend);
    assert_eq!(plan(&format!("{ascend} --roundrobin")).unwrap().config.policy, Policy::RoundRobin);
}

#[test]
fn what_has_no_effect_or_was_chosen_is_said() {
    for (line, says) in [
        ("-p a:1 -d b:2", "dialect chosen by --prefill and --decode"),
        ("--prefiller-host a --decoder-host b", "dialect chosen by LMCache's flags"),
        ("-p a:1 -d b:2 --dialect plain --max-retries 3", "--max-retries and --retry-delay have no effect"),
        ("-p a:1 -d b:2 --benchmark-mode --repeat-p-request 2", "--repeat-p-request has no effect"),
    ] {
        let notes = plan(line).unwrap().notes.join("\n");
        assert!(notes.contains(says), "{line}: {notes}");
    }
    assert_eq!(plan("-p a:1 -d b:2 --dialect plain").unwrap().notes, [""; 0]);
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    for (line, says) in [
        ("", "no prefill instance"),
        ("-p a:1", "no decode instance"),
        ("-p a:1 -d b", "want host:port"),
        ("-p 8998 -d b:1", "`8998` is not an instance"),
        ("-p a:1 -d b:1 8998", "`8998` is not an instance"),
        ("-p a:1 0 -d b:1", "`0` is not a port"),
        ("-p a:1 a:1 -d b:1", "a:1 is named twice"),
        ("-p a:1 8998 -d b:1", "add --dialect mooncake-p2p (vLLM) or --dialect sglang"),
        (
            "--prefiller-hosts a b c --prefiller-ports 1 2 --decoder-hosts d",
            "3 prefiller hosts and 2 prefiller ports",
        ),
        ("--prefiller-host a --decoder-host b c --num-decoders 3", "another number than the 2"),
        (
            "--prefiller-host a --prefiller-port 65535 --num-prefillers 2 --decoder-host b",
            "no ports below 65536",
        ),
        ("-p a:1 -d b:2 --prefiller-hosts c", "named in two ways"),
        ("-p a:1 b:1 -d c:2 --prefill-engine-id e", "one --prefill-engine-id for several"),
        ("-p a:1 b:1 c:1 -d d:2 --dialect sglang --prefill-bootstrap-ports 1 2", "2 bootstrap ports for 3"),
        ("-p a:1 -d b:2 --dialect p2p-addr", "needs `kv` of instance a:1: name it as `a:1,kv=…`"),
        ("-p a:1 -d b:2 --dialect lmcache", "needs `init` of instance b:2"),
        ("-p a:1 -d b:2 --dialect nixl-push", "needs `engine` of instance a:1"),
        ("-p a:1 -d b:2 --dialect nixl", "is not a dialect"),
        ("-p a:1 -d b:2 --policy fastest", "is not a policy"),
        ("-p a:1 -d b:2 --policy random --roundrobin", "cannot be used with"),
        ("-p a:1 -d b:2 --dialect sglang --first-token prefill", "has no first token from the prefill"),
        ("--prefiller-host a --decoder-host b --first-token decode", "always shows the prefill"),
        ("-p a:1 -d b:2 --kv-notify zmq", "dialect plain has no notifications"),
        ("-p a:1 -d b:2 --notify-port 8500", "none are taken"),
        ("-p a:1 -d b:2 --repeat-d-times 7", "--benchmark-mode"),
        ("-p a:1 -d b:2 --metaserver-url http://x/v1/metaserver", "belongs to ascend-layerwise"),
        (
            "-p a:1 -d b:2 --dialect ascend-layerwise --host 0.0.0.0",
            "no address that decode instances could call",
        ),
        ("-p a:1 -d b:2 --dialect ascend-layerwise --metaserver-url x:1", "is no place to call"),
        ("-p a:1 -d b:2 --allow-instance 10.0.0.0/40", "10.0.0.0/40"),
        ("-p a:1 -d b:2 --health-interval 0", "is not a time"),
        ("-p a:1 -d b:2 --enable-magic", "--enable-magic"),
    ] {
        let error = plan(line).map(|plan| plan.notes).unwrap_err();
        assert!(error.contains(says), "{line}: {error}");
    }
}

#[test]
fn a_proxy_may_start_without_instances_where_they_can_be_added() {
    let config = plan("--allow-instance 10.0.0.0/8:8100-8199 prefill-0").unwrap().config;
    assert_eq!((config.admin.allowed.len(), config.prefill.len(), config.decode.len()), (2, 0, 0));
}
