"""A station and its bridge, in processes of their own, and the PLC of reference.st: how fast, and whatever fails."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from inspector.bundle import Bundle
from inspector.journal import read_all
from inspector.plc import Reason
from inspector.plc.belt import Belt, Part
from inspector.plc.cable import Cable
from inspector.plc.campaign_actors import PATIENCE_S, Line, Processes, Witness, ended
from inspector.plc.campaign_faults import Faults
from inspector.plc.campaign_report import Leaving, judge, report
from inspector.plc.campaign_station import (
    DEADLINE_MS,
    CampaignError,
    Scene,
    bridge_command,
    scene_of,
    station_command,
    station_folder,
)
from inspector.plc.campaign_world import CannotHereError, JumpingClock, SmallDisk
from inspector.plc.modbus_plc import ModbusPlc
from inspector.plc.twin import S_ENTERED, S_WAITING, Settings, Twin, TwinOutputs
from inspector.station import plc_of
from inspector.station_file import load_station

Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]

GOOD = 2 / 3  # of the parts, so that both verdicts are passed on
STEP = 10  # counts that the belt moves in a scan

PATIENT = Settings(
    camera_window=10, decision_distance=20, ejector_distance=30, ejector_window=20, confirm_distance=40,
    deadline_ms=60_000, heartbeat_ms=5_000,
)  # fmt: skip
PATIENT_PITCH = (60, 60)

HURRIED = Settings(
    camera_window=50, decision_distance=260, ejector_distance=280, ejector_window=40, confirm_distance=60,
    deadline_ms=150,
)  # fmt: skip
EXPOSE_WITHIN_MS = 30
STEP_HURRIED = 5  # a belt does not go on while its PLC sleeps, as the simulated one does on a busy machine
IN_VIEW = HURRIED.camera_window + EXPOSE_WITHIN_MS + 2 * STEP_HURRIED  # a part is alone until its picture is taken
HURRIED_PITCH = (IN_VIEW + 5, IN_VIEW + 25)
COUNTS_A_SECOND = 1000  # of the belt
SCAN_S = 0.005
SCAN_MS = 10.0  # for which a scan waits for an exchange

DISK_BYTES = 24 * 2**20
DISK_BYTES_A_PART = 2048
QUIET_S = 3.0  # without a decision: the last one has been heard


def latency(
    parts: int, progress: Progress, *, delay_ms: float = 20.0, bundle: Bundle | None = None
) -> dict[str, object]:
    """Trigger so many parts one after the other, each standing before the camera until its result is there.

    A time is from the scan in which the PLC raises TriggerSeq to the scan in which its part is decided; an exchange of
    the PLC, which is three requests, is in it once at least.

    Args:
        parts: how many.
        progress: told about every hundredth part.
        delay_ms: of the inference, where there is no bundle.
        bundle: inspected by with the real engine; all parts are good then.

    Raises:
        CampaignError: a part has no result, or passed without an accept in the journal.
    """
    good = GOOD if bundle is None else 1.0
    belt = Belt(_parts(parts, PATIENT_PITCH, random.Random(0), good), PATIENT, in_view=STEP)  # noqa: S311 - no secrets
    began = time.monotonic()
    with station_folder(bundle, expose_within_ms=DEADLINE_MS) as file:
        times_ms, outcomes = _played(_timed(file, belt, delay_ms, bundle, progress))
        kept = dict(read_all(load_station(file).journal))
    judge(belt, kept)
    p50, p99, p999 = np.percentile(times_ms, [50, 99, 99.9]).tolist()
    return {
        "what": "trigger to result at the PLC, over Modbus", "parts": len(times_ms),
        "inference": f"fixed delay of {delay_ms:g} ms" if bundle is None else bundle.manifest.bundle_id,
        "p50_ms": p50, "p99_ms": p99, "p999_ms": p999 if parts >= 1000 else None, "longest_ms": max(times_ms),
        "outcomes": dict(outcomes), "passes_without_a_journalled_accept": 0,
        "decisions_not_in_the_journal": parts - len(kept), **_circumstances(began),
    }  # fmt: skip


def faults(parts: int, progress: Progress, *, seed: int = 0, run_on: bool = False) -> dict[str, object]:
    """Let parts pass while station and bridge are killed and stopped, the cable fails, disk and clock misbehave.

    Whatever dies is started again after half a second, as systemd does. The belt stands still while the PLC is not
    ready, as a line does that stops feeding; with `run_on` it goes on, and its parts are rejected.

    Raises:
        CampaignError: a part passed without an accept in the journal, or is a bad one; a decision was lost; or the
            station did not come back by itself.
    """
    dice = random.Random(seed)  # noqa: S311 - parts and faults, no secrets
    belt = Belt(_parts(parts, HURRIED_PITCH, dice, GOOD), HURRIED, in_view=IN_VIEW)
    began, impossible = time.monotonic(), []
    with ExitStack() as stack:
        file = stack.enter_context(station_folder(None, expose_within_ms=EXPOSE_WITHIN_MS))
        disk: SmallDisk | None = None
        clock: JumpingClock | None = None
        try:
            disk = stack.enter_context(SmallDisk(file.parent / "disk", DISK_BYTES + DISK_BYTES_A_PART * parts))
        except CannotHereError as error:
            impossible.append(str(error))
        try:
            clock = JumpingClock(file.parent)
        except CannotHereError as error:
            impossible.append(str(error))
        leaving = _played(_harmed(file, belt, dice, disk, clock, run_on, progress))
        if disk is not None:
            disk.copy_to(file.parent / "disk")
        kept = dict(read_all(load_station(file).journal))
    judge(belt, kept)
    return {
        "what": "fault campaign over Modbus", "parts": parts, "seed": seed,
        "belt": "runs on" if run_on else "stands still while the PLC is not ready",
        **report(belt, kept, leaving), "faults_not_possible_here": impossible, **_circumstances(began),
    }  # fmt: skip


def _played(campaign: Coroutine[None, None, Result]) -> Result:
    """Run a campaign; SIGTERM ends it as Ctrl-C does, so that nothing stays behind.

    Not by way of SIGINT: what a shell starts in the background ignores that.
    """

    async def until_told() -> Result:
        this = asyncio.current_task()
        if this is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        return await campaign

    try:
        return asyncio.run(until_told())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _parts(number: int, pitch: tuple[int, int], dice: random.Random, good: float) -> list[Part]:
    made, at = [], pitch[1]
    for index in range(number):
        made.append(Part(index, at, dice.random() < good, f"PART-{index:08d}"))
        at += dice.randint(*pitch)
    return made


def _circumstances(began: float) -> dict[str, object]:
    """What the machine had to do beside; figures of a busy one are its own."""
    return {"seconds": round(time.monotonic() - began), "load_at_the_end": list(os.getloadavg())}


@asynccontextmanager
async def _plc(file: Path, port: int, belt: Belt, settings: Settings, scan_ms: float) -> AsyncIterator[Line]:
    plc = ModbusPlc("127.0.0.1", port, Twin(settings), scan_ms=scan_ms)
    with Scene(scene_of(file)) as scene:
        try:
            yield Line(belt, plc, scene)
        finally:
            await plc.close()


async def _timed(
    file: Path, belt: Belt, delay_ms: float, bundle: Bundle | None, progress: Progress
) -> tuple[list[float], Counter[str]]:
    """The milliseconds of each part, and how the parts ended."""
    commands = {"station": station_command(file, delay_ms, bundle), "bridge": bridge_command(file)}
    port = plc_of(load_station(file)).tcp_port
    async with (
        Processes(commands, {}, file.parent) as processes,
        _plc(file, port, belt, PATIENT, PATIENCE_S * 1000) as line,
    ):
        await _ready(line, processes)
        return await _stop_and_go(line, progress)


async def _ready(line: Line, processes: Processes) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not (await line.scan(0)).ready:
        await asyncio.sleep(SCAN_S)
        if time.monotonic() > ends:
            raise CampaignError(f"the station does not become ready; {processes.last_words()}")


async def _stop_and_go(line: Line, progress: Progress) -> tuple[list[float], Counter[str]]:
    """The belt stands still while a part waits for its result."""
    twin, parts = line.plc.twin, len(line.belt.coming)
    times_ms: list[float] = []
    outcomes: Counter[str] = Counter()
    outputs = await line.scan(0)
    started: float | None = None
    moved = time.monotonic()
    while outcomes.total() < parts:
        before = outputs
        outputs = await line.scan(0 if _waits(twin) else STEP)
        now = time.monotonic()
        if outputs.to_station[2] != before.to_station[2]:
            started = now
        if started is not None and not any(slot.state == S_WAITING for slot in twin.slot):
            times_ms.append((now - started) * 1000)
            started = None
            _tell(progress, len(times_ms), parts)
        if (outputs.passed_parts, outputs.rejected_parts) != (before.passed_parts, before.rejected_parts):
            outcomes[_outcome(outputs)] += 1
            moved = now
        if now - moved > PATIENCE_S:
            raise CampaignError(f"no part moves on: trigger {outputs.to_station[2]}, alarm 16#{outputs.alarm:04X}")
    return times_ms, outcomes


def _waits(twin: Twin) -> bool:
    return any(slot.state in {S_ENTERED, S_WAITING} for slot in twin.slot)


def _outcome(outputs: TwinOutputs) -> str:
    """Of the part that left last."""
    if outputs.last_passed:
        return "OK"
    return Reason(outputs.last_reason).name if outputs.last_reason else f"refused 16#{outputs.last_refused:04X}"


def _tell(progress: Progress, done: int, parts: int) -> None:
    if done % max(parts // 100, 1) == 0:
        progress("parts", done, parts)


async def _harmed(
    file: Path,
    belt: Belt,
    dice: random.Random,
    disk: SmallDisk | None,
    clock: JumpingClock | None,
    run_on: bool,
    progress: Progress,
) -> Leaving:
    """Let the belt run empty while faults come; what was seen of it."""
    commands = {
        "station": [*(disk.inside if disk else []), *station_command(file, 0.0, None)],
        "bridge": bridge_command(file),
    }
    station = load_station(file)
    cable = Cable()
    cable.to_port = plc_of(station).tcp_port
    async with (
        cable.laid(),
        Processes(commands, clock.environment if clock else {}, file.parent) as processes,
        _plc(file, cable.port, belt, HURRIED, SCAN_MS) as line,
    ):
        with Witness(station) as witness:
            await _ready(line, processes)
            some = Faults(dice, processes, cable, line, witness, disk, clock)
            leaving = Leaving(belt, some.done)
            harm = asyncio.create_task(some.go_on())
            try:
                await _run(line, harm, lambda outputs: leaving.look(outputs, some.last), run_on, progress)
            finally:
                await ended(harm)
            await _quiet(witness)
            leaving.heard, leaving.line_stops = set(witness.decisions), line.stops
            return leaving


async def _run(
    line: Line, harm: "asyncio.Task[None]", seen: Callable[[TwinOutputs], None], run_on: bool, progress: Progress
) -> None:
    """Scan until the belt is empty; `seen` is called after every scan."""
    parts, told, runs, before = len(line.belt.coming), -1, False, time.monotonic()
    while not line.belt.empty:
        if harm.done():
            harm.result()  # it ends only when something is wrong
        await asyncio.sleep(max(0.0, before + SCAN_S - time.monotonic()))
        elapsed, before = time.monotonic() - before, time.monotonic()
        outputs = await line.scan(min(round(elapsed * COUNTS_A_SECOND), STEP_HURRIED) if runs else 0)
        runs = not outputs.line_stop and (outputs.ready or run_on)
        seen(outputs)
        gone = parts - len(line.belt.coming)
        if gone != told:
            told = gone
            _tell(progress, gone, parts)


async def _quiet(witness: Witness) -> None:
    """Wait until what is still on its way was heard."""
    heard, since = len(witness.decisions), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        await asyncio.sleep(0.1)
        if len(witness.decisions) != heard:
            heard, since = len(witness.decisions), time.monotonic()
