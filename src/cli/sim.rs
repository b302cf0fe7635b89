//! The flags of the simulated cluster: `pdbench sim --decode-step-ms 50`, and the same with a prefix where
//! a cluster is embedded, `pdbench serve --sim-decode-step-ms 50`. They are made from the simulator's table.

use super::{share, usage};
use crate::cluster::Topology;
use crate::command::{AnswersPlan, SimPlan};
use crate::proxy::FirstToken;
use crate::sim::{Config, PARAMETERS, Parameter};
use crate::wire::dialect::Dialect;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Serves a simulated PD cluster of known truth, until it is stopped.
#[derive(Clone, Debug, Args)]
#[command(
    long_about = "Serves a simulated prefill/decode cluster with vLLM's API, at known speeds: a server for each node, \
    and pdbench's own proxy before them. No model, no accelerator: what it answers is made up, when it answers follows a \
    stated cost model, and a decode node has only the KV that it was given."
)]
pub(super) struct SimArgs {
    /// Prefill and decode nodes, such as 2p4d, or nodes that do both, such as 1m
    #[arg(long, default_value = "1p1d")]
    topology: Topology,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port of the proxy, or the first port of nodes that do both; 0 takes a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// First port of the prefill nodes, the others behind it; 0 takes free ones
    #[arg(long, default_value_t = 0)]
    prefill_port: u16,
    /// First port of the decode nodes, the others behind it; 0 takes free ones
    #[arg(long, default_value_t = 0)]
    decode_port: u16,
    /// Start the nodes alone, for a proxy of yours
    #[arg(long)]
    no_proxy: bool,
    /// How the proxy speaks to the nodes; a node understands every dialect
    #[arg(long, default_value = "nixl-pull", value_name = "NAME")]
    dialect: Dialect,
    /// Take the first token from the prefill nodes
    #[arg(long)]
    generator_on_p_node: bool,
    /// Name under which the model is served
    #[arg(long, default_value = "simulated")]
    model: String,
    /// File for what really happened to each request, one JSON line each; - is standard output
    #[arg(long, value_name = "FILE", alias = "truth_log")]
    truth_log: Option<PathBuf>,
    /// Decides, with each prompt, what it is answered
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Speed and limits of the nodes.
    #[command(flatten)]
    parameters: SimParameters<false>,
}

impl SimArgs {
    pub(super) fn plan(self) -> Result<SimPlan, crate::command::Error> {
        if let Some(flag) = self.parameters.idle_flag() {
            return Err(usage(format!("--{flag} without answers")).help("add --answers FILE"));
        }
        Ok(SimPlan {
            address: SocketAddr::new(self.host, self.port),
            prefill_port: self.prefill_port,
            decode_port: self.decode_port,
            proxy: !self.no_proxy,
            dialect: self.dialect,
            first_token: match self.generator_on_p_node {
                true => FirstToken::Prefill,
                false => FirstToken::Decode,
            },
            truth_log: self.truth_log,
            answers: self.parameters.answers,
            config: Config {
                topology: self.topology,
                model: self.model,
                seed: self.seed,
                ..self.parameters.config
            },
        })
    }
}

/// The flags of [`PARAMETERS`], and those of a file with answers; with `PREFIXED` each begins with `--sim-`. Underscores
/// do as well as dashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SimParameters<const PREFIXED: bool> {
    /// The default cluster with what was typed.
    pub(super) config: Config,
    /// What the model is to know.
    pub(super) answers: Option<AnswersPlan>,
    /// How often it is right, where that was typed.
    pub(super) right: Option<f64>,
}

/// How often a model that knows answers is right. Assumed; no source.
pub(super) const DEFAULT_RIGHT: f64 = 0.8;

impl<const PREFIXED: bool> SimParameters<PREFIXED> {
    fn names(parameter: &Parameter) -> (&'static str, &'static str) {
        let flag = &parameter.flag;
        match PREFIXED {
            true => (flag.prefixed, flag.prefixed_underscored),
            false => (flag.plain, flag.plain_underscored),
        }
    }

    fn arg(parameter: &'static Parameter) -> Arg {
        let (name, underscored) = Self::names(parameter);
        let arg = Arg::new(name).long(name).help_heading("Simulated cluster");
        let arg = if name == underscored { arg } else { arg.alias(underscored) };
        if parameter.is_switch() {
            return arg.help(parameter.help).action(ArgAction::SetTrue);
        }
        let (default, words) = (parameter.default_text(), parameter.words());
        let (value_name, parser): (_, ValueParser) = if words.is_empty() {
            let check =
                move |text: &str| parameter.set(&mut Config::default(), text).map(|()| text.to_owned());
            (if parameter.unit.is_empty() { "NUMBER" } else { parameter.unit }, check.into())
        } else {
            ("WORD", PossibleValuesParser::new(words).into())
        };
        arg.help(format!("{} [default: {default}]", parameter.help))
            .value_name(value_name)
            .value_parser(parser)
    }

