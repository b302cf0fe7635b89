# MultiConnector: point to point by MooncakeConnector, and everything into Mooncake's store besides, as the pooled
# deployments do. With --topology 1m: one instance that does both, with the store alone, and no proxy.
# shellcheck disable=SC2034,SC2154
DIALECT=mooncake-p2p BLOCK=1 BLOCK_SIZE=32 STORE=yes
PACKAGES='etcd=etcd-server libibverbs.so.1=libibverbs1 libnuma.so.1=libnuma1'
EXTRAS=mooncake

plan() {
    etcd_server
    mooncake_master
    await
    instances
    await
    pd_proxy
}

# Each prefill instance has a bootstrap server; those of one host count their ports up.
facts() {
    printf 'bootstrap=%s' $((BOOTSTRAP_PORT + $1))
}

arguments() {
    local_hostname=$3 kv_role=kv_consumer
    [[ $1 != prefill ]] || kv_role=kv_producer
    put "$3" "mooncake-$1-$2.json" "$(render mooncake.json)"
    env+=("MOONCAKE_CONFIG_PATH=$state/files/mooncake-$1-$2.json" "VLLM_MOONCAKE_BOOTSTRAP_PORT=$((BOOTSTRAP_PORT + nth))")
    if [[ $1 == mixed ]]; then
        args+=(--kv-transfer-config "$(render_line mixed.json)")
    else
        args+=(--kv-transfer-config "$(render_line kv.json)")
    fi
}
