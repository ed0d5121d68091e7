"""The executable twin of reference.st, statement by statement: what a PLC by the fail-safe policy does. Pure.

Names and marks (P, R, S, A) are those of the Structured Text, in Python's spelling: `FromStation` is `from_station`.
`tests/inspector/test_reference_st.py` runs both on the same inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

MAP_VERSION = 0x0100
LAST_SLOT = 15

S_FREE, S_ENTERED, S_WAITING, S_DECIDED = range(4)
T_NOTHING, T_DATA_SENT, T_SEQ_SENT = range(3)

B_READY = 0x0001
B_RESULT_VALID = 0x0008
B_OK = 0x0010
B_NG = 0x0020
B_ERROR = 0x0040
B_CHANGEOVER = 0x0400
B_BYPASS = 0x1000

C_ENABLE = 0x0001
C_ERROR_RESET = 0x0002
C_STOP = 0x0008
VERDICT_OK = 0x0001

A_SILENT = 0x0001  # A1
A_NOT_CONFIRMED = 0x0002  # A2
A_MANY_REJECTS = 0x0004  # A3
A_SLOTS_FULL = 0x0008  # A4
A_ERROR = 0x0010  # A5
A_WRONG_MAP = 0x0020  # A6
A_BYPASS = 0x0040  # A7
A_RESTARTED = 0x0080  # A8
A_SETTINGS = 0x0100  # A9

UDINT = 1 << 32
NO_ID = (0,) * 10


def id_words(text: str) -> tuple[int, ...]:
    """A part id as a PLC holds it: the first of two characters in the high byte, padded with zeros."""
    data = text.encode("ascii").ljust(20, b"\0")
    return tuple(data[at] << 8 | data[at + 1] for at in range(0, 20, 2))


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set once."""

    allow_bypass: bool = False
    stop_if_silent: bool = False
    camera_window: int = 0
    decision_distance: int = 0
    ejector_distance: int = 0
    ejector_window: int = 0
    confirm_distance: int = 0
    deadline_ms: int = 500
    heartbeat_ms: int = 333
    most_rejects: int = 5


@dataclass(frozen=True, slots=True)
class LineInputs:
    """What the PLC sees of the line in one scan."""

    exchanged: bool = True
    enable: bool = True
    reset: bool = False
    recipe: int = 0
    part_present: bool = False
    part_id: Sequence[int] = NO_ID
    encoder: int = 0
    reject_sensor: bool = False


@dataclass(frozen=True, slots=True)
class TwinOutputs:
    """What the PLC does after one scan."""

    to_station: tuple[int, ...]
    ready: bool
    pass_part: bool
    reject_part: bool
    line_stop: bool
    alarm: int
    last_passed: bool
    last_seq: int
    last_refused: int
    last_reason: int
    passed_parts: int
    rejected_parts: int


@dataclass
class Slot:
    state: int = S_FREE
    passed: bool = False
    seq: int = 0
    boot_id: int = 0
    part_id: tuple[int, ...] = NO_ID
    encoder: int = 0
    distance: int = 0
    echoed: bool = False
    confirmed: bool = False
    refused: int = 0
    reason: int = 0


