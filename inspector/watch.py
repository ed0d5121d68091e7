"""The bus in a terminal: a line a verdict, in words and colour, and STALE when the station falls silent."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from inspector.bus import Gap, Subscriber
from inspector.inspection import Verdict
from inspector.messages import Message, MessageError, Result, Status
from inspector.station import Station

STALE_NS = 1_000_000_000
POLL_MS = 100

_LOOK = {
    Verdict.ACCEPT: ("● ACCEPT", "green"),
    Verdict.REJECT: ("✖ REJECT", "bold red"),
    Verdict.FAULT: ("▲ FAULT ", "bold yellow"),
}


def watch(station: Station, console: Console, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Print what the station publishes until asked to stop or interrupted."""
    display = Display(time.monotonic_ns())
    with Subscriber(station.bus, ("result", "status"), curve=station.curve) as subscriber:
        while not stop():
            try:
                message = subscriber.receive(POLL_MS)
            except MessageError as error:
                console.print(Text(f"? unreadable message: {error}", style="yellow"))
                continue
            for line in display.lines(message, time.monotonic_ns()):
                console.print(line, soft_wrap=True)


class Display:
    """What to print next; remembers only whether the station is alive, and what it said."""

    def __init__(self, now_ns: int) -> None:
        self._heard_ns = now_ns
        self._stale = False
        self._said: tuple[object, ...] = ()
        self._alarm = ""

    def lines(self, message: Message | Gap | None, now_ns: int) -> list[Text]:
        """Give the lines for a message, or for its absence."""
        if isinstance(message, Status):
            return self._status(message, now_ns)
        lines = self._staleness(now_ns)
        if isinstance(message, Result):
            lines.append(verdict_line(message))
        elif isinstance(message, Gap):
            missing = f"{message.first}" if message.first == message.last else f"{message.first} to {message.last}"
            lines.append(Text(f"▲ GAP      result {missing} never arrived: not inspected", style="bold yellow"))
        return lines

    def _status(self, status: Status, now_ns: int) -> list[Text]:
        said = (status.state, status.reason, status.recipe, status.recipe_revision)
        lines = [state_line(status)] if self._stale or said != self._said else []
        if status.alarm != self._alarm:
            lines.append(alarm_line(status))
        self._heard_ns, self._stale, self._said, self._alarm = now_ns, False, said, status.alarm
        return lines

    def _staleness(self, now_ns: int) -> list[Text]:
        if self._stale or now_ns - self._heard_ns <= STALE_NS:
            return []
        self._stale = True
        text = "STALE      no status from the station for 1 s: nothing above is the present"
        return [Text(f"▨ {text}", style="bold black on yellow")]


def verdict_line(result: Result) -> Text:
    """Say one verdict: shape, word, part, score against threshold, latency, and why if it is no accept."""
    word, style = _LOOK[result.verdict]
    score = "no score" if result.score is None else f"{result.score:.4g}"
    relation = ">" if result.verdict is Verdict.REJECT else "≤" if result.verdict is Verdict.ACCEPT else "/"
    latency_ms = sum(result.timings.values())
    line = Text.assemble(
        (f"{word}  ", style), f"{result.part_id}  {score} {relation} {result.threshold:.4g}  {latency_ms:.1f} ms"
    )
    if result.verdict is Verdict.FAULT:
        line.append(f"  {result.reason}", style=style)
    return line


def state_line(status: Status) -> Text:
    """Say what the station is doing."""
    if status.ready:
        return Text(f"○ READY    {status.station}: {status.recipe}, {status.bundle} on {status.engine}", style="cyan")
    why = f": {status.reason}" if status.reason else ""
    return Text(f"□ {status.state.upper():8} {status.station}{why}", style="bold yellow")


def alarm_line(status: Status) -> Text:
    """Say what somebody must see to while parts are inspected, or that it is over."""
    if status.alarm:
        return Text(f"▲ ALARM    {status.station}: {status.alarm}", style="bold yellow")
    return Text(f"○ ALARM    {status.station}: it is over", style="cyan")
