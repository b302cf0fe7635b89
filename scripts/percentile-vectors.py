#!/usr/bin/env python3
"""Writes tests/golden/percentiles.json: what numpy makes of some sets of values.

Needs numpy (made with 2.4.6):  python3 -m venv V && V/bin/pip install numpy && V/bin/python scripts/percentile-vectors.py
Numbers are written as text with all their digits, so that the test can ask for equality to the last bit
where numpy's formula is followed exactly (percentiles, median).
"""
import json
import pathlib

import numpy as np

PERCENTILES = [0.1, 1, 2.5, 10, 25, 33.3, 50, 66.6, 75, 90, 95, 97.5, 99, 99.9, 99.99]
rng = np.random.Generator(np.random.PCG64(20260101))
SETS = {
    "one value": np.array([42.5]),
    "two values": np.array([3.0, 1.0]),
    "three values": np.array([0.1, 0.2, 0.3]),
    "equal values": np.full(7, 0.1),
    "a spike far away": np.array([0.1] * 98 + [1e9, 1e-9]),
    "times near a million": 1e6 + rng.integers(0, 1000, 50) / 10,
    "uniform, 101": rng.random(101) * 1000,
    "log-normal, 300": rng.lognormal(4, 1, 300).round(4),
    "exponential, 1000": rng.exponential(50, 1000).round(4),
}

cases = []
for name, values in SETS.items():
    cases.append(
        {
            "name": name,
            "values": [repr(float(v)) for v in values],
            "mean": repr(float(np.mean(values))),
            "std": repr(float(np.std(values))),
            "median": repr(float(np.median(values))),
            "percentiles": [[repr(p), repr(float(np.percentile(values, p)))] for p in PERCENTILES],
        }
    )
path = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "percentiles.json"
path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(f"numpy {np.__version__}: {len(cases)} sets in {path}")
