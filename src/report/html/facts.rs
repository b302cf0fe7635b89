use super::super::Reported;
use super::super::fold::objectives;
use super::super::text::{bare, plain};
use super::Section;
use super::markup::{Html, pairs, paragraph};
use crate::measure::{AccuracyFacts, METRICS, Manifest, RampUp, Stamps};

/// What was asked for, where and with what: enough to run it again.
pub(super) fn facts(reported: &Reported<'_>) -> Option<Section> {
    let manifest = &reported.run.manifest;
    let mut body = Html::new();
    let command = Html::of(&shell(&manifest.command_line)).within("<pre>", "</pre>");
    body.add(pairs(vec![("Command line", command)]));
    if let Some(asked) = &manifest.accuracy {
        body.raw("<h3>Questions</h3>\n").add(pairs(questions(asked)));
    }
    body.raw("<h3>Load</h3>\n").add(pairs(load(manifest)));
    body.raw("<h3>Target</h3>\n").add(pairs(target(manifest)));
    body.raw("<h3>Machine and data</h3>\n").add(pairs(machine(manifest)));
    if let Some(simulator) = &manifest.simulator {
        body.raw("<h3>Simulator</h3>\n<dl>\n");
        for (name, value) in simulator {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            body.raw("<dt>").text(&plain(name)).raw("</dt><dd>").text(&plain(&value)).raw("</dd>\n");
        }
        body.raw("</dl>\n");
    }
    Some(Section { id: "settings", title: "Settings", body })
}

/// A value as text, or a word for its absence.
fn or(value: Option<impl ToString>, absent: &str) -> Html {
    Html::of(&value.map_or_else(|| absent.to_owned(), |value| plain(&value.to_string())))
}

fn questions(asked: &AccuracyFacts) -> Vec<(&'static str, Html)> {
    let json = |map: &serde_json::Map<String, serde_json::Value>| {
        Html::of(&plain(&serde_json::json!(map).to_string())).within("<code>", "</code>")
    };
    let percent = |share: f64| format!("{} %", bare((1e4 * share).round() / 100.0));
    vec![
        ("Questions", Html::of(&format!("{} of {} documents", asked.questions, asked.documents))),
        ("Worked examples", Html::of(&format!("{}, seed {}", asked.num_fewshot, asked.fewshot_seed))),
        ("Put as", Html::of(&plain(&asked.form))),
        ("System instruction", or(asked.system_instruction.as_ref(), "none")),
        ("Generation", json(&asked.generation)),
        ("Questions in a request", or(Some(asked.batch_size), "")),
        ("Tries after the first", or(Some(asked.max_retries), "")),
        ("Margin", or(asked.margin.map(percent), "none named")),
        ("Least score", or(asked.fail_under, "none named")),
        ("Errors allowed", Html::of(&percent(asked.max_error_rate))),
    ]
}

fn load(manifest: &Manifest) -> Vec<(&'static str, Html)> {
    let settings = &manifest.settings;
    let with_unit = |value: Option<f64>, unit: &str| value.map(|value| format!("{} {unit}", bare(value)));
    let percentiles: Vec<_> = settings.percentiles.iter().map(|&p| bare(p)).collect();
    let mut rows = vec![
        ("Requests", or(Some(settings.num_prompts), "")),
        ("Request rate", or(with_unit(settings.request_rate, "req/s"), "inf: all at once")),
        ("Burstiness", or(settings.burstiness, "constant gaps")),
        ("Concurrency limit", or(settings.max_concurrency, "none")),
        ("Longest sending", or(with_unit(settings.max_duration_s, "s"), "no limit")),
        ("Warm-ups", or(Some(settings.num_warmups), "")),
        ("Seed", or(Some(settings.seed), "")),
        ("Input length", or(settings.input_len.map(|n| format!("{n} tokens")), "as the dataset has it")),
        ("Output length", or(settings.output_len.map(|n| format!("{n} tokens")), "as the dataset has it")),
        ("Ignore end of sequence", Html::of(if settings.ignore_eos { "yes" } else { "no" })),
        ("Percentiles", Html::of(&percentiles.join(", "))),
        ("Objectives", or(objectives(settings), "none")),
        ("Failures allowed", Html::of(&format!("{} %", bare(100.0 * settings.max_error_rate)))),
    ];
    if let Some(prefix) = settings.prefix_len {
        rows.insert(8, ("Shared prefix", Html::of(&format!("{prefix} tokens"))));
    }
    if let Some(RampUp { strategy, start_rps, end_rps }) = &settings.ramp_up {
        rows[1].1 = Html::of(&format!("{strategy} from {} to {} req/s", bare(*start_rps), bare(*end_rps)));
    }
    if let Some(salt) = &settings.salt {
        rows.push(("In front of each prompt", Html::of(&plain(salt))));
    }
    if !settings.metadata.is_empty() {
        let pair = |(key, value): (&String, &serde_json::Value)| {
            format!("{}={}", plain(key), plain(value.as_str().unwrap_or_default()))
        };
        let pairs: Vec<String> = settings.metadata.iter().map(pair).collect();
        rows.push(("Metadata", Html::of(&pairs.join(", "))));
    }
    rows
}

