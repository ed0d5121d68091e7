"""THE LOOP: a frame becomes a prediction, a decision, a message; and the process around it."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import msgspec

from inspector.bus import Publisher
from inspector.camera import MOST_LOST, NO_PICTURE, CameraError, Event, Outage, open_camera
from inspector.changeover import Changeover, load, recipe_at_start
from inspector.control import ControlServer
from inspector.decide import decide
from inspector.decisions import DecisionServer, Outbox
from inspector.engine import Engine, EngineError
from inspector.heartbeat import Heartbeat, Job
from inspector.inspection import Cause, Decision, Frame, Inspection, Prediction, Timings, Verdict
from inspector.journal import Journal
from inspector.service import Service, stop_signals
from inspector.station import Station
from inspector.summary import Summary

JOURNAL_WITHIN_S = 0.25  # a decision is on disk, or its part is not inspected

log = logging.getLogger(__name__)


def run(station: Station, recipe: int | None = None) -> Summary:
    """Inspect until the camera is exhausted or a signal asks to stop.

    Args:
        station: camera, engine, recipes and sockets.
        recipe: number of the recipe to start with; None: the one that was active last.

    Raises:
        BusError, BundleError, EngineError, JournalError: the station cannot start.
        StationError: the recipe to start with is not in the station's file.
        CameraError: the camera failed, at the start or later.
    """
    with (
        stop_signals() as stop,
        Service() as service,
        Publisher(station.bus, station.name, curve=station.curve) as publisher,
        Heartbeat(publisher, service) as heartbeat,
        Journal(station.journal) as journal,
        DecisionServer(station.bus.decision, station.journal, publisher.boot, curve=station.curve) as server,
    ):
        first = load(station, recipe_at_start(station, recipe), journal, publisher.boot, "the start")
        depth = first.bundle.manifest.input.bit_depth
        with (
            Changeover(station, first, journal, publisher.boot) as changeover,
            open_camera(station.camera, bit_depth=depth, stop=stop) as camera,
            ControlServer(
                station.bus.control,
                lambda trigger: camera.expose(changeover.admit(trigger)),
                changeover.ask,
                curve=station.curve,
            ),
        ):
            heartbeat.ready(first.job)
            outbox = Outbox(journal, server)
            return inspect(
                camera, first.engine, first.job, publisher, heartbeat, outbox=outbox, changeover=changeover, stop=stop
            )


def inspect(
    camera: Iterable[Event],
    engine: Engine,
    job: Job,
    publisher: Publisher,
    heartbeat: Heartbeat,
    *,
    outbox: Outbox | None = None,
    changeover: Changeover | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Summary:
    """Decide and publish every part; the verdict leaves before the view, and the heartbeat only after both.

    A verdict is in the outbox's journal before anybody is told of it. (Without an outbox nothing is kept: for
    measuring.) The changeover puts other engines and jobs in the place of the first; without one they stay.
    """
    summary = Summary()
    failing = ""
    for event in without_gaps(camera, summary):
        if changeover is not None and changeover.serve():
            engine, job = changeover.engine, changeover.job
            heartbeat.take(job)
        if isinstance(event, Frame):
            unwanted = changeover.why_not(event) if changeover is not None else ""
            inspection = inspect_part(event, engine, job, clock, unwanted=unwanted)
            decided_ns = clock()
            inspection = _tell(inspection, publisher, outbox, job)
            timings = replace(inspection.timings, publish_ms=_ms(decided_ns, clock()))
            publisher.send_view(inspection)
            summary.add(inspection.decision.verdict, timings)
            failing = _log_change(inspection, failing)
        if outbox is not None:
            outbox.serve()
        _beat(event, heartbeat, summary, outbox, changeover)
        if stop():
            break
    return summary


def _beat(
    event: Event, heartbeat: Heartbeat, summary: Summary, outbox: Outbox | None, changeover: Changeover | None
) -> None:
    """Say what the station is fit for now."""
    alarms = [source.alarm for source in (outbox, changeover) if source is not None and source.alarm]
    heartbeat.alarm = "; ".join(alarms)
    heartbeat.changing_to = changeover.changing_to if changeover is not None else 0
    if isinstance(event, Outage):
        heartbeat.away(summary, event.reason)
    elif heartbeat.changing_to:
        heartbeat.away(summary, f"recipe {heartbeat.changing_to} is being loaded")
    else:
        heartbeat.beat(summary)


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


def inspect_part(
    frame: Frame, engine: Engine, job: Job, clock: Callable[[], int] = time.monotonic_ns, *, unwanted: str = ""
) -> Inspection:
    """Predict and decide one part; an engine that fails makes it a fault, and so does a reason not to look at it.

    `publish_ms` of the result is not a number yet: the loop measures it, and status tells it.
    """
    taken_ns = clock()
    prediction, failure = (None, f"not inspected: {unwanted}") if unwanted else _infer(engine, frame)
    inferred_ns = clock()
    decision = decide(
        prediction,
        job.threshold,
        latency_ms=_ms(frame.captured_ns, inferred_ns),
        deadline_ms=job.deadline_ms,
        failure=failure,
    )
    if unwanted:
        decision = replace(decision, cause=Cause.RECIPE)
    elif frame.image.size == 0:
        decision = replace(decision, cause=Cause.CAMERA)
    elif frame.asked_ns and not 0 <= (late_ms := _ms(frame.asked_ns, frame.captured_ns)) <= job.expose_within_ms:
        reason = f"exposed {late_ms:.0f} ms after its trigger: it may be another part's picture"
        decision = Decision(Verdict.FAULT, decision.score, decision.threshold, reason, Cause.CAMERA)
    timings = Timings(
        wait_ms=_ms(frame.captured_ns, taken_ns),
        infer_ms=_ms(taken_ns, inferred_ns),
        decide_ms=_ms(inferred_ns, clock()),
        publish_ms=math.nan,
    )
    return Inspection(frame, prediction, decision, job.recipe, job.bundle, timings, job.recipe_id)


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
