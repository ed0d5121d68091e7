"""THE LOOP: a frame becomes a prediction, a decision, a message; and the process around it."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import msgspec

from inspector.bundle import load_bundle
from inspector.bus import Publisher
from inspector.camera import MOST_LOST, NO_PICTURE, CameraError, Event, Outage, open_camera
from inspector.control import ControlServer
from inspector.decide import decide
from inspector.decisions import DecisionServer, Outbox
from inspector.engine import Engine, EngineError, open_engine
from inspector.heartbeat import Heartbeat, Job
from inspector.inspection import Cause, Frame, Inspection, Prediction, Timings, Verdict
from inspector.journal import Journal
from inspector.service import Service, stop_signals
from inspector.station import Station
from inspector.summary import Summary

JOURNAL_WITHIN_S = 0.25  # a decision is on disk, or its part is not inspected

log = logging.getLogger(__name__)


def run(station: Station) -> Summary:
    """Inspect until the camera is exhausted or a signal asks to stop.

    Raises:
        BusError, BundleError, EngineError: the station cannot start.
        CameraError: the camera failed, at the start or later.
    """
    with (
        stop_signals() as stop,
        Service() as service,
        Publisher(station.bus, station.name) as publisher,
        Heartbeat(publisher, service) as heartbeat,
        Journal(station.journal) as journal,
        DecisionServer(station.bus.decision, station.journal, publisher.boot) as server,
    ):
        bundle = load_bundle(station.recipe.bundle)
        with (
            open_engine(station.engine, bundle) as engine,
            open_camera(station.camera, bit_depth=bundle.manifest.input.bit_depth, stop=stop) as camera,
            ControlServer(station.bus.control, camera.expose),
        ):
            override = station.recipe.threshold
            threshold = bundle.manifest.threshold.value if override is None else override
            job = Job(station.recipe.name, bundle.manifest.bundle_id, engine.name, threshold, station.deadline_ms)
            heartbeat.ready(job)
            return inspect(camera, engine, job, publisher, heartbeat, outbox=Outbox(journal, server), stop=stop)


def inspect(
    camera: Iterable[Event],
    engine: Engine,
    job: Job,
    publisher: Publisher,
    heartbeat: Heartbeat,
    *,
    outbox: Outbox | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Summary:
    """Decide and publish every part; the verdict leaves before the view, and the heartbeat only after both.

    A verdict is in the outbox's journal before anybody is told of it. (Without an outbox nothing is kept: for
    measuring.)
    """
    summary = Summary()
    failing = ""
    for event in without_gaps(camera, summary):
        if isinstance(event, Frame):
            inspection = inspect_part(event, engine, job, clock)
            decided_ns = clock()
            inspection = _tell(inspection, publisher, outbox, job)
            timings = replace(inspection.timings, publish_ms=_ms(decided_ns, clock()))
            publisher.send_view(inspection)
            summary.add(inspection.decision.verdict, timings)
            failing = _log_change(inspection, failing)
        if outbox is not None:
            outbox.serve()
            heartbeat.alarm = outbox.alarm
        if isinstance(event, Outage):
            heartbeat.away(summary, event.reason)
        else:
            heartbeat.beat(summary)
        if stop():
            break
    return summary


def _tell(inspection: Inspection, publisher: Publisher, outbox: Outbox | None, job: Job) -> Inspection:
    """Journal, then publish; a part whose decision is not on disk in time is not inspected."""
    result = publisher.next_result(inspection, job.deadline_ms)
    number = outbox.keep(result, JOURNAL_WITHIN_S) if outbox is not None else None
    if outbox is not None and number is None:
        decision = replace(
            inspection.decision,
            verdict=Verdict.FAULT,
            reason="not journalled: the disk is full or slow",
            cause=Cause.JOURNAL,
        )
        inspection = replace(inspection, decision=decision)
        result = msgspec.structs.replace(result, verdict=decision.verdict, reason=decision.reason, cause=decision.cause)
    publisher.send_result(result)
    if outbox is not None and number is not None:
        outbox.tell(number, result)
    return inspection


def inspect_part(frame: Frame, engine: Engine, job: Job, clock: Callable[[], int] = time.monotonic_ns) -> Inspection:
    """Predict and decide one part; an engine that fails makes it a fault.

    `publish_ms` of the result is not a number yet: the loop measures it, and status tells it.
    """
    taken_ns = clock()
    prediction, failure = _infer(engine, frame)
    inferred_ns = clock()
    decision = decide(
        prediction,
        job.threshold,
        latency_ms=_ms(frame.captured_ns, inferred_ns),
        deadline_ms=job.deadline_ms,
        failure=failure,
    )
    if frame.image.size == 0:
        decision = replace(decision, cause=Cause.CAMERA)
    timings = Timings(
        wait_ms=_ms(frame.captured_ns, taken_ns),
        infer_ms=_ms(taken_ns, inferred_ns),
        decide_ms=_ms(inferred_ns, clock()),
        publish_ms=math.nan,
    )
    return Inspection(frame, prediction, decision, job.recipe, job.bundle, timings)


def without_gaps(camera: Iterable[Event], summary: Summary) -> Iterator[Event]:
    """Put a frame without a picture wherever the camera's sequence skips, so that each lost part becomes a fault.

    Raises:
        CameraError: the sequence goes back, or skips more than a line can lose.
    """
    expected = 0
    for event in camera:
        if isinstance(event, Frame):
            lost = event.sequence - expected
            if not 0 <= lost <= MOST_LOST:
                raise CameraError(f"the camera's sequence went from {expected - 1} to {event.sequence}: restart it")
            for sequence in range(expected, event.sequence):
                summary.lost += 1
                yield Frame(sequence, f"lost-{sequence:06d}", NO_PICTURE, event.captured_ns)
            expected = event.sequence + 1
        yield event


def _infer(engine: Engine, frame: Frame) -> tuple[Prediction | None, str]:
    try:
        return engine.infer(frame.image), ""
    except EngineError as error:
        return None, str(error)


def _log_change(inspection: Inspection, failing: str) -> str:
    """Log where faults begin, change their reason, and end; returns the reason that holds now."""
    decision = inspection.decision
    now = decision.reason if decision.verdict == "fault" else ""
    if now and not failing:
        log.warning("part %s is a fault: %s", inspection.frame.part_id, now)
    if failing and not now:
        log.info("part %s is inspected again", inspection.frame.part_id)
    return now


def _ms(start_ns: int, end_ns: int) -> float:
    return (end_ns - start_ns) / 1e6
