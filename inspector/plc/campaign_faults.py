"""The faults of a campaign, one after the other; each ends with the station ready again. Knows no verdict."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from inspector.plc.cable import Cable
from inspector.plc.campaign_actors import Line, Processes, Witness, until
from inspector.plc.campaign_station import CampaignError
from inspector.plc.campaign_world import JumpingClock, SmallDisk

NONE = "no fault yet"
PARTS_BETWEEN = (20, 80)  # faults
STOPPED_S = ((0.03, 0.25), (0.25, 2.0))  # so short that a result may still come in time, or longer
FARTHEST_JUMP_S = 400 * 86400.0
NOTICED_S = 60.0  # in which a full disk is told: first the journal uses again what its file has already
FULL_S = 1.0  # for which it stays full once it is noticed
SILENCE_S = 5.0  # without a status while the disk is full: the loop has stalled
_IN_USE, _NOT_WRITTEN = "space kept aside", "cannot be written"  # words of the journal's alarms


class Faults:
    """What is done to station, bridge and cable, at random and never two at a time."""

    def __init__(
        self,
        dice: Random,
        processes: Processes,
        cable: Cable,
        line: Line,
        witness: Witness,
        disk: SmallDisk | None,
        clock: JumpingClock | None,
    ) -> None:
        """Without `disk` or `clock` their faults are left out."""
        self._dice = dice
        self._processes = processes
        self._cable = cable
        self._line = line
        self._witness = witness
        self._disk = disk
        self._clock = clock
        self._coming: list[str] = []
        self.last = NONE
        self.done: Counter[str] = Counter()
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "station killed": lambda: self._kill("station"),
            "bridge killed": lambda: self._kill("bridge"),
            "station stopped": lambda: self._stop("station"),
            "bridge stopped": lambda: self._stop("bridge"),
            "connection dropped": self._cable.cut,
            "connection delayed": lambda: self._delay(reconnect=False),
            "connection overtaken": lambda: self._delay(reconnect=True),
        }
        if disk is not None:
            self.kinds["disk full, its reserve holds"] = lambda: self._fill(disk, _IN_USE)
            self.kinds["disk full, journal cannot be written"] = lambda: self._fill(disk, _NOT_WRITTEN)
        if clock is not None:
            self.kinds["clock jumped"] = lambda: self._jump(clock)

    async def go_on(self) -> None:
        """Do harm until cancelled.

        Raises:
            CampaignError: the station does not come back, or stalls where it must not.
        """
        while True:
            await self._parts(self._dice.randint(*PARTS_BETWEEN))
            self.last = self._next()
            await self.kinds[self.last]()
            self.done[self.last] += 1
            await until(lambda: self._line.plc.twin.ready, f"not ready again after: {self.last}")

    def _next(self) -> str:
        """Each kind once, in any order, before any comes again."""
        self._coming = self._coming or self._dice.sample(list(self.kinds), len(self.kinds))
        return self._coming.pop()

    async def _parts(self, number: int) -> None:
        """Wait until so many parts have come."""
        ends = len(self._line.belt.coming) - number
        while len(self._line.belt.coming) > ends:
            await asyncio.sleep(0.05)

    async def _kill(self, who: str) -> None:
        starts = self._processes.starts[who]
        self._processes.signal(who, signal.SIGKILL)
        await until(lambda: self._processes.starts[who] > starts, f"{who} was not started again")

    async def _stop(self, who: str) -> None:
        self._processes.signal(who, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._dice.uniform(*self._dice.choice(STOPPED_S)))
        finally:
            self._processes.signal(who, signal.SIGCONT)

    async def _delay(self, *, reconnect: bool) -> None:
        """What is on the wire comes late; with `reconnect` after what the PLC says on a new connection."""
        self._cable.hold()
        try:
            await asyncio.sleep(0.05)
            self._line.reconnect = reconnect
            await asyncio.sleep(self._dice.uniform(0.05, 0.6))
        finally:
            self._cable.release()

    async def _jump(self, clock: JumpingClock) -> None:
        clock.jump(self._dice.uniform(-FARTHEST_JUMP_S, FARTHEST_JUMP_S))

    async def _fill(self, disk: SmallDisk, alarm: str) -> None:
        """Fill the disk until the journal says so, and keep it full; then delete what filled it.

        Where the journal is not to be written at all, what it gives up of its reserve is taken away, too.
        """
        began, noticed = time.monotonic(), 0.0
        disk.fill()
        try:
            while not noticed or time.monotonic() - noticed < FULL_S:
                if alarm == _NOT_WRITTEN:
                    disk.fill()
                if not noticed and alarm in self._witness.alarm:
                    noticed = time.monotonic()
                self._must_not_stall(began, alarm)
                await asyncio.sleep(0.005)
        finally:
            disk.free()
        await until(lambda: not self._witness.alarm, f"the alarm stays: {self._witness.alarm}")

    def _must_not_stall(self, began: float, alarm: str) -> None:
        now = time.monotonic()
        if now - max(began, self._witness.said_s) > SILENCE_S:
            raise CampaignError(f"the station said nothing for {SILENCE_S:.0f} s while its disk was full")
        if alarm not in self._witness.alarm and now - began > NOTICED_S:
            raise CampaignError(f"the disk is full and the station says only {self._witness.alarm!r}, not {alarm!r}")
