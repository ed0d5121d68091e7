"""Anomalies as a detector learns from them and is judged by: network images with their masks. Chooses nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from models.anomalies import MAKES, NO_OP_SHARE, Anomalies, Anomaly, Drawn, redone
from models.checkpoint import load_whole, save_whole
from models.comgen.components import Components
from models.comgen.composite import Photo, cut_out, paste, upscaled
from models.comgen.generate import Generator
from models.fakes import GENERATED, Fake
from models.grid import NETWORK_SIDE
from models.normals import ImageFormat, Normals, as_network_image
from models.progress import Progress

COMGEN, COMGEN_ANY = "comgen", "comgen-any"
LONGEST = 400  # pixels of the longer side at which is edited: a network sees 256
STRUCTURAL_SHARE = 0.5  # of what is learned from: damage, which needs no components
FEWEST = 10  # edited images: with fewer a product has no components that are worth anything


@dataclass(frozen=True, slots=True, eq=False)
class Imagined:
    """Anomalies of a product that nobody had to photograph."""

    learn: Anomalies  # made of training images, among them some with which nothing is wrong
    judge: Sequence[Fake]  # made of validation images
    words: tuple[str, ...] = ()  # what the person who trains should know


def imagine(
    kind: str, normals: Normals, count: int, *, judges: int, seed: int, store: Path | None, progress: Progress
) -> Imagined:
    """Anomalies of a kind to learn from and to choose by.

    Args:
        kind: one of `MAKES`, or comgen, half of which is structural; comgen-any is without low-density sampling.
        normals: the product's good images.
        count: how many to learn from.
        judges: how many to choose by, which comgen alone makes.
        seed: the same one gives the same anomalies.
        store: file that keeps what takes minutes; what the same images have put there is taken again. None: none.
        progress: told about each stage.

    Returns:
        structural ones alone, and words, if the product has too few components.

    Raises:
        DataError: the store is damaged.
    """
    if kind in MAKES:
        return Imagined(Drawn(normals.train, MAKES[kind], seed=seed, count=count), ())
    key = f"{normals.fingerprint} {kind} {count} {judges} {seed}"
    content = load_whole(store) if store and store.exists() else {}
    if content.get("key") != key:
        wanted = round((1 - STRUCTURAL_SHARE) * count)
        content = {"key": key, **_edited(normals, wanted, judges, kind == COMGEN, seed, progress)}
        if store:
            save_whole(content, store)
    edited, judge = _unpacked(content)
    words: tuple[str, ...] = ()
    if count and len(edited) < FEWEST:
        edited, judge = [], []
        words = ("hardly any part recurs in the images: no wrong assembly could be made up, CSDA learns damage alone",)
    damaged = Drawn(normals.train, MAKES["structural"], seed=seed, count=count - len(edited))
    return Imagined(ConcatDataset([edited, damaged]) if edited else damaged, judge, words)  # type: ignore[list-item]


def _edited(
    normals: Normals, count: int, judges: int, rare: bool, seed: int, progress: Progress
) -> dict[str, object]:  # fmt: skip
    """ComGEN's images and masks in 8 bit, those to learn from before those to choose by."""
    components = Components(normals.train, seed=seed, progress=progress)
    names = [str(number) for number in range(len(components.components))]

    def edit(paths: Sequence[Path], images: Sequence[Tensor], count: int, legal: int) -> list[Anomaly]:
        generator = Generator(paths, images, normals.format, components, names, progress, longest=LONGEST)
        made = [
            Anomaly(photo_as_network_image(item.photo, normals.format), _mask(item.masks), item.source)
            for item in generator.generate(count - legal, seed=seed, progress=progress, rare=rare)
        ]
        return made + [_no_op(generator, normals.format, seed, number) for number in range(min(legal, len(made)))]

    learn = edit(normals.paths.train, normals.train, count, round(NO_OP_SHARE * count)) if count else []
    judge = edit(normals.paths.validation, normals.validation, judges, 0) if judges else []
    return {
        "sources": [item.source for item in learn],
        "images": _bytes([item.image[0] for item in (*learn, *judge)]),
        "masks": _bytes([item.mask for item in (*learn, *judge)]),
    }


def _unpacked(content: dict[str, Any]) -> tuple[list[Anomaly], list[Fake]]:
    sources = content["sources"]
    images, masks = (content[name].float() / 255 for name in ("images", "masks"))
    learn = [Anomaly(images[index][None], masks[index], source) for index, source in enumerate(sources)]
    rest = range(len(sources), len(images))
    return learn, [Fake(images[index][None], GENERATED, masks[index]) for index in rest]


def _bytes(values: Sequence[Tensor]) -> Tensor:
    """Values in 0..1, one above the other, in 8 bit."""
    return (255 * torch.stack(list(values))).round().to(torch.uint8) if values else torch.zeros(0, dtype=torch.uint8)


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
    parts = generator.population.things[image] or generator.population.parts[image]
    for index in rng.permutation(len(parts))[:2].tolist():
        piece = cut_out(photo, upscaled(parts[index].mask, (photo.shape[0], photo.shape[1])))
        softer = 255 * redone((piece.pixels / 255).astype(np.float32), rng)
        photo, _ = paste(photo, replace(piece, pixels=softer), piece.centre)
    return Anomaly(photo_as_network_image(photo, image_format), torch.zeros(NETWORK_SIDE, NETWORK_SIDE), source)


def _mask(masks: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]) -> Tensor:
    """All defects together, (256, 256)."""
    union = np.any(masks, axis=0).astype(np.float32)
    return torch.from_numpy(cv2.resize(union, (NETWORK_SIDE, NETWORK_SIDE), interpolation=cv2.INTER_AREA))
