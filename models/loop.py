"""The loop around every training: reports, refuses a loss that is lost, and goes on where it was killed."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.progress import Progress

REPORT_STEPS = 10  # between two reports of progress
CHECKPOINT_SECONDS = 30.0


class Learner(Protocol):
    """What is trained. What a step draws depends on its number alone, so that a resumed training is the same one."""

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a state."""

    def step(self, step: int) -> Tensor:
        """One step; returns the loss, ()."""


def learn(
    learner: Learner, steps: int, *, stage: str, started: float, checkpoint: Path, key: str, progress: Progress,
    first: int = 0,
) -> float:  # fmt: skip
    """Take the steps, from the checkpoint on if there is one with this key.

    Args:
        learner: trained in place.
        steps: in all.
        stage: what progress is told this work is called.
        started: when this run began, preparations included (monotonic); a checkpoint records the time since then.
        checkpoint: written every now and then, and at the end.
        key: names the training.
        progress: told the loss.
        first: step to begin with, where there is no checkpoint.

    Returns:
        the seconds that earlier runs had spent.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    spent = 0.0
    if earlier := Checkpoint.load(checkpoint, key):
        learner.restore(earlier.state)
        first, spent = earlier.step, earlier.seconds
    saved = time.monotonic()
    for done in range(first + 1, steps + 1):
        current = learner.step(done - 1)
        if done % REPORT_STEPS == 0 or done == steps:
            loss = current.item()
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} after {done} steps: train with another --seed")
            progress(stage, done, steps, f"loss {loss:.3f}")
        if time.monotonic() - saved > CHECKPOINT_SECONDS or done == steps:
            Checkpoint(key, done, spent + time.monotonic() - started, learner.state()).save(checkpoint)
            saved = time.monotonic()
    return spent


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Adam's moments of idle channels fade into numbers that processors are slow at; the setting is the thread's."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
