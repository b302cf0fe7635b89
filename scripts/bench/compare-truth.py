#!/usr/bin/env python3
"""Holds what `pdbench serve` measured against the truth log of the `pdbench sim` that it loaded.

usage: compare-truth.py RUN_DIRECTORY TRUTH_LOG [--ttft-ms LIMIT] [--itl-ms LIMIT]

Prints the errors of TTFT and of every inter-token gap in milliseconds; exit 1 when the 99th percentile of
either is above its limit (default 2 ms), or when a request has no truth.
"""

import argparse
import json
import math
import pathlib


def times(coded):
    """Instants from a first value and gaps, microseconds."""
    at, out = 0.0, []
    for step in coded:
        at += step
        out.append(at)
    return out


def line(name, errors):
    errors = sorted(abs(error) for error in errors)
    at = lambda p: errors[min(len(errors) - 1, math.ceil(p * len(errors)) - 1)] / 1000
    print(
        f"{name} error, ms: p50 {at(.5):.4f}  p90 {at(.9):.4f}  p99 {at(.99):.4f}  p99.9 {at(.999):.4f}"
        f"  max {errors[-1] / 1000:.4f}  n {len(errors)}"
    )
    return at(0.99)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("truth", type=pathlib.Path)
    parser.add_argument("--ttft-ms", type=float, default=2.0)
    parser.add_argument("--itl-ms", type=float, default=2.0)
    arguments = parser.parse_args()
    truths = {}
    for text in arguments.truth.read_text().splitlines()[1:]:
        truth = json.loads(text)
        if truth["role"] == "prefill":
            continue  # the leg that the client does not see
        truths[truth["id"]] = truth
    records = [json.loads(text) for text in (arguments.run / "records.jsonl").read_text().splitlines()]
    records = [record for record in records if record["kind"] == "main"]
    failed = [record for record in records if record["outcome"] != "ok"]
    print(f"{len(records)} requests, {len(failed)} not ok, stamps by the {records[0]['stamps']}")
    ttft, itl, lag = [], [], []
    for record in records:
        truth = truths[record["id"]]
        seen, written = times(record["events_us"]), times(truth["writes_us"])
        assert len(seen) == len(written), record["id"]
        ttft.append((seen[0] - record["sent_us"]) - (written[0] - truth["received_us"]))
        itl += [(b - a) - (d - c) for a, b, c, d in zip(seen, seen[1:], written, written[1:])]
        lag.append(record["sent_us"] - record["ready_us"])
    worst_ttft, worst_itl = line("TTFT", ttft), line("ITL ", itl)
    line("send", lag)
    bad = worst_ttft > arguments.ttft_ms or worst_itl > arguments.itl_ms or failed
    print("FAIL" if bad else "OK")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
