#!/usr/bin/env bash
# Runs every property test of the parsers over and over with fresh random input: event streams, HTTP, chunks, metrics text,
# journals, ZMTP, joined streams. A failure prints its smallest input and is kept beside the test.
#
# usage: scripts/fuzz.sh [MINUTES]     default 5
# environment: PROPTEST_CASES   inputs of one round, default 20000
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=${1:-5}
export PROPTEST_CASES=${PROPTEST_CASES:-20000}
end=$((SECONDS + minutes * 60)) rounds=0
cargo test --lib --test hostile --no-run
while ((SECONDS < end)); do
    cargo test --quiet --test hostile
    cargo test --quiet --lib -- wire:: report::journal measure::events measure::offset
    rounds=$((rounds + 1))
done
printf '%d rounds of %d inputs for each property, no failure\n' "$rounds" "$PROPTEST_CASES"
