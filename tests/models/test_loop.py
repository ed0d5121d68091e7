from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.loop import learn
from models.progress import silent


class Diverging:
    """Its loss is finite for so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None: ...

    def step(self, step: int) -> Tensor:
        return torch.tensor(0.5 if step < self.steps else torch.nan)


def test_a_loss_that_is_lost_ends_the_training_and_is_not_kept(tmp_path: Path) -> None:
    checkpoint, told = tmp_path / "checkpoint.pt", []

    def listen(stage: str, done: int, total: int, note: str = "") -> None:
        told.append((stage, done, total, note))

    with pytest.raises(FloatingPointError, match="the loss is nan after 20 steps: train with another --seed"):
        learn(Diverging(13), 30, stage="training", started=0.0, checkpoint=checkpoint, key="key", progress=listen)
    assert told == [("training", 10, 30, "loss 0.500")]
    assert not checkpoint.exists()


def test_a_training_that_was_finished_takes_no_further_step(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    for steps in (5, 0):
        learn(Diverging(steps), 5, stage="training", started=0.0, checkpoint=checkpoint, key="key", progress=silent)
