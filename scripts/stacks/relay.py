"""A relay that notes when each POST came and what it asked, and passes everything on as it is.

usage: relay.py PORT UPSTREAM_PORT LOG        one JSON line a request: {"at_s", "path", "body"}"""

import asyncio
import json
import sys
import time

port, upstream_port, log = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "w", buffering=1)


async def read_message(reader):
    """Head and body of one request; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    came = time.monotonic()
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return came, head, await reader.readexactly(length)


async def pass_on(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
    back = asyncio.create_task(pass_on(up_reader, writer))
    try:
        while message := await read_message(reader):
            came, head, body = message
            method, path = head.split(b" ")[:2]
            if method == b"POST":
                line = {"at_s": came, "path": path.decode(), "body": json.loads(body)}
                log.write(json.dumps(line, ensure_ascii=False) + "\n")
            up_writer.write(head + body)
            await up_writer.drain()
    except ConnectionError:
        pass
    finally:
        up_writer.close()
        back.cancel()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 26)
    async with server:
        await server.serve_forever()


asyncio.run(main())
