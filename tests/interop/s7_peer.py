"""A PLC's memory in the Snap7 project's own server, the C library that python-snap7 2 brings along. Run by itself.

`s7_peer.py PORT` serves DB100, as docs/integration.md lays it out, and obeys lines: `set FIRST WORD ...` stores words
of ToStation as the PLC's program would, `get` prints all of FromStation; each answers with one line.
"""

import ctypes
import struct
import sys

from snap7.server import Server
from snap7.type import SrvArea

TO_STATION, FROM_STATION = 19, 40

block = (ctypes.c_uint8 * (2 * (TO_STATION + FROM_STATION)))()
server = Server(log=False)
server.register_area(SrvArea.DB, 100, block)
server.start(tcp_port=int(sys.argv[1]))
print("serving", flush=True)
for line in sys.stdin:
    what, *numbers = line.split()
    if what == "set":
        first, *words = map(int, numbers)
        struct.pack_into(f">{len(words)}H", block, 2 * first, *words)
        print("done", flush=True)
    else:
        print(*struct.unpack_from(f">{FROM_STATION}H", block, 2 * TO_STATION), flush=True)
