#!/usr/bin/env python3
"""Writes tests/golden/vllm-results.json and tests/golden/vllm-bodies.json from what the real `vllm bench serve` does.

Needs vLLM (made with 0.30) with pandas, a tokenizer directory with a chat template, and a release build of pdbench:
    TOKENIZER=DIR V/bin/python scripts/vllm-reference.py
- vllm-results.json: for some sets of flags, the keys of the result JSON with their types, in order, its file name, and the
  lines of the console block without their numbers. The server is `pdbench sim`.
- vllm-bodies.json: the bodies of its requests, taken down by a small server that answers with one token.
tests/serve/compatibility.rs asks pdbench for the same.
"""
import contextlib
import http.server
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from vllm.benchmarks.serve import add_cli_args, main as vllm_bench_serve
from vllm.utils.argparse_utils import FlexibleArgumentParser

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
TOKENIZER = os.environ["TOKENIZER"]
PDBENCH = os.environ.get("PDBENCH", str(ROOT / "target" / "release" / "pdbench"))
EVERY = "ttft,tpot,itl,e2el,client_queue_time,e2el_including_client_queue"

# Flags that mean the same to both programs.
RESULTS = {
    "plain": "--save-result",
    "rate": "--save-result --request-rate 50",
    "limit and rate, every metric": f"--save-result --request-rate 50 --max-concurrency 4 --percentile-metrics {EVERY}",
    "limit, every metric": f"--save-result --max-concurrency 4 --percentile-metrics {EVERY}",
    "no limit, every metric": f"--save-result --percentile-metrics {EVERY}",
    "detailed": "--save-result --save-detailed --max-concurrency 4",
    "goodput": "--save-result --goodput ttft:500 tpot:50 e2el:10000",
    "ramp-up": "--save-result --ramp-up-strategy linear --ramp-up-start-rps 20 --ramp-up-end-rps 60 --max-concurrency 8",
    "percentiles as typed": "--append-result --metric-percentiles 99.9,50,25,99",
    "metadata and label": "--save-result --label mine --metadata version=0.3.3 tp=1 note=a=b",
    "metadata over a key": "--save-result --metadata backend=other duration=long",
    "small rate": "--save-result --request-rate 40.5 --burstiness 2 --label small",
}
BODIES = {
    "completions": "",
    "ignore the end": "--ignore-eos",
    "logprobs": "--logprobs 3",
    "sampling": "--repetition-penalty 1.1 --presence-penalty 0.5 --frequency-penalty 0.25 --temperature 0 --min-p 0.1 "
    "--top-k 20 --top-p 0.9",
    "extra body": '--temperature 1 --extra-body {"temperature":0.5,"max_tokens":3,"seed":1}',
    "chat": "--backend openai-chat",
    "chat with everything": '--backend openai-chat --ignore-eos --logprobs 3 --temperature 0 --top-k 5 --extra-body {"a":null}',
    "served name": "--served-model-name other",
}


def bench(base_url: str, directory: str, flags: list[str]) -> str:
    """Runs what `vllm bench serve` runs, in this process: its start takes long. Gives what it printed."""
    common = ["--base-url", base_url, "--model", "simulated", "--tokenizer", TOKENIZER, "--disable-tqdm"]
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    printed = io.StringIO()
    with contextlib.chdir(directory), contextlib.redirect_stdout(printed):
        vllm_bench_serve(parser.parse_args([*common, *flags]))
    return printed.getvalue()


def kind(value) -> str:
    """The type of a value as JSON has it, with whole numbers apart."""
    if isinstance(value, list):
        inner = sorted({kind(item) for item in value})
        return f"list of {' or '.join(inner)}" if inner else "list"
    return {bool: "bool", int: "int", float: "float", str: "str", dict: "object", type(None): "null"}[type(value)]


def console_block(printed: str) -> list[str]:
    """The lines of the block, with every number at the end of a line made `#`."""
    lines = printed[printed.index("============ Serving Benchmark Result") :].splitlines()
    end = lines.index("=" * 50)
    return [re.sub(r"^(.{40} )[0-9.]+ *$", r"\1#", line) for line in lines[: end + 1]]


def results(base_url: str) -> list[dict]:
    cases = []
    for name, flags in RESULTS.items():
        backend = ["--backend", "openai"]
        dataset = ["--dataset-name", "sonnet", "--dataset-path", str(ROOT / "datasets" / "sonnets.txt")]
        lengths = ["--sonnet-input-len", "300", "--sonnet-output-len", "8", "--sonnet-prefix-len", "100", "--num-prompts", "20"]
        with tempfile.TemporaryDirectory() as directory:
            printed = bench(base_url, directory, [*backend, *dataset, *lengths, *flags.split()])
            (file,) = pathlib.Path(directory).glob("*.json")
            result = json.loads(file.read_text())
            file_name = file.name.replace(result["date"], "DATE")
        keys = [[key, kind(value)] for key, value in result.items()]
        cases.append(
            {"name": name, "flags": flags, "file_name": file_name, "keys": keys, "console": console_block(printed)}
        )
        print(f"{name}: {file_name}, {len(keys)} keys", file=sys.stderr)
    return cases


class TakesDown(http.server.BaseHTTPRequestHandler):
    """Answers every POST with one streamed token and keeps its body."""

    bodies: list[dict] = []

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        delta = {"delta": {"content": "a"}} if "chat" in self.path else {"text": "a"}
        chunk = {"choices": [{"index": 0, "finish_reason": "length", **delta}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
        answer = "".join(f"data: {json.dumps(item)}\n\n" for item in (chunk, usage)) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


def bodies() -> list[dict]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TakesDown)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cases = []
    with tempfile.TemporaryDirectory() as directory:
        prompts = pathlib.Path(directory) / "prompts.jsonl"
        prompts.write_text(json.dumps({"prompt": 'Say "é" twice.', "output_tokens": 5}) + "\n")
        for name, flags in BODIES.items():
            TakesDown.bodies.clear()
            dataset = ["--dataset-name", "custom", "--dataset-path", str(prompts), "--skip-chat-template"]
            lengths = ["--custom-output-len", "5", "--num-prompts", "1"]
            endpoint = ["--endpoint", "/v1/chat/completions"] if "openai-chat" in flags else []
            bench(f"http://127.0.0.1:{server.server_port}", directory, [*dataset, *lengths, *endpoint, *flags.split()])
            (body,) = TakesDown.bodies
            cases.append({"name": name, "flags": flags, "body": body})
            print(f"{name}: {list(body)}", file=sys.stderr)
    return cases


def simulator():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([PDBENCH, "sim", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    return process, f"http://127.0.0.1:{port}"


def write(name: str, cases: list[dict]):
    (GOLDEN / name).write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


write("vllm-bodies.json", bodies())
process, base_url = simulator()
try:
    write("vllm-results.json", results(base_url))
finally:
    process.terminate()