fn target(manifest: &Manifest) -> Vec<(&'static str, Html)> {
    let target = &manifest.target;
    let addresses = (!target.addresses.is_empty()).then(|| target.addresses.join(", "));
    let mut rows = vec![
        ("Address", Html::of(&plain(&target.base_url))),
        ("Resolved to", or(addresses, "nothing to resolve")),
        ("Endpoint", Html::of(&plain(&format!("{} ({})", target.endpoint, target.backend)))),
        ("Model", Html::of(&plain(&target.model))),
        ("Topology", or(target.topology.as_ref(), "not known")),
        ("Simulated", Html::of(if target.simulated { "yes" } else { "no" })),
    ];
    if let Some(url) = &target.http_proxy {
        rows.insert(1, ("Through the HTTP proxy", Html::of(&plain(url))));
    }
    if let Some(verified) = target.tls_verified {
        let words = if verified { "checked" } else { "not checked (--insecure)" };
        rows.insert(1, ("Server’s certificate", Html::of(words)));
    }
    rows
}

fn machine(manifest: &Manifest) -> Vec<(&'static str, Html)> {
    let (host, dataset) = (&manifest.host, &manifest.dataset);
    let memory = host.memory_bytes.map(|bytes| format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let cores = format!("{} cores{}, {}", host.cores, memory.unwrap_or_default(), plain(&host.kernel));
    let stamps = match manifest.stamps {
        Stamps::Kernel => "by the kernel when a packet arrives",
        Stamps::User => "by this process when it has read a packet",
    };
    vec![
        ("Program", Html::of(&plain(&manifest.version))),
        ("Client machine", Html::of(&cores)),
        ("Time stamps", Html::of(stamps)),
        ("Started", Html::of(&plain(&manifest.started))),
        ("Dataset", Html::of(&plain(&format!("{} from {}", dataset.name, dataset.path)))),
        ("Dataset’s SHA-256", Html::of(&plain(&dataset.sha256)).within("<code>", "</code>")),
        ("Prompt lengths by", Html::of(&plain(&dataset.token_counter))),
    ]
}

/// A command line as a shell would take it.
fn shell(words: &[String]) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = words.iter().map(|word| match plain(word) {
        word if !word.is_empty() && word.chars().all(harmless) => word,
        word => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What the words on the page mean.
pub(super) fn how_to_read(_: &Reported<'_>) -> Option<Section> {
    let mut body = Html::new();
    for text in [
        "Read the verdict first: the numbers of an INVALID run are not to be quoted. Warnings do not invalidate a \
         run; they say what the numbers leave out.",
        "A latency from the send is what the server took. The same from the schedule is what a user who arrives \
         on time would have felt; it holds the wait in the client when a concurrency limit is reached.",
        "A high percentile needs many requests. With fewer the table shows the maximum in its place and says how \
         many are needed. “–” is a value that does not exist; it is never 0.",
        "A failure before the first token points at prefill or the transfer of the KV cache, one after it at \
         decode.",
    ] {
        body.add(paragraph(text));
    }
    body.raw("<h3>Metrics</h3>\n<dl>\n");
    for metric in METRICS {
        body.raw("<dt>")
            .text(metric.short)
            .raw("</dt><dd>")
            .text(&format!("{}: {}", metric.name, metric.formula));
        body.raw("</dd>\n");
    }
    body.raw("</dl>\n<p class=\"note\">METRICS.md in the project has each definition, with how vLLM’s differs.</p>\n");
    Some(Section { id: "reading", title: "How to read this page", body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_back() {
        let words = ["pdbench", "serve", "--label", "it's <b>", "", "--rate", "8.5"].map(str::to_owned);
        assert_eq!(shell(&words), r"pdbench serve --label 'it'\''s <b>' '' --rate 8.5");
    }
}
