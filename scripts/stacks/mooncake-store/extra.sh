# Sourced by deployment.sh: what `all` asks of the store besides. Repeated decodes in the three ways there are, and the
# store's master killed in mid-run.

extra() {
    local copies=15 tokens=200
    repeated "$copies" "$tokens" repeat-direct --prefill "${prefill_places[@]}" --decode "${decode_places[@]}" \
        --store-metrics "$store_metrics" --repeat-d-times "$copies"
    if [[ $proxy == pdbench ]]; then
        repeated "$copies" "$tokens" repeat-proxy --pd-proxy "$front" --repeat-d-times "$copies"
    fi
    foreign_proxy "$copies"
    repeated "$copies" "$tokens" repeat-external --pd-proxy "http://$SERVICE_HOST:$FOREIGN_PORT" \
        --repeat-proxy external --expect-replicas "$copies" --decode "${decode_places[@]}"
    kill_master
}

# repeated COPIES TOKENS NAME FLAGS...: a batch, whose totals must be what the decode instances count.
repeated() {
    local copies=$1 tokens=$2 folder=$3
    local -a asked urls
    shift 3
    mapfile -t asked < <(asked_model)
    mapfile -t urls < <(decode_urls)
    printf '==> %s\n' "$folder"
    run python3 "$here/moved.py" save "$state/counters.json" "${urls[@]}"
    expect 0 "$folder" run_in "$folder" "$pdbench" serve "$@" "${asked[@]}" --dataset-name random --input-len 512 \
        --output-len "$tokens" --output-dir .
    run python3 "$here/mooncake-store/totals.py" "$state/$folder" "$state/counters.json" "$((copies + 1))" "$tokens" "${urls[@]}"
}

# A proxy of another make, whose second request sets off the copies in silence.
foreign_proxy() {
    FOREIGN_PORT=$((PROXY_PORT + 1))
    start foreign "$SERVICE_HOST" "http://$SERVICE_HOST:$FOREIGN_PORT/health" -- "$python" "$here/plain-proxy.py" \
        --host "$SERVICE_HOST" --port "$FOREIGN_PORT" --prefill "${prefill_places[@]}" --decode "${decode_places[@]}" \
        --repeat-d-times "$1"
    await
}

# 20 requests in 20 s, and after 12 s no master: clients see answers, later, and KV no longer moves.
kill_master() {
    local load code=0
    local -a asked urls
    mapfile -t asked < <(asked_model)
    mapfile -t urls < <(decode_urls)
    local -a command=("$pdbench" serve --base-url "$front" "${asked[@]}" --prefill "${prefill_places[@]}"
        --decode "${decode_places[@]}" --store-metrics "$store_metrics" --dataset-name random --input-len 512 --output-len 16
        --num-prompts 20 --request-rate 1 --burstiness 1000 --output-dir .)
    printf '==> mooncake_master killed in mid-run\n'
    if [[ $dry_run == yes ]]; then
        run "${command[@]}"
        return
    fi
    run_in killed "${command[@]}" &
    load=$!
    sleep 12
    end master KILL
    python3 "$here/moved.py" save "$state/counters.json" "${urls[@]}"
    wait "$load" || code=$?
    printf '    pdbench serve ended with status %s\n' "$code"
    tr -s ' \n' ' ' <"$state/killed/out.txt" | grep -oE 'KV no longer moved from .{0,200}' | sed 's/^/    /' ||
        fail 'pdbench serve did not see that KV stopped'
    if python3 "$here/moved.py" since "$state/counters.json" "$BLOCK" "${urls[@]}"; then
        fail 'KV moved without a master'
    fi
}
