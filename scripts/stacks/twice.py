"""The check of an instance that prefills and decodes alike, with a store: a long prompt, then its own prefix cache is
emptied, and the prompt comes again. The second time its KV must come from the store, and the answer be the same.

usage: twice.py URL MODEL BLOCK"""

import json
import sys
import time
import urllib.request

from moved import counters, opener

url, model, block = sys.argv[1], sys.argv[2], int(sys.argv[3])
PROMPT = f"At {time.time_ns()} " + " ".join(f"the ship passes mark {mark} and goes on," for mark in range(120))


def post(path, body=None):
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(body or {}).encode(), head)
    return opener.open(request, timeout=60).read()


def ask():
    body = {"model": model, "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "ignore_eos": True, "logprobs": 1}
    answer = json.loads(post("/v1/completions", body))
    choice = answer["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"], answer["usage"]["prompt_tokens"]


first = ask()
time.sleep(2)  # What is stored is stored behind the answer.
post("/reset_prefix_cache")
before = counters([url])
second = ask()
after = counters([url])
moved = int(after["external_kv_transfer"] - before["external_kv_transfer"])
apart = max(abs(one - other) for one, other in zip(first[1], second[1], strict=True))
print(
    f"    {second[2]} prompt tokens, {moved} of them from the store; text {'equal' if first[0] == second[0] else 'DIFFERENT'}, "
    f"log probabilities within {apart:.6f}"
)
# What is computed in other pieces differs in the last places.
if first[0] != second[0] or apart > 0.01:
    raise SystemExit("the answer from the stored KV is another one")
if moved < second[2] - 2 * block:
    raise SystemExit("the KV did not come from the store")
