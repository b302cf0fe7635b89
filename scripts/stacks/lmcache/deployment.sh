# LMCacheConnectorV1 over Mooncake's store: chunks of KV, found by their hashes. mooncake_master keeps the metadata itself.
# shellcheck disable=SC2034,SC2154
DIALECT=plain BLOCK=64 BLOCK_SIZE=32 STORE=yes
PACKAGES='libibverbs.so.1=libibverbs1 libnuma.so.1=libnuma1'
EXTRAS='mooncake lmcache'
# As in ../mooncake-store: under load decode asks before all is there.
BENCH_COMPUTED=2000

plan() {
    mooncake_master -enable_http_metadata_server -http_metadata_server_host="$SERVICE_HOST" \
        -http_metadata_server_port="$METADATA_PORT"
    await
    instances
    await
    pd_proxy
}

arguments() {
    local_hostname=$3 kv_role=kv_consumer chunk_size=$BLOCK
    [[ $1 != prefill ]] || kv_role=kv_producer
    put "$3" "lmcache-$1-$2.yaml" "$(render lmcache.yaml)"
    env+=("LMCACHE_CONFIG_FILE=$state/files/lmcache-$1-$2.yaml")
    args+=(--kv-transfer-config "$(render_line kv.json)")
}
