# Sourced by ../stack: what was asked for, turned into settings once, and kept for the other verbs.

fail() {
    printf 'stack: %s\n' "$*" >&2
    exit 1
}

dry_run=no simulated=no free_ports=no baseline=yes proxy=pdbench topology='' hosts_file=''

read_options() {
    while (($#)); do
        case $1 in
        --dry-run) dry_run=yes ;;
        --free-ports) free_ports=yes ;;
        --no-baseline) baseline=no ;;
        --simulated) simulated=yes ;;
        --topology | --hosts | --proxy)
            (($# > 1)) || usage "$1 wants a value"
            case $1 in
            --topology) topology=$2 ;;
            --hosts) hosts_file=$2 ;;
            --proxy) proxy=$2 ;;
            esac
            shift
            ;;
        *) usage "unknown option $1" ;;
        esac
        shift
    done
    case $proxy in pdbench | python) ;; *) usage "--proxy is pdbench or python, not $proxy" ;; esac
    [[ -z $topology || $topology =~ ^([1-9][0-9]*p[1-9][0-9]*d|[1-9][0-9]*m)$ ]] ||
        usage "$topology is no topology: want 1p2d, or 1m for an instance that does both"
    state=$stacks/run/$deployment
}

# The names that a hosts.env may set.
setting_names() {
    grep -oE '^[A-Z_]+=' "$here/lib/defaults.env" | tr -d =
}

# The settings' defaults, then the deployment's own part.
defaults() {
    # shellcheck source=scripts/stacks/lib/defaults.env
    source "$here/lib/defaults.env"
    # What a deployment.sh may say: the proxy's dialect, tokens in a block of KV that moves or not, whether it has a store.
    DIALECT=plain BLOCK=128 STORE=no
    # shellcheck disable=SC1090
    source "$here/$deployment/deployment.sh"
}

# From the deployment's files and the options.
settings() {
    local hosts=${hosts_file:-$here/$deployment/hosts.env} unknown
    defaults
    [[ -r $hosts ]] || fail "cannot read $hosts"
    unknown=$(grep -oE '^[A-Za-z_]+=' "$hosts" | tr -d = | grep -vxF "$(setting_names)" || true)
    [[ -z $unknown ]] || fail "$hosts sets ${unknown//$'\n'/, }, which is no setting; lib/defaults.env has them all"
    # shellcheck disable=SC1090
    source "$hosts"
    if [[ $free_ports == yes ]]; then
        # shellcheck disable=SC2046
        eval "$(python3 "$here/free-ports.py" $(setting_names | grep _PORT))"
    fi
    derive
}

# What follows from the settings.
derive() {
    local prefills decodes
    read -r -a prefill_hosts <<<"$PREFILL_HOSTS"
    read -r -a decode_hosts <<<"$DECODE_HOSTS"
    topology=${topology:-${#prefill_hosts[@]}p${#decode_hosts[@]}d}
    if [[ $simulated == yes ]]; then
        SERVICE_HOST=127.0.0.1 prefill_hosts=(127.0.0.1) decode_hosts=(127.0.0.1) BENCH_PROMPTS=16
        # A simulated node has one port for everything.
        BOOTSTRAP_PORT=$PREFILL_PORT
    fi
    mixed_places=() prefill_places=() decode_places=()
    if [[ $topology == *m ]]; then
        places mixed_places "${topology%m}" "$PREFILL_PORT" "${prefill_hosts[@]}"
        # What it takes over comes from the store alone.
        front=http://${mixed_places[0]} BLOCK=$BLOCK_SIZE
    else
        prefills=${topology%%p*} decodes=${topology#*p}
        places prefill_places "$prefills" "$PREFILL_PORT" "${prefill_hosts[@]}"
        places decode_places "${decodes%d}" "$DECODE_PORT" "${decode_hosts[@]}"
        front=http://$SERVICE_HOST:$PROXY_PORT
    fi
    # Three instances are what a small machine holds.
    if [[ -z $BASELINE_HOST || $simulated == yes ]] || ((${#prefill_places[@]} + ${#decode_places[@]} > 2)); then
        baseline=no
    fi
    if [[ $simulated == yes ]]; then
        name=simulated model=simulated
    elif [[ $DEVICE == cpu ]]; then
        name=tiny model=$stacks/tiny-model vllm=$venv/bin/vllm
    else
        [[ -n $MODEL ]] || fail "MODEL is not set in hosts.env: the model's folder on every host"
        model=$MODEL name=${SERVED_NAME:-$model} vllm=$VLLM
    fi
    store_metrics=''
    [[ $STORE == no ]] || store_metrics=http://$SERVICE_HOST:$MASTER_METRICS_PORT/metrics
    python_path
}

# places ARRAY COUNT PORT HOST...: host:port of each instance; on one host the ports count up.
places() {
    local -n into=$1
    local count=$2 port=$3 i
    shift 3
    local -a hosts=("$@")
    for ((i = 0; i < count; i++)); do
        into+=("${hosts[i % ${#hosts[@]}]}:$((port + i / ${#hosts[@]}))")
    done
    [[ -z $(printf '%s\n' "${hosts[@]}" | sort | uniq -d) ]] ||
        fail "a host stands twice in hosts.env; --topology makes several instances on one host"
}

save_settings() {
    local each
    {
        for each in $(setting_names) topology baseline proxy simulated; do
            printf '%s=%q\n' "$each" "${!each}"
        done
    } >"$state/settings"
}

# For the verbs that come after `up`; a dry run needs none.
saved_settings() {
    [[ $dry_run == no ]] || {
        settings
        return
    }
    [[ -r $state/settings ]] || fail "$deployment is not up: scripts/stacks/stack up $deployment"
    defaults
    # shellcheck disable=SC1091
    source "$state/settings"
    derive
    # What is started from now on ends first.
    stage=$(cut -d' ' -f5 "$state/pids" | sort -rn | head -1)
    stage=$((stage + 1))
}

# The program under test; building it is for those verbs that run it.
find_pdbench() {
    if [[ $dry_run == yes ]]; then
        pdbench=pdbench
    elif [[ -n ${PDBENCH:-} ]]; then
        pdbench=$PDBENCH
        [[ -x $pdbench ]] || fail "PDBENCH=$pdbench is no program"
    else
        cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml"
        pdbench=$(cd "${CARGO_TARGET_DIR:-$root/target}" && pwd)/release/pdbench
    fi
}

# render FILE: with @NAME@ replaced by the variable NAME, lower or upper case.
render() {
    local text each
    text=$(<"$here/$deployment/$1")
    for each in $(grep -oE '@[A-Za-z_]+@' <<<"$text" | sort -u | tr -d @); do
        [[ -v $each ]] || fail "$deployment/$1 wants $each, which is not set"
        text=${text//@$each@/${!each}}
    done
    printf '%s\n' "$text"
}

# The same on one line, for a command.
render_line() {
    render "$1" | tr -s ' \n' ' ' | sed 's/ $//'
}
