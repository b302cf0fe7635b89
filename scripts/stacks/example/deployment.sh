# ExampleConnector: KV in files of a folder that all instances see. No services: the quick one.
# shellcheck disable=SC2034,SC2154
DIALECT=plain BLOCK=128 BLOCK_SIZE=128

plan() {
    local host
    for host in "${prefill_hosts[@]}" "${decode_hosts[@]}"; do fresh "$host" kv; done
    instances
    await
    pd_proxy
}

arguments() {
    kv_role=kv_consumer shared=$state/kv
    [[ $1 != prefill ]] || kv_role=kv_producer
    # It writes the KV of a prompt's first chunk as if it were all, and who reads such a file ends: no chunks.
    args+=(--no-enable-chunked-prefill --max-num-batched-tokens 8192)
    args+=(--kv-transfer-config "$(render_line kv.json)")
}
