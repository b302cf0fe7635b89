"""Nodes that tell pages as long as vLLM's: some 55 KB, 40 of its lines of use to pdbench, all of them growing.

usage: observe-pages.py NODES     prints an address a line, then serves until it is ended
"""

import http.server
import sys
import threading

COUNTERS = ["prompt_tokens", "generation_tokens", "num_preemptions", "prefix_cache_queries", "prefix_cache_hits"]
SOURCES = ["local_compute", "local_cache_hit", "external_kv_transfer"]
HISTOGRAMS = [
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds", "nixl_xfer_time_seconds",
]
LABELS = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"'


def page(count):
    lines = [f"vllm:{name}_total{{{LABELS}}} {count * 7}.0" for name in COUNTERS]
    lines += [f'vllm:prompt_tokens_by_source_total{{{LABELS},source="{name}"}} {count}.0' for name in SOURCES]
    lines += [f"vllm:{name}{{{LABELS}}} {count % 9}.0" for name in ("num_requests_running", "num_requests_waiting")]
    for name in HISTOGRAMS:
        lines += [f'vllm:{name}_bucket{{{LABELS},le="{bound / 10}"}} {count}.0' for bound in range(22)]
        lines += [f"vllm:{name}_sum{{{LABELS}}} {count / 10}", f"vllm:{name}_count{{{LABELS}}} {count}.0"]
    other = 0
    while sum(map(len, lines)) < 55_000:
        lines.append(f'http_request_duration_seconds_bucket{{handler="/v1/completions",le="{other}",method="POST"}} {count}.0')
        other += 1
    return ("\n".join(lines) + "\n").encode()


class Node(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.count += 1
        body = page(self.server.count)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    for _ in range(int(sys.argv[1])):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Node)
        server.count = 0
        threading.Thread(target=server.serve_forever).start()
        print(f"127.0.0.1:{server.server_address[1]}", flush=True)


main()
