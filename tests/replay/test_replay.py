"""Golden frames become golden decisions, through the real loop and over the real bus."""

import json
from pathlib import Path

import pytest

from .replay import replay

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))


def test_the_golden_frames_are_decided_as_ever() -> None:
    decided = replay(HERE / "frames", HERE / "bundle")
    assert [part["part_id"] for part in decided] == [part["part_id"] for part in GOLDEN]
    for now, golden in zip(decided, GOLDEN, strict=True):
        assert now == golden | {"score": pytest.approx(golden["score"], abs=1e-4)}


def test_the_golden_decisions_are_the_ones_a_person_would_make() -> None:
    verdicts = {part["part_id"][3:]: part["verdict"] for part in GOLDEN}
    assert verdicts == {
        "none": "accept",
        "scratch": "reject",
        "stain": "reject",
        "hole": "reject",
        "faint": "accept",
        "cut_short": "fault",
        "too_small": "fault",
        "grey": "accept",
    }
