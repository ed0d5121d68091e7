"""A Logix controller's two tags in cpppo's EtherNet/IP server, and cpppo's client as the PLC's program. Run by itself.

`ethernet_ip_peer.py PORT` obeys lines: `set FIRST WORD ...` stores words of ToStation as the PLC's program would,
`get` prints all of FromStation; each answers with one line.
"""

import sys
import threading
import time

from cpppo.server.enip import client
from cpppo.server.enip.main import main

HOST, PORT = "127.0.0.1", int(sys.argv[1])


def program() -> client.connector:
    while True:
        try:
            return client.connector(host=HOST, port=PORT, timeout=1.0)
        except OSError:
            time.sleep(0.05)


def answer_to(operation: str) -> list[int]:
    """The values that were read; of a write, True for each."""
    with plc:
        [answer] = plc.synchronous(operations=client.parse_operations([operation]))
    value = answer[5]
    assert value, f"{operation}: {answer}"
    return value


arguments = ["--no-print", "--address", f"{HOST}:{PORT}", "ToStation=DINT[19]", "FromStation=DINT[40]", "Short=DINT[5]"]
threading.Thread(target=main, args=(arguments,), daemon=True).start()
plc = program()
print("serving", flush=True)
for line in sys.stdin:
    what, *numbers = line.split()
    if what == "set":
        first, words = int(numbers[0]), numbers[1:]
        answer_to(f"ToStation[{first}-{first + len(words) - 1}]=(DINT){','.join(words)}")
        print("done", flush=True)
    else:
        print(*answer_to("FromStation[0-39]"), flush=True)
