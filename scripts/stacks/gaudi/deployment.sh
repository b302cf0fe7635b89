# Gaudi (the HPU fork of vLLM): MooncakeStoreConnector over etcd and mooncake_master. Not run on the hardware by this project.
# shellcheck disable=SC2034,SC2154
DIALECT=plain BLOCK=128 BLOCK_SIZE=128 STORE=yes
PROXY_FLAGS=(--benchmark-mode)

plan() {
    etcd_server
    mooncake_master -rpc_thread_num=64
    await
    instances
    await
    pd_proxy
}

arguments() {
    local_hostname=$3 kv_role=kv_consumer
    [[ $1 != prefill ]] || kv_role=kv_producer
    put "$3" "mooncake-$1-$2.json" "$(render mooncake.json)"
    env+=("MOONCAKE_CONFIG_PATH=$state/files/mooncake-$1-$2.json" PT_HPU_ENABLE_LAZY_COLLECTIVES=true)
    args+=(--trust-remote-code --max-model-len 8192 --max-num-seqs 32 --gpu-memory-utilization 0.9
        --disable-async-output-proc --distributed-executor-backend mp)
    args+=(--kv-transfer-config "$(render_line kv.json)")
}
