# The negative control: decode makes its KV up (DecodeBenchConnector) and counts it as moved. `check` must find that.
# shellcheck disable=SC2034,SC2154
DIALECT=plain BLOCK=128 BLOCK_SIZE=128 CHECK_STATUS=1

plan() {
    instances
    await
    pd_proxy
}

arguments() {
    [[ $1 == prefill ]] || args+=(--kv-transfer-config "$(render_line kv.json)")
}
