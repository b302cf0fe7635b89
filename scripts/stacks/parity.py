"""The comparison of scripts/stacks/parity-vllm; needs nothing but the standard library."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request

parser = argparse.ArgumentParser()
for name in ("vllm", "pdbench", "model", "text", "relay", "work"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--server-port", type=int, required=True)
parser.add_argument("--relay-port", type=int, required=True)
arguments = parser.parse_args()
work = pathlib.Path(arguments.work)
failures = []


def check(name, good, detail=""):
    print(f"{'ok  ' if good else 'FAIL'} {name}{': ' + detail if detail else ''}", flush=True)
    if not good:
        failures.append(name)


def load(client, tag, flags, port):
    """One run of a client; its result JSON."""
    folder = work / tag
    folder.mkdir()
    common = ["--base-url", f"http://127.0.0.1:{port}", "--model", "tiny", "--tokenizer", arguments.model]
    saving = ["--save-result", "--result-dir", str(folder), "--result-filename", "result.json"]
    if client == "vllm":
        command = [arguments.vllm, "bench", "serve", "--disable-tqdm"]
    else:
        command = [arguments.pdbench, "serve", "--disable-tqdm", "--probe", "none", "--output-dir", str(folder)]
    done = subprocess.run(command + common + saving + flags, cwd=folder, capture_output=True, text=True)
    (folder / "out.txt").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        print(done.stdout[-3000:], done.stderr[-3000:])
        raise SystemExit(f"{client} {tag} ended with {done.returncode}")
    return json.loads((folder / "result.json").read_text())


def through_relay(client, tag, flags):
    """One run through a fresh relay; result and what the relay saw."""
    log = work / f"{tag}.jsonl"
    relay = subprocess.Popen([sys.executable, arguments.relay, str(arguments.relay_port), str(arguments.server_port), str(log)])
    try:
        wait_until_open(arguments.relay_port)
        result = load(client, tag, flags, arguments.relay_port)
    finally:
        relay.terminate()
        relay.wait()
    requests = [json.loads(line) for line in log.read_text().splitlines()]
    # vLLM's client asks a few other things first, such as how the server tokenises.
    return result, [request for request in requests if request["path"].endswith("/completions")]


def wait_until_open(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(100):
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=2)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the relay does not come up")


def offsets(seen):
    return [request["at_s"] - seen[0]["at_s"] for request in seen]


def compare(name, flags, timed):
    theirs, seen_theirs = through_relay("vllm", f"{name}-vllm", flags)
    ours, seen_ours = through_relay("pdbench", f"{name}-pdbench", flags)
    prompts = [[request["body"].get("prompt", request["body"].get("messages")) for request in seen] for seen in (seen_theirs, seen_ours)]
    if prompts[0] and isinstance(prompts[0][0], list):
        # vLLM wraps a chat's text into parts; ours is the plain text by default.
        text = lambda content: content if isinstance(content, str) else "".join(part["text"] for part in content)
        prompts = [[[text(turn["content"]) for turn in messages] for messages in side] for side in prompts]
    same = sum(a == b for a, b in zip(*prompts))
    check(f"{name}: prompts", prompts[0] == prompts[1], f"{same} of {len(prompts[0])} the same")
    lengths = [[request["body"].get("max_tokens", request["body"].get("max_completion_tokens")) for request in seen] for seen in (seen_theirs, seen_ours)]
    check(f"{name}: output lengths", lengths[0] == lengths[1])
    eos = [{request["body"].get("ignore_eos", False) for request in seen} for seen in (seen_theirs, seen_ours)]
    check(f"{name}: ignore_eos", eos[0] == eos[1], f"{eos[1]}")
    keys = [key for key in ours if key != "pdbench"]
    check(f"{name}: keys of the result", keys == list(theirs), "" if keys == list(theirs) else f"{set(keys) ^ set(theirs)}")
    for key in ("completed", "failed", "total_input_tokens", "total_output_tokens", "num_prompts", "request_rate", "max_concurrency", "burstiness"):
        check(f"{name}: {key}", ours[key] == theirs[key], f"{ours[key]}")
    if timed:
        errors = [abs(a - b) * 1000 for a, b in zip(offsets(seen_theirs), offsets(seen_ours))]
        # vLLM's sleeps and the machine are good for some ms; a different schedule is off by hundreds.
        median = statistics.median(errors)
        check(f"{name}: arrivals", median < 40, f"median difference {median:.1f} ms, greatest {max(errors):.1f} ms")


SONNET = ["--dataset-name", "sonnet", "--dataset-path", arguments.text, "--sonnet-input-len", "300"]
SONNET += ["--sonnet-output-len", "24", "--sonnet-prefix-len", "100", "--ignore-eos"]
for seed in ("0", "1", "4711"):
    compare(f"sonnet-{seed}", [*SONNET, "--num-prompts", "20", "--max-concurrency", "1", "--seed", seed], timed=False)
compare("arrivals", [*SONNET, "--num-prompts", "20", "--request-rate", "6", "--burstiness", "0.7", "--seed", "3"], timed=True)
compare("random", ["--dataset-name", "random", "--random-input-len", "120", "--random-output-len", "16", "--random-range-ratio", "0.3", "--num-prompts", "20", "--max-concurrency", "1"], timed=False)
compare("chat", [*SONNET, "--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--num-prompts", "12", "--max-concurrency", "1"], timed=False)

# Latencies, straight to the server, in turn; a run to warm it up first.
flags = [*SONNET, "--num-prompts", "40", "--max-concurrency", "2", "--percentile-metrics", "ttft,tpot,itl,e2el"]
load("pdbench", "warm", [*flags, "--seed", "99"], arguments.server_port)
values = {"vllm": [], "pdbench": []}
for turn in range(3):
    for client in values:
        values[client].append(load(client, f"latency-{client}-{turn}", [*flags, "--seed", str(100 + turn)], arguments.server_port))
for key in ("mean_ttft_ms", "mean_tpot_ms"):
    theirs, ours = ([run[key] for run in values[client]] for client in ("vllm", "pdbench"))
    noise = max(max(theirs) - min(theirs), max(ours) - min(ours))
    difference = abs(statistics.mean(theirs) - statistics.mean(ours))
    shown = lambda runs: " ".join(f"{value:.2f}" for value in runs)
    detail = f"vllm {shown(theirs)}, pdbench {shown(ours)}; difference {difference:.2f}, noise {noise:.2f}"
    # Python's client adds its own lag, so that its means lie a little above: half of the mean is far beyond that.
    check(key, difference <= max(2 * noise, 0.5 * statistics.mean(theirs)), detail)

# A guide's command line, with nothing but the program's name changed.
guide = f"--backend vllm --model {arguments.model} --dataset-name sonnet --request-rate inf --host 127.0.0.1 --port {arguments.server_port}"
guide += " --sonnet-input-len 2000 --sonnet-output-len 1000 --sonnet-prefix-len 100 --trust-remote-code --max-concurrency 1024"
guide += f" --num-prompts 1 --ignore-eos --burstiness 1000 --dataset-path {arguments.text} --save-result"
folder = work / "guide"
folder.mkdir()
done = subprocess.run([arguments.pdbench, "serve", *guide.split()], cwd=folder, capture_output=True, text=True)
found = list(folder.glob("vllm-infqps-concurrency1024-*.json"))
check("the guide's command line", done.returncode == 0 and len(found) == 1, f"exit {done.returncode}, {[path.name for path in found]}")
if done.returncode:
    print(done.stdout[-2000:], done.stderr[-2000:])
print(f"{len(failures)} failed")
raise SystemExit(1 if failures else 0)
