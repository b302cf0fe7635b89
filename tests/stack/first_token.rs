//! The client's first token from the prefill node: nothing of the answer is missing, nothing comes twice.

use crate::common::run_in;
use crate::dialects::alone;
use crate::said::Ask;
use crate::setup::{Stack, simulated};
use pdbench::Exit;
use pdbench::measure::{Outcome, OutputTokensSource};
use pdbench::proxy::FirstToken;
use pdbench::runtime::Workers;
use pdbench::wire::dialect::Dialect;
use tempfile::tempdir;

async fn stack(dialect: Dialect) -> Stack {
    Stack::between(dialect, simulated("2p2d", &[]), |proxy, _| proxy.first_token = FirstToken::Prefill).await
}

/// The answer is that of one node.
async fn joins(dialect: Dialect) {
    let asks = Ask::all_kinds(2, 300);
    let stack = stack(dialect).await;
    let got = stack.ask_all(&asks).await;
    for ((ask, expected), got) in asks.iter().zip(alone(&asks).await).zip(got) {
        // The ids of both legs' events are made one; roles, usage and `[DONE]` are counted.
        assert_eq!(got, expected, "{dialect} {ask:?}");
        assert_eq!(
            (got.whole, got.done, got.usage.len()),
            (true, usize::from(ask.stream), 1),
            "{dialect} {ask:?}"
        );
    }
    stack.assert_idle().await;
    for d in stack.nodes.all(pdbench::cluster::Role::Decode) {
        assert!(0.0 < stack.nodes.sources(d).await[2], "{dialect} {d:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn plain_streams_are_joined_event_by_event() {
    joins(Dialect::Plain).await;
}

#[tokio::test(start_paused = true)]
async fn a_nixl_prefills_token_stands_before_the_decode_stream() {
    joins(Dialect::NixlPull).await;
    joins(Dialect::Ascend).await;
}

#[tokio::test(start_paused = true)]
async fn a_p2p_prefills_token_stands_before_the_decode_stream() {
    joins(Dialect::P2pAddr).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_one_token_is_whole() {
    for dialect in [Dialect::Plain, Dialect::NixlPull, Dialect::Lmcache] {
        let asks: Vec<Ask> =
            Ask::all_kinds(1, 300).into_iter().map(|ask| Ask { output_tokens: 1, ..ask }).collect();
        let stack = stack(dialect).await;
        let got = stack.ask_all(&asks).await;
        for ((ask, expected), mut got) in asks.iter().zip(alone(&asks).await).zip(got) {
            // How the answer ended is the decode node's to say, in an event whose text the client has had.
            got.pieces.retain(|piece| !piece.is_empty());
            assert_eq!(got, expected, "{dialect} {ask:?}");
        }
        stack.assert_idle().await;
    }
}

/// A run through the proxy: every request has as many tokens as it asked for.
async fn counts(dialect: Dialect, backend: &str) {
    let stack = stack(dialect).await;
    let place = tempdir().unwrap();
    let url = stack.url();
    let arguments = format!(
        "serve --base-url {url} --backend {backend} --model simulated --dataset-name sonnet --num-prompts 12"
    );
    let more = "--sonnet-output-len 20 --ignore-eos --rate 20 --no-progress";
    let arguments: Vec<_> = arguments.split(' ').chain(more.split(' ')).collect();
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{dialect} {backend}: {}{}", ran.stdout, ran.stderr);
    let records = ran.main_records();
    assert_eq!(records.len(), 12);
    for record in records {
        let counted =
            (record.outcome, record.output_tokens, record.output_tokens_source, record.events.len());
        assert_eq!(
            counted,
            (Outcome::Ok, 20, OutputTokensSource::Usage, 20),
            "{dialect} {backend}: {record:?}"
        );
        assert!(record.flags.is_empty(), "{dialect} {backend}: {:?}", record.flags);
    }
    stack.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn serve_counts_the_tokens_of_joined_answers() {
    for dialect in [Dialect::Plain, Dialect::NixlPull, Dialect::Lmcache] {
        for backend in ["openai", "openai-chat"] {
            counts(dialect, backend).await;
        }
    }
}
