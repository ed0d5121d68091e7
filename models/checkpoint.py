"""What an interrupted training needs to go on exactly where it was. Written whole or not at all."""

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch

from models.data import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The state after `step` steps of the training named by `key`."""

    key: str  # hash of the images and settings; another training's checkpoint is not taken
    step: int
    seconds: float  # spent so far
    state: dict[str, Any]  # state dicts by name, as torch gives them

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        save_whole(asdict(self), path)

    @classmethod
    def load(cls, path: Path, key: str) -> "Checkpoint | None":
        """The checkpoint at `path`, or None when there is none or it belongs to another training.

        Raises:
            DataError: the file is damaged.
        """
        content = load_whole(path) if path.exists() else {}
        return cls(**content) if content.get("key") == key else None


def load_whole(path: Path) -> dict[str, Any]:
    """What `save_whole` has written.

    Raises:
        DataError: the file is damaged.
    """
    if is_zipfile(path):  # of others torch's reader raises whatever it stumbles over
        with suppress(EOFError, RuntimeError, UnpicklingError):
            content = torch.load(path, weights_only=True, map_location="cpu")
            if isinstance(content, dict):
                return content
    raise DataError(f"{path} is damaged: remove it to train from the start")


def save_whole(content: dict[str, Any], path: Path) -> None:
    """Save with torch to a temporary file beside `path`, then rename.

    Raises:
        OSError: the disk is full, or not to be written to.
    """
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
