#!/usr/bin/env bash
# How near the truth are the measurements? Runs `pdbench sim` in a process of its own, loads it with many streams
# of 50 ms a token, and holds every stamp against the simulator's log of its writes. About half a minute.
#
# usage: scripts/bench/truth.sh [STREAMS [TOKENS]]     default 1000 concurrent streams, 150 tokens each
# environment: EMISSION=staggered|together   when the streams of a step write (default staggered)
#              RATE=requests/s | inf         default: so that STREAMS run at a time; inf sends all at once
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

streams=${1:-1000} tokens=${2:-150}
rate=${RATE:-$((streams * 20 / tokens))}
requests=$([[ $rate == inf ]] && echo "$streams" || echo "$((streams * 2))")
stagger=()
[[ ${EMISSION:-staggered} == together ]] || stagger=(--stagger)

cargo build --release --locked
pdbench=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/pdbench
here=$PWD
scratch=$(mktemp -d)
sim=
cleanup() {
    [[ -z $sim ]] || kill -INT "$sim" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch"

# One node, so that nothing stands before it; prompts cost nothing, so that newcomers delay nobody's next token.
"$pdbench" sim --topology 1m --port 0 --truth-log truth.jsonl "${stagger[@]}" --decode-step-ms 50 \
    --decode-sequence-us 0 --decode-context-us 0 --max-num-seqs 100000 --kv-capacity-tokens 100000000 \
    --prefill-tokens-per-s 1e12 --prefill-overhead-ms 0 --prefill-batch-tokens 10000000 >sim.out &
sim=$!
for _ in $(seq 100); do
    [[ -s sim.out ]] && break
    sleep 0.1
done
url=$(grep -o 'http://[0-9.:]*' sim.out)

"$pdbench" serve --base-url "$url" --dataset-name sonnet --sonnet-input-len 64 --sonnet-prefix-len 20 \
    --sonnet-output-len "$tokens" --num-prompts "$requests" --rate "$rate" --ignore-eos --output-dir runs >serve.out
kill -INT "$sim"
wait "$sim"
sim=
grep -E '^(VALID|INVALID|Peak  |Throughput|Client)' serve.out
"$here/scripts/bench/compare-truth.py" runs/* truth.jsonl
