#!/usr/bin/env python3
"""Writes the vectors that the tests of src/workload compare with, drawn by CPython and numpy themselves.

    python3 -m venv /tmp/vectors && /tmp/vectors/bin/pip install numpy
    /tmp/vectors/bin/python scripts/arrival-vectors.py

random-vectors.json: raw draws; doubles as the hexadecimal of their bits, so that no parser rounds them.
arrival-vectors.json: schedules in seconds, by the arrival law of `vllm bench serve`; the first five times,
the last five and the sum of all.
custom-vectors.json: the order in which vLLM takes the lines of a custom dataset.
sonnet-vectors.json: digests of the prompts made of datasets/sonnets.txt, four bytes a token.
"""

import hashlib
import json
import math
import random
import struct
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SEEDS = [0, 1, 42, 2**31 + 7, 2**32 - 1]
SHAPES = [0.05, 0.37, 0.5, 0.999, 1.0, 1.001, 2.0, 7.5, 1000.0]
WIDTHS = [1, 2, 10, 518, 2**31, 2**32, 2**33 + 5, 2**63 + 1]


def bits(value):
    return format(struct.unpack(">Q", struct.pack(">d", value))[0], "016x")


def python_vector(seed):
    random.seed(seed)
    vector = {"seed": seed, "random": [bits(random.random()) for _ in range(5)]}
    vector["getrandbits"] = [(k, random.getrandbits(k)) for k in (1, 7, 31, 32, 33, 53, 64)]
    vector["randrange"] = [(n, random.randrange(n)) for n in WIDTHS]
    vector["choices_of_518"] = random.choices(range(518), k=5)
    vector["choice_of_7"] = [random.choice(range(7)) for _ in range(12)]
    items = list(range(20))
    random.shuffle(items)
    vector["shuffled_20"] = items
    return vector


def gamma_vector(seed, shape):
    np.random.seed(seed)
    draws = [np.random.standard_gamma(shape) for _ in range(1000)]
    return {"shape": shape, "draws": [bits(x) for x in draws[:8]], "sum_of_1000": bits(sum(draws))}


def numpy_vector(seed):
    np.random.seed(seed)
    vector = {"seed": seed}
    # An odd number of normal draws: the kept half of a pair must outlast the exponential draws.
    for name in ("random_sample", "standard_normal", "standard_exponential"):
        vector[name] = [bits(getattr(np.random, name)()) for _ in range(7)]
    vector["standard_gamma"] = [gamma_vector(seed, shape) for shape in SHAPES]
    return vector


def rate_at(case, i):
    if case["ramp"] is None:
        return case["rate"]
    shape, start, end = case["ramp"]
    progress = i / max(case["count"] - 1, 1)
    if shape == "linear":
        return start + (end - start) * progress
    return start * (end / start) ** progress


def gap(rate, burstiness):
    if rate is None:
        return 0.0
    if burstiness == float("inf"):
        return 1.0 / rate
    return np.random.gamma(shape=burstiness, scale=1.0 / (rate * burstiness))


def arrival_vector(seed, count, rate, burstiness, normalise=True, ramp=None):
    case = {"seed": seed, "count": count, "rate": rate, "ramp": ramp}
    case |= {"burstiness": repr(burstiness), "normalise": normalise}
    np.random.seed(seed)
    times, at = [], 0.0
    for i in range(count):
        at += gap(rate_at(case, i), burstiness)
        times.append(float(at))
    if normalise and ramp is None and rate is not None and times[-1] != 0:
        factor = (count / rate) / times[-1]
        times = [t * factor for t in times]
    return case | {"first": times[:5], "last": times[-5:], "sum": sum(times)}


def arrival_vectors():
    for seed in SEEDS:
        for burstiness in (0.37, 0.5, 1.0, 2.0, 1000.0, float("inf")):
            yield arrival_vector(seed, 1000, 12.5, burstiness)
            yield arrival_vector(seed, 37, 0.3, burstiness, normalise=False)
    yield arrival_vector(3, 1, 8.0, 1.0)
    yield arrival_vector(3, 100, 2000.0, 1.0)
    yield arrival_vector(0, 10, None, 1000.0)
    for shape, start, end in (("linear", 1.0, 20.0), ("exponential", 1.0, 20.0), ("linear", 9.0, 2.0)):
        for burstiness in (0.5, 1.0, float("inf")):
            yield arrival_vector(5, 200, None, burstiness, ramp=(shape, start, end))


def custom_vector(seed, lines, wanted, shuffle):
    """Seeds, shuffles, takes the first ones; where they are too few, seeds again and chooses among them."""
    order = list(range(lines))
    random.seed(seed)
    if shuffle:
        random.shuffle(order)
    taken = order[:wanted]
    if len(taken) < wanted:
        random.seed(seed)
        taken += [random.choice(taken[:lines]) for _ in range(wanted - len(taken))]
    return {"seed": seed, "lines": lines, "wanted": wanted, "shuffle": shuffle, "taken": taken}


def custom_vectors():
    for seed in SEEDS:
        for lines, wanted in ((12, 5), (12, 12), (12, 40), (1, 3), (300, 310)):
            for shuffle in (True, False):
                yield custom_vector(seed, lines, wanted, shuffle)


def tokens(text):
    return math.ceil(len(text.encode()) / 4)


def sonnet_vector(input_len, prefix_len, num_prompts, seed):
    with open(ROOT / "datasets" / "sonnets.txt", encoding="utf-8") as file:
        lines = file.readlines()
    mean = sum(tokens(line) for line in lines) / len(lines)
    opening = "Pick as many lines as you can from these poem lines:\n"
    count = max(round((input_len - tokens(opening)) / mean), 1)
    shared = max(round((prefix_len - tokens(opening)) / mean), 0)
    random.seed(seed)
    prompts = []
    while len(prompts) < num_prompts:
        prompt = opening + "".join(lines[:shared] + random.choices(lines, k=count - shared))
        if tokens(prompt) <= input_len:
            prompts.append(prompt)
    vector = {"input_len": input_len, "prefix_len": prefix_len, "num_prompts": num_prompts, "seed": seed}
    vector["sha256"] = hashlib.sha256("".join(prompts).encode()).hexdigest()
    return vector | {"prompt_tokens": sum(map(tokens, prompts))}


def sonnet_vectors():
    for seed in (0, 7, 2**32 - 1):
        for input_len, prefix_len in ((550, 200), (2000, 100), (128, 0), (1000, 990)):
            yield sonnet_vector(input_len, prefix_len, 40, seed)


def write(name, value):
    """One item a line where there are many, so that a changed vector shows as a changed line."""
    if isinstance(value, list):
        text = "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]\n"
    else:
        text = json.dumps(value, indent=1) + "\n"
    (GOLDEN / name).write_text(text)


if __name__ == "__main__":
    python = [python_vector(seed) for seed in [*SEEDS, 2**32, 2**64 - 1]]
    raw = {"python": python, "numpy": [numpy_vector(seed) for seed in SEEDS]}
    write("random-vectors.json", raw)
    write("arrival-vectors.json", list(arrival_vectors()))
    write("custom-vectors.json", list(custom_vectors()))
    write("sonnet-vectors.json", list(sonnet_vectors()))
