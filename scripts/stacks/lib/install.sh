# Sourced by ../stack: installs what a deployment needs on this machine, where it is not there. What cannot be installed
# makes a skip with its reason, exit status 0; whatever fails after this is a failure.

# Where vLLM runs on other devices, or is simulated, nothing is installed.
install() {
    local each
    [[ $simulated == no && $DEVICE == cpu ]] || return 0
    for each in "$SERVICE_HOST" "${prefill_hosts[@]}" "${decode_hosts[@]}"; do
        is_here "$each" || fail "DEVICE=cpu installs vLLM on this machine alone, and $each is another: set DEVICE and VLLM"
    done
    mkdir -p "$stacks"
    for each in ${PACKAGES:-}; do
        package "${each%=*}" "${each#*=}"
    done
    install_vllm
    for each in ${EXTRAS:-}; do
        extra_"$each"
    done
    make_tiny_model
}

# package TEST PACKAGE: a program, or a library if it is named lib*, and the Debian package that has it.
package() {
    case $1 in
    lib*) ldconfig -p | grep -F "$1" >/dev/null && return ;;
    *) command -v "$1" >/dev/null && return ;;
    esac
    printf '==> installing the package %s\n' "$2"
    local -a sudo=()
    if [[ $(id -u) != 0 ]]; then
        sudo=(sudo -n)
    fi
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$2" >"$stacks/apt.log" 2>&1 ||
        { "${sudo[@]}" apt-get update -qq && "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$2"; } \
            >>"$stacks/apt.log" 2>&1 ||
        skip "$deployment: the package $2 cannot be installed; $stacks/apt.log says why"
}

# extra_packages NAME MODULE REQUIREMENT...: Python packages beside vLLM's own, without what they ask for besides.
extra_packages() {
    local folder=$stacks/extras/$1 module=$2 log=$stacks/extras-$1.log
    shift 2
    PYTHONPATH=$folder "$venv/bin/python" -c "import $module" 2>/dev/null && return
    printf '==> installing %s\n' "$*"
    rm -rf "$folder"
    "$venv/bin/python" -m pip install -q --no-deps --target "$folder" "$@" >"$log" 2>&1 ||
        skip "$deployment: $1 cannot be installed; $log says why"
    PYTHONPATH=$folder "$venv/bin/python" -c "import $module" 2>>"$log" ||
        skip "$deployment: $module cannot be used here; $log says why"
}

extra_mooncake() {
    extra_packages mooncake mooncake.store mooncake-transfer-engine-non-cuda==0.3.13.post1
}

extra_nixl() {
    extra_packages nixl nixl._api nixl==1.5.1 nixl-cu13==1.5.1
}

extra_lmcache() {
    extra_packages lmcache lmcache lmcache==0.5.6 aiofile==3.12.3 aiofiles==25.1.0 awscrt==0.38.0 caio==0.12.10 \
        cufile-python==0.2.0 nvtx==0.2.16 opentelemetry-exporter-prometheus==0.66b2 redis==8.1.0 sortedcontainers==2.4.0
}
