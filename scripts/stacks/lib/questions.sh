# Sourced by ../stack: what is asked of a deployment that is up.

# Runs a command, or prints it.
run() {
    if [[ $dry_run == yes ]]; then
        printf '%s\n\n' "$(launcher -- "$@" | sed '1d; s/^exec //')"
    else
        "$@"
    fi
}

# As run, in a folder of its own below the deployment's; what it printed is kept there.
run_in() {
    local folder=$state/$1 code=0
    shift
    if [[ $dry_run == yes ]]; then
        run "$@"
        return
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$folder" && "$@") >"$folder/out.txt" 2>&1 || code=$?
    sed -n '1,12p' "$folder/out.txt" | cut -c1-160 | sed 's/^/    /'
    return "$code"
}

decode_urls() {
    printf 'http://%s\n' ${decode_places[@]+"${decode_places[@]}"} ${mixed_places[@]+"${mixed_places[@]}"}
}

# expect CODE WHAT COMMAND...: fails when WHAT ends with another status.
expect() {
    local wanted=$1 what=$2 code=0
    shift 2
    "$@" || code=$?
    [[ $code == "$wanted" || $dry_run == yes ]] || fail "$what ended with status $code, and $wanted was expected; see $state"
}

# --tokenizer and the model; the simulated model has no tokenizer.
asked_model() {
    printf -- '--model\n%s\n' "$name"
    [[ $simulated == yes ]] || printf -- '--tokenizer\n%s\n' "$model"
}

# One prompt after the other: all but the last block of each is moved. What decode finds by the prompt alone is put there
# behind prefill's answer, so that prefill is given time.
check_moved() {
    local -a urls early=()
    [[ $DIALECT != plain ]] || early=("http://${prefill_places[0]}")
    mapfile -t urls < <(decode_urls)
    run python3 "$here/moved.py" save "$state/counters.json" "${urls[@]}"
    run python3 "$here/complete.py" "$front" "$name" 8 ${early[@]+"${early[@]}"}
    run python3 "$here/moved.py" since "$state/counters.json" "$BLOCK" "${urls[@]}"
}

check() {
    local worse=0
    local -a asked prefill nodes against=()
    mapfile -t asked < <(asked_model)
    mapfile -t prefill < <(known_prefills)
    nodes=(--prefill "${prefill[@]}" --decode "${decode_places[@]}" --dialect "$DIALECT")
    [[ $baseline == no ]] || against=(--baseline-url "http://$BASELINE_HOST:$BASELINE_PORT")
    if [[ $topology == *m ]]; then
        run python3 "$here/twice.py" "$front" "$name" "$BLOCK"
    else
        [[ $simulated == yes || ${CHECK_STATUS:-0} != 0 ]] || check_moved
        [[ -z $store_metrics || $simulated == yes ]] || nodes+=(--store "$store_metrics")
        printf '==> pdbench check\n'
        expect "${CHECK_STATUS:-0}" 'pdbench check' run_in check "$pdbench" check --base-url "$front" "${nodes[@]}" \
            "${asked[@]}" ${against[@]+"${against[@]}"} --output-dir .
    fi
    [[ $simulated == no ]] || return 0
    # Alone, the scores of a tiny model say nothing.
    [[ $baseline == no ]] || against+=(--baseline-passes 2) worse=${CHECK_STATUS:-0}
    printf '==> pdbench accuracy gsm8k\n'
    expect "$worse" 'pdbench accuracy' run_in accuracy "$pdbench" accuracy gsm8k --num-fewshot 3 --limit 30 \
        --max-tokens 48 --base-url "$front" "${asked[@]}" ${against[@]+"${against[@]}"} --num-concurrent 4 --no-progress \
        --output-dir .
}

# The command line of the guides, with `vllm bench` become `pdbench`.
bench() {
    local host=${front#http://} counted=yes
    local -a urls
    mapfile -t urls < <(decode_urls)
    # Prompts that come once are not in the store, and simulated KV is counted by `pdbench check`.
    [[ $simulated == no && $topology != *m ]] || counted=no
    [[ $counted == no ]] || run python3 "$here/moved.py" save "$state/counters.json" "${urls[@]}"
    printf '==> pdbench serve\n'
    expect 0 'pdbench serve' run_in bench "$pdbench" serve --backend vllm --model "$model" --dataset-name sonnet \
        --request-rate inf --host "${host%:*}" --port "${host##*:}" --sonnet-input-len 2000 --sonnet-output-len 1000 \
        --sonnet-prefix-len 100 --trust-remote-code --max-concurrency 1024 --num-prompts "$BENCH_PROMPTS" --ignore-eos \
        --burstiness 1000 --dataset-path "$root/datasets/sonnets.txt" --save-result --output-dir .
    [[ $counted == no ]] || run python3 "$here/moved.py" since "$state/counters.json" "${BENCH_COMPUTED:-$BLOCK}" "${urls[@]}"
    if [[ $dry_run == no ]]; then
        local -a folder=("$state"/bench/*-serve-*/)
        expect 0 'pdbench report' "$pdbench" report "${folder[0]}" >"$state/bench/report.txt"
        printf '    report: %sreport.html\n' "${folder[0]}"
    fi
}
