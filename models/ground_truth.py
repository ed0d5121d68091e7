"""What the ground-truth masks of a test image mark: its defects, and when each counts as found. Knows no scores."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.data import DataError, TestImage, read_image

Pixels = npt.NDArray[np.intp]  # (n,) indices into the flattened image
Mask = npt.NDArray[np.bool_]  # (H, W)


class Saturation(BaseModel):
    """One kind of defect: how much of it must be found for the whole to count as found."""

    model_config = ConfigDict(frozen=True)

    defect_name: str
    pixel_value: int = Field(ge=1, le=255, description="of its pixels in the masks")
    saturation_threshold: float = Field(gt=0, description="pixels, or a share of the defect's area")
    relative_saturation: bool

    def pixels(self, area: int) -> int:
        """Found pixels that count as the whole defect of this area; one at the least."""
        threshold = self.saturation_threshold
        return max(int(threshold * area if self.relative_saturation else min(threshold, area)), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Defect:
    """One defect's pixels, and how many of them count as all."""

    pixels: Pixels
    saturation: int


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """What is marked in one image."""

    pixels: Pixels  # all that is anomalous
    regions: tuple[Pixels, ...]  # its connected components (8 neighbours)
    defects: tuple[Defect, ...]  # LOCO: one a mask, they may overlap; MVTec: one a region


def read_saturations(dataset: Path) -> dict[int, Saturation]:
    """The kinds of defects by pixel value, from defects_config.json; empty where there is none.

    Raises:
        DataError: the file is malformed, or two kinds share a pixel value.
    """
    path = dataset / "defects_config.json"
    if not path.is_file():
        return {}
    try:
        kinds = TypeAdapter(list[Saturation]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path} is malformed: {error}") from error
    by_value = {kind.pixel_value: kind for kind in kinds}
    if len(by_value) < len(kinds):
        raise DataError(f"{path} gives one pixel_value to two defects: each needs its own")
    return by_value


def read_ground_truth(image: TestImage, size: tuple[int, int], saturations: dict[int, Saturation]) -> GroundTruth:
    """What the image's masks mark; without saturations a defect is found when all of it is (plain overlap).

    Args:
        image: the test image; with no mask nothing is marked.
        size: (H, W) of the image, which its masks must have too.
        saturations: by pixel value, as read_saturations gives them.

    Raises:
        DataError: a mask has another size, or a pixel value that no defect has.
    """
    anomalous = np.zeros(size, np.bool_)
    defects: list[Defect] = []
    for path in image.masks:
        mask, kind = _read_mask(path, size, saturations)
        anomalous |= mask
        parts = (np.flatnonzero(mask),) if image.mask_per_defect else connected_regions(mask)
        defects += [Defect(part, kind.pixels(part.size) if kind else part.size) for part in parts if part.size]
    return GroundTruth(np.flatnonzero(anomalous), connected_regions(anomalous), tuple(defects))


def connected_regions(mask: Mask) -> tuple[Pixels, ...]:
    """The pixels of each connected component; neighbours may touch at a corner."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    pixels = np.flatnonzero(mask)
    if not pixels.size:
        return ()
    labelled = labels.ravel()[pixels]
    ends = np.cumsum(np.bincount(labelled)[1:])[:-1]
    return tuple(np.split(pixels[np.argsort(labelled, kind="stable")], ends))


def _read_mask(path: Path, size: tuple[int, int], saturations: dict[int, Saturation]) -> tuple[Mask, Saturation | None]:
    values = read_image(path).max(axis=2)
    if values.shape != size:
        raise DataError(f"{path} is {values.shape} pixels (H, W), its image {size}: draw the mask at the image's size")
    marked = np.unique(values[values > 0]).tolist()
    if not saturations or not marked:
        return values > 0, None
    if len(marked) > 1 or marked[0] not in saturations:
        known = sorted(saturations)
        raise DataError(f"{path} holds the values {marked}: one of defects_config.json's is needed, {known}")
    return values > 0, saturations[marked[0]]
