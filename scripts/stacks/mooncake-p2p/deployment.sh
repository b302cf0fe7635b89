# MooncakeConnector: Mooncake's transfer engine moves KV from a prefill instance to the decode instance that wants it.
# shellcheck disable=SC2034,SC2154
DIALECT=mooncake-p2p BLOCK=1 BLOCK_SIZE=32
PACKAGES='libibverbs.so.1=libibverbs1 libnuma.so.1=libnuma1'
EXTRAS=mooncake

plan() {
    instances
    await
    pd_proxy
}

# Each prefill instance has a bootstrap server; those of one host count their ports up.
facts() {
    printf 'bootstrap=%s' $((BOOTSTRAP_PORT + $1))
}

arguments() {
    kv_role=kv_consumer
    [[ $1 != prefill ]] || kv_role=kv_producer
    env+=("VLLM_MOONCAKE_BOOTSTRAP_PORT=$((BOOTSTRAP_PORT + nth))")
    args+=(--kv-transfer-config "$(render_line kv.json)")
}
