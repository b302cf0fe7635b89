use crate::cli::{Outside, no_way, usage, way};
use crate::command::{Error, SimPlan, TargetPlan, TokenizerPlan, TrustPlan, Way};
use crate::wire::{Endpoint, HttpProxy, Secret, Target, TargetError};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Where the requests go, and how they are dressed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub(in crate::cli) struct TargetArgs {
    /// API of the measured requests: completions (openai, vllm) or chat (openai-chat)
    #[arg(long, default_value = "openai", value_name = "NAME")]
    backend: Backend,
    /// Base URL, such as http://127.0.0.1:8000 or https://host/prefix; instead of --host and --port
    #[arg(long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    pub(in crate::cli) base_url: Option<String>,
    /// Host name or address [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Port [default: 8000]
    #[arg(long)]
    port: Option<u16>,
    /// Certificates in PEM to accept under https, of authorities or of the server, besides the system's authorities
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate under https; the result says so
    #[arg(long)]
    insecure: bool,
    /// HTTP proxy on the way to a target outside: none, env (http_proxy, https_proxy, all_proxy and no_proxy of the
    /// environment) or http://HOST:PORT. An https target is reached through it by CONNECT
    #[arg(long, default_value = "none", value_name = "none|env|URL")]
    http_proxy: String,
    #[arg(skip)]
    through: Option<HttpProxy>,
    /// Path of the requests [default: /v1/completions, or /v1/chat/completions with openai-chat]
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,
    /// Model name [default: the first of /v1/models]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) model: Option<String>,
    /// Name of the model in the requests, where the server knows it by another one than --model
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,
    /// Headers of each request; values off a short list are redacted in what is stored
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    header: Vec<String>,
    /// A header whose value is what an environment variable holds
    #[arg(long, value_name = "NAME=VARIABLE", num_args = 1..)]
    header_from_env: Vec<String>,
    /// File with the API key, in one line [default: the environment's OPENAI_API_KEY]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// What request ids (header x-request-id) begin with [default: the run's id]
    #[arg(long, value_name = "TEXT")]
    request_id_prefix: Option<String>,
    /// Accepted for command lines of `vllm bench serve`; no code of a model is ever run here
    #[arg(long)]
    trust_remote_code: bool,
    /// Directory with the model's tokenizer.json and chat template; nothing is downloaded [default: --model where
    /// that is a directory, else lengths are estimated as 4 bytes a token]
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<String>,
    /// Accepted for command lines of `vllm bench serve`; auto, hf and slow all read tokenizer.json
    #[arg(long, default_value = "auto", value_name = "MODE")]
    tokenizer_mode: TokenizerMode,
    /// Estimate lengths as 4 bytes a token, whatever tokenizer there is
    #[arg(long)]
    skip_tokenizer_init: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    Openai,
    Vllm,
    OpenaiChat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TokenizerMode {
    Auto,
    Hf,
    Slow,
}

/// What the flags of this family mean.
pub(in crate::cli) struct TargetSettings {
    pub(in crate::cli) target: TargetPlan,
    pub(in crate::cli) headers: Vec<(String, Secret)>,
    pub(in crate::cli) trust: TrustPlan,
    pub(in crate::cli) endpoint: Endpoint,
    pub(in crate::cli) path: String,
    pub(in crate::cli) backend: String,
    pub(in crate::cli) model: Option<String>,
    pub(in crate::cli) served_model_name: Option<String>,
    pub(in crate::cli) request_id_prefix: Option<String>,
}

impl TargetArgs {
    /// Fetches what must not be typed: headers join those that were, the API key is given.
    pub(in crate::cli) fn secrets(&mut self, outside: &Outside<'_>) -> Result<Option<String>, Error> {
        for header in std::mem::take(&mut self.header_from_env) {
            let (name, variable) = header.split_once('=').ok_or_else(|| {
                usage("a --header-from-env without `=`").help("want NAME=VARIABLE, such as x-token=MY_TOKEN")
            })?;
            let value = (outside.variable)(variable).ok_or_else(|| {
                let variable = variable.escape_debug();
                usage(format!("--header-from-env: there is no environment variable `{variable}`"))
                    .help("export it, or leave the flag out")
            })?;
            self.header.push(format!("{name}={value}"));
        }
        match &self.api_key_file {
            Some(file) => (outside.key_file)(file).map(Some),
            None => Ok((outside.variable)("OPENAI_API_KEY")),
        }
    }

    /// Finds out which HTTP proxy stands before the target; before the embedded cluster none can.
    pub(in crate::cli) fn find_proxy(&mut self, embedded: bool, outside: &Outside<'_>) -> Result<(), Error> {
        self.through = self.proxy_before(&self.url(), outside)?;
        match self.is_proxied() && embedded {
            true => Err(usage("--http-proxy with the embedded cluster: nothing stands between")
                .help("leave --http-proxy out")),
            false => Ok(()),
        }
    }

    /// The HTTP proxy before a place.
    pub(in crate::cli) fn proxy_before(
        &self,
        url: &str,
        outside: &Outside<'_>,
    ) -> Result<Option<HttpProxy>, Error> {
        match way(&self.http_proxy)? {
            Way::Direct => Ok(None),
            Way::Through(proxy) => Ok(Some(proxy)),
            Way::Environment => {
                let target = Target::parse(url).map_err(wrong)?;
                let tls = target.tls().is_some();
                HttpProxy::from_environment(tls, target.host(), target.port(), outside.variable)
                    .map_err(no_way)
            }
        }
    }

    /// True when a proxy stands before the target.
    pub(in crate::cli) fn is_proxied(&self) -> bool {
        self.through.is_some()
    }

    /// Where the API key comes from, in words.
    fn api_key_from(&self) -> String {
        match &self.api_key_file {
            Some(file) => format!("--api-key-file {}", file.display()),
            None => "OPENAI_API_KEY".to_owned(),
        }
    }

    /// True when any flag says that there is a target outside.
    pub(in crate::cli) fn is_named(&self) -> bool {
        let texts = [&self.base_url, &self.host, &self.endpoint, &self.model, &self.tokenizer];
        texts.iter().any(|text| text.is_some()) || self.port.is_some()
    }

    /// Takes what another family of flags says of the target.
    pub(in crate::cli) fn overlay(&mut self, url: Option<String>, model: Option<String>, api: Endpoint) {
        self.base_url = url.or(self.base_url.take());
        self.model = model.or(self.model.take());
        self.backend = match (api, self.backend) {
            (Endpoint::Chat, _) => Backend::OpenaiChat,
            (Endpoint::Completions, Backend::OpenaiChat) => Backend::Openai,
            (Endpoint::Completions, typed) => typed,
        };
    }

    /// Accepts any certificate, as `--insecure` does.
    pub(in crate::cli) fn distrust_nobody(&mut self) -> Result<(), Error> {
        if self.ca_file.is_some() {
            return Err(usage(
                "--ca-file names certificates to accept, and verify_certificate=false accepts any",
            )
            .help("leave one of them out"));
        }
        self.insecure = true;
        Ok(())
    }

    /// Takes a directory of a tokenizer, unless one was typed.
    pub(in crate::cli) fn suggest_tokenizer(&mut self, directory: Option<String>) {
        self.tokenizer = self.tokenizer.take().or(directory);
    }

    /// True when a flag says where it is.
    pub(in crate::cli) fn has_place(&self) -> bool {
        self.base_url.is_some() || self.host.is_some() || self.port.is_some()
    }

    /// The model's name in the requests, where one was typed.
    pub(in crate::cli) fn name_in_requests(&self) -> Option<String> {
        self.served_model_name.clone().or(self.model.clone())
    }

    /// The API that the backend speaks.
    pub(in crate::cli) fn api(&self) -> Endpoint {
        match self.backend {
            Backend::Openai | Backend::Vllm => Endpoint::Completions,
            Backend::OpenaiChat => Endpoint::Chat,
        }
    }

    /// Where the tokenizer is.
    pub(in crate::cli) fn tokenizer(&self) -> TokenizerPlan {
        match (&self.tokenizer, &self.model) {
            _ if self.skip_tokenizer_init => TokenizerPlan::Estimate,
            (Some(directory), _) => TokenizerPlan::Directory(directory.into()),
            (None, Some(model)) => TokenizerPlan::IfLocal(model.into()),
            (None, None) => TokenizerPlan::Estimate,
        }
    }

    pub(in crate::cli) fn plan(
        self,
        embedded: Option<SimPlan>,
        api_key: Option<&str>,
    ) -> Result<TargetSettings, Error> {
        let endpoint = self.api();
        let path = self.endpoint.clone().unwrap_or_else(|| endpoint.path().to_owned());
        if !path.starts_with('/') || path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(usage(format!("`{}` is not a path", path.escape_debug()))
                .help("--endpoint wants a path such as /v1/completions"));
        }
        // Only its headers are taken: they are checked here, before the cluster is there.
        let dressed = self.dressed(Target::parse("127.0.0.1").map_err(wrong)?)?;
        let headers = dressed.headers().to_vec();
        let target = match embedded {
            Some(sim) => TargetPlan::Embedded(Box::new(sim)),
            None => TargetPlan::Remote(self.remote(&path, api_key)?),
        };
        let trust = self.trust(&target)?;
        let prefix_is_plain = |prefix: &String| {
            prefix.len() <= 100 && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if let Some(prefix) = self.request_id_prefix.as_ref().filter(|prefix| !prefix_is_plain(prefix)) {
            return Err(usage(format!("`{}` cannot begin a request id", prefix.escape_debug()))
                .help("--request-id-prefix wants up to 100 of the characters A-Z a-z 0-9 . _ -"));
        }
        Ok(TargetSettings {
            target,
            headers,
            trust,
            endpoint,
            path,
            backend: self.backend.word().to_owned(),
            model: self.model,
            served_model_name: self.served_model_name,
            request_id_prefix: self.request_id_prefix,
        })
    }

    /// Which certificates are accepted.
    pub(in crate::cli) fn trust(&self, target: &TargetPlan) -> Result<TrustPlan, Error> {
        let secured = matches!(target, TargetPlan::Remote(target) if target.tls().is_some());
        match &self.ca_file {
            Some(_) if !secured => Err(usage("--ca-file with a target that is not an https one")
                .help("give --base-url https://…, or leave --ca-file out")),
            _ if self.insecure => Ok(TrustPlan::Anyone),
            file => Ok(TrustPlan::Authorities(file.clone())),
        }
    }

    /// A target with the headers that were typed.
    fn dressed(&self, target: Target) -> Result<Target, Error> {
        self.header.iter().try_fold(target, |target, header| {
            let (name, value) = header.split_once('=').ok_or_else(|| {
                usage("a --header without `=`").help("want NAME=VALUE; several may follow one --header")
            })?;
            target.with_header(name, value).map_err(wrong)
        })
    }

    /// The target's base URL.
    fn url(&self) -> String {
        self.base_url.clone().unwrap_or_else(|| {
            let host = self.host.as_deref().unwrap_or("127.0.0.1");
            let host = if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            format!("http://{host}:{}", self.port.unwrap_or(8000))
        })
    }

    fn remote(&self, path: &str, api_key: Option<&str>) -> Result<Target, Error> {
        Ok(self.reached_at(&self.url(), path, api_key)?.through(self.through.clone()))
    }

    /// Another place, dressed like the target, without an HTTP proxy before it.
    pub(in crate::cli) fn at(&self, url: &str, api_key: Option<&str>) -> Result<Target, Error> {
        self.reached_at(url, self.api().path(), api_key)
    }

    fn reached_at(&self, url: &str, path: &str, api_key: Option<&str>) -> Result<Target, Error> {
        let target = Target::parse(url).and_then(|target| target.for_endpoint(path)).map_err(wrong)?;
        let target = self.dressed(target)?;
        match api_key.filter(|key| !key.is_empty()) {
            Some(key) => target.with_api_key(Secret::new(key), &self.api_key_from()).map_err(|_| {
                usage("the API key holds a control character").help("want one line of plain text")
            }),
            None => Ok(target),
        }
    }
}

/// A target that cannot be used, with what to do about it.
fn wrong(error: TargetError) -> Error {
    let help = match &error {
        TargetError::OtherEndpoint { ends_in, .. } if *ends_in == Endpoint::Chat.path() => {
            "add --backend openai-chat, or give the URL without the path"
        }
        TargetError::OtherEndpoint { .. } => "choose another --backend, or give the URL without the path",
        TargetError::BadHeader { .. } => "--header wants NAME=VALUE on one line",
        TargetError::NotAUrl { .. } => "want http://HOST:PORT or https://HOST:PORT",
    };
    usage("the target cannot be used").caused_by(error).help(help)
}

impl Backend {
    fn word(self) -> &'static str {
        match self {
            Backend::Openai => "openai",
            Backend::Vllm => "vllm",
            Backend::OpenaiChat => "openai-chat",
        }
    }
}
