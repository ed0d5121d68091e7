"""The loop for real: an engine, a bus, a subscriber; and what goes wrong on the way."""

import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inspector.bundle import Bundle
from inspector.bus import Publisher, Subscriber
from inspector.camera import CameraError, Outage
from inspector.camera.settings import FolderCamera
from inspector.engine import EngineError, open_engine
from inspector.heartbeat import PERIOD_NS, Heartbeat, Job
from inspector.inspection import Cause, Frame, Image, Prediction, Verdict
from inspector.messages import Result, Status, View
from inspector.run import MOST_LOST, inspect, inspect_part, run, without_gaps
from inspector.service import Service
from inspector.station import Bus, Recipe, Station
from inspector.summary import Summary

from .tiny import Clock, Line, part, write_image

PATIENCE_MS = 5000
JOB = Job("tiny tray", "tiny-1", "onnxruntime-cpu", threshold=0.5, deadline_ms=1000)
GOOD, BAD = part(100), part(100, defect=220)


class Told:
    """An engine that does as told: a score, or an error."""

    name = "told"

    def __init__(self, answers: list[float | str], clock: Clock | None = None, takes_ns: int = 0) -> None:
        self._answers = iter(answers)
        self._clock = clock
        self._takes_ns = takes_ns

    def infer(self, image: Image) -> Prediction:
        assert image is not None
        if self._clock:
            self._clock.now_ns += self._takes_ns
        answer = next(self._answers)
        if isinstance(answer, str):
            raise EngineError(answer)
        return Prediction(answer, np.zeros((8, 8), np.float32), {})


@pytest.fixture
def publisher(bus: Bus) -> Iterator[Publisher]:
    with Publisher(bus, "line1") as opened:
        yield opened


@pytest.fixture
def subscriber(bus: Bus, publisher: Publisher) -> Iterator[Subscriber]:
    with Subscriber(bus) as opened:
        for topic in ("result", "view", "status"):
            assert publisher.listeners(topic, PATIENCE_MS)
        yield opened


def results(subscriber: Subscriber, number: int) -> list[Result]:
    received: list[Result] = []
    while len(received) < number:
        message = subscriber.receive(PATIENCE_MS)
        assert message is not None
        if isinstance(message, Result):
            received.append(message)
    return received


def test_parts_become_verdicts_at_a_subscriber(bundle: Bundle, publisher: Publisher, subscriber: Subscriber) -> None:
    line = Line([GOOD, BAD, GOOD], time.monotonic_ns)
    with open_engine("onnxruntime-cpu", bundle) as engine, Heartbeat(publisher, Service()) as heartbeat:
        summary = inspect(line, engine, JOB, publisher, heartbeat)
    received = results(subscriber, 3)
    assert [message.verdict for message in received] == ["accept", "reject", "accept"]
    assert [message.part_id for message in received] == ["part-0", "part-1", "part-2"]
    assert received[1].score == pytest.approx(1.2)
    assert received[1].parts == {"difference": pytest.approx(1.2)}
    assert summary.counts == {Verdict.ACCEPT: 2, Verdict.REJECT: 1, Verdict.FAULT: 0}
    assert summary.last is not None
    assert summary.last.publish_ms > 0


def test_the_view_of_a_rejected_part_shows_its_map(
    bundle: Bundle, publisher: Publisher, subscriber: Subscriber
) -> None:
    with open_engine("onnxruntime-cpu", bundle) as engine, Heartbeat(publisher, Service()) as heartbeat:
        inspect(Line([BAD], time.monotonic_ns), engine, JOB, publisher, heartbeat)
    messages = iter(lambda: subscriber.receive(PATIENCE_MS), None)
    view = next(message for message in messages if isinstance(message, View))
    assert np.array_equal(view.image, BAD)
    assert view.anomaly_map.max() == pytest.approx(1.2)


