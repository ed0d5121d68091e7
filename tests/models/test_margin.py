from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import loop
from models.choose import Wins
from models.detector import Detector
from models.fakes import make_fakes
from models.fit import Schedule
from models.margin import MARGINS, checkpoint_name, fit_margins, separate
from models.method import Method
from models.progress import silent

SCHEDULE = Schedule(steps=6, seed=3, learning_rate=1e-2)

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_networks")


class KilledError(Exception):
    """Stands for a SIGKILL."""


def images(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, 256, 256, generator=generator) for _ in range(count)]


def fitted(work: Path, separation: Callable[[Detector], Wins]) -> tuple[float, dict[str, torch.Tensor]]:
    work.mkdir(exist_ok=True)
    torch.manual_seed(0)
    detector = Detector(Method(margin=0.4, quantile=0.0)).eval()
    margin, _ = fit_margins(detector, images(), SCHEDULE, separation, work=work, key="key", progress=silent)
    return margin, {name: value.clone() for name, value in detector.autoencoder.state_dict().items()}


def best(number: int) -> Callable[[Detector], Wins]:
    """That of the number-th margin is perfect, the others are a coin's."""
    calls = iter(range(100))
    return lambda _: np.full((40, 30), 1.0 if next(calls) == number else 0.5)


def test_the_networks_kept_are_those_of_the_margin_that_separates_best(tmp_path: Path) -> None:
    found = [fitted(tmp_path / str(number), best(number)) for number in range(3)]
    assert [margin for margin, _ in found] == [0.4, 0.0, 1.0]
    weights = [next(iter(state.values())) for _, state in found]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert {0.0, 1.0} < set(MARGINS)


def test_where_none_is_better_the_methods_own_stays(tmp_path: Path) -> None:
    assert fitted(tmp_path, best(99))[0] == 0.4


def test_a_killed_training_goes_on_to_the_same_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole = fitted(tmp_path / "whole", best(2))

    def killed(_: Detector) -> Wins:
        if (tmp_path / "killed" / checkpoint_name(0)).exists():
            raise KilledError
        return np.full((40, 30), 0.5)

    with pytest.raises(KilledError):
        fitted(tmp_path / "killed", killed)
    resumed = fitted(tmp_path / "killed", best(2))
    assert resumed[0] == whole[0]
    assert all(torch.equal(resumed[1][name], whole[1][name]) for name in whole[1])


def test_separation_is_that_of_dfscs_maps_alone() -> None:
    """A student that sees as the teacher does finds every patch it does not know."""
    detector, calm = Detector().eval(), [0.5 + 0.05 * image for image in images(12)]
    fakes = [fake for fake in make_fakes(calm, 0, per_kind=4) if fake.kind == "foreign surface"]
    won = separate(detector, calm[:6], calm[6:], fakes, silent)
    assert won.shape == (1, 6)
    assert won.mean() > 0.9
