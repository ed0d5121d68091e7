from importlib import import_module
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["inspector", "models", "export"])
def test_packages_are_this_checkouts_own(name: str) -> None:
    """A `models` in somebody's site-packages would shadow an editable one."""
    assert Path(import_module(name).__file__ or "").is_relative_to(Path(__file__).parent.parent)
