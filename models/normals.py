"""Good images as the networks see them, and what they have in common. Reads files; knows no training."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data import DataError, Image, NormalImages, hold_out, normal_images, read_image, to_uint8
from models.progress import Progress
from models.resize import SIDES, network_image

FEWEST_IMAGES = 10  # for training, and as many again for validation: below that no threshold means anything
CAMERA_BIT_DEPTHS = (8, 10, 12, 14, 16)  # of the samples in a 16-bit file: the least that holds the brightest
VALIDATION_SHARE = 0.15  # held out of train/good where there is no validation/good


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """What the images of one product have in common."""

    height: int | None  # None: sizes are mixed
    width: int | None
    channels: Literal[1, 3]
    bit_depth: int


@dataclass(frozen=True, slots=True, eq=False)
class Normals:
    """A product's good images."""

    paths: NormalImages
    train: list[Tensor]  # network images, each (1, 3, 256, 256) in 0..1
    validation: list[Tensor]
    format: ImageFormat
    fingerprint: str  # sha256 over the images' contents, in order, and how many of them were to learn from
    words: tuple[str, ...]  # what the person who trains should know of them


def load_normals(dataset: Path, *, seed: int, progress: Progress) -> Normals:
    """Read a product's good images: train/good and validation/good, or a share of the former held out.

    Raises:
        DataError: a folder is missing or an image unreadable, or they are too few to learn from.
    """
    paths, words = _split(dataset.resolve(), seed)
    everything = (*paths.train, *paths.validation)
    image_format, surprises = _common_format(everything, progress)
    digest = hashlib.sha256()
    networks = []
    for done, path in enumerate(everything, start=1):
        digest.update(path.read_bytes())
        networks.append(as_network_image(read_image(path), image_format))
        progress("reading images", done, len(everything))
    cut = len(paths.train)
    digest.update(f"{cut} to learn from".encode())
    return Normals(paths, networks[:cut], networks[cut:], image_format, digest.hexdigest(), (*words, *surprises))


def as_network_image(image: Image, image_format: ImageFormat) -> Tensor:
    """(H, W, C) of 8 or 16 bit -> (1, 3, 256, 256) in 0..1, by the very function that the exported graph holds."""
    return network_image(torch.from_numpy(as_graph_image(image, image_format)))


def as_graph_image(image: Image, image_format: ImageFormat) -> npt.NDArray[np.uint8]:
    """The image as the exported graph takes it: 8 bit, and a grey one repeated where the product is in colour."""
    pixels = to_uint8(image, image_format.bit_depth)
    return pixels if pixels.shape[2] == image_format.channels else np.repeat(pixels, image_format.channels, axis=2)


def evenly(count: int, most: int) -> list[int]:
    """Indices of at most so many of `count` things, from all over their order."""
    return [int(index) for index in np.linspace(0, count - 1, min(count, most)).round()]


def _split(dataset: Path, seed: int) -> tuple[NormalImages, tuple[str, ...]]:
    images = normal_images(dataset)
    found = len(images.train) + len(images.validation)
    if len(images.train) < FEWEST_IMAGES or found < 2 * FEWEST_IMAGES:
        raise DataError(
            f"{dataset} has {found} good images: too few to learn from. {2 * FEWEST_IMAGES} are the least "
            "(half of them to learn, half to set the threshold), 50 are sensible, 200 or more are good"
        )
    if len(images.validation) >= FEWEST_IMAGES:
        return images, ()
    missing = FEWEST_IMAGES - len(images.validation)
    held = hold_out(images.train, 0 if images.validation else VALIDATION_SHARE, seed, at_least=missing)
    word = f"{len(held.validation)} of the {len(images.train)} images in train/good are held out to set the threshold"
    return NormalImages(held.train, held.validation + images.validation), (word,)


def _common_format(paths: Sequence[Path], progress: Progress) -> tuple[ImageFormat, tuple[str, ...]]:
    sizes: Counter[tuple[int, int]] = Counter()
    channels: Counter[int] = Counter()
    brightest = 0
    for done, path in enumerate(paths, start=1):
        image = read_image(path)
        _require_size(image, path)
        sizes[image.shape[0], image.shape[1]] += 1
        channels[image.shape[2]] += 1
        brightest = max(brightest, int(image.max()) if image.dtype == np.uint16 else 0)
        progress("checking images", done, len(paths))
    height, width = next(iter(sizes)) if len(sizes) == 1 else (None, None)
    bit_depth = next(depth for depth in CAMERA_BIT_DEPTHS if brightest < 2**depth)
    image_format = ImageFormat(height, width, 1 if set(channels) == {1} else 3, bit_depth)
    return image_format, _surprises(sizes, channels)


def _require_size(image: Image, path: Path) -> None:
    height, width = image.shape[:2]
    if not all(SIDES[0] <= side <= SIDES[1] for side in (height, width)):
        raise DataError(
            f"{path} has {width} x {height} pixels: sides of {SIDES[0]} to {SIDES[1]} are taken; "
            "cut or scale the images"
        )


def _surprises(sizes: Counter[tuple[int, int]], channels: Counter[int]) -> tuple[str, ...]:
    words = []
    if len(sizes) > 1:
        (height, width), count = sizes.most_common(1)[0]
        words.append(
            f"the images have {len(sizes)} sizes (most often {width} x {height}: {count} of {sizes.total()}); each is "
            "stretched to the network's square, which is sound only if parts of all sizes look alike then"
        )
    if len(channels) > 1:
        words.append(f"{channels[1]} of {channels.total()} images are grey, the others colour; all are taken as colour")
    return tuple(words)
