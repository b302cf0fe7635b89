#!/usr/bin/env bash
# Is `pdbench accuracy` what lm_eval is? Both ask the same deterministic server, one after the other: each prompt must be
# the same bytes, each body have the same fields, and every answer read, every verdict, score, standard error, task hash
# and the printed table must be the same. Exit status 0 only if all are; about 6 minutes.
# The first run installs lm_eval (about 400 MB).
# environment: PDBENCH_STACKS  where everything is kept (default target/stacks)
#              PYTHON          a Python that has lm_eval 0.4.13 with its api extra and transformers already
#              LM_EVAL_LAB     directory of mock_openai.py, run_lm_eval.sh and compare.py (default ../shared/lab/lm_eval)
#              PDBENCH_GSM8K   directory of test.jsonl and train.jsonl of gsm8k (default ../shared/data/gsm8k)
#              PDBENCH         the program (default: a release build of this tree)
# usage: accuracy-parity.sh [CASE…]   three-shot five-shot seed chat single batch ids cot zeroshot llama; all by default
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stacks=${PDBENCH_STACKS:-$root/target/stacks}
lab=${LM_EVAL_LAB:-$root/../shared/lab/lm_eval}
data=${PDBENCH_GSM8K:-$root/../shared/data/gsm8k}
mkdir -p "$stacks"

# Says why the check cannot run here: nothing was shown.
skip() {
    printf 'SKIPPED: %s: %s\n' "$(basename "$0")" "$*" >&2
    exit 77
}
for file in "$lab"/{mock_openai.py,run_lm_eval.sh,compare.py} "$data"/{test,train}.jsonl; do
    [[ -f $file ]] || skip "there is no $file"
done
lab=$(cd "$lab" && pwd) data=$(cd "$data" && pwd)

python=${PYTHON:-$stacks/lm-eval/bin/python}
has_lm_eval() { "$python" -c 'import lm_eval, transformers, tenacity' 2>/dev/null; }
if ! has_lm_eval; then
    [[ -z ${PYTHON:-} ]] || skip "$PYTHON has no lm_eval"
    printf '==> installing lm_eval into %s\n' "$stacks/lm-eval"
    if ! { python3 -m venv "$stacks/lm-eval" &&
        "$python" -m pip install -q 'lm_eval[api]==0.4.13' transformers && has_lm_eval; }; then
        rm -rf "$stacks/lm-eval"
        skip 'lm_eval cannot be installed here'
    fi
fi
if [[ -z ${PDBENCH:-} ]]; then
    cargo build --release --locked --manifest-path "$root/Cargo.toml"
    PDBENCH=$(cd "${CARGO_TARGET_DIR:-$root/target}" && pwd)/release/pdbench
fi

work=$(mktemp -d "$stacks/lm-eval-parity.XXXXXX")
mock=
stop_mock() {
    if [[ -n $mock ]]; then
        kill "$mock" 2>/dev/null || true
        wait "$mock" 2>/dev/null || true
    fi
    mock=
}
trap stop_mock EXIT
export PYTHON=$python GSM8K_DATA=$data no_proxy=127.0.0.1,localhost
tokenizer=$root/tests/data/tiny-tokenizer

# ours NAME ENDPOINT MOCK_FLAGS arguments: pdbench against a mock of its own
ours() {
    local name=$1 endpoint=$2 flags=$3 port
    shift 3
    mkdir -p "$work/$name/ours"
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # shellcheck disable=SC2086 # flags are words
    "$python" "$lab/mock_openai.py" --port "$port" --gold "$data/test.jsonl" --log "$work/$name/ours/requests.jsonl" \
        $flags >"$work/$name/ours/mock.out" 2>&1 &
    mock=$!
    "$PDBENCH" accuracy "$@" --wait-ready 20 --base-url "http://127.0.0.1:$port/v1/$endpoint" --model mock-model \
        --output-dir "$work/$name/ours/runs" --no-progress --dataset-path "$data" \
        >"$work/$name/ours/out.txt" 2>"$work/$name/ours/err.txt" || {
        tail -20 "$work/$name/ours/err.txt" "$work/$name/ours/out.txt" >&2
        return 1
    }
    stop_mock
}

# The table that lm_eval prints, whatever the width of its columns and without the mark of a task of local data; fails
# where there is none.
table() {
    sed -n '/^| *Tasks *|Version|/,/^$/p' "$1" | sed -e 's/local_gsm8k/gsm8k/' -e 's/ *| */|/g; s/-\+/-/g' | grep '^|'
}
task_hash() {
    "$python" -c 'import json, sys; print(*json.load(open(sys.argv[1]))["task_hashes"].values())' "$1"
}

