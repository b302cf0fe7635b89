"""Prints NAME=PORT for each name: the first of 16 ports in a row that are free, below those the system gives away.

usage: free-ports.py NAME..."""

import random
import socket
import sys

ROW = 16


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


bases = list(range(20000, 32000, ROW))
random.shuffle(bases)
free = (base for base in bases if all(map(is_free, range(base, base + ROW))))
for name in sys.argv[1:]:
    print(f"{name}={next(free)}")