    /// `--answers` and `--right`, or the same with `--sim-`.
    fn answer_args() -> [Arg; 2] {
        let (answers, right) = Self::answer_names();
        let arg = |name: &'static str| Arg::new(name).long(name).help_heading("Simulated cluster");
        [
            arg(answers)
                .help("File with questions that the model can answer, {\"question\": \"…\", \"answer\": \"… #### 7\"} a line")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf)),
            arg(right)
                .help(format!("Share of those prompts that it answers right [default: {DEFAULT_RIGHT}]"))
                .value_name("SHARE")
                .value_parser(share),
        ]
    }

    /// The flag that says how often a model is right that has no answers, if it was typed.
    pub(super) fn idle_flag(&self) -> Option<&'static str> {
        self.right.filter(|_| self.answers.is_none()).map(|_| Self::answer_names().1)
    }

    fn answer_names() -> (&'static str, &'static str) {
        if PREFIXED { ("sim-answers", "sim-right") } else { ("answers", "right") }
    }

    fn take(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for parameter in PARAMETERS {
            let (name, _) = Self::names(parameter);
            let text = match parameter.is_switch() {
                true => matches.get_flag(name).then_some("true"),
                false => matches.get_one::<String>(name).map(String::as_str),
            };
            if let Some(text) = text {
                let refused = |message| Error::raw(clap::error::ErrorKind::ValueValidation, message);
                parameter.set(&mut self.config, text).map_err(refused)?;
            }
        }
        let (answers, right) = Self::answer_names();
        self.right = matches.get_one(right).copied();
        if let Some(path) = matches.get_one::<PathBuf>(answers) {
            let right = self.right.unwrap_or(DEFAULT_RIGHT);
            self.answers = Some(AnswersPlan { path: path.clone(), right });
        }
        Ok(())
    }
}

impl<const PREFIXED: bool> Args for SimParameters<PREFIXED> {
    fn augment_args(command: Command) -> Command {
        command.args(PARAMETERS.iter().map(Self::arg)).args(Self::answer_args())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const PREFIXED: bool> FromArgMatches for SimParameters<PREFIXED> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut parameters = Self::default();
        parameters.take(matches)?;
        Ok(parameters)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.take(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Emission, Routing};
    use clap::{CommandFactory as _, Parser};

    #[derive(Debug, Parser)]
    struct Verb {
        #[command(flatten)]
        sim: SimArgs,
    }

    #[derive(Debug, Parser)]
    struct Embedding {
        #[command(flatten)]
        sim: SimParameters<true>,
    }

    fn parse(line: &str) -> Result<Config, Error> {
        Verb::try_parse_from(format!("sim {line}").split_whitespace())
            .map(|verb| verb.sim.plan().unwrap().config)
    }

    #[test]
    fn nothing_typed_is_the_default_cluster() {
        assert_eq!(parse("").unwrap(), Config::default());
        Verb::command().debug_assert();
        Embedding::command().debug_assert();
    }

    #[test]
    fn flags_set_parameters_with_dashes_and_underscores() {
        let config =
            parse("--topology 2p4d --decode-step-ms 50 --max_num_seqs 7 --routing round-robin --stagger")
                .unwrap();
        assert_eq!(config.topology.to_string(), "2p4d");
        assert_eq!((config.cost.decode_step_ms, config.cost.max_num_seqs), (50.0, 7));
        assert_eq!((config.routing, config.emission), (Routing::RoundRobin, Emission::Staggered));
    }

    #[test]
    fn an_embedded_cluster_has_prefixed_flags() {
        let line = ["serve", "--sim-decode-step-ms", "50", "--sim_no_prefix_cache"];
        let config = Embedding::try_parse_from(line).unwrap().sim.config;
        assert_eq!((config.cost.decode_step_ms, config.prefix_cache), (50.0, false));
        assert!(Embedding::try_parse_from(["serve", "--decode-step-ms", "50"]).is_err());
    }

    #[test]
    fn answers_are_a_file_and_a_share() {
        let plan = |line: &str| Verb::try_parse_from(line.split_whitespace()).unwrap().sim.plan().unwrap();
        assert_eq!(plan("sim").answers, None);
        let known = |right| Some(AnswersPlan { path: "a.jsonl".into(), right });
        assert_eq!(plan("sim --answers a.jsonl").answers, known(0.8));
        assert_eq!(plan("sim --answers a.jsonl --right 1").answers, known(1.0));
        let line = ["serve", "--sim-answers", "a.jsonl", "--sim-right", "0.5"];
        assert_eq!(Embedding::try_parse_from(line).unwrap().sim.answers, known(0.5));
    }

    #[test]
    fn a_bad_value_names_its_range() {
        for (line, says) in [
            ("--answers a --right 1.5", "`1.5` is not a share: want a number from 0 to 1"),
            ("--decode-step-ms=-1", "a number in ms from 0 to 100000"),
            ("--routing random", "[possible values: least-in-flight, round-robin]"),
            ("--topology 1p", "is not a topology"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn help_states_unit_and_default_of_each_parameter() {
        let help = Verb::command().term_width(200).render_long_help().to_string();
        for parameter in PARAMETERS.iter().filter(|parameter| !parameter.is_switch()) {
            let stated = format!("[default: {}]", parameter.default_text());
            assert!(help.contains(&stated) && help.contains(parameter.unit), "{}: {help}", parameter.name);
        }
    }
}
