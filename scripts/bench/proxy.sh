#!/usr/bin/env bash
# What does `pdbench proxy` cost, beside the smallest relay in Python (FastAPI and aiohttp) and the floor, a relay that
# reads and writes bytes without looking at them? CPU time for each relayed event, paced and in bursts, peak memory, and
# what it adds to TTFT at 100 requests a second. Some three minutes.
#
# usage: scripts/bench/proxy.sh [STREAMS]     default 500 concurrent streams
# environment: PDBENCH_PYTHON   a Python that has fastapi, uvicorn and aiohttp; without it one is made by venv
#              RELAYS           which to measure, default "proxy python floor"
#              WIDE=1           3,000 streams at a time, an event a second each, and nothing else
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

streams=${1:-500}
bench=$PWD/scripts/bench
cargo build --release --locked
cargo build --release --locked --manifest-path "$bench/floor/Cargo.toml" --target-dir "$bench/floor/target"
pdbench=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/pdbench
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

python=${PDBENCH_PYTHON:-}
if [[ -z $python ]]; then
    python3 -m venv venv
    venv/bin/pip install --quiet fastapi uvicorn aiohttp
    python=$scratch/venv/bin/python
fi

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { # port: until something answers there
    for _ in $(seq 200); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "nothing answers on port $1" >&2
    return 1
}
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
peak_mb() { awk '/VmHWM/ {printf "%.1f", $2 / 1024}' "/proc/$1/status"; }

upstream() { # GAP_MS BURST: two instances; sets $prefill and $decode
    prefill=$(free_port) decode=$(free_port)
    "$python" "$bench/proxy-upstream.py" "$prefill" "$1" "$2" & pids+=($!)
    "$python" "$bench/proxy-upstream.py" "$decode" "$1" "$2" & pids+=($!)
    wait_for "$prefill" && wait_for "$decode"
}
relay() { # proxy | python | floor: sets $port and $relay
    port=$(free_port)
    case $1 in
    proxy)
        "$pdbench" proxy --port "$port" --prefill "127.0.0.1:$prefill" --decode "127.0.0.1:$decode" >/dev/null 2>&1 & ;;
    python)
        "$python" "$bench/relay-aiohttp.py" "$port" "http://127.0.0.1:$prefill" "http://127.0.0.1:$decode" & ;;
    floor)
        "$bench/floor/target/release/floor" relay --port "$port" --to "$decode" >/dev/null & ;;
    esac
    relay=$!
    pids+=("$relay")
    wait_for "$port"
    sleep 1
}
load() { # PORT REQUESTS TOKENS RATE NAME
    "$pdbench" serve --base-url "http://127.0.0.1:$1" --model bench --dataset-name sonnet --sonnet-input-len 64 \
        --sonnet-prefix-len 20 --sonnet-output-len "$3" --num-prompts "$2" --rate "$4" --ignore-eos \
        --output-dir "runs-$5" >"$5.out" 2>/dev/null || true
    grep -E '^(VALID|INVALID)' "$5.out" | head -1 | cut -c1-100
}
median_ttft() { "$python" - "$1" <<'PY'
import json, pathlib, statistics, sys
records = [json.loads(line) for path in pathlib.Path(sys.argv[1]).glob("*/records.jsonl") for line in path.open()]
main = [r for r in records if r["kind"] == "main" and r["outcome"] == "ok"]
print(f"{statistics.median(r['events_us'][0] - r['sent_us'] for r in main) / 1e3:.3f}")
PY
}
cpu_per_event() { # NAME WHICH REQUESTS TOKENS RATE
    relay "$2"
    local before after
    before=$(ticks "$relay")
    load "$port" "$3" "$4" "$5" "$1-$2"
    after=$(ticks "$relay")
    awk -v t="$((after - before))" -v n="$(($3 * ($4 + 2)))" -v hz="$(getconf CLK_TCK)" -v who="$2" -v what="$1" \
        -v mb="$(peak_mb "$relay")" \
        'BEGIN {printf "%-8s %-8s %6.2f us CPU per event (%d events), peak %s MB\n", who, what, t / hz / n * 1e6, n, mb}'
    kill "$relay"
    wait "$relay" 2>/dev/null || true
}

relays=${RELAYS:-proxy python floor}
if [[ -n ${WIDE:-} ]]; then
    upstream 1000 1
    for which in $relays; do
        # Each stream lasts 30 s.
        cpu_per_event wide "$which" 4500 30 100
    done
    exit
fi
upstream 50 1
for which in $relays; do
    # Each stream lasts 10 s.
    cpu_per_event paced "$which" "$((streams * 2))" 200 "$((streams / 10))"
done
upstream 20 32
for which in $relays; do
    cpu_per_event burst "$which" "$streams" 1600 "$((streams / 5))"
done
upstream 5 1
load "$decode" 1000 4 100 direct
direct=$(median_ttft runs-direct)
# The prefill leg is one more answer of such an instance: what is left above it is the relay's own.
for which in ${relays/floor/}; do
    relay "$which"
    load "$port" 1000 4 100 "ttft-$which"
    through=$(median_ttft "runs-ttft-$which")
    awk -v a="$direct" -v b="$through" -v who="$which" \
        'BEGIN {printf "%-8s TTFT p50 at 100/s: %.3f ms direct, %.3f ms through it: +%.3f ms, of which %.3f ms its own\n", who, a, b, b - a, b - 2 * a}'
    kill "$relay"
    wait "$relay" 2>/dev/null || true
done