# case_of NAME TASK ENDPOINT MOCK_FLAGS "lm_eval's arguments" arguments: both, and what differs
case_of() {
    local name=$1 task=$2 endpoint=$3 flags=$4 theirs=$5 run
    shift 5
    if [[ ${#wanted[@]} -gt 0 && " ${wanted[*]} " != *" $name "* ]]; then
        return 0
    fi
    # shellcheck disable=SC2086 # arguments are words
    bash "$lab/run_lm_eval.sh" --task "$task" --out "$work/$name/theirs" --mock "$flags" $theirs >"$work/$name.log" 2>&1 || {
        tail -20 "$work/$name.log" >&2
        failed+=("$name")
        return 0
    }
    ours "$name" "$endpoint" "$flags" "${@//THEIRS/$work/$name/theirs}" || {
        failed+=("$name")
        return 0
    }
    run=$(echo "$work/$name/ours/runs"/*)
    local results
    results=$(echo "$work/$name/theirs/lm_eval_output"/*/results*.json)
    if "$python" "$lab/compare.py" --strict-body --ref-requests "$work/$name/theirs/requests.jsonl" \
        --ref-samples "$work/$name/theirs/lm_eval_output/*/samples*.jsonl" --ref-results "$results" \
        --requests "$work/$name/ours/requests.jsonl" --results "$run/lm_eval_samples.jsonl" \
        --summary "$run/lm_eval_results.json" --json "$work/$name/compared.json" >"$work/$name/compared.txt" &&
        [[ $(task_hash "$results") == "$(task_hash "$run/lm_eval_results.json")" ]] &&
        table "$work/$name/theirs/console.txt" >"$work/$name/theirs/table.txt" &&
        table "$work/$name/ours/out.txt" >"$work/$name/ours/table.txt" &&
        diff "$work/$name"/{theirs,ours}/table.txt >"$work/$name/tables.diff"; then
        "$python" - "$work/$name/compared.json" "$name" <<'PY'
import json, sys
found = json.load(open(sys.argv[1]))
prompts, strict, flexible = found["prompts"], found["strict"], found["flexible"]
print(f"{sys.argv[2]:<11} {prompts['byte_equal']} of {prompts['ref']} prompts, every verdict; strict {strict['other_score']}, "
      f"flexible {flexible['other_score']}", flush=True)
PY
    else
        failed+=("$name")
        printf '%s: NOT THE SAME\n' "$name"
        tail -40 "$work/$name/compared.txt"
        cat "$work/$name/tables.diff" 2>/dev/null || true
    fi
}

wanted=("$@") failed=()
case_of three-shot gsm8k completions '' '--num-fewshot 3' gsm8k --num-fewshot 3
case_of five-shot gsm8k completions '' '--num-fewshot 5 --limit 400' gsm8k --num-fewshot 5 --limit 400
case_of seed gsm8k completions '' '--num-fewshot 3 --limit 400 --seed 0,1234,1234,7' gsm8k --num-fewshot 3 --limit 400 \
    --fewshot-seed 7
case_of chat gsm8k chat/completions '' '--num-fewshot 3 --limit 300 --chat' gsm8k --num-fewshot 3 --limit 300
case_of single gsm8k chat/completions '' '--num-fewshot 3 --limit 200 --chat --multiturn false' gsm8k --num-fewshot 3 \
    --limit 200 --fewshot-as-multiturn false
case_of batch gsm8k completions '' '--num-fewshot 3 --limit 300 --batch-size 4' gsm8k --num-fewshot 3 --limit 300 \
    --batch-size 4
case_of ids gsm8k completions "--hf-tokenizer $tokenizer/tokenizer.json" \
    "--num-fewshot 3 --limit 300 --tokenizer-backend huggingface --tokenizer $tokenizer" gsm8k --num-fewshot 3 --limit 300 \
    --prompt-format token-ids --tokenizer "$tokenizer" --num-concurrent 1 --compat lm_eval
case_of cot gsm8k_cot completions '' '--num-fewshot 8 --limit 200' --task-yaml THEIRS/tasks/local_gsm8k_cot.yaml --limit 200
case_of zeroshot gsm8k_cot_zeroshot completions '' '--num-fewshot 0 --limit 200' gsm8k_cot_zeroshot --limit 200
case_of llama gsm8k_cot_llama chat/completions '' '--num-fewshot 8 --limit 200 --chat' \
    --task-yaml THEIRS/tasks/local_gsm8k_cot_llama.yaml --limit 200

if [[ ${#failed[@]} -gt 0 ]]; then
    printf '==> NO PARITY: %s; look into %s\n' "${failed[*]}" "$work" >&2
    exit 1
fi
rm -rf "$work"
printf '==> accuracy-parity passed in %d s\n' "$SECONDS"
