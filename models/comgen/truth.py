"""What a change covers where a product's true components are known: the truth for the masks of generated anomalies.

Knows neither pictures nor how components are found.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from models.comgen.components import Instance
from models.comgen.composite import Mask, upscaled
from models.comgen.generate import Anomaly
from models.data import read_image

Truth: TypeAlias = npt.NDArray[np.uint8]  # (H, W) number of the true component, 0 none
Point: TypeAlias = tuple[float, float]  # row and column, pixels

OF_ONE_PART = 0.5  # share of the smaller of a found and a true part that they have in common, above which they are one


def component_files(dataset: Path, images: Sequence[Path]) -> list[Path]:
    """The component map of each image of a dataset, in `components` beside `train`; empty where not all are there."""
    files = [(dataset / "components" / path.relative_to(dataset.resolve())).with_suffix(".png") for path in images]
    return files if all(file.exists() for file in files) else []


def true_components(path: Path) -> Truth:
    """A component map from a PNG file."""
    return read_image(path.with_suffix(".png"))[:, :, 0].astype(np.uint8)


def true_change(anomaly: Anomaly, truths: Mapping[int, Truth]) -> Mask | None:
    """The pixels that would be wrong, had the true parts been changed as the found ones were.

    Dropped, or of another kind: the true part, where it was. Duplicate: the true part, where it was put. Moved, swapped
    or replaced: where parts were and where they, or what came in their stead, were put. Level: the band over which the
    true part's border moves.

    Args:
        anomaly: what was done to found parts.
        truths: component maps of the good images that took part, all of one scale.

    Returns:
        (H, W), or None where a found part is no true part: a piece of the tray.
    """
    source, drawn = truths[anomaly.source], anomaly.modification
    part = _true_part(drawn.part, source)
    if part is None or drawn.change in {"drop", "other kind"}:
        return part
    size, here = part.shape, _centre(drawn.part, source)
    if drawn.change == "level":
        down, across = round(drawn.step[0] * size[0]), round(drawn.step[1] * size[1])
        reached = _put(part, (0, 0), (down, across), source)
        return reached & ~part if drawn.grow else part & ~reached
    if drawn.place:
        there = drawn.place[0] * size[0], drawn.place[1] * size[1]
        arrived = _put(part, here, there, source, drawn.degrees)
        return part | arrived if drawn.change == "move" else arrived
    return _exchanged(anomaly, part, truths)


def _exchanged(anomaly: Anomaly, part: Mask, truths: Mapping[int, Truth]) -> Mask | None:
    """Swapped or replaced."""
    source, drawn = truths[anomaly.source], anomaly.modification
    lender = source if anomaly.reference is None else truths[anomaly.reference]
    other = None if drawn.other is None else _true_part(drawn.other, lender)
    if other is None or drawn.other is None:
        return None
    here, there = _centre(drawn.part, source), _centre(drawn.other, lender)
    replaced = part | _put(other, there, here, source)
    return replaced if drawn.change == "replace" else replaced | other | _put(part, here, there, source)


def _true_part(found: Instance, truth: Truth) -> Mask | None:
    """The connected region of a true component that a found part agrees with best; None if it is another thing."""
    mask = _full_size(found, truth)
    best, agreement = None, 0.0
    for number in set(np.unique(truth[mask]).tolist()) - {0}:
        _, regions = cv2.connectedComponents((truth == number).astype(np.uint8))
        for region in set(np.unique(regions[mask]).tolist()) - {0}:
            candidate = np.asarray(regions == region)
            common = np.count_nonzero(candidate & mask)
            overlap = common / np.count_nonzero(candidate | mask)
            smaller = min(np.count_nonzero(candidate), np.count_nonzero(mask))
            if common > OF_ONE_PART * smaller and overlap > agreement:
                best, agreement = candidate, overlap
    return best


def _put(part: Mask, origin: Point, target: Point, truth: Truth, degrees: float = 0.0) -> Mask:
    """A part turned about a point that then comes to lie on another, in the frame of a component map."""
    move = np.array([[0, 0, target[1] - origin[1]], [0, 0, target[0] - origin[0]]])
    turn = cv2.getRotationMatrix2D((origin[1], origin[0]), degrees, 1.0) + move
    size = truth.shape[1], truth.shape[0]
    return np.asarray(cv2.warpAffine(part.astype(np.uint8), turn, size, flags=cv2.INTER_NEAREST) > 0)


def _centre(found: Instance, truth: Truth) -> Point:
    """Of a found part: what a change takes it by."""
    row, column = np.argwhere(_full_size(found, truth)).mean(axis=0)
    return float(row), float(column)


def _full_size(found: Instance, truth: Truth) -> Mask:
    return upscaled(found.mask, (truth.shape[0], truth.shape[1]))