def test_a_failed_inference_is_a_fault_and_the_loop_goes_on(publisher: Publisher, subscriber: Subscriber) -> None:
    with Heartbeat(publisher, Service()) as heartbeat:
        engine = Told([0.1, "the device is gone", 0.1])
        summary = inspect(Line([GOOD] * 3, time.monotonic_ns), engine, JOB, publisher, heartbeat)
    received = results(subscriber, 3)
    assert [message.verdict for message in received] == ["accept", "fault", "accept"]
    assert received[1].reason == "the device is gone"
    assert received[1].score is None
    assert summary.counts[Verdict.FAULT] == 1


def test_a_late_inference_is_a_fault(publisher: Publisher, subscriber: Subscriber, clock: Clock) -> None:
    with Heartbeat(publisher, Service(), clock) as heartbeat:
        engine = Told([0.1], clock, takes_ns=1_000_000_001)
        inspect(Line([GOOD], clock), engine, JOB, publisher, heartbeat, clock=clock)
    (received,) = results(subscriber, 1)
    assert received.verdict == "fault"
    assert received.reason.startswith("late")
    assert received.timings["infer_ms"] == pytest.approx(1000)


def test_a_frame_that_waited_too_long_is_a_fault(publisher: Publisher, subscriber: Subscriber, clock: Clock) -> None:
    old = Frame(0, "old", GOOD, clock.now_ns - 2_000_000_000)
    with Heartbeat(publisher, Service(), clock) as heartbeat:
        inspect([old], Told([0.1]), JOB, publisher, heartbeat, clock=clock)
    (received,) = results(subscriber, 1)
    assert received.verdict == "fault"
    assert received.timings["wait_ms"] == pytest.approx(2000)


def test_every_lost_frame_is_a_fault(bundle: Bundle, publisher: Publisher, subscriber: Subscriber) -> None:
    def frames() -> Iterator[Frame]:
        for sequence in (1, 2, 5):
            yield Frame(sequence, f"part-{sequence}", GOOD, time.monotonic_ns())

    with open_engine("onnxruntime-cpu", bundle) as engine, Heartbeat(publisher, Service()) as heartbeat:
        summary = inspect(frames(), engine, JOB, publisher, heartbeat)
    received = results(subscriber, 6)
    assert [message.sequence for message in received] == [0, 1, 2, 3, 4, 5]
    assert [message.verdict for message in received] == ["fault", "accept", "accept", "fault", "fault", "accept"]
    assert received[3].part_id == "lost-000003"
    assert summary.lost == 3


@pytest.mark.parametrize("sequences", [(0, 1, 1), (0, 1, 0), (0, MOST_LOST + 2)])
def test_a_sequence_that_cannot_be_is_a_camera_error(sequences: tuple[int, ...]) -> None:
    frames = [Frame(sequence, "part", GOOD, 0) for sequence in sequences]
    with pytest.raises(CameraError, match="sequence went from"):
        list(without_gaps(frames, Summary()))


def test_an_idle_line_keeps_its_heartbeat(publisher: Publisher, subscriber: Subscriber, clock: Clock) -> None:
    def idle() -> Iterator[None]:
        for _ in range(10):
            clock.now_ns += PERIOD_NS // 2
            yield None

    with Heartbeat(publisher, Service(), clock) as heartbeat:
        heartbeat.ready(JOB)
        inspect(idle(), Told([]), JOB, publisher, heartbeat, clock=clock)
    states = [message.state for message in statuses(subscriber)]
    assert states == ["starting", "ready", *["ready"] * 5, "stopped"]


