"""A plain PD proxy as the guides have it: each request goes to a prefill instance for one token, its answer is read and
dropped, then the request as it is goes to a decode instance, whose answer is passed on. In turn, nothing is checked.

With --repeat-d-times N the second completion, once in its life, sets off N copies of itself at the decode instances
first. Nobody waits for them and nobody sees their answers: the way of the benchmark proxies that pdbench's
`--repeat-proxy external` is for."""

import argparse
import asyncio
import itertools

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--prefill", nargs="+", required=True)
parser.add_argument("--decode", nargs="+", required=True)
parser.add_argument("--repeat-d-times", type=int, default=0)
options = parser.parse_args()
prefills, decodes = itertools.cycle(options.prefill), itertools.cycle(options.decode)
completions = itertools.count(1)
copies = set()


async def complete(request):
    body, session = await request.json(), request.app["session"]
    if next(completions) == 2:
        for _ in range(options.repeat_d_times):
            copy = asyncio.create_task(drop(session, f"http://{next(decodes)}{request.path}", body))
            copies.add(copy)
            copy.add_done_callback(copies.discard)
    first = dict(body, max_tokens=1)
    if "max_completion_tokens" in first:
        first["max_completion_tokens"] = 1
    await drop(session, f"http://{next(prefills)}{request.path}", first)
    async with session.post(f"http://{next(decodes)}{request.path}", json=body) as answer:
        out = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
        await out.prepare(request)
        async for piece in answer.content.iter_any():
            await out.write(piece)
        await out.write_eof()
        return out


async def drop(session, url, body):
    async with session.post(url, json=body) as answer:
        await answer.read()


async def pass_on(request):
    async with request.app["session"].get(f"http://{options.decode[0]}{request.path}") as answer:
        return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)


async def with_session(app):
    app["session"] = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None))
    yield
    await app["session"].close()


app = web.Application(client_max_size=1 << 26)
app.cleanup_ctx.append(with_session)
app.router.add_post("/v1/completions", complete)
app.router.add_post("/v1/chat/completions", complete)
app.router.add_get("/v1/models", pass_on)
app.router.add_get("/health", lambda _: web.Response())
web.run_app(app, host=options.host, port=options.port, print=None)
