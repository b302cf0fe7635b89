# NixlConnector: decode reads the KV out of the prefill instance's memory, by UCX.
# shellcheck disable=SC2034,SC2154
DIALECT=nixl-pull BLOCK=1 BLOCK_SIZE=32
EXTRAS=nixl

plan() {
    instances
    await
    pd_proxy
}

arguments() {
    local side=$((SIDE_CHANNEL_PORT + $2))
    kv_role=kv_consumer
    if [[ $1 == prefill ]]; then
        kv_role=kv_producer
    else
        side=$((side + ${#prefill_places[@]}))
    fi
    env+=("VLLM_NIXL_SIDE_CHANNEL_HOST=$3" "VLLM_NIXL_SIDE_CHANNEL_PORT=$side")
    [[ $DEVICE != cpu ]] || env+=("UCX_TLS=tcp,self,sm")
    kv_buffer_device=$DEVICE
    args+=(--kv-transfer-config "$(render_line kv.json)")
}
