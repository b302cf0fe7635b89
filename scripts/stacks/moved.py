"""What the decode instances took over and what they computed themselves, from their own counters.

usage: moved.py save FILE URL...         notes the counters
       moved.py since FILE MOST URL...   tells their growth; fails when nothing was moved, or more than MOST tokens a
                                         request were computed at decode: a connector leaves at most a block"""

import json
import re
import sys
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SOURCES = ("external_kv_transfer", "local_cache_hit", "local_compute")


def counters(urls):
    """Sums over the instances and their engines."""
    text = "\n".join(opener.open(url + "/metrics", timeout=10).read().decode() for url in urls)
    total = lambda name, label="": sum(
        float(value) for value in re.findall(rf"^vllm:{name}_total{{[^}}]*{label}[^}}]*}} (\S+)", text, re.M)
    )
    found = {source: total("prompt_tokens_by_source", f'source="{source}"') for source in SOURCES}
    return found | {"requests": total("request_success"), "prompt": total("prompt_tokens"), "generated": total("generation_tokens")}


def main():
    verb, file = sys.argv[1:3]
    if verb == "save":
        with open(file, "w") as out:
            json.dump(counters(sys.argv[3:]), out)
        return
    most = int(sys.argv[3])
    before = json.load(open(file))
    grown = {key: int(value - before[key]) for key, value in counters(sys.argv[4:]).items()}
    print(
        f"    decode: {grown['requests']} requests, {grown['prompt']} prompt tokens: {grown['external_kv_transfer']} moved, "
        f"{grown['local_cache_hit']} cached there, {grown['local_compute']} computed; {grown['generated']} generated"
    )
    if grown["external_kv_transfer"] == 0:
        raise SystemExit("no KV was moved")
    if grown["local_compute"] > most * grown["requests"]:
        raise SystemExit(f"more than {most} tokens a request were computed at decode")


if __name__ == "__main__":
    main()
