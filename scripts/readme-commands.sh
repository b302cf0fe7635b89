#!/usr/bin/env bash
# Runs the commands that a Markdown file promises to work: each line of every ```sh block that stands behind a
# line `<!-- ci:run -->`. Every line runs on its own, at the root of the tree, without a home directory and with
# `pdbench` on the path. Stops at the first that fails.
#
# usage: scripts/readme-commands.sh [--list] [--skip COMMAND]... [FILE]
#   --list           print the commands and run none
#   --skip COMMAND   leave out the line that reads exactly so
#   FILE             the document, from the root of the tree (default README.md)
# environment: README_COMMAND_TIMEOUT, seconds that one command may take (default 300)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'readme-commands: %s\n' "$*" >&2
    exit 1
}

list=false document=README.md skipped=()
while (($#)); do
    case $1 in
    --list) list=true ;;
    --skip)
        (($# > 1)) || fail '--skip wants a command'
        skipped+=("$2")
        shift
        ;;
    -*) fail "unknown option $1; the head of this script lists them" ;;
    *) document=$1 ;;
    esac
    shift
done
[[ -r $document ]] || fail "cannot read $document"

# Blank lines and comments are left out; a line that ends in a backslash goes on in the next one.
extract() {
    awk '
        function stop(what) { printf "line %d: %s\n", NR, what > "/dev/stderr"; bad = 1; exit 1 }
        inside && /^```[ \t]*$/ { if (command != "") stop("the block ends in a backslash"); inside = 0; next }
        inside {
            line = $0
            sub(/^[ \t]+/, "", line)
            if (command == "" && (line == "" || line ~ /^#/)) next
            if (line ~ /\\$/) { command = command substr(line, 1, length(line) - 1); next }
            print command line
            command = ""
            next
        }
        marked && /^[ \t]*$/ { next }
        marked && /^```sh[ \t]*$/ { marked = 0; inside = 1; next }
        marked { stop("a ci:run mark must be followed by a ```sh block") }
        /^<!-- ci:run -->[ \t]*$/ { marked = 1; next }
        /ci:run/ { stop("a ci:run mark must be a line of its own: <!-- ci:run -->") }
        END { if (!bad && (marked || inside)) stop("the document ends inside a runnable block") }
    ' "$document"
}

found=$(extract) || fail "$document has a runnable block that cannot be read"
commands=()
while IFS= read -r command; do
    for skip in ${skipped[@]+"${skipped[@]}"}; do
        [[ $command != "$skip" ]] || continue 2
    done
    [[ -z $command ]] || commands+=("$command")
done <<<"$found"
((${#commands[@]})) || fail "$document has no runnable command; mark a \`\`\`sh block with <!-- ci:run -->"

if $list; then
    printf '%s\n' "${commands[@]}"
    exit
fi

cargo build --release --locked
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
clean=(
    env -i
    "PATH=$target/release:$PATH"
    "TMPDIR=$scratch"
    "CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}"
    "RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}"
    "CARGO_TARGET_DIR=$target"
    LC_ALL=C.UTF-8 TERM=dumb
)
number=0
for command in "${commands[@]}"; do
    number=$((number + 1))
    start=$SECONDS status=0
    printf '==> %d of %d: %s\n' "$number" "${#commands[@]}" "$command"
    timeout "${README_COMMAND_TIMEOUT:-300}" "${clean[@]}" bash -euo pipefail -c "$command" </dev/null || status=$?
    ((status == 0)) || fail "\`$command\` of $document ended with status $status after $((SECONDS - start)) s"
    printf '==> %d of %d passed in %d s\n' "$number" "${#commands[@]}" "$((SECONDS - start))"
done
