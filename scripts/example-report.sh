#!/usr/bin/env bash
# Makes reports/example anew: a small run against the embedded simulated cluster. About half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --release --locked
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A relative directory, so that the stored command line names no path of this machine.
(cd "$scratch" && PATH="$target/release:$PATH" pdbench serve --num-prompts 200 --rate 8 --seed 1 --output-dir runs)

runs=("$scratch"/runs/*/)
if ((${#runs[@]} != 1)); then
    printf 'example-report: want one run, found %d\n' "${#runs[@]}" >&2
    exit 1
fi
for file in run.json records.jsonl requests.csv summary.csv timeline.csv report.html; do
    if [[ ! -s ${runs[0]}$file ]]; then
        printf 'example-report: the run has no %s\n' "$file" >&2
        exit 1
    fi
done
rm -rf reports/example
cp -R "${runs[0]}" reports/example
chmod -R u=rwX,go=rX reports/example
printf 'made reports/example: open reports/example/report.html\n'
