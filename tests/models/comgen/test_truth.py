"""Masks against the truth, on a product whose parts are found as they are: a disc, a square and a plate, not square."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from torch import Tensor

from models.comgen.components import Components, Instance
from models.comgen.composite import Mask
from models.comgen.generate import Anomaly, Generator
from models.comgen.prompts import CHANGES, Modification
from models.comgen.quality import component_iou, true_masks
from models.comgen.truth import Truth, component_files, true_change, true_components
from models.normals import ImageFormat
from models.progress import silent

from .toy import Photo, network

COUNT = 12
HEIGHT, WIDTH = 320, 480
DISC, SQUARE, PLATE = 1, 2, 3


def draw(seed: int) -> tuple[Photo, Truth]:
    """A good image and its component map; disc and plate are of the same of two colours."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(truth, (90 + int(rng.integers(-6, 7)), 80 + int(rng.integers(-4, 5))), 22, DISC, -1)
    left, top = 240 + int(rng.integers(-6, 7)), 60 + int(rng.integers(-4, 5))
    cv2.rectangle(truth, (left, top), (left + 40, top + 40), SQUARE, -1)
    top = 210 + int(rng.integers(-2, 3))
    cv2.rectangle(truth, (260, top), (350, top + 30), PLATE, -1)
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    picture[truth == SQUARE] = (230, 220, 60)
    picture[(truth == DISC) | (truth == PLATE)] = ((200, 40, 40), (40, 60, 200))[seed % 2]
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8), truth


class KnownComponents:
    """Finds what is there."""

    def __init__(self, found: list[list[Instance]]) -> None:
        self._found = iter(found)

    def find(self, _image: Tensor) -> list[Instance]:
        return next(self._found)


@pytest.fixture(scope="module")
def truths() -> dict[int, Truth]:
    return {seed: draw(seed)[1] for seed in range(COUNT)}


@pytest.fixture(scope="module")
def generator(truths: dict[int, Truth], tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("good")
    paths, found = [], []
    for seed, truth in truths.items():
        paths.append(folder / f"{seed:02}.png")
        cv2.imwrite(str(paths[-1]), draw(seed)[0][:, :, ::-1])
        small = cv2.resize(truth, (256, 256), interpolation=cv2.INTER_NEAREST)
        kinds = {DISC: seed % 2, SQUARE: 0, PLATE: seed % 2}
        found.append([Instance(number - 1, mode, small == number) for number, mode in kinds.items()])
    components = cast("Components", KnownComponents(found))
    images = [network(cv2.resize(draw(seed)[0], (256, 256))) for seed in truths]
    image_format = ImageFormat(HEIGHT, WIDTH, 3, 8)
    return Generator(paths, images, image_format, components, ["disc", "square", "plate"], silent)


@pytest.fixture(scope="module")
def anomalies(generator: Generator) -> list[Anomaly]:
    generator.population.touching = generator.population.parts  # each stands alone here: levels are drawn all the same
    return list(generator.generate(4 * len(CHANGES), seed=0, progress=silent))


def shifted(mask: Mask) -> Mask:
    return np.roll(mask, (12, 12), axis=(0, 1))


@pytest.mark.parametrize("change", CHANGES)
def test_masks_are_those_of_the_true_parts_and_shifted_ones_are_not(
    change: str, anomalies: list[Anomaly], truths: dict[int, Truth]
) -> None:
    made = [anomaly for anomaly in anomalies if anomaly.change == change]
    off = [replace(anomaly, masks=tuple(shifted(mask) for mask in anomaly.masks)) for anomaly in made]

    right, wrong = true_masks(made, truths), true_masks(off, truths)
    assert right is not None
    assert wrong is not None
    assert right.images == wrong.images == len(made)
    assert right.iou == right.by_change[change] > (0.7 if change == "level" else 0.8)  # bands are a few pixels wide
    assert right.within > 0.85
    assert wrong.iou < 0.65


def test_a_part_that_is_no_true_one_has_no_truth(anomalies: list[Anomaly], truths: dict[int, Truth]) -> None:
    ground = np.zeros((256, 256), bool)
    ground[:40, :20] = True
    dropped = next(anomaly for anomaly in anomalies if anomaly.change == "drop")
    bare = replace(dropped, modification=Modification("drop", Instance(0, 0, ground)))

    assert true_change(bare, truths) is None
    assert true_masks([bare], truths) is None
    compared = true_masks([bare, dropped], truths)
    assert compared is not None
    assert compared.images == 1


def test_half_a_part_found_agrees_by_half(anomalies: list[Anomaly], truths: dict[int, Truth]) -> None:
    dropped = next(anomaly for anomaly in anomalies if anomaly.change == "drop")
    whole = truths[dropped.source] == dropped.modification.part.component + 1
    rows, _ = np.nonzero(whole)
    half = whole.copy()
    half[: round(rows.mean())] = False
    part = Instance(0, 0, cv2.resize(half.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0)

    compared = true_masks([replace(dropped, masks=(half,), modification=Modification("drop", part))], truths)
    assert compared is not None
    assert compared.iou == pytest.approx(0.5, abs=0.05)
    assert compared.within == 1


def test_a_map_smaller_than_its_photograph_serves(anomalies: list[Anomaly], truths: dict[int, Truth]) -> None:
    size = WIDTH // 2, HEIGHT // 2
    small = {seed: cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST) for seed, truth in truths.items()}

    compared = true_masks(anomalies, small)
    assert compared is not None
    assert compared.iou > 0.8


def test_a_dataset_has_component_maps_for_all_of_its_images_or_none(tmp_path: Path) -> None:
    images = [tmp_path / "train" / "good" / f"{seed}.png" for seed in range(2)]
    files = [tmp_path / "components" / "train" / "good" / path.name for path in images]
    files[0].parent.mkdir(parents=True)
    truth = draw(0)[1]
    cv2.imwrite(str(files[0]), truth)

    assert component_files(tmp_path, images) == []
    cv2.imwrite(str(files[1]), truth)
    assert component_files(tmp_path, images) == files
    assert (true_components(files[0]) == truth).all()


def test_components_are_compared_at_the_networks_size(truths: dict[int, Truth]) -> None:
    small = cv2.resize(truths[0], (256, 256), interpolation=cv2.INTER_NEAREST)
    found = [Instance(number - 1, 0, small == number) for number in (DISC, SQUARE, PLATE)]

    assert component_iou([found], [truths[0]]) == {DISC: 1, SQUARE: 1, PLATE: 1}
