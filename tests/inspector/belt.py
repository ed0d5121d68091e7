"""A belt with parts, a camera's view and an ejector, and a station that looks at it: what really happens, for tests.

The station photographs whatever stands before its camera when it is asked, and accepts what is good. So a part that is
passed on another part's picture, or on none, is found out.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from inspector.inspection import RecipeId, Refusal, Verdict
from inspector.plc import PlcInputs, PlcOutputs, Reason, belt
from inspector.plc.belt import Part
from inspector.plc.handshake import ChangeRecipe, Decided, Handshake, StartInspection, StationState
from inspector.plc.registers import inputs_of, words_of
from inspector.plc.twin import LineInputs, Settings, Twin, TwinOutputs

SCAN_MS = 10
SPEED = 10  # encoder counts a scan
MS = 1_000_000
SETTINGS = Settings(
    camera_window=40, decision_distance=200, ejector_distance=220, ejector_window=50, confirm_distance=60,
    deadline_ms=150, heartbeat_ms=60,
)  # fmt: skip
IN_VIEW = SETTINGS.camera_window + SPEED  # the PLC sees an edge up to a scan late
PITCH = (80, 110)
START = (1 << 32) - 3000  # the encoder wraps soon
FIRST = RecipeId(1, 1)


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - parts, no secrets


def parts(random: Random, number: int, *, good: float = 0.7) -> list[Part]:
    """Parts with ids that repeat, or none: only the station's word on this very part may pass it."""
    made, at = [], 50
    for index in range(number):
        made.append(Part(index, at, random.random() < good, random.choice(["", f"P-{index % 3}"])))
        at += random.randint(*PITCH)
    return made


class Belt(belt.Belt):
    """A belt that moves a scan at a time, and stops where the PLC says so."""

    def __init__(self, coming: deque[Part]) -> None:
        super().__init__(coming, SETTINGS, in_view=IN_VIEW, start=START)
        self.now_ms = 1_000_000
        self.stopped = False

    def move(self) -> LineInputs:
        """A scan's time passes; what the PLC sees then."""
        self.now_ms += SCAN_MS
        return self.advance(0 if self.stopped else SPEED)

    def obey(self, outputs: TwinOutputs) -> None:
        """The ejector and the drive do what the PLC says."""
        self.stopped = outputs.line_stop
        super().obey(outputs)


@dataclass(frozen=True)
class Shot:
    token: int
    part: Part | None
    deadline_ns: int
    asked_ms: int
    recipe: RecipeId  # it is judged by this one, as the station was told


