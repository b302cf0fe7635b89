"""Compares what a batch of equal decodes reports with what the decode instances counted meanwhile.

usage: totals.py FOLDER COUNTERS REQUESTS TOKENS URL...   FOLDER has the run directory, COUNTERS is from moved.py save"""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent.parent))
from moved import counters  # noqa: E402

folder, before = pathlib.Path(sys.argv[1]), json.load(open(sys.argv[2]))
requests, tokens = int(sys.argv[3]), int(sys.argv[4])
after = counters(sys.argv[5:])
records = [json.loads(line) for line in next(folder.glob("*/records.jsonl")).open()]
kinds = {}
for record in records:
    count, generated = kinds.get(record["kind"], (0, 0))
    kinds[record["kind"]] = count + 1, generated + record["output_tokens"]
print("   ", ", ".join(f"{kind}: {count} of {generated} tokens" for kind, (count, generated) in kinds.items()))
grown = {key: int(after[key] - before[key]) for key in before}
print(f"    decode counted {grown['requests']} requests and {grown['generated']} tokens")
# The batch, and the requests that asked before it whether anything answers.
asked, answered = kinds.get("probe", (0, 0))
expected = {"requests": requests + asked, "generated": requests * tokens + answered}
if any(grown[key] != value for key, value in expected.items()):
    raise SystemExit(f"{expected['requests']} requests and {expected['generated']} tokens were to be counted")
