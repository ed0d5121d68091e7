"""ComGEN's anomalies as a detector learns from them: network images with their masks. Draws and chooses nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from models.anomalies import MAKES, NO_OP_SHARE, Anomaly, Drawn, redone
from models.comgen.components import Components
from models.comgen.composite import Photo, cut_out, paste, upscaled
from models.comgen.generate import Generator
from models.grid import NETWORK_SIDE
from models.normals import ImageFormat, Normals, as_network_image
from models.progress import Progress

COMGEN, COMGEN_ANY = "comgen", "comgen-any"
LONGEST = 400  # pixels of the longer side at which is edited: a network sees 256


def anomalies_of(kind: str, normals: Normals, count: int, *, seed: int, progress: Progress) -> Sequence[Anomaly]:
    """Anomalies of a kind to learn from.

    Args:
        kind: one of `MAKES`, or comgen; comgen-any is without low-density sampling.
        normals: the product's good images.
        count: how many.
        seed: the same one gives the same anomalies.
        progress: told about each stage.

    Returns:
        fewer, or none, of comgen's if the product has too few components.
    """
    if kind in MAKES:
        return Drawn(normals.train, MAKES[kind], seed=seed, count=count)
    return comgen_anomalies(normals, count, seed=seed, progress=progress, rare=kind == COMGEN)


def comgen_anomalies(
    normals: Normals, count: int, *, seed: int, progress: Progress, rare: bool = True, of_validation: bool = False
) -> list[Anomaly]:
    """Anomalies of a product, among them some that were edited such that nothing is wrong.

    Args:
        normals: the product's good images.
        count: how many to make.
        seed: the same one gives the same anomalies.
        progress: told about each stage.
        rare: with low-density sampling.
        of_validation: made of the images that nothing is trained on.

    Returns:
        fewer, or none, if the product has too few components that could be edited.
    """
    paths: Sequence[Path] = normals.paths.validation if of_validation else normals.paths.train
    images = normals.validation if of_validation else normals.train
    components = Components(normals.train, seed=seed, progress=progress)
    names = [str(number) for number in range(len(components.components))]
    generator = Generator(paths, images, normals.format, components, names, progress, longest=LONGEST)
    wrong = round((1 - NO_OP_SHARE) * count)
    made = [
        Anomaly(photo_as_network_image(item.photo, normals.format), _mask(item.masks), item.source)
        for item in generator.generate(wrong, seed=seed, progress=progress, rare=rare)
    ]
    return made + [
        _no_op(generator, normals.format, seed, number) for number in range(len(made) * (count - wrong) // wrong)
    ]


def photo_as_network_image(photo: Photo, image_format: ImageFormat) -> Tensor:
    """A generator's photograph as the networks see it, (1, 3, 256, 256) in 0..1; grey where the product is."""
    if image_format.channels == 1:
        photo = np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    return as_network_image(photo, replace(image_format, channels=3, bit_depth=8))


def _no_op(generator: Generator, image_format: ImageFormat, seed: int, number: int) -> Anomaly:
    """A part cut out and laid back where it was: a blend's seam is no anomaly."""
    rng = np.random.default_rng((seed, number, 1))
    image = int(rng.integers(generator.population.size))
    source = generator.source(image)
    photo = generator.photo(source)
    parts = generator.population.parts[image]
    for index in rng.permutation(len(parts))[:2].tolist():
        piece = cut_out(photo, upscaled(parts[index].mask, (photo.shape[0], photo.shape[1])))
        softer = 255 * redone((piece.pixels / 255).astype(np.float32), rng)
        photo, _ = paste(photo, replace(piece, pixels=softer), piece.centre)
    return Anomaly(photo_as_network_image(photo, image_format), torch.zeros(NETWORK_SIDE, NETWORK_SIDE), source)


def _mask(masks: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]) -> Tensor:
    """All defects together, (256, 256)."""
    union = np.any(masks, axis=0).astype(np.float32)
    return torch.from_numpy(cv2.resize(union, (NETWORK_SIDE, NETWORK_SIDE), interpolation=cv2.INTER_AREA))