@dataclass
class Twin:
    """FB_Inspector."""

    settings: Settings
    to_station: list[int] = field(default_factory=lambda: [0] * 19)
    ready: bool = False
    pass_part: bool = False
    reject_part: bool = True
    line_stop: bool = False
    alarm: int = 0
    last_passed: bool = False
    last_seq: int = 0
    last_refused: int = 0
    last_reason: int = 0
    passed_parts: int = 0
    rejected_parts: int = 0

    slot: list[Slot] = field(default_factory=lambda: [Slot() for _ in range(LAST_SLOT + 1)])
    latched: int = 0
    status: int = 0
    heard: bool = False
    synced: bool = False
    map_ok: bool = False
    fresh: bool = False
    boot_id: int = 0
    station_heartbeat: int = 0
    heartbeat_echo: int = 0
    heartbeat_at: int = 0
    heartbeat: int = 0
    trigger_seq: int = 0
    recipe_seq: int = 0
    recipe_asked: int = 0
    recipe_ok: bool = False
    settings_ok: bool = False
    sending: int = T_NOTHING
    sent: int = 0
    busy: bool = False
    in_view: int = 0
    rejects_in_row: int = 0
    part_before: bool = True
    sensor_before: bool = True
    reset_before: bool = True

    def scan(self, words_from_station: list[int], line: LineInputs, now_ms: int) -> TwinOutputs:
        """One scan; `words_from_station` are those of the last exchange, `line.exchanged` says whether it is new."""
        self._move(line)
        self._hear(words_from_station, line, now_ms)
        self._decide(words_from_station, line)
        self._enter(line)
        self._trigger(words_from_station, line)
        self._eject(line)
        self._report(words_from_station, line)
        return TwinOutputs(
            tuple(self.to_station), self.ready, self.pass_part, self.reject_part, self.line_stop, self.alarm,
            self.last_passed, self.last_seq, self.last_refused, self.last_reason, self.passed_parts,
            self.rejected_parts,
        )  # fmt: skip

    def _move(self, line: LineInputs) -> None:
        """1. Reset and the belt."""
        if line.reset and not self.reset_before:
            self.latched = 0
            self.rejects_in_row = 0
            self.recipe_asked = 0
        self.reset_before = line.reset

        at = self.settings
        self.settings_ok = (
            at.camera_window < at.decision_distance < at.ejector_distance
            and 0 < at.ejector_window <= at.confirm_distance
        )  # fmt: skip

        self.in_view = 0  # S1
        for slot in self.slot:
            distance = (line.encoder - slot.encoder) % UDINT
            if distance > UDINT - 1 - at.camera_window:
                distance = 0
            slot.distance = distance
            if slot.state != S_FREE and distance <= at.camera_window:
                self.in_view += 1

    def _hear(self, from_station: list[int], line: LineInputs, now_ms: int) -> None:
        """2. What the station says."""
        self.map_ok = from_station[0] == MAP_VERSION
        self.status = from_station[1]
        if line.exchanged and self.map_ok:
            if not self.heard:  # R1
                self.trigger_seq = from_station[4]
                self.to_station[2] = from_station[4]
            if not self.heard or from_station[37] != self.boot_id:  # R2
                if self.heard:
                    self.latched |= A_RESTARTED
                self.heard = True
                self.synced = False
                self.fresh = False
                self.boot_id = from_station[37]
                self.station_heartbeat = from_station[2]
                self.heartbeat_echo = from_station[3]
                self.recipe_asked = 0
            if from_station[3] != self.heartbeat_echo and from_station[4] == self.to_station[2]:
                self.synced = True
            if from_station[2] != self.station_heartbeat:
                self.station_heartbeat = from_station[2]
                self.heartbeat_at = now_ms
                self.fresh = True
        silence = (now_ms - self.heartbeat_at) % UDINT
        if silence > 3 * self.settings.heartbeat_ms:
            self.fresh = False

        sent = self.slot[self.sent]
        echo = from_station[4] == sent.seq and from_station[37] == sent.boot_id
        if self.sending == T_SEQ_SENT and line.exchanged and self.map_ok and echo:  # R3
            sent.echoed = sent.distance <= self.settings.camera_window and self.in_view == 1
            self.sending = T_NOTHING
        if sent.distance > self.settings.camera_window:
            self.sending = T_NOTHING

    def _decide(self, from_station: list[int], line: LineInputs) -> None:
        """3. Results."""
        for slot in self.slot:
            if slot.state == S_WAITING:
                refused = self.refused(slot, from_station)
                answered = line.exchanged and refused & 0x000C == 0
                if answered or slot.distance >= self.settings.decision_distance:
                    slot.passed = answered and refused == 0
                    slot.refused = refused
                    slot.state = S_DECIDED
                    if answered:
                        slot.reason = from_station[8]
        if line.exchanged and self.map_ok and self.status & B_RESULT_VALID:  # R4
            self.to_station[3] = from_station[5]

    def refused(self, slot: Slot, from_station: list[int]) -> int:
        """The clauses that do not hold, bit n for Pn; P1 is in `_enter`."""
        failed = {
            2: not self.status & B_RESULT_VALID,  # P2
            3: from_station[5] != slot.seq,  # P3
            4: tuple(from_station[18:28]) != slot.part_id,  # P4
            5: from_station[6] != VERDICT_OK,  # P5
            6: from_station[6] ^ from_station[7] != 0xFFFF,  # P6
            7: self.status & (B_OK | B_NG) != B_OK,  # P7
            8: from_station[37] != slot.boot_id,  # P8
            9: not self.fresh,  # P9
            10: slot.distance >= self.settings.decision_distance,  # P10
            11: from_station[38] * 65536 + from_station[39] != slot.encoder,  # P11
            12: not slot.echoed,  # P12
            13: not self.map_ok,  # P13
            14: self.status & B_BYPASS and not self.settings.allow_bypass,  # P14
        }
        return sum(1 << number for number, fails in failed.items() if fails)

    def _enter(self, line: LineInputs) -> None:
        """4. A part enters."""
        if line.part_present and not self.part_before:
            chosen = next((number for number, slot in enumerate(self.slot) if slot.state == S_FREE), -1)
            if chosen < 0:
                self.latched |= A_SLOTS_FULL
            else:
                self.slot[chosen] = Slot(  # P1
                    state=S_ENTERED, passed=False, refused=0x0002, encoder=line.encoder, part_id=tuple(line.part_id)
                )
        self.part_before = line.part_present

    def _trigger(self, from_station: list[int], line: LineInputs) -> None:
        """5. Recipe and trigger."""
        self.busy = False
        self.in_view = 0
        for slot in self.slot:
            if slot.state == S_ENTERED and slot.distance > self.settings.camera_window:
                slot.state = S_DECIDED
            if slot.state == S_WAITING:
                self.busy = True
            if slot.state != S_FREE and slot.distance <= self.settings.camera_window:
                self.in_view += 1

        self.recipe_ok = line.recipe == 0 or (from_station[12] == line.recipe and not self.status & B_CHANGEOVER)  # R5
        asks = line.exchanged and self.synced and not self.recipe_ok and not self.busy
        if asks and self.recipe_asked != line.recipe and self.sending == T_NOTHING:
            self.recipe_asked = line.recipe
            self.recipe_seq = 1 if self.recipe_seq >= 65535 else self.recipe_seq + 1
            self.to_station[4] = line.recipe
            self.to_station[5] = self.recipe_seq

        self.ready = (
            line.enable and self.map_ok and self.fresh and self.synced and self.recipe_ok and self.settings_ok
            and not self.line_stop and self.status & B_READY != 0
            and (self.settings.allow_bypass or not self.status & B_BYPASS)
        )  # fmt: skip

        if line.exchanged and self.ready and self.sending == T_DATA_SENT and self.in_view == 1:  # R6
            self.trigger_seq = 1 if self.trigger_seq >= 65535 else self.trigger_seq + 1
            self.to_station[2] = self.trigger_seq
            slot = self.slot[self.sent]
            slot.seq = self.to_station[2]
            slot.boot_id = self.boot_id
            slot.state = S_WAITING
            self.sending = T_SEQ_SENT
        elif line.exchanged and self.ready and self.sending == T_NOTHING:
            chosen, farthest = -1, 0
            for number, slot in enumerate(self.slot):
                if slot.state == S_ENTERED and (chosen < 0 or slot.distance > farthest):
                    chosen, farthest = number, slot.distance
            if chosen >= 0:
                slot = self.slot[chosen]
                self.to_station[6:16] = slot.part_id
                self.to_station[16] = slot.encoder // 65536
                self.to_station[17] = slot.encoder % 65536
                self.to_station[18] = self.settings.deadline_ms
                self.sent = chosen
                self.sending = T_DATA_SENT

    def _eject(self, line: LineInputs) -> None:
        """6. The ejector."""
        at = self.settings
        pass_here = reject_here = False
        chosen, farthest = -1, 0
        for number, slot in enumerate(self.slot):
            if slot.state != S_FREE and slot.distance >= at.ejector_distance:
                if slot.distance < at.ejector_distance + at.ejector_window:
                    pass_here |= slot.passed
                    reject_here |= not slot.passed
                if not slot.passed and not slot.confirmed and (chosen < 0 or slot.distance > farthest):
                    chosen, farthest = number, slot.distance
        self.pass_part = pass_here and not reject_here  # S2
        self.reject_part = not self.pass_part

        if line.reject_sensor and not self.sensor_before and chosen >= 0:  # S3
            self.slot[chosen].confirmed = True
        self.sensor_before = line.reject_sensor

        for slot in self.slot:  # S4
            behind = slot.state != S_FREE and slot.distance >= at.ejector_distance + at.ejector_window
            overdue = slot.distance > at.ejector_distance + at.confirm_distance
            if behind and (slot.passed or slot.confirmed or overdue):
                self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        self.last_passed = slot.passed
        self.last_seq = slot.seq
        self.last_refused = slot.refused
        self.last_reason = slot.reason
        if slot.passed:
            self.passed_parts += 1
            self.rejects_in_row = 0
        else:
            self.rejected_parts += 1
            if not slot.confirmed:
                self.latched |= A_NOT_CONFIRMED
            if self.rejects_in_row < self.settings.most_rejects:
                self.rejects_in_row += 1
            if self.rejects_in_row >= self.settings.most_rejects:
                self.latched |= A_MANY_REJECTS
        slot.state = S_FREE
        slot.passed = False

    def _report(self, from_station: list[int], line: LineInputs) -> None:
        """7. Alarms, commands, heartbeat."""
        self.alarm = self.latched
        if not self.fresh:
            self.alarm |= A_SILENT
        if self.status & B_ERROR:
            self.alarm |= A_ERROR
        if not self.map_ok and from_station[0] != 0:
            self.alarm |= A_WRONG_MAP
        if self.status & B_BYPASS:
            self.alarm |= A_BYPASS
        if not self.settings_ok:
            self.alarm |= A_SETTINGS
        stopped = self.latched & (A_NOT_CONFIRMED | A_SLOTS_FULL) != 0
        self.line_stop = stopped or (self.settings.stop_if_silent and not self.fresh)

        self.to_station[0] = 0
        if line.enable:
            self.to_station[0] |= C_ENABLE
        if line.reset:
            self.to_station[0] |= C_ERROR_RESET
        if self.line_stop:
            self.to_station[0] |= C_STOP

        self.heartbeat = 0 if self.heartbeat >= 65535 else self.heartbeat + 1  # R7
        self.to_station[1] = self.heartbeat
