#!/usr/bin/env python3
"""Instances that cost next to nothing: every POST is answered by a stream made before the run.

A request for one token (a prefill leg) gets it at once. Any other gets max_tokens events, BURST of them every GAP ms.
Standard library alone, one thread.

usage: proxy-upstream.py PORT GAP_MS BURST
"""
import asyncio
import json
import re
import sys

PORT, GAP, BURST = int(sys.argv[1]), float(sys.argv[2]) / 1e3, int(sys.argv[3])
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = {"id": "cmpl-0123456789abcdef0123456789abcdef", "object": "text_completion", "created": 1767323045,
         "model": "bench", "choices": [{"index": 0, "text": " token", "logprobs": None, "finish_reason": None,
                                        "stop_reason": None}]}
LAST = dict(EVENT, choices=[dict(EVENT["choices"][0], finish_reason="length")])


def chunk(data):
    event = ("data: " + (data if isinstance(data, str) else json.dumps(data)) + "\n\n").encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


TOKEN, END = chunk(EVENT), chunk(LAST)


def tail(tokens):
    usage = {"prompt_tokens": 16, "completion_tokens": tokens, "total_tokens": 16 + tokens}
    return END + chunk(dict(EVENT, choices=[], usage=usage)) + chunk("[DONE]") + b"0\r\n\r\n"


class Instance(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.bytes, self.timer = transport, b"", None

    def connection_lost(self, _error):
        if self.timer:
            self.timer.cancel()

    def data_received(self, data):
        self.bytes += data
        end = self.bytes.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.bytes[:end].lower()
        length = re.search(rb"content-length: *(\d+)", head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self.bytes) < whole:
            return
        body, self.bytes = self.bytes[end + 4:whole], self.bytes[whole:]
        if head.startswith(b"get"):
            models = b'{"object":"list","data":[{"id":"bench","object":"model"}]}'
            body = models if b"/v1/models" in head else b""
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            return
        tokens = int(re.search(rb'"max_tokens": *(\d+)', body)[1])
        if tokens == 1:
            self.transport.write(HEAD + tail(1))
            return
        self.transport.write(HEAD + TOKEN)
        self.left = tokens - 2
        self.tokens = tokens
        self.due = loop.time() + GAP
        self.timer = loop.call_at(self.due, self.step)

    def step(self):
        now = min(BURST, self.left)
        self.left -= now
        if self.left:
            self.transport.write(TOKEN * now)
            self.due += GAP
            self.timer = loop.call_at(self.due, self.step)
        else:
            self.timer = None
            self.transport.write(TOKEN * now + tail(self.tokens))


async def main():
    global loop
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Instance, "127.0.0.1", PORT, backlog=4096)
    await server.serve_forever()


asyncio.run(main())
