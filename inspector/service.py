"""The process as the service manager sees it: ready, alive, asked to stop. Knows nothing of inspection."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Self


class Service:
    """Talks to systemd when it started this process, and to nobody otherwise; never waits for it."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")  # systemd's protocol, not a setting of ours
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None

    def ready(self) -> None:
        """Say that the start is over."""
        self._tell("READY=1")

    def alive(self) -> None:
        """Feed the watchdog; only after real progress, or it guards nothing."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._tell(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if self._socket:
            with suppress(OSError):  # a manager that does not hear is its own to repair: parts come first
                self._socket.sendto(state.encode(), self._address)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into an answer to `is it time to stop?`; the part in progress is finished first."""
    asked = Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
