from collections import Counter

import pytest

from inspector.stress.loss import loss
from inspector.stress.rig import StressError
from inspector.stress.soak import Memory, account, soak
from inspector.stress.speed import triggered


def silent(what: str, done: int, total: int) -> None:
    pass


TRUTH = {"exposures": 1000, "incomplete": 10, "dropped": 5, "underruns": 7}
STEADY: dict[str, float | None] = {"acquisition": 0.0, "station": None}


def test_a_soak_accounts_for_every_frame() -> None:
    found = soak(2500, silent)
    assert isinstance(found["parts"], int)
    assert found["parts"] >= 2500  # a gap that ends the soak counts whole
    counts, camera = found["counts"], found["camera"]
    assert isinstance(counts, dict)
    assert isinstance(camera, dict)
    assert counts["incomplete"] >= 1
    assert camera["dropped"] >= 1
    assert counts["lost"] >= 1
    assert found["rss_growth_mb_per_million_frames"] == {"acquisition": None, "station": None}  # too short to say


def test_frames_that_nobody_saw_end_a_soak() -> None:
    seen = Counter(incomplete=10, lost=12)
    account(1000, seen, TRUTH, STEADY)
    for parts, counts, word in (
        (990, seen, "parts"),
        (1000, Counter(incomplete=4, lost=12), "incomplete"),
        (1000, Counter(incomplete=10, lost=5), "lost"),
    ):
        with pytest.raises(StressError, match=f"^{word}: "):
            account(parts, counts, TRUTH, STEADY)


def test_memory_that_grows_ends_a_soak() -> None:
    with pytest.raises(StressError, match="station process grows"):
        account(1000, Counter(incomplete=10, lost=12), TRUTH, STEADY | {"station": 50.0})


def test_what_a_start_takes_once_is_no_growth() -> None:
    memory = Memory()
    for index in range(10):
        assert memory.growth_mb_per_million() is None  # too few samples yet
        memory.frames.append(1000 * index)
        memory.mb.append(100.0 if index < 5 else 180.0)
    assert memory.growth_mb_per_million() == pytest.approx(0, abs=1e-6)


def test_a_camera_that_is_unplugged_and_one_that_stalls_come_back() -> None:
    rows = loss(2, silent)
    assert [row["what"] for row in rows] == ["camera unplugged", "camera stalled"]
    assert all(row["invented_verdicts"] == 0 for row in rows)


def test_a_triggered_camera_answers_each_trigger() -> None:
    found = triggered("Mono8", 20)
    assert found["triggers"] == 20
    assert isinstance(found["p50_ms"], float)
    assert 0 < found["p50_ms"] < 1000
