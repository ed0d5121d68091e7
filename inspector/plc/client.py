"""The station as the client of a PLC: reads what the PLC's program writes into its own memory, and writes there.

Knows the order of requests, no protocol. The PLC's program runs while its memory is read and written, so:

* What was read is believed when two reads in a row have the same numbers (`Steady`). A PLC that stores a part's data
  before its TriggerSeq is never heard with the new number and old data, however its memory is torn.
* No moment of the PLC's memory shows one part's verdict beside another part's number (`requests`): the old verdict is
  withdrawn, the result is written, and then the status that makes it valid, each once the one before was answered.

A connection that is lost takes Ready away, and a trigger found after it is not inspected: nobody knows how old it is.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from inspector.plc import PlcInputs, PlcOutputs, PlcPortError, StatusBit
from inspector.plc.memory import PlcMemory
from inspector.plc.registers import STATUS, inputs_of, words_of

log = logging.getLogger(__name__)

HEAD = 5  # words 0-4: version, status, heartbeat and both echoes; behind them the result and all the rest
WHOLE_EVERY_S = 0.5  # the whole block is written, in case somebody else has
TICK_S = 0.005
FIRST_WAIT_S = 0.2  # for another connection
LONGEST_WAIT_S = 2.0
VERDICT = StatusBit.RESULT_VALID | StatusBit.OK | StatusBit.NG

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the PLC has written, all of one moment."""

    inputs: PlcInputs
    since_ns: int  # nothing of it that is new was there before


@dataclass
class Steady:
    """Tells which reads of a PLC's words may be believed."""

    _numbers: tuple[int, int] | None = None
    _heard_ns: int | None = None

    def take(self, words: Sequence[int], asked_ns: int) -> Heard | None:
        """What was heard, or None: read once more.

        Args:
            words: ToStation, as it was read.
            asked_ns: a moment before it was read.
        """
        inputs = inputs_of(words)
        numbers = (inputs.trigger_seq, inputs.recipe_request_seq)
        before, self._numbers = self._numbers, numbers
        if numbers != before:
            return None
        since_ns, self._heard_ns = self._heard_ns, asked_ns
        return Heard(inputs, asked_ns if since_ns is None else since_ns)


def requests(held: Sequence[int] | None, wanted: Sequence[int], *, whole: bool) -> list[tuple[int, list[int]]]:
    """The requests, in order, that bring FromStation in the PLC up to date: first word and words of each.

    Args:
        held: the words that are there; None: nobody knows.
        wanted: the words that are to be there.
        whole: write what is there already, too.
    """
    head, rest = (0, list(wanted[:HEAD])), (HEAD, list(wanted[HEAD:]))
    if held is None:
        return [(STATUS, [0]), rest, head]
    if _result_in(held) != _result_in(wanted):
        withdrawn = int(held[STATUS] & ~VERDICT)
        return [*([(STATUS, [withdrawn])] if withdrawn != held[STATUS] else []), rest, head]
    is_new = {0: whole or head[1] != list(held[:HEAD]), HEAD: whole or rest[1] != list(held[HEAD:])}
    return [request for request in (head, rest) if is_new[request[0]]]


class PlcClient:
    """Keeps a connection to a PLC's memory, and exchanges both blocks over it."""

    def __init__(
        self,
        memory: PlcMemory,
        poll_ms: float,
        heard: Callable[[PlcInputs, int], None],
        lost: Callable[[], None],
        outputs: Callable[[], PlcOutputs],
        clock: Callable[[], int],
    ) -> None:
        """Make a client.

        Args:
            memory: the PLC's.
            poll_ms: from one read to the next.
            heard: told what the PLC has written, and since when at the earliest, by the clock.
            lost: told that the connection is lost.
            outputs: says what the PLC is to read now.
            clock: in nanoseconds.
        """
        self._memory = memory
        self._poll_s = poll_ms / 1000
        self._heard = heard
        self._lost = lost
        self._outputs = outputs
        self._clock = clock
        self._steady = Steady()
        self._held: list[int] | None = None
        self._whole_at_s = 0.0
        self._thread = ThreadPoolExecutor(1, "plc")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Exchange until the block is left; an error of `heard` or `outputs` ends the block and is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work())
                yield
                work.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._in_thread(self._memory.close)
            self._thread.shutdown()

    async def _work(self) -> None:
        """Connect, exchange until that fails, and again."""
        wait_s, said = FIRST_WAIT_S, ""
        while True:
            try:
                await self._in_thread(self._memory.open)
                await self._begin()
                log.info("%s: connected", self._memory.where)
                wait_s, said = FIRST_WAIT_S, ""
                await self._exchange()
            except PlcPortError as error:
                self._lost()
                if str(error) != said:
                    log.error("%s; the station is not ready, and tries again", error)  # noqa: TRY400 - it is no bug
                said = str(error)
            await self._in_thread(self._memory.close)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _begin(self) -> None:
        self._steady, self._held = Steady(), None
        await self._read()
        await self._write()

    async def _exchange(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            until_s = loop.time() + self._poll_s
            await self._read()
            await self._write()
            while (rest_s := until_s - loop.time()) > 0:
                await asyncio.sleep(min(rest_s, TICK_S))
                await self._write()  # a result does not wait for the next read

    async def _read(self) -> None:
        for _ in range(2):
            asked_ns = self._clock()
            heard = self._steady.take(await self._in_thread(self._memory.read_to_station), asked_ns)
            if heard is not None:
                self._heard(heard.inputs, heard.since_ns)
                return

    async def _write(self) -> None:
        wanted, now_s = words_of(self._outputs()), asyncio.get_running_loop().time()
        whole = now_s >= self._whole_at_s
        for first, words in requests(self._held, wanted, whole=whole):
            await self._in_thread(self._memory.write_from_station, first, words)
        self._held = wanted
        if whole:
            self._whole_at_s = now_s + WHOLE_EVERY_S

    async def _in_thread(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Act in the one thread that knows the memory."""
        return await asyncio.wrap_future(self._thread.submit(act, *args, **kwargs))


def _result_in(words: Sequence[int]) -> list[int]:
    """All that a PLC compares before it passes a part, but the status."""
    return [*words[5:12], *words[18:28], *words[37:40]]
