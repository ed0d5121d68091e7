from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import csda_fit as module
from models import loop
from models.anomalies import Anomaly
from models.csda import Csda, image_score
from models.csda_fit import CsdaSchedule, CsdaTrainer, NothingSeenError, fit_csda, prepare
from models.progress import silent

from .tiny import TinyTeacher

pytestmark = pytest.mark.usefixtures("one_thread")

EVERYWHERE = torch.ones(1, 1, 64, 64)
STEPS = 4


class KilledError(Exception):
    """Stands for a SIGKILL between two steps."""


def good(count: int, seed: int = 0) -> list[Tensor]:
    """Two stripes with some grain; every other image is darker."""
    generator = torch.Generator().manual_seed(seed)
    images = [0.3 + 0.02 * torch.rand(1, 3, 256, 256, generator=generator) for _ in range(count)]
    for index, image in enumerate(images):
        image[..., 80:100, :] += 0.4
        image[..., 160:200, :] += 0.2
        image.sub_(0.1 * (index % 2))
    return images


def anomalies(images: list[Tensor], count: int, seed: int = 0) -> list[Anomaly]:
    """A square that is lighter; every fifth image is softer there and nothing is wrong."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        source = int(rng.integers(len(images)))
        top, left = (int(corner) for corner in rng.integers(0, 256 - 48, 2))
        place = (..., slice(top, top + 48), slice(left, left + 48))
        image, mask = images[source].clone(), torch.zeros(256, 256)
        wrong = index % 5 > 0
        image[place] += 0.3 if wrong else 0.002
        mask[place] = wrong
        made.append(Anomaly(image, mask, source))
    return made


def teacher() -> TinyTeacher:
    torch.manual_seed(0)
    return TinyTeacher()


def untrained() -> Csda:
    torch.manual_seed(0)
    return Csda(TinyTeacher.scale_channels)


def trained(checkpoint: Path, steps: int = STEPS, *, killed_after: int | None = None) -> Csda:
    csda, images, schedule = untrained(), good(12), CsdaSchedule(steps, seed=0)

    def progress(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if stage == "learning differences" and done == killed_after:
            raise KilledError

    made = anomalies(images, 30)
    fit_csda(csda, teacher(), images, made, EVERYWHERE, schedule, checkpoint=checkpoint, key="key", progress=progress)  # type: ignore[arg-type]
    return csda


def test_what_was_learned_is_found_on_images_never_seen(tmp_path: Path) -> None:
    csda, seen = trained(tmp_path / "c.pt", 20), teacher()
    fresh = good(6, seed=7)
    with torch.inference_mode():
        quiet = [image_score(csda(seen.scales(image), EVERYWHERE)[0], EVERYWHERE) for image in fresh]
        wrong = [item for item in anomalies(fresh, 10, seed=8) if item.mask.any()]
        maps = [csda(seen.scales(item.image), EVERYWHERE)[0] for item in wrong]
    assert min(image_score(logits, EVERYWHERE) for logits in maps) > max(quiet)
    for logits, item in zip(maps, wrong, strict=True):
        cells = torch.nn.functional.avg_pool2d(item.mask[None], 4)[0] > 0.5
        assert logits[cells].mean() > logits[~cells].mean() + 1


def test_the_loss_falls() -> None:
    csda, images = untrained(), good(12)
    examples = prepare(csda.references, teacher(), images, anomalies(images, 30), EVERYWHERE, 0, silent)  # type: ignore[arg-type]
    trainer = CsdaTrainer(csda, examples, EVERYWHERE, CsdaSchedule(15, seed=0))
    losses = [trainer.step(step).item() for step in range(15)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole.pt").state_dict()
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "REPORT_STEPS", 1)
    with pytest.raises(KilledError):
        trained(tmp_path / "killed.pt", killed_after=3)
    resumed = trained(tmp_path / "killed.pt").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not torch.equal(whole["aggregation.gate.weight"], untrained().state_dict()["aggregation.gate.weight"])


def test_half_of_a_batch_is_clean_and_no_image_meets_itself() -> None:
    csda, images = untrained(), good(12)
    examples = prepare(csda.references, teacher(), images, anomalies(images, 30), EVERYWHERE, 0, silent)  # type: ignore[arg-type]
    assert len(examples.no_ops) == 6
    trainer = CsdaTrainer(csda, examples, EVERYWHERE, CsdaSchedule(1, seed=0))
    for step in range(5):
        differences, mask = trainer._batch(np.random.default_rng(step))
        assert [bool(one.any()) for one in mask] == [True] * 4 + [False] * 4
        assert differences[0].flatten(1).mean(dim=1).min() > 0.05  # an image beside itself would leave nothing


def test_pairs_that_are_unlike_are_those_that_differ_most() -> None:
    """A light image is compared with a dark one only if there are too few light ones."""
    images = [*good(12)[::2], *good(3)[1::2]]  # six light ones, one dark
    csda = untrained()
    examples = prepare(csda.references, teacher(), images, anomalies(images, 30), EVERYWHERE, 0, silent)  # type: ignore[arg-type]
    assert {image for image, _ in examples.unlike[:3]} == {6}


def test_outside_the_region_nothing_is_learned() -> None:
    images, region = good(12), EVERYWHERE.clone()
    region[..., 32:] = 0
    csda = untrained()
    examples = prepare(csda.references, teacher(), images, anomalies(images, 40), region, 0, silent)  # type: ignore[arg-type]
    assert not any(example.mask[:, 33:].any() for example in examples.anomalous)
    assert len(examples.anomalous) < 32


def test_anomalies_that_cannot_be_seen_are_refused() -> None:
    images = good(12)
    invisible = [Anomaly(images[0], item.mask, 0) for item in anomalies(images, 20)]
    with pytest.raises(NothingSeenError, match="of 20 made anomalies only 0 can be seen"):
        prepare(untrained().references, teacher(), images, invisible, EVERYWHERE, 0, silent)  # type: ignore[arg-type]


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = CsdaSchedule(200, seed=0)
    rates = [schedule.rate_at(step) for step in range(200)]
    assert rates[0] < 0.2 * module.LEARNING_RATE
    assert max(rates) > 0.98 * module.LEARNING_RATE
    assert rates[-1] < 0.02 * module.LEARNING_RATE
