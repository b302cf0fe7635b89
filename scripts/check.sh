#!/usr/bin/env bash
# Everything that must pass before a change is proposed: format, lints, tests, documentation.
# Works from any directory. Needs no network once the crates are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() {
    local name=$1 start=$SECONDS
    shift
    printf '==> %s: %s\n' "$name" "$*"
    if ! "$@"; then
        printf '==> %s FAILED after %d s\n' "$name" "$((SECONDS - start))" >&2
        exit 1
    fi
    printf '==> %s passed in %d s\n' "$name" "$((SECONDS - start))"
}

step format cargo fmt --check
step lints cargo clippy --all-targets --locked -- -D warnings
if cargo nextest --version >/dev/null 2>&1; then
    step tests cargo nextest run --locked
    # nextest does not run the examples in the documentation.
    step 'documentation tests' cargo test --doc --locked
else
    step tests cargo test --locked
fi
RUSTDOCFLAGS='-D warnings' step documentation cargo doc --no-deps --locked
printf '==> all passed in %d s\n' "$SECONDS"
