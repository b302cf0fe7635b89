# MooncakeStoreConnector: prefill puts KV into Mooncake's distributed store, decode finds it there by the prompt's hashes.
# shellcheck disable=SC2034,SC2154
DIALECT=plain BLOCK=32 BLOCK_SIZE=32 STORE=yes
PACKAGES='etcd=etcd-server libibverbs.so.1=libibverbs1 libnuma.so.1=libnuma1'
EXTRAS=mooncake
# What prefill puts is in the store some time after its answer: under load decode asks too early, and computes the rest.
BENCH_COMPUTED=2000
PROXY_FLAGS=(--benchmark-mode)

plan() {
    etcd_server
    mooncake_master
    await
    instances
    await
    pd_proxy
}

arguments() {
    local_hostname=$3 kv_role=kv_consumer
    [[ $1 != prefill ]] || kv_role=kv_producer
    put "$3" "mooncake-$1-$2.json" "$(render mooncake.json)"
    env+=("MOONCAKE_CONFIG_PATH=$state/files/mooncake-$1-$2.json")
    args+=(--kv-transfer-config "$(render_line kv.json)")
}

# shellcheck source=scripts/stacks/mooncake-store/extra.sh
source "$here/mooncake-store/extra.sh"
