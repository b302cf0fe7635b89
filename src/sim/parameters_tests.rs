use super::*;

#[test]
fn flags_are_the_name_with_dashes_or_underscores() {
    for parameter in PARAMETERS {
        let FlagNames { plain, plain_underscored, prefixed, prefixed_underscored } = parameter.flag;
        assert_eq!(plain, parameter.name);
        assert_eq!(plain_underscored, plain.replace('-', "_"));
        assert_eq!(prefixed, format!("sim-{plain}"));
        assert_eq!(prefixed_underscored, prefixed.replace('-', "_"));
    }
}

#[test]
fn each_default_can_be_typed_and_changes_nothing() {
    let mut config = Config::default();
    for parameter in PARAMETERS {
        parameter.set(&mut config, &parameter.default_text()).unwrap();
    }
    assert_eq!(config, Config::default());
}

#[test]
fn setting_one_parameter_changes_its_value_alone() {
    for (index, parameter) in PARAMETERS.iter().enumerate() {
        let mut config = Config::default();
        let text = match parameter.words().last() {
            Some(word) => word,
            None if parameter.is_switch() => "true",
            None if parameter.name == "fault" => "lose-kv",
            None if parameter.name == "kill-node" => "decode:0@1",
            None => "1",
        };
        parameter.set(&mut config, text).unwrap();
        let (before, after) = (Config::default().to_map(), config.to_map());
        for (key, value) in &after {
            let same = before.get(key) == Some(value);
            assert_eq!(same, *key != PARAMETERS[index].name || parameter.default_text() == text, "{key}");
        }
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    let mut config = Config::default();
    for (name, text, says) in [
        (
            "decode-step-ms",
            "-1",
            "`-1` is not a value of decode-step-ms: want a number in ms from 0 to 100000",
        ),
        ("decode-step-ms", "NaN", "want a number in ms"),
        ("link-gb-per-s", "inf", "from 0.000001 to 1000000"),
        ("max-num-seqs", "1.5", "want a whole number in sequences from 1 to 1000000"),
        ("eos-probability", "2", "want a number from 0 to 1"),
        ("routing", "random", "want least-in-flight or round-robin"),
        ("fault", "explode", "`explode` is not a fault"),
        ("kill-node", "decode", "`decode` is not the end of a node"),
        ("kill-store", "-1", "`-1` is not the end of the store"),
    ] {
        let parameter = PARAMETERS.iter().find(|p| p.name == name).unwrap();
        let error = parameter.set(&mut config, text).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(config, Config::default());
}
