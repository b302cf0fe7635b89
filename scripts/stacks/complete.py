"""Waits until completions come through, and says how long they took. A server is ready when it completes, not when it
says so: behind a proxy /health and /v1/models may be missing, or there while nothing works.

usage: complete.py URL MODEL COUNT [PREFILL]   so many prompts of some 500 tokens, one after the other, none like another;
                                             with PREFILL, each to that instance first, and a second of time for its KV
                                             to get into the store"""

import json
import sys
import time
import urllib.error
import urllib.request

url, model, count, prefills = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
LIMIT_S = 180
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(server, prompt, tokens):
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(server + "/v1/completions", json.dumps(body).encode(), head)
    return json.load(opener.open(request, timeout=60))["usage"]["completion_tokens"]


def complete(number):
    """The reason why it failed, or None."""
    prompt = f"{time.time_ns()}: " + "".join(f"the road bends at mark {mark + number} and goes on, " for mark in range(40))
    try:
        for prefill in prefills:
            ask(prefill, prompt, 1)
            time.sleep(1)
        tokens = ask(url, prompt, 4)
        return None if tokens == 4 else f"{tokens} tokens of 4"
    except urllib.error.HTTPError as error:
        return f"status {error.code}: {error.read(300).decode(errors='replace')}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


begun = time.monotonic()
for number in range(1, count + 1):
    while reason := complete(number):
        if time.monotonic() - begun > LIMIT_S:
            raise SystemExit(f"no completion from {url} in {LIMIT_S} s; the last: {reason}")
        time.sleep(1)
print(f"    {url} completes ({count} after {time.monotonic() - begun:.1f} s)")
