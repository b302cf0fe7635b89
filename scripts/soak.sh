#!/usr/bin/env bash
# Long runs with faults. First hours of virtual time against a server that shows every fault in turn: one record for each
# request, each with its outcome. Then two minutes of real time, 2,000 streams at once through the real proxy to a simulated
# cluster one of whose decode nodes breaks its answers off: memory of client and cluster stays flat, nothing is lost.
#
# usage: scripts/soak.sh [HOURS [SECONDS]]     default 2 hours of virtual and 120 seconds of real time, 20 at least
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hours=${1:-2} seconds=${2:-120}
if ((seconds < 20)); then
    echo "error: $seconds seconds of real time are too few: want 20 at least" >&2
    exit 2
fi
cargo build --release --locked
pdbench=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/pdbench
PDBENCH_SOAK_MINUTES=$((hours * 60)) /usr/bin/env time -f 'virtual: %e s, %M KiB at most' \
    cargo test --release --test soak -- --nocapture

scratch=$(mktemp -d)
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch"
ulimit -n "$(ulimit -Hn)"
"$pdbench" sim --topology 2p4d --port 0 --decode-step-ms 100 --decode-sequence-us 0 --decode-context-us 0 \
    --prefill-tokens-per-s 1e9 --prefill-overhead-ms 0 --fault error-after=40@decode:3 >sim.out &
sim=$!
pids+=("$sim")
for _ in $(seq 100); do
    [[ -s sim.out ]] && break
    sleep 0.1
done
url=$(grep -o 'on http://[0-9.:]*' sim.out | cut -c4-)
"$pdbench" serve --base-url "$url" --dataset-name sonnet --sonnet-input-len 64 --sonnet-prefix-len 20 \
    --sonnet-output-len 200 --num-prompts 200000 --max-concurrency 2000 --rate inf --max-duration "$seconds" \
    --max-error-rate 1 --ignore-eos --output-dir runs >serve.out 2>serve.err &
client=$!
pids+=("$client")
rss() { awk '/VmRSS/ {print $2}' "/proc/$1/status"; }
sleep $((seconds / 2))
client_before=$(rss "$client") sim_before=$(rss "$sim")
sleep $((seconds > 10 ? seconds / 2 - 5 : 1))
client_after=$(rss "$client") sim_after=$(rss "$sim")
wait "$client" || true
grep -E '^(VALID|INVALID|Requests|Failures|Peak)' serve.out
printf 'resident, KiB, at half time and at the end: client %s -> %s, cluster with proxy %s -> %s\n' \
    "$client_before" "$client_after" "$sim_before" "$sim_after"
fail() {
    echo "FAIL: $1" >&2
    exit 1
}
in_flight=$(curl -sf "$url/metrics" | awk '$1 == "pdbench_proxy_requests_in_flight" {print $2}')
[[ $in_flight == 0.0 || $in_flight == 0 ]] || fail "the proxy still counts ${in_flight:-no} requests in flight"
grep -qE '^Peak .* 2000 in flight' serve.out || fail 'there were never 2,000 streams at once'
sent=$(sed -n 's/^Requests .* planned, \([0-9]*\) sent.*/\1/p' serve.out)
main=$(grep -c '"kind":"main"' runs/*/records.jsonl)
[[ $main == "$sent" ]] || fail "$main records of $sent requests sent"
# The client keeps its records: some 1.5 KiB a request of 200 tokens. The cluster keeps nothing.
if ((sim_after > sim_before + sim_before / 4 + 8192)) || ((client_after > client_before + main * 2 + 16384)); then
    fail 'memory grows'
fi
echo OK
