from collections.abc import Iterator

import pytest
import torch

from .tiny import use_tiny_networks


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_networks(monkeypatch)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are taken in one order, so that results can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
