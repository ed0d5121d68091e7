"""The MVTec / LOCO folder layout: which images are normal, which are tests and what is known of them. Knows no network.

DATASET/train/good, DATASET/validation/good (optional), DATASET/test/<type>, DATASET/ground_truth/<type>.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # (H, W, C), C = 1 grey or 3 RGB

GOOD = "good"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


class DataError(ValueError):
    """The images on disk are not what they should be; the text names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class NormalImages:
    """The images to learn from; all are good."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...]  # empty: the dataset has none, hold some out


@dataclass(frozen=True, slots=True)
class TestImage:
    """One image to be judged, and what is known of it."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    path: Path
    type: str  # the folder under test/
    defect_types: tuple[str, ...]  # finer types from labels.csv
    masks: tuple[Path, ...]  # ground truth; empty: good, or nobody has drawn any
    mask_per_defect: bool  # LOCO: each mask is one defect; MVTec: one mask holds all of the image's regions

    @property
    def is_good(self) -> bool:
        """Whether the part is good."""
        return self.type == GOOD


def read_image(path: Path) -> Image:
    """The image as (H, W, C), C = 1 grey or 3 RGB, in its own 8 or 16 bit; alpha is dropped.

    Pixels are taken as stored: a rotation noted in the file (EXIF) is ignored, as a camera's frames have none.

    Raises:
        DataError: the file cannot be read as such an image.
    """
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): check the path and its permissions") from error
    except cv2.error as error:
        raise DataError(f"{path} cannot be decoded ({error.err}): save it again or remove it") from error
    if pixels is None:
        raise DataError(f"{path} is damaged, cut short or no image: save it again or remove it")
    return _grey_or_rgb(pixels, path)


def to_uint8(image: Image, bit_depth: int) -> npt.NDArray[np.uint8]:
    """The image in 8 bit: samples of bit_depth bits are shifted down (x >> (bit_depth - 8), clipped at 255)."""
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    shifted = np.right_shift(image, max(bit_depth - 8, 0))
    return np.minimum(shifted, 255).astype(np.uint8)


def image_files(folder: Path) -> list[Path]:
    """The images directly in the folder, sorted by name; hidden files are ignored. A missing folder has none."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES)


def normal_images(dataset: Path) -> NormalImages:
    """The good images to learn from; reads train/good and validation/good and nothing else.

    Raises:
        DataError: train/good is missing or holds no image.
    """
    folder = dataset / "train" / GOOD
    train = image_files(folder)
    if not train:
        found = "holds no image" if folder.is_dir() else "does not exist"
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
        raise DataError(
            f"{folder} {found}: put images of good parts there ({kinds}); "
            "validation/good beside it is optional, all else is only used by evaluate"
        )
    return NormalImages(tuple(train), tuple(image_files(dataset / "validation" / GOOD)))


def hold_out(paths: Sequence[Path], share: float, seed: int, *, at_least: int = 10) -> NormalImages:
    """Sets a share of the images aside for validation: at least so many, at most half; the same seed, the same images.

    Raises:
        DataError: there are fewer than two images.
    """
    if len(paths) < 2:
        raise DataError(f"{len(paths)} image is too few to learn from: two are the least, 50 or more are sensible")
    count = min(max(at_least, round(share * len(paths))), len(paths) // 2)
    chosen = set(np.random.default_rng(seed).permutation(len(paths))[:count].tolist())
    train = tuple(path for index, path in enumerate(paths) if index not in chosen)
    return NormalImages(train, tuple(path for index, path in enumerate(paths) if index in chosen))


def test_images(dataset: Path) -> list[TestImage]:
    """Every image under test/, sorted by type and name, with its ground truth in the MVTec or LOCO layout.

    Raises:
        DataError: there are no test images, two share a name, a mask is missing, or labels.csv is malformed.
    """
    labels = _read_labels(dataset)
    test = dataset / "test"
    types = sorted(path for path in test.iterdir() if _is_type(path)) if test.is_dir() else []
    images = [image for folder in types for image in _images_of_type(dataset, folder.name, labels)]
    if not images:
        raise DataError(f"{test} holds no images: put good parts under test/good and others under test/<type>")
    return images


def _grey_or_rgb(pixels: npt.NDArray[np.generic], path: Path) -> Image:
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.shape[2] not in {1, 3, 4}:
        raise DataError(f"{path} has {pixels.shape[2]} channels: save it as grey or RGB")
    if pixels.shape[2] >= 3:
        pixels = np.ascontiguousarray(pixels[:, :, 2::-1])
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        return pixels.astype(np.uint16, copy=False)
    raise DataError(f"{path} has {pixels.dtype} samples: save it with 8 or 16 bit unsigned ones")


def _is_type(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _images_of_type(dataset: Path, kind: str, labels: dict[str, tuple[str, ...]]) -> list[TestImage]:
    paths = image_files(dataset / "test" / kind)
    _require_own_stems(paths)
    truth = dataset / "ground_truth" / kind
    drawn = {} if kind == GOOD else {path.stem: path for path in image_files(truth)}
    annotated = kind != GOOD and truth.is_dir() and any(truth.iterdir())
    return [
        TestImage(
            path=path,
            type=kind,
            defect_types=labels.get(f"{kind}/{path.name}", ()),
            masks=_masks(path, truth, drawn) if annotated else (),
            mask_per_defect=(truth / path.stem).is_dir(),
        )
        for path in paths
    ]


def _require_own_stems(paths: list[Path]) -> None:
    """Masks and maps are found by the name without its ending, so no two images may share it."""
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise DataError(f"{path} and {other.name} differ only in their ending: rename one of them")


def _masks(path: Path, truth: Path, drawn: dict[str, Path]) -> tuple[Path, ...]:
    """LOCO: ground_truth/<type>/<stem>/*.png; MVTec: ground_truth/<type>/<stem>_mask.png or <stem>.png."""
    masks = image_files(truth / path.stem)
    masks = masks or [drawn[name] for name in (f"{path.stem}_mask", path.stem) if name in drawn][:1]
    if not masks:
        raise DataError(
            f"{path} has no mask: draw {truth / path.stem}_mask.png, or remove {truth} to do without this type's masks"
        )
    return tuple(masks)


def _read_labels(dataset: Path) -> dict[str, tuple[str, ...]]:
    """Finer types by <type>/<file name>; from labels.csv beside the folder test or in it, where there is one."""
    path = next((path for path in (dataset / "labels.csv", dataset / "test" / "labels.csv") if path.is_file()), None)
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            return dict(_read_label(row, f"{path} line {rows.line_num}") for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): save it as comma-separated UTF-8, or remove it") from error


def _read_label(row: dict[str, str], where: str) -> tuple[str, tuple[str, ...]]:
    file, types = row.get("file"), row.get("defect_types")
    if not file or types is None:
        raise DataError(f"{where}: needs the columns file and defect_types, as in test/scratch/000.png,deep+long")
    name = file.strip().replace("\\", "/").removeprefix("./").removeprefix("test/")
    return name, tuple(part.strip() for part in types.split("+") if part.strip())
