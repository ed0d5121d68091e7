"""Who plays in a campaign: processes that are started again when they die, the line's PLC, and a witness."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Self

from inspector.bus import Subscriber
from inspector.decisions import DecisionFollower
from inspector.messages import Status
from inspector.plc.belt import Belt
from inspector.plc.campaign_station import CampaignError, Scene
from inspector.plc.modbus_plc import ModbusPlc
from inspector.plc.twin import TwinOutputs
from inspector.station import Station

RESTART_S = 0.5
PATIENCE_S = 60.0
POLL_S = 0.02
RESET_AFTER = 10  # scans that the line has stood still: somebody presses Reset


class Processes:
    """Keeps processes running as systemd does: what dies is started again after half a second."""

    def __init__(self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], folder: Path) -> None:
        """`environment` is added to this process's; what they log goes to `folder`/NAME.log."""
        self._commands = commands
        self._environment = {**os.environ, **environment}
        self._folder = folder
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self.starts: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._keepers = [asyncio.create_task(self._keep(name)) for name in self._commands]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await ended(*self._keepers)

    def signal(self, name: str, number: int) -> None:
        """Send a signal; one that is dead already is not there to get it."""
        if name in self._running:
            with suppress(ProcessLookupError):
                self._running[name].send_signal(number)

    def last_words(self) -> str:
        """The end of each one's log."""
        tails = {name: (self._folder / f"{name}.log").read_text(errors="replace")[-300:] for name in self._commands}
        return "; ".join(f"{name}: {tail}" for name, tail in tails.items())

    async def _keep(self, name: str) -> None:
        while True:
            with (self._folder / f"{name}.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *self._commands[name], env=self._environment, stdin=asyncio.subprocess.DEVNULL, stderr=log
                )
            self._running[name] = process
            self.starts[name] += 1
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            await asyncio.sleep(RESTART_S)


class Line:
    """A belt, its PLC and what the camera sees, a scan at a time."""

    def __init__(self, belt: Belt, plc: ModbusPlc, scene: Scene) -> None:
        self.belt = belt
        self.plc = plc
        self.stops = 0
        self.reconnect = False  # the PLC is to connect anew before its next scan
        self._scene = scene
        self._still = 0  # scans since the PLC stopped the line

    async def scan(self, counts: int) -> TwinOutputs:
        """The belt moves, the PLC scans, the ejector obeys."""
        inputs = self.belt.advance(counts)
        self._scene.show(self.belt.before_camera())
        if self.reconnect:
            self.reconnect = False
            await self.plc.close()
        reset = self._still == RESET_AFTER
        outputs = await self.plc.scan(replace(inputs, reset=reset), time.monotonic_ns() // 1_000_000)
        self.belt.obey(outputs)
        self._still = self._still + 1 if outputs.line_stop else 0
        self.stops += self._still == 1
        return outputs


class Witness:
    """Hears what a station says, as a recorder and a screen do."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._ended = Event()
        self._threads = [Thread(target=work, daemon=True) for work in (self._follow, self._watch)]
        self.decisions: set[int] = set()  # ids
        self.alarm = ""  # of the station's last status
        self.said_s = 0.0  # when that came

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        with DecisionFollower(self._station.bus.decision, after=0) as follower:
            while not self._ended.is_set():
                decision = follower.receive(100)
                if decision is not None:
                    self.decisions.add(decision.id)
                    follower.acknowledge(decision.id)

    def _watch(self) -> None:
        with Subscriber(self._station.bus, ("status",)) as subscriber:
            while not self._ended.is_set():
                message = subscriber.receive(100)
                if isinstance(message, Status):
                    self.alarm, self.said_s = message.alarm, time.monotonic()


async def ended(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks, and raise what one of them failed with."""
    for task in tasks:
        task.cancel()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise found


async def until(met: Callable[[], bool], otherwise: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds.

    Raises:
        CampaignError: it does not in time; the text is `otherwise`.
    """
    ends = time.monotonic() + patience_s
    while not met():
        if time.monotonic() > ends:
            raise CampaignError(otherwise)
        await asyncio.sleep(POLL_S)
