"""What a campaign found: the belt's truth against the journal. A part that passed wrongly ends it. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from inspector.inspection import Verdict
from inspector.messages import Result
from inspector.plc.belt import Belt, Part
from inspector.plc.campaign_station import CampaignError
from inspector.plc.twin import TwinOutputs

DISPLACED = timedelta(days=1)  # a record dated so far from now was made by a clock that had jumped


@dataclass
class Leaving:
    """What is known of each part once it has left the belt."""

    belt: Belt
    done: Counter[str]  # how often each kind of fault was done
    fault_of: dict[str, str] = field(default_factory=dict)  # the last one before a part passed or fell, by part id
    heard: set[int] = field(default_factory=set)  # decisions that a recorder has heard
    clauses: Counter[str] = field(default_factory=Counter)  # that kept an accepted part from passing, or one not asked
    offered: set[int] = field(default_factory=set)  # numbers of the parts that came while the PLC was ready
    line_stops: int = 0
    _came: int = 0
    _ready: bool = False
    _seen: tuple[int, int] = (0, 0)
    _rejected: int = 0  # by the PLC

    def look(self, outputs: TwinOutputs, fault: str) -> None:
        """Note who has come and left since the last scan, and why it fell."""
        came = len(self.belt.on_belt) + len(self.belt.passed) + len(self.belt.rejected)
        if self._ready:
            self.offered.update(range(self._came, came))
        self._came, self._ready = came, outputs.ready
        if outputs.rejected_parts != self._rejected and outputs.last_reason == 0:
            self.clauses.update(f"P{number}" for number in range(16) if outputs.last_refused & 1 << number)
        self._rejected = outputs.rejected_parts
        passed, fell = self._seen
        for part in (*self.belt.passed[passed:], *self.belt.rejected[fell:]):
            self.fault_of[part.part_id] = fault
        self._seen = len(self.belt.passed), len(self.belt.rejected)


def judge(belt: Belt, kept: Mapping[int, Result]) -> None:
    """Only good parts with an accept of their own in the journal may pass, and the journal has no holes.

    Raises:
        CampaignError: it is otherwise.
    """
    accepted = {found.part_id for found in kept.values() if found.verdict is Verdict.ACCEPT}
    wrong = [part.part_id for part in belt.passed if part.part_id not in accepted or not part.good]
    if wrong:
        raise CampaignError(f"passed without an accept in the journal, or though they are bad: {', '.join(wrong)}")
    if sorted(kept) != list(range(1, len(kept) + 1)):
        raise CampaignError(f"the journal's {len(kept)} decisions are not numbered from 1 without holes")


def report(belt: Belt, kept: Mapping[int, Result], leaving: Leaving) -> dict[str, object]:
    """The figures, and for each kind of fault how often it came and what it cost.

    Raises:
        CampaignError: a decision in the journal was never heard, or a clock that jumped left no trace.
    """
    lost = set(kept) - leaving.heard
    if lost:
        raise CampaignError(f"decisions in the journal that a recorder never heard: {sorted(lost)}")
    verdicts = {found.part_id: found.verdict for found in kept.values() if found.verdict is not Verdict.FAULT}
    parts = [*belt.passed, *belt.rejected]
    not_inspected = [part for part in parts if part.part_id not in verdicts]
    over_rejected = [part for part in belt.rejected if part.good and part.part_id in verdicts]
    elsewhen = sum(_displaced(found) for found in kept.values())
    if leaving.done["clock jumped"] and not elsewhen:
        raise CampaignError("the clock jumped and no record shows it: the fault did not reach the station")
    return {
        "faults": _by_fault(leaving, over_rejected, not_inspected), "offered_while_ready": len(leaving.offered),
        "passed": len(belt.passed), "passes_without_a_journalled_accept": 0, "bad_parts_passed": 0,
        "good_parts": sum(part.good for part in parts), "inspected": len(parts) - len(not_inspected),
        "over_rejected": len(over_rejected), "not_inspected": len(not_inspected),
        "not_inspected_of_those_offered_while_ready": sum(part.number in leaving.offered for part in not_inspected),
        "clauses_that_rejected": dict(sorted(leaving.clauses.items())),
        "decisions_in_the_journal": len(kept), "lost_decisions": 0,
        "pictures_of_another_part": sum(_another(part, verdicts) for part in parts),
        "records_dated_by_a_clock_that_jumped": elsewhen, "line_stops": leaving.line_stops,
    }  # fmt: skip


def _by_fault(leaving: Leaving, over_rejected: list[Part], not_inspected: list[Part]) -> dict[str, dict[str, int]]:
    """A part counts to the last fault before it left."""
    over = Counter(leaving.fault_of[part.part_id] for part in over_rejected)
    missed = Counter(leaving.fault_of[part.part_id] for part in not_inspected)
    kinds = [*leaving.done, *sorted((over | missed).keys() - leaving.done.keys())]
    return {
        kind: {"times": leaving.done[kind], "over_rejected": over[kind], "not_inspected": missed[kind]}
        for kind in kinds
    }  # fmt: skip


def _another(part: Part, verdicts: Mapping[str, Verdict]) -> bool:
    """Whether the verdict fits another part or an empty belt: a late picture, that the PLC must not believe."""
    verdict = verdicts.get(part.part_id)
    return verdict is not None and (verdict is Verdict.ACCEPT) is not part.good


def _displaced(found: Result) -> bool:
    return abs(datetime.fromisoformat(found.captured_utc) - datetime.now(UTC)) > DISPLACED