def test_a_camera_that_is_away_is_told_at_once_and_so_is_its_return(
    publisher: Publisher, subscriber: Subscriber, clock: Clock
) -> None:
    events = [Frame(0, "p0", GOOD, clock.now_ns), *[Outage("cable")] * 3, None, Frame(1, "p1", GOOD, clock.now_ns)]
    with Heartbeat(publisher, Service(), clock) as heartbeat:
        heartbeat.ready(JOB)
        inspect(events, Told([0.1, 0.2]), JOB, publisher, heartbeat, clock=clock)
    told = [(message.state, message.reason, message.parts) for message in statuses(subscriber)]
    assert told == [
        ("starting", "", 0), ("ready", "", 0), ("not ready", "cable", 1), ("ready", "", 1), ("stopped", "", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("after_ms", "verdict"), [(0, "accept"), (99, "accept"), (101, "fault"), (-1, "fault")])
def test_a_part_that_is_exposed_late_may_be_another(clock: Clock, after_ms: int, verdict: str) -> None:
    frame = Frame(0, "p0", GOOD, clock.now_ns, trigger=1, asked_ns=clock.now_ns - after_ms * 1_000_000)
    decision = inspect_part(frame, Told([0.1]), JOB, clock).decision
    assert decision.verdict == verdict
    if verdict == "fault":
        assert decision.cause is Cause.CAMERA
        assert "another part's picture" in decision.reason


class Disk:
    """An outbox that keeps what it is told, or cannot."""

    def __init__(self, *, works: bool) -> None:
        self.alarm = "" if works else "the disk is full"
        self._works = works
        self.kept: list[Result] = []
        self.told: list[tuple[int, Result]] = []

    def keep(self, result: Result, timeout_s: float) -> int | None:
        assert timeout_s > 0
        self.kept.append(result)
        return len(self.kept) if self._works else None

    def tell(self, number: int, result: Result) -> None:
        self.told.append((number, result))

    def serve(self) -> None:
        pass


@pytest.mark.parametrize("works", [True, False])
def test_a_decision_that_is_not_on_disk_is_no_accept(
    publisher: Publisher, subscriber: Subscriber, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(works=works)
    send = publisher.send_result

    def sent_after_it_was_kept(result: Result) -> None:
        assert [kept.seq for kept in disk.kept] == [1]
        assert disk.told == []
        send(result)

    monkeypatch.setattr(publisher, "send_result", sent_after_it_was_kept)
    frame = Frame(0, "p0", GOOD, time.monotonic_ns(), trigger=41, encoder=9)
    with Heartbeat(publisher, Service()) as heartbeat:
        heartbeat.ready(JOB)
        summary = inspect([frame], Told([0.1]), JOB, publisher, heartbeat, outbox=disk)  # type: ignore[arg-type]
    (result,) = results(subscriber, 1)
    assert disk.kept[0].verdict is Verdict.ACCEPT
    assert (result.trigger, result.encoder) == (41, 9)
    if works:
        assert (result.verdict, result.cause) == (Verdict.ACCEPT, Cause.NONE)
        assert disk.told == [(1, disk.kept[0])]
    else:
        assert (result.verdict, result.cause) == (Verdict.FAULT, Cause.JOURNAL)
        assert disk.told == []
        assert summary.counts[Verdict.ACCEPT] == 0
        assert "the disk is full" in {message.alarm for message in statuses(subscriber)}


def statuses(subscriber: Subscriber) -> Iterator[Status]:
    """Every status up to the last one of the process."""
    for message in iter(lambda: subscriber.receive(PATIENCE_MS), None):
        if isinstance(message, Status):
            yield message
            if message.state in {"stopped", "failed"}:
                return


def test_a_camera_that_fails_leaves_the_station_not_ready(publisher: Publisher, subscriber: Subscriber) -> None:
    def failing() -> Iterator[Frame]:
        yield Frame(0, "part-0", GOOD, time.monotonic_ns())
        raise CameraError("line1-camera: cable pulled: plug it in")

    with pytest.raises(CameraError), Heartbeat(publisher, Service()) as heartbeat:
        inspect(failing(), Told([0.1]), JOB, publisher, heartbeat)
    last = list(statuses(subscriber))[-1]
    assert not last.ready
    assert last.reason == "line1-camera: cable pulled: plug it in"
    assert last.parts == last.result_seq == 1


def test_the_loop_stops_after_the_part_in_progress(publisher: Publisher) -> None:
    endless = (Frame(sequence, "part", GOOD, time.monotonic_ns()) for sequence in itertools.count())
    asked = iter([False, False, True])
    with Heartbeat(publisher, Service()) as heartbeat:
        engine = Told([0.1] * 9)
        summary = inspect(endless, engine, JOB, publisher, heartbeat, stop=lambda: next(asked))
    assert summary.parts == 3


@pytest.fixture
def station(tmp_path: Path, bus: Bus, bundle_folder: Path) -> Station:
    images = tmp_path / "images"
    images.mkdir()
    write_image(images / "a.png", GOOD)
    write_image(images / "b.png", BAD)
    (images / "c.png").write_bytes(b"damaged")
    return Station(
        name="line1",
        camera=FolderCamera(kind="folder", folder=images),
        recipe=Recipe(name="tray", bundle=bundle_folder),
        bus=bus,
        deadline_ms=10_000,
        journal=tmp_path / "journal.sqlite",
    )


def test_a_station_runs_its_folder_to_the_end(station: Station) -> None:
    summary = run(station)
    assert summary.counts == {Verdict.ACCEPT: 1, Verdict.REJECT: 1, Verdict.FAULT: 1}


def test_the_recipes_threshold_goes_before_the_bundles(station: Station) -> None:
    lenient = station.model_copy(update={"recipe": station.recipe.model_copy(update={"threshold": 2.0})})
    assert run(lenient).counts[Verdict.ACCEPT] == 2


@pytest.fixture
def notified(monkeypatch: pytest.MonkeyPatch, bus: Bus) -> Iterator[socket.socket]:
    """What the service manager hears."""
    path = Path(bus.result.removeprefix("ipc://")).with_name("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield manager


def heard_until(manager: socket.socket, word: str) -> list[str]:
    heard = [manager.recv(4096).decode()]
    while not heard[-1].startswith(word):
        heard.append(manager.recv(4096).decode())
    return heard


def test_the_service_manager_hears_ready_after_the_start_and_the_watchdog_after_each_part(
    station: Station, notified: socket.socket
) -> None:
    run(station)
    heard = heard_until(notified, "STATUS=stopped")
    words = [word for word in heard if not word.startswith("STATUS=")]
    assert words == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
    assert heard[-1].startswith("STATUS=stopped: 3 parts: 1 accepted, 1 rejected, 1 faults")


def test_a_station_that_cannot_start_is_never_ready(station: Station, notified: socket.socket) -> None:
    (station.recipe.bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(Exception, match=r"model\.onnx: was changed"):
        run(station)
    assert "READY=1" not in heard_until(notified, "STATUS=failed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_within_a_second(
    station: Station, notified: socket.socket, tmp_path: Path, number: signal.Signals
) -> None:
    assert isinstance(station.camera, FolderCamera)
    (tmp_path / "station.toml").write_text(
        f"""
        name = "line1"
        deadline_ms = 1000
        camera = {{ kind = "folder", folder = "{station.camera.folder}", rate_hz = 0.5, loop = true }}
        recipe = {{ name = "tray", bundle = "{station.recipe.bundle}" }}
        bus = {{ result = "{station.bus.result}", view = "{station.bus.view}", status = "{station.bus.status}" }}
        """
    )
    command = [sys.executable, "-m", "inspector.cli", "run", "--station", str(tmp_path / "station.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        heard_until(notified, "READY=1")
        heard_until(notified, "WATCHDOG=1")  # the first part is decided; the next one is two seconds away
        asked_s = time.monotonic()
        process.send_signal(number)
        heard = heard_until(notified, "STATUS=stopped")
        assert time.monotonic() - asked_s < 1
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "STOPPING=1" in heard
    assert "1 parts: 1 accepted" in output
