# Sourced by ../stack: the parts that deployments are made of. A deployment.sh has
#   plan                        calls them in start order, with `await` where what follows needs what is before
#   arguments ROLE INDEX HOST   puts vLLM's arguments of an instance into `args`, its environment into `env`
# and sets DIALECT, BLOCK (tokens of the smallest piece of KV that moves), BLOCK_SIZE (vLLM's, on the processor) and STORE.
# It may have
#   facts NTH                   prints what the proxy has to know of the NTH prefill instance of a host
#   extra                       asks what only this deployment is asked

extra() {
    :
}

etcd_server() {
    local url=http://$SERVICE_HOST:$ETCD_PORT peer=http://$SERVICE_HOST:$ETCD_PEER_PORT
    fresh "$SERVICE_HOST" etcd
    start etcd "$SERVICE_HOST" "$url/health" -- etcd --data-dir "$state/etcd" --listen-client-urls "$url" \
        --advertise-client-urls "$url" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
        --initial-cluster "default=$peer"
}

# mooncake_master [flags]: its metrics server says when it is up.
mooncake_master() {
    start master "$SERVICE_HOST" "http://$SERVICE_HOST:$MASTER_METRICS_PORT/health" "${python_env[@]}" -- \
        "$master" -rpc_port="$MASTER_PORT" -rpc_address="$SERVICE_HOST" -metrics_host="$SERVICE_HOST" \
        -metrics_port="$MASTER_METRICS_PORT" -logtostderr "$@"
}

# Where Python finds what was installed beside vLLM, and the plugins that let connectors run on the processor.
python_path() {
    local each
    master=mooncake_master python_env=() python=python3
    if [[ $DEVICE == cpu ]]; then
        python_env=("PYTHONPATH=$here/plugins")
        for each in ${EXTRAS:-}; do
            python_env=("PYTHONPATH=$stacks/extras/$each:${python_env[0]#PYTHONPATH=}")
        done
        python=$venv/bin/python
        master="$stacks/extras/mooncake/mooncake/mooncake_master"
    fi
}

# instance ROLE INDEX HOST:PORT FIRST_PORT: one vLLM; `nth` counts those of its role on its host.
instance() {
    local role=$1 index=$2 host=${3%:*} port=${3##*:} args=() env=()
    local nth=$((port - $4))
    # The KV's keys are hashes: the same seed everywhere.
    env=(PYTHONHASHSEED=0 "VLLM_HOST_IP=$host" "${python_env[@]}")
    if [[ $DEVICE == cpu ]]; then
        env+=(VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
            VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 VLLM_SERVER_DEV_MODE=1)
        args=(--dtype float32 --max-model-len 4096 --max-num-seqs 64 --num-gpu-blocks-override "$((65536 / BLOCK_SIZE))"
            --enforce-eager --block-size "$BLOCK_SIZE")
    fi
    ((TENSOR_PARALLEL == 1)) || args+=(--tensor-parallel-size "$TENSOR_PARALLEL")
    ((DATA_PARALLEL == 1)) || args+=(--data-parallel-size "$DATA_PARALLEL")
    [[ $role == baseline ]] || arguments "$role" "$index" "$host"
    start "$role-$index" "$host" "http://$host:$port/health" "${env[@]}" -- "$vllm" serve "$model" \
        --served-model-name "$name" "$model" --host "$host" --port "$port" "${args[@]}"
}

# All instances at once: they become ready together.
instances() {
    local i
    for i in "${!prefill_places[@]}"; do instance prefill "$i" "${prefill_places[i]}" "$PREFILL_PORT"; done
    for i in "${!decode_places[@]}"; do instance decode "$i" "${decode_places[i]}" "$DECODE_PORT"; done
    for i in "${!mixed_places[@]}"; do instance mixed "$i" "${mixed_places[i]}" "$PREFILL_PORT"; done
    [[ $baseline == no ]] || instance baseline 0 "$BASELINE_HOST:$BASELINE_PORT" "$BASELINE_PORT"
}

# Prefill instances as `pdbench` takes them, with what the dialect has to know of them behind the address.
known_prefills() {
    local each
    for each in ${prefill_places[@]+"${prefill_places[@]}"}; do
        if declare -F facts >/dev/null; then
            printf '%s,%s\n' "$each" "$(facts $((${each##*:} - PREFILL_PORT)))"
        else
            printf '%s\n' "$each"
        fi
    done
}

pd_proxy() {
    local host=$SERVICE_HOST program=$pdbench
    local -a prefill decode=("${decode_places[@]}")
    [[ $topology != *m ]] || return 0
    is_here "$host" || program=pdbench
    mapfile -t prefill < <(known_prefills)
    if [[ $proxy == python ]]; then
        [[ $DIALECT == plain ]] || fail "the plain Python proxy speaks only dialect plain, and $deployment needs $DIALECT"
        start proxy "$host" "http://$host:$PROXY_PORT/health" -- "$python" "$here/plain-proxy.py" --host "$host" \
            --port "$PROXY_PORT" --prefill "${prefill_places[@]}" --decode "${decode[@]}" --repeat-d-times "${REPEAT_D_TIMES:-0}"
    else
        start proxy "$host" "http://$host:$PROXY_PORT/health" -- "$program" proxy --host "$host" --port "$PROXY_PORT" \
            --dialect "$DIALECT" --prefill "${prefill[@]}" --decode "${decode[@]}" ${PROXY_FLAGS[@]+"${PROXY_FLAGS[@]}"}
    fi
}

# The deployment's shape and dialect with simulated nodes: a rehearsal of everything but vLLM.
plan_simulated() {
    local node
    [[ $topology != *m ]] || fail 'the simulated cluster has a proxy: --topology 1p1d'
    node=${prefill_places[0]%:*}
    start simulated "$node" "http://${decode_places[0]}/health" -- "$pdbench" sim --no-proxy --topology "$topology" \
        --host "$node" --prefill-port "$PREFILL_PORT" --decode-port "$DECODE_PORT" --dialect "$DIALECT"
    await
    pd_proxy
}

# Ready is who completes: as many prompts as there are instances, so that each has had one.
first_completions() {
    local count=$((${#prefill_places[@]} + ${#decode_places[@]} + ${#mixed_places[@]}))
    run python3 "$here/complete.py" "$front" "$name" "$count"
    [[ $baseline == no ]] || run python3 "$here/complete.py" "http://$BASELINE_HOST:$BASELINE_PORT" "$name" 1
}

# What the guides prepare on a host; told, never changed.
report_hosts() {
    local host
    for host in $(printf '%s\n' "$SERVICE_HOST" "${prefill_hosts[@]}" "${decode_hosts[@]}" | sort -u); do
        on "$host" 'printf "    host %s: %s cores, %s GiB free\n" "'"$host"'" "$(nproc)" \
                "$(awk "/MemAvailable/ {printf \"%d\", \$2 / 1048576}" /proc/meminfo)"
            printf "        transparent huge pages: %s; nr_hugepages: %s; RDMA devices: %s\n" \
                "$(sed "s/.*\[\(.*\)\].*/\1/" /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null || echo unknown)" \
                "$(cat /proc/sys/vm/nr_hugepages 2>/dev/null || echo unknown)" \
                "$(ls /sys/class/infiniband 2>/dev/null | tr "\n" " " | grep . || echo none)"'
    done
    if [[ $PROTOCOL != tcp ]]; then
        printf '    protocol %s needs its devices on every host; see %s/README.md for what the guide sets\n' "$PROTOCOL" "$deployment"
    fi
}
