# Sourced by ../stack: files and processes on this host and on others; dry runs print them instead.
# A line of $state/pids: NAME HOST PID START STAGE, with the process's start time, by which a reused id is known.

ssh=${STACK_SSH:-ssh}
stage=1
waiting=()

is_here() {
    case $1 in
    127.* | localhost | ::1 | "$(hostname)") return 0 ;;
    esac
    grep -qwF -- "$1" <<<"$(hostname -I 2>/dev/null)"
}

# on HOST SCRIPT: runs the bash script there.
on() {
    if is_here "$1"; then
        bash -s <<<"$2"
    else
        # shellcheck disable=SC2086
        $ssh "$1" bash -s <<<"$2"
    fi
}

# put HOST FILE TEXT: a file below the deployment's folder on that host.
put() {
    if [[ $dry_run == yes ]]; then
        printf '# file %s on %s\n' "$state/files/$2" "$1"
        printf '%s\n\n' "$3"
        return
    fi
    on "$1" "mkdir -p ${state@Q}/files ${state@Q}/logs && base64 -d >${state@Q}/files/${2@Q} <<'END'
$(base64 <<<"$3")
END"
}

# fresh HOST FOLDER: nothing of an earlier run is left in that folder of the deployment's.
fresh() {
    if [[ $dry_run == no ]]; then
        on "$1" "rm -rf ${state@Q}/${2@Q}"
    fi
}

quote() {
    if [[ $1 =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
        printf '%s' "$1"
    else
        printf '%s' "${1@Q}"
    fi
}

# launcher [VARIABLE=VALUE]... -- COMMAND...: a script that becomes the command; a line for each flag.
launcher() {
    printf '#!/usr/bin/env bash\n'
    while [[ $1 != -- ]]; do
        printf 'export %s=%s\n' "${1%%=*}" "$(quote "${1#*=}")"
        shift
    done
    shift
    printf 'exec'
    while (($#)); do
        if [[ $1 == -* && $1 != -?*=* ]]; then
            printf ' \\\n   '
        fi
        printf ' %s' "$(quote "$1")"
        shift
    done
    printf '\n'
}

# start NAME HOST READY [VARIABLE=VALUE]... -- COMMAND...: READY is a URL that must answer 200, or tcp:HOST:PORT.
start() {
    local name=$1 host=$2 ready=$3 script pid begun
    shift 3
    script=$(launcher "$@")
    if [[ $dry_run == yes ]]; then
        printf '# %s on %s, ready when %s answers\n%s\n\n' "$name" "$host" "$ready" "${script#*$'\n'}"
        return
    fi
    put "$host" "$name.sh" "$script"
    read -r pid begun <<<"$(on "$host" "cd ${state@Q} || exit 1
        setsid bash files/${name@Q}.sh >logs/${name@Q}.log 2>&1 </dev/null &
        stat=\$(</proc/\$!/stat)
        read -r -a fields <<<\"\${stat##*) }\"
        echo \"\$! \${fields[19]}\"")"
    [[ -n ${begun:-} ]] || fail "$name could not be started on $host"
    printf '%s %s %s %s %s\n' "$name" "$host" "$pid" "$begun" "$stage" >>"$state/pids"
    waiting+=("$name $host $pid $begun $ready")
    printf '    %s on %s, process %s, log %s\n' "$name" "$host" "$pid" "$state/logs/$name.log"
}

# lives HOST PID START: still the process that was started there; a zombie is not.
lives() {
    on "$1" "stat=\$(</proc/$2/stat) || exit 1
        read -r -a fields <<<\"\${stat##*) }\"
        [[ \${fields[0]} != Z && \${fields[19]} == $3 ]]" 2>/dev/null
}

# answers READY: whether that place is there.
answers() {
    local rest place status
    case $1 in
    tcp:*)
        rest=${1#tcp:}
        (exec 3<>"/dev/tcp/${rest%:*}/${rest##*:}") 2>/dev/null
        ;;
    *)
        rest=${1#http://} place=${rest%%/*}
        (
            exec 3<>"/dev/tcp/${place%:*}/${place##*:}" || exit 1
            printf 'GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "${rest#*/}" "$place" >&3
            read -r -t 5 _ status _ <&3 && [[ $status == 200 ]]
        ) 2>/dev/null
        ;;
    esac
}

# Waits until everything started since the last call is ready; says whose end came first, with its last lines.
await() {
    local begin=$SECONDS each name host pid begun ready
    if [[ $dry_run == yes ]]; then
        printf '# wait until all of the above are ready\n\n'
        return
    fi
    for each in ${waiting[@]+"${waiting[@]}"}; do
        read -r name host pid begun ready <<<"$each"
        until answers "$ready"; do
            lives "$host" "$pid" "$begun" || {
                printf '%s ended early; its last lines:\n' "$name" >&2
                on "$host" "tail -n 25 ${state@Q}/logs/${name@Q}.log" >&2
                fail "what did start: scripts/stacks/stack down $deployment"
            }
            ((SECONDS - begin < ${READY_SECONDS:-900})) || fail "$name is not ready after $((SECONDS - begin)) s: no answer from $ready"
            sleep 0.5
        done
        printf '    %s is ready after %d s\n' "$name" "$((SECONDS - begin))"
    done
    waiting=()
    stage=$((stage + 1))
}

status() {
    local name host pid begun
    printf '%s, %s, requests go to %s\n' "$deployment" "$topology" "$front"
    while read -r name host pid begun _; do
        if lives "$host" "$pid" "$begun"; then
            printf '%-12s %-16s process %-8s runs\n' "$name" "$host" "$pid"
        else
            printf '%-12s %-16s process %-8s has ended\n' "$name" "$host" "$pid"
        fi
    done <"$state/pids"
    if answers "$front/health"; then printf '%s answers\n' "$front"; else printf '%s does not answer\n' "$front"; fi
}

# end NAME: asks one process that `up` started to end.
end() {
    local name host pid begun
    while read -r name host pid begun _; do
        if [[ $name == "$1" ]] && lives "$host" "$pid" "$begun"; then
            on "$host" "kill -${2:-TERM} $pid"
        fi
    done <"$state/pids"
}

# Ends what `up` started, last stage first: asks, waits 20 s, then kills the rest of the process's session.
down() {
    local of name host pid begun in deadline
    [[ -s $state/pids ]] || {
        rm -f "$state/pids" "$state/settings"
        return 0
    }
    for of in $(cut -d' ' -f5 "$state/pids" | sort -rnu); do
        while read -r name host pid begun in; do
            if [[ $in == "$of" ]] && lives "$host" "$pid" "$begun"; then
                on "$host" "kill $pid" || true
            fi
        done <"$state/pids"
        deadline=$((SECONDS + 20))
        while read -r name host pid begun in; do
            [[ $in == "$of" ]] || continue
            while lives "$host" "$pid" "$begun"; do
                if ((SECONDS >= deadline)); then
                    on "$host" "kill -KILL -- -$pid" || true
                    printf '    %s did not end by itself\n' "$name"
                    break
                fi
                sleep 0.3
            done
        done <"$state/pids"
    done
    rm -f "$state/pids" "$state/settings"
    printf '    %s is down; logs in %s\n' "$deployment" "$state/logs"
}
