#!/usr/bin/env python3
"""The smallest PD relay in the manner of the Python proxies in use: FastAPI in front, aiohttp behind.

What `pdbench proxy` is compared with. It drains a one-token prefill and then relays the decode stream piece by piece;
it checks nothing, counts nothing and watches nobody, so that it is a lower bound of what such a proxy costs.

usage: relay-aiohttp.py PORT PREFILL_URL DECODE_URL
"""
import asyncio
import contextlib
import json
import sys

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

PORT, PREFILL, DECODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
session = None


@contextlib.asynccontextmanager
async def lifespan(_app):
    global session
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/completions")
async def completions(request: Request):
    body = await request.json()
    prefill = dict(body, max_tokens=1)
    async with session.post(PREFILL + "/v1/completions", json=prefill) as answer:
        await answer.read()

    async def relay():
        async with session.post(DECODE + "/v1/completions", json=body) as answer:
            async for piece in answer.content.iter_any():
                yield piece

    return StreamingResponse(relay(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False)
