"""The terminal says verdicts in words, and never leaves an old OK up as if it were fresh."""

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console

from inspector.bus import Gap, Publisher
from inspector.camera.settings import FolderCamera
from inspector.inspection import Verdict
from inspector.messages import Message, Status
from inspector.station import Bus, Recipe, Station
from inspector.watch import STALE_NS, Display, watch

from .test_bus import inspected
from .test_messages import SENT, result


def status(state: str = "ready", reason: str = "") -> Status:
    plain = {"kind": "status", "station": "line1", "boot": "b", "seq": 1, "sent_utc": SENT, "state": state}
    names = {"reason": reason, "recipe": "tray", "bundle": "tray-1", "engine": "onnxruntime-cpu", "publish_ms": None}
    counts = dict.fromkeys(("parts", "accepted", "rejected", "faults", "result_seq"), 0)
    return msgspec.convert(plain | names | counts, Status)


def shown(display: Display, message: Message | Gap | None, now_ns: int) -> list[str]:
    return [line.plain for line in display.lines(message, now_ns)]


def test_every_verdict_has_a_shape_and_a_word() -> None:
    display = Display(0)
    looks = [
        shown(display, msgspec.structs.replace(result(), verdict=verdict), 0)[0].split("  ")[0] for verdict in Verdict
    ]
    assert looks == ["● ACCEPT", "✖ REJECT", "▲ FAULT"]


def test_a_verdict_shows_score_threshold_and_latency() -> None:
    assert shown(Display(0), result(), 0) == ["✖ REJECT  part-7  0.75 > 0.5  6.0 ms"]


def test_a_fault_says_why_even_with_brackets_in_its_reason() -> None:
    fault = msgspec.structs.replace(result(), verdict=Verdict.FAULT, score=None, reason="[red]camera[/]")
    assert shown(Display(0), fault, 0) == ["▲ FAULT   part-7  no score / 0.5  6.0 ms  [red]camera[/]"]


def test_silence_is_called_stale_once_and_the_return_is_shown() -> None:
    display = Display(0)
    assert "READY" in shown(display, status(), 0)[0]
    assert shown(display, None, STALE_NS) == []
    assert "STALE" in shown(display, None, STALE_NS + 1)[0]
    assert shown(display, None, 2 * STALE_NS) == []
    assert "READY" in shown(display, status(), 3 * STALE_NS)[0]


def test_verdicts_without_a_status_are_stale_too() -> None:
    lines = shown(Display(0), result(), STALE_NS + 1)
    assert "STALE" in lines[0]
    assert "REJECT" in lines[1]


def test_a_heartbeat_without_news_prints_nothing() -> None:
    display = Display(0)
    shown(display, status(), 0)
    assert shown(display, status(), 1) == []


def test_a_failed_station_says_why() -> None:
    assert shown(Display(0), status("failed", "cable pulled"), 0) == ["□ FAILED   line1: cable pulled"]


def test_a_gap_counts_as_not_inspected() -> None:
    assert "result 4 to 6 never arrived: not inspected" in shown(Display(0), Gap("boot", 4, 6), 0)[0]


def test_watch_prints_what_a_real_station_publishes(bus: Bus) -> None:
    station = Station(
        name="line1",
        camera=FolderCamera(kind="folder", folder=Path("/none")),
        recipe=Recipe(name="tray", bundle=Path("/none")),
        bus=bus,
        deadline_ms=100,
        journal=Path("/none"),
    )
    output = io.StringIO()
    with Publisher(bus, "line1") as publisher:
        watch(station, Console(file=output, width=200), stop=publish_once(publisher, output))
    assert "● ACCEPT  part-0" in output.getvalue()


def publish_once(publisher: Publisher, output: io.StringIO) -> Callable[[], bool]:
    """A `stop` that sends one result as soon as somebody listens, and stops once it was printed."""
    sent: list[bool] = []

    def stop() -> bool:
        if not sent and publisher.listeners("result"):
            publisher.send_result(publisher.next_result(inspected(0), 100))
            sent.append(True)
        return "ACCEPT" in output.getvalue()

    return stop
