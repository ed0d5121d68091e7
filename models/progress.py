"""How long work tells how far it is. Knows no terminal."""

from typing import Protocol


class Progress(Protocol):
    """Called often; `note` is a short text such as the loss."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """For those who do not want to know."""
