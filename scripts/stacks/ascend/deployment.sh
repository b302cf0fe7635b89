# vllm-ascend: MooncakeConnectorV1 moves KV point to point, AscendStoreConnector keeps it in Mooncake's store. With
# --topology 1m: one instance that does both, with the store alone, and no proxy. Not run on the hardware by this project.
# shellcheck disable=SC2034,SC2154
DIALECT=ascend BLOCK=128 BLOCK_SIZE=128 STORE=yes

plan() {
    # No etcd: addresses are exchanged by the instances themselves (P2PHANDSHAKE).
    mooncake_master -eviction_high_watermark_ratio=0.9 -eviction_ratio=0.1 -default_kv_lease_ttl=11000
    await
    instances
    await
    pd_proxy
}

arguments() {
    kv_role=kv_consumer kv_port=$((KV_PORT + $2)) lookup_port=$2
    case $1 in
    prefill) kv_role=kv_producer ;;
    decode) kv_port=$((KV_PORT + 100 + $2)) lookup_port=$((100 + $2)) ;;
    mixed) kv_role=kv_both ;;
    esac
    put "$3" "mooncake-$1-$2.json" "$(render mooncake.json)"
    env+=("MOONCAKE_CONFIG_PATH=$state/files/mooncake-$1-$2.json" "HCCL_IF_IP=$3" HCCL_INTRA_ROCE_ENABLE=1)
    args+=(--trust-remote-code --enforce-eager --max-num-seqs 20 --max-model-len 32768 --max-num-batched-tokens 16384
        --gpu-memory-utilization 0.9)
    if [[ $1 == mixed ]]; then
        args+=(--kv-transfer-config "$(render_line mixed.json)")
    else
        args+=(--kv-transfer-config "$(render_line kv.json)")
    fi
}
