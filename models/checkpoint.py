"""What an interrupted training needs to go on exactly where it was. Written whole or not at all."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The state after `step` steps of the training named by `key`."""

    key: str  # hash of the images and settings; another training's checkpoint is not taken
    step: int
    seconds: float  # spent so far
    state: dict[str, Any]  # state dicts by name, as torch gives them

    def save(self, path: Path) -> None:
        """Write to a temporary file beside `path`, then rename."""
        partial = path.with_suffix(".partial")
        torch.save(asdict(self), partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, key: str) -> "Checkpoint | None":
        """The checkpoint at `path`, or None when there is none or it belongs to another training."""
        if not path.exists():
            return None
        stored = cls(**torch.load(path, weights_only=True))
        return stored if stored.key == key else None