@dataclass
class FakeStation:
    """The handshake, and behind it a station that may be slow, silent, restarted or wrong about nothing but time."""

    belt: Belt
    decide: Callable[[Shot], Iterator[tuple[int, Verdict, bool]]]  # when (ms from now), what, journalled
    boot_id: int = 1
    hung: bool = False
    heartbeat: int = 0
    recipe: RecipeId = FIRST  # that is active; it stays over a restart
    loading: list[ChangeRecipe] = field(default_factory=list)
    answers: bool = True  # a request for a recipe, at once
    judged: dict[tuple[int, int], int] = field(default_factory=dict)  # under which recipe, by boot id and trigger
    accepted: set[int] = field(default_factory=set)  # numbers of parts with a journalled accept in time
    shots: list[Shot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    @property
    def now_ns(self) -> int:
        return self.belt.now_ms * MS

    def restart(self) -> None:
        """Everything is another process: under another boot id, and with nothing under way."""
        self.shots.clear()  # the bridge knows decisions of before by the boot id
        self.boot_id = self.boot_id % 0xFFFF + 1
        self.handshake = Handshake(self.boot_id, own_deadline_ns=100 * MS)
        self.coming: list[tuple[int, Shot, Verdict, bool]] = []
        self.loading.clear()

    def restart_inspection(self) -> None:
        """The inspecting process alone is another one, amid a changeover too."""
        self.coming.clear()
        self.loading.clear()
        self.handshake.station_restarted(self.now_ns)

    def live(self) -> None:
        """What happens in the station in a scan's time."""
        if not self.hung:
            if self.belt.now_ms % 50 == 0:
                self.beat()
            for due_ms, shot, verdict, journalled in [one for one in self.coming if one[0] <= self.belt.now_ms]:
                self.coming.remove((due_ms, shot, verdict, journalled))
                self.say(shot, verdict, journalled=journalled)
        self.handshake.tick(self.now_ns)

    def beat(self) -> None:
        """Say how it is."""
        self.heartbeat += 1
        busy = bool(self.loading)
        state = StationState(not busy, self.heartbeat, self.recipe, changing=busy)
        self.handshake.station_said(state, self.now_ns)

    def say(self, shot: Shot, verdict: Verdict, *, journalled: bool) -> None:
        """Decide about one picture."""
        if shot.part is not None and verdict is Verdict.ACCEPT and journalled and self.now_ns < shot.deadline_ns:
            self.accepted.add(shot.part.number)
        reason = Reason.NONE if verdict is Verdict.ACCEPT else Reason.OVER_THRESHOLD
        self.handshake.decided(Decided(shot.token, verdict, reason, 0.5, 12, journalled, shot.recipe), self.now_ns)

    def wrote(self, inputs: PlcInputs) -> None:
        for action in self.handshake.plc_wrote(inputs, self.now_ns):
            if isinstance(action, StartInspection) and action.recipe == self.recipe and not self.loading:
                part = self.belt.before_camera()
                shot = Shot(action.token, part, action.deadline_ns, self.belt.now_ms, self.recipe)
                self.shots.append(shot)
                self.judged[self.boot_id, inputs.trigger_seq] = self.recipe.number
                for in_ms, verdict, journalled in self.decide(shot):
                    self.coming.append((self.belt.now_ms + in_ms, shot, verdict, journalled))
            elif isinstance(action, ChangeRecipe):
                self.loading.append(action)
                if self.answers:
                    self.load(Refusal.NONE)

    def load(self, refusal: Refusal) -> None:
        """The recipe that was asked for is active, or is refused."""
        action = self.loading.pop()
        if refusal is Refusal.NONE:
            self.change(RecipeId(action.recipe, 1))
        self.handshake.recipe_changed(action.token, refusal, self.recipe, self.now_ns)

    def change(self, recipe: RecipeId) -> None:
        """Another recipe is active, whoever asked for it. Parts that are under way are judged by the one before."""
        self.recipe = recipe

    def outputs(self) -> PlcOutputs:
        self.handshake.tick(self.now_ns)
        return self.handshake.outputs(self.now_ns)


def verdict_of(shot: Shot) -> Verdict:
    """Of the picture: an empty belt looks like a good part, to be the worse."""
    return Verdict.ACCEPT if shot.part is None or shot.part.good else Verdict.REJECT


def at_once(shot: Shot) -> Iterator[tuple[int, Verdict, bool]]:
    yield 40, verdict_of(shot), True


def as_it_comes(random: Random) -> Callable[[Shot], Iterator[tuple[int, Verdict, bool]]]:
    """A station that is sometimes late, silent, at fault or without a journal, and sometimes says it twice."""

    def decide(shot: Shot) -> Iterator[tuple[int, Verdict, bool]]:
        kind = random.random()
        in_ms = random.randrange(0, 120)
        if kind < 0.06:
            return
        if kind < 0.12:
            yield in_ms, Verdict.FAULT, True
        elif kind < 0.18:
            yield in_ms, verdict_of(shot), False
        elif kind < 0.24:
            yield 150 + in_ms, verdict_of(shot), True
        elif kind < 0.3:
            yield in_ms, verdict_of(shot), True
            yield in_ms + 20, Verdict.ACCEPT, False
        else:
            yield in_ms, verdict_of(shot), True

    return decide


@dataclass
class DirectLine:
    """Belt, PLC and station without a socket: registers, and a wire that may be broken or slow."""

    belt: Belt
    station: FakeStation
    twin: Twin = field(default_factory=lambda: Twin(SETTINGS))
    linked: bool = True
    slow: bool = False  # what the PLC writes stays on its way
    registers: list[int] = field(default_factory=lambda: [0] * 19)
    words: list[int] = field(default_factory=lambda: [0] * 40)
    exchanged: bool = False
    on_its_way: deque[tuple[int, ...]] = field(default_factory=deque)
    said: deque[tuple[int, ...]] = field(default_factory=lambda: deque(maxlen=40))  # what an old connection may hold
    stopped: int = 0
    wanted: int = 0  # the recipe that the PLC wants
    triggered_under: dict[tuple[int, int], int] = field(default_factory=dict)  # the recipe that the PLC had read

    passed: dict[tuple[int, int], int] = field(default_factory=dict)  # the same, of parts that are to pass

    def scan(self) -> TwinOutputs:
        inputs = self.belt.move()
        self.station.live()
        self.stopped = self.stopped + 1 if self.belt.stopped else 0
        line = replace(inputs, exchanged=self.exchanged, reset=self.stopped == 10, recipe=self.wanted)
        before = self.twin.to_station[2]
        outputs = self.twin.scan(self.words, line, self.belt.now_ms)
        if outputs.to_station[2] != before:
            self.triggered_under[self.words[37], outputs.to_station[2]] = self.words[12]
        for slot in self.twin.slot:
            trigger = (slot.boot_id, slot.seq)
            if slot.passed and trigger not in self.passed:  # a PLC that restarts may use a number again
                self.passed[trigger] = self.triggered_under[trigger]
        self.belt.obey(outputs)
        self.exchange(outputs.to_station if self.twin.heard else None)
        return outputs

    def scans(self, number: int) -> None:
        for _ in range(number):
            self.scan()

    def exchange(self, written: tuple[int, ...] | None) -> None:
        self.exchanged = False
        if not self.linked:
            return
        if self.slow:  # and no answer comes: the PLC waits with what it wanted to say next
            if written is not None and not self.on_its_way:
                self.on_its_way.append(written)
            return
        while self.on_its_way:
            self.write(self.on_its_way.popleft())
        if written is not None:
            self.write(written)
            self.said.append(written)
        self.words, self.exchanged = words_of(self.station.outputs()), True

    def write(self, words: tuple[int, ...]) -> None:
        """Two requests: the part's data, then the rest with the trigger."""
        for first, end in ((6, 19), (0, 6)):
            self.registers[first:end] = words[first:end]
            self.station.wrote(inputs_of(self.registers))

    def restart_plc(self) -> None:
        self.twin, self.words, self.exchanged = Twin(SETTINGS), [0] * 40, False
        self.on_its_way.clear()

    def restart_station(self) -> None:
        self.registers = [0] * 19
        self.on_its_way.clear()
        self.said.clear()
        self.station.restart()
