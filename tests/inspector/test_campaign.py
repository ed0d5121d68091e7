"""The campaigns themselves, on a few parts, and what they would find."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from inspector.inspection import Verdict
from inspector.messages import Result, utc_text
from inspector.plc.belt import Belt, Part
from inspector.plc.campaign import HURRIED, faults, latency
from inspector.plc.campaign_actors import Processes, until
from inspector.plc.campaign_report import Leaving, judge, report
from inspector.plc.campaign_station import BeltCamera, CampaignError, Scene
from inspector.plc.campaign_world import CannotHereError, JumpingClock, SmallDisk

from .test_journal import result

DAY_S = 86_400


def children() -> set[str]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, check=False)  # noqa: S603, S607
    return {line for line in listed.stdout.decode().splitlines() if "ps -o" not in line}


@contextmanager
def nothing_stays_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, and no file or socket where temporary ones go."""
    before = children()
    with tempfile.TemporaryDirectory(prefix="insp-") as folder, monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", folder)
        yield
        assert list(Path(folder).iterdir()) == []
    assert children() <= before


def test_the_way_from_trigger_to_result_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with nothing_stays_behind(monkeypatch):
        found = latency(30, lambda *_: None, delay_ms=5)
    outcomes = found["outcomes"]
    assert isinstance(outcomes, dict)
    assert set(outcomes) == {"OVER_THRESHOLD", "OK"}
    assert sum(outcomes.values()) == found["parts"] == 30
    assert found["decisions_not_in_the_journal"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_parts_survive_what_is_done_to_their_station(monkeypatch: pytest.MonkeyPatch) -> None:
    with nothing_stays_behind(monkeypatch):
        found = faults(700, lambda *_: None, seed=3)
    kinds, passed, over_rejected = found["faults"], found["passed"], found["over_rejected"]
    assert isinstance(kinds, dict)
    assert isinstance(passed, int)
    assert isinstance(over_rejected, int)
    possible = 10 - len(found["faults_not_possible_here"])  # type: ignore[arg-type]
    assert len([kind for kind, row in kinds.items() if row["times"]]) >= possible - 2
    assert passed > 250
    assert found["offered_while_ready"] == 700


# ------------------------------------------------------------------------------------------------ what it would find


def a_belt(*, passed: list[Part], rejected: list[Part]) -> Belt:
    belt = Belt([], HURRIED, in_view=100)
    belt.passed, belt.rejected = passed, rejected
    return belt


def part(number: int, *, good: bool = True) -> Part:
    return Part(number, 0, good, f"P{number}")


def decision(number: int, verdict: Verdict, *, ago_s: float = 0.0) -> Result:
    captured = utc_text(time.time() - ago_s)
    return msgspec.structs.replace(result(number, verdict), part_id=f"P{number}", captured_utc=captured)


def test_a_part_that_passes_without_an_accept_of_its_own_is_found() -> None:
    judge(a_belt(passed=[part(1)], rejected=[]), {1: decision(1, Verdict.ACCEPT)})
    with pytest.raises(CampaignError, match="P2"):
        judge(a_belt(passed=[part(1), part(2)], rejected=[]), {1: decision(1, Verdict.ACCEPT)})
    with pytest.raises(CampaignError, match="P1"):
        judge(a_belt(passed=[part(1)], rejected=[]), {1: decision(1, Verdict.REJECT)})


def test_a_bad_part_that_passes_on_another_ones_picture_is_found() -> None:
    with pytest.raises(CampaignError, match="P1"):
        judge(a_belt(passed=[part(1, good=False)], rejected=[]), {1: decision(1, Verdict.ACCEPT)})


def test_a_hole_in_the_journal_is_found() -> None:
    with pytest.raises(CampaignError, match="without holes"):
        judge(a_belt(passed=[], rejected=[]), {1: decision(1, Verdict.REJECT), 3: decision(3, Verdict.REJECT)})


def test_a_decision_that_was_never_heard_is_found() -> None:
    belt = a_belt(passed=[], rejected=[])
    with pytest.raises(CampaignError, match=r"never heard: \[2\]"):
        report(
            belt, {1: decision(1, Verdict.REJECT), 2: decision(2, Verdict.REJECT)}, Leaving(belt, Counter(), heard={1})
        )


def test_a_clock_that_jumps_unnoticed_is_no_fault_that_was_tried() -> None:
    belt = a_belt(passed=[part(1)], rejected=[])
    done = Counter({"clock jumped": 1})
    with pytest.raises(CampaignError, match="did not reach"):
        report(belt, {1: decision(1, Verdict.ACCEPT)}, Leaving(belt, done, heard={1}))
    kept = {1: decision(1, Verdict.ACCEPT, ago_s=3 * DAY_S)}
    assert report(belt, kept, Leaving(belt, done, heard={1}))["records_dated_by_a_clock_that_jumped"] == 1


def test_each_part_counts_where_it_belongs() -> None:
    rejected = [part(2), part(3, good=False), part(4), part(5, good=False), part(6)]
    belt = a_belt(passed=[part(1)], rejected=rejected)
    verdicts = [Verdict.ACCEPT, Verdict.ACCEPT, Verdict.REJECT, Verdict.FAULT, Verdict.ACCEPT]
    kept = {number: decision(number, verdict) for number, verdict in enumerate(verdicts, 1)}
    names = dict.fromkeys(["P1", "P2", "P3", "P4", "P5"], "first") | {"P6": "second"}
    leaving = Leaving(belt, Counter(first=2), fault_of=names, heard=set(kept), offered={4})
    found = report(belt, kept, leaving)
    assert found["faults"] == {
        "first": {"times": 2, "over_rejected": 1, "not_inspected": 1},
        "second": {"times": 0, "over_rejected": 0, "not_inspected": 1},
    }
    figures = ["passed", "inspected", "over_rejected", "not_inspected", "pictures_of_another_part"]
    assert [found[name] for name in figures] == [1, 4, 1, 2, 1]
    assert found["not_inspected_of_those_offered_while_ready"] == 1


# ------------------------------------------------------------------------------------------------ its world


def test_the_camera_sees_what_stands_before_it_when_it_exposes(tmp_path: Path) -> None:
    from inspector.camera import Trigger
    from inspector.inspection import Frame

    with Scene(tmp_path / "scene") as scene, Scene(tmp_path / "scene") as belt_side:
        camera = BeltCamera(scene, 4, 4)
        events, seen = iter(camera), []
        for number, stands in enumerate([part(1), part(2, good=False), None]):
            camera.expose(Trigger(number, f"P{number}"))
            belt_side.show(stands)
            frame = next(events)
            assert isinstance(frame, Frame)
            seen.append(frame.image[0, 0, 0] > 127)
        assert next(events) is None
    assert seen == [False, True, False]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(SmallDisk(tmp_path / "disk", 2**20))
        except CannotHereError as error:
            pytest.skip(str(error))
        yield disk


def test_a_small_disk_is_full_for_those_who_see_it_and_nobody_else(small_disk: SmallDisk, tmp_path: Path) -> None:
    def writes() -> int:
        command = [*small_disk.inside, "sh", "-c", f"echo kept > {tmp_path}/disk/file"]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode  # noqa: S603

    small_disk.fill()
    assert writes() != 0
    small_disk.free()
    assert writes() == 0
    assert list((tmp_path / "disk").iterdir()) == []
    small_disk.copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_text() == "kept\n"


def test_a_clock_jumps_for_one_process_and_leaves_its_monotonic_clock_alone(tmp_path: Path) -> None:
    try:
        clock = JumpingClock(tmp_path)
    except CannotHereError as error:
        pytest.skip(str(error))
    clocks = "import time, datetime; print([time.time(), datetime.datetime.now().timestamp(), time.monotonic()])"

    def told() -> list[float]:
        environment = {**os.environ, **clock.environment}
        done = subprocess.run([sys.executable, "-c", clocks], capture_output=True, check=True, env=environment)  # noqa: S603
        return [float(moment) for moment in json.loads(done.stdout)]

    for ahead_s in (0, 3 * DAY_S, -700 * DAY_S):
        clock.jump(ahead_s)
        real, steady = time.time(), time.monotonic()
        assert told() == pytest.approx([real + ahead_s, real + ahead_s, steady], abs=60)


def test_what_dies_is_started_again_and_nothing_is_left_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Processes({"sleeper": ["sleep", "600"]}, {}, tmp_path) as processes:
            await until(lambda: processes.starts["sleeper"] == 1, "never started")
            processes.signal("sleeper", signal.SIGSTOP)
            processes.signal("sleeper", signal.SIGKILL)
            await until(lambda: processes.starts["sleeper"] == 2, "not started again")

    with nothing_stays_behind(monkeypatch):
        asyncio.run(main())


def test_a_process_that_cannot_be_started_is_no_secret(tmp_path: Path) -> None:
    async def main() -> None:
        async with Processes({"nobody": ["/does/not/exist"]}, {}, tmp_path):
            await asyncio.sleep(0.2)

    with pytest.raises(FileNotFoundError):
        asyncio.run(main())
