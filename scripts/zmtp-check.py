#!/usr/bin/env python3
"""Holds our ZMTP and our reader of LMCache's notices against pyzmq and msgspec.

    cargo build --example zmtp
    python3 -m venv /tmp/zmtp && /tmp/zmtp/bin/pip install pyzmq msgspec
    /tmp/zmtp/bin/python scripts/zmtp-check.py

Without those two it says that it checked nothing, and ends with status 0.
"""

import subprocess
import sys
import time
from pathlib import Path

try:
    import msgspec
    import zmq
except ImportError as missing:
    print(f"SKIPPED: nothing was checked, for {missing.name} is not installed")
    sys.exit(0)

PROGRAM = Path(__file__).resolve().parent.parent / "target" / "debug" / "examples" / "zmtp"
if not PROGRAM.exists():
    sys.exit("build it first: cargo build --example zmtp")


class Base(msgspec.Struct, tag=True):
    """As LMCache's messages: the class names itself in `type`."""


class ProxyNotif(Base):
    req_id: str


class AllocRequest(Base):
    keys: list
    shape: dict


def check_pull(context):
    ours = subprocess.Popen([PROGRAM, "pull"], stdout=subprocess.PIPE, text=True)
    port = int(ours.stdout.readline())
    push = context.socket(zmq.PUSH)
    # Heartbeats, which ZMTP 3.1 peers send as commands.
    push.setsockopt(zmq.HEARTBEAT_IVL, 50)
    push.connect(f"tcp://127.0.0.1:{port}")
    names = ["1", "a" * 40, "b" * 300, "ü€"]
    for name in names:
        push.send(msgspec.msgpack.encode(ProxyNotif(name)))
    push.send(msgspec.msgpack.encode(AllocRequest([1, -1, 1.5, None, b"x"], {"a": [True]})))
    push.send_multipart([msgspec.msgpack.encode(ProxyNotif("two")), b"\xc1"])
    wanted = [f'Ok(Some("{name}"))' for name in names] + ["Ok(None)", 'Ok(Some("two"))', "Err(BadNotice)"]
    found = [ours.stdout.readline().strip() for _ in wanted]
    assert found == wanted, (found, wanted)
    # Long enough for some heartbeats to go back and forth.
    time.sleep(0.3)
    push.send(msgspec.msgpack.encode(ProxyNotif("late")))
    assert ours.stdout.readline().strip() == 'Ok(Some("late"))'
    push.close(linger=1000)
    assert ours.wait(timeout=10) == 0
    print(f"PULL: {len(wanted) + 1} messages of pyzmq {zmq.__version__} (libzmq {zmq.zmq_version()}) were read")


def check_push(context):
    pull = context.socket(zmq.PULL)
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    pull.setsockopt(zmq.RCVTIMEO, 10_000)
    ours = subprocess.run([PROGRAM, "push", str(port)], check=True, timeout=10)
    assert pull.recv_multipart() == [b"first", b"x" * 300], ours
    print("PUSH: a message of two frames was taken by libzmq")


with zmq.Context() as context:
    check_pull(context)
    check_push(context)
