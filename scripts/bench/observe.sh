#!/usr/bin/env bash
# What does watching the nodes cost? Processor time of the watching thread, as a share of one core, and the client's lag, with 20
# nodes that tell pages as long as vLLM's (55 KB), at 0, 1 and 10 looks a second. Some two minutes.
#
# usage: scripts/bench/observe.sh [NODES [SECONDS]]     default 20 nodes, 30 s
# environment: PDBENCH   a program that is built already; without it one is, optimised
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

nodes=${1:-20}
seconds=${2:-30}
bench=$PWD/scripts/bench
pdbench=${PDBENCH:-}
if [[ -z $pdbench ]]; then
    cargo build --release --locked
    pdbench=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/pdbench
fi
scratch=$(mktemp -d)
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch"

: > ports
: > sim
python3 "$bench/observe-pages.py" "$nodes" > ports & pids+=($!)
"$pdbench" sim --topology 1m --port 0 > sim & pids+=($!)
until [[ $(wc -w < ports) -ge $nodes && -s sim ]]; do sleep 0.1; done
read -ra places <<< "$(tr '\n' ' ' < ports)"
url=$(grep -o 'http://[0-9.:]*' sim | head -1)
half=$((nodes / 2))

printf '%6s %22s %22s\n' 'looks' 'share of one core' 'client lag p99 (ms)'
for hz in 0 1 10; do
    "$pdbench" serve --base-url "$url" --model simulated --dataset-name sonnet --rate 50 --num-prompts $((50 * seconds)) \
        --prefill "${places[@]:0:half}" --decode "${places[@]:half}" --scrape-hz "$hz" --no-progress \
        --output-dir "runs-$hz" > "out-$hz" 2>&1 &
    run=$!
    used=0
    while kill -0 "$run" 2>/dev/null; do
        for task in /proc/"$run"/task/*; do
            [[ $(cat "$task/comm" 2>/dev/null) == observe ]] && used=$(awk '{print $14 + $15}' "$task/stat" 2>/dev/null || echo "$used")
        done
        sleep 0.5
    done
    wait "$run" || true
    ticks=$(getconf CLK_TCK)
    lag=$(awk -F, '$2 == "client_lag" && $4 == "p99" {print $5; exit}' runs-"$hz"/*/summary.csv)
    printf '%6s %20.2f %% %22s\n' "$hz" "$(awk "BEGIN {print 100 * $used / $ticks / $seconds}")" "${lag:-–}"
done
