"""What a denoiser learns from, and is asked about afterwards: scenes of a product. Draws and trains nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import shift
from torch import Tensor

from models.comgen.components import Components, Instance, find_all
from models.comgen.composite import Mask, as_photo, surroundings
from models.comgen.examples import LONGEST, photo_as_network_image
from models.comgen.generate import Anomaly, Generator
from models.comgen.population import Population, centre
from models.comgen.prompts import Change, pieces
from models.comgen.scene import MOST_TOKENS, SIDE, Scene
from models.grid import NETWORK_SIDE
from models.normals import Normals, evenly
from models.progress import Progress

LEARNED = 120  # good pictures, at most
ERASED = 90  # pictures with a part taken away to learn from: without them no token can be dropped
ASKED: tuple[Change, ...] = ("drop", "move")  # what real pixels can show, too


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A change that real pixels and the denoiser both make."""

    change: Change
    before: Scene
    after: Scene  # the same picture with the change, of real pixels, and its prompt
    masks: Tensor  # (64, 64) share of each cell that is changed


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Scenes of a product."""

    good: tuple[Scene, ...]
    erased: tuple[Scene, ...]  # a part was taken away, and its token with it
    held_out: tuple[Scene, ...]  # of validation images
    questions: tuple[Question, ...]  # about those

    @property
    def digest(self) -> str:
        """A hash of what is learned from."""
        hashed = hashlib.sha256()
        for scene in (*self.good, *self.erased):
            hashed.update(scene.image.numpy().tobytes())
            hashed.update(repr([(token.component, token.mode, token.box) for token in scene.tokens]).encode())
        return hashed.hexdigest()


def prepare(normals: Normals, components: Components, *, questions: int, seed: int, progress: Progress) -> Lessons:
    """Scenes to learn from, of training images, and to ask about, of validation images.

    Args:
        normals: the product's good images.
        components: of the product.
        questions: how many.
        seed: the same one gives the same lessons.
        progress: told about the images that are looked at.

    Returns:
        no question, if no component is worth editing.
    """

    def look(paths: Sequence[Path], images: Sequence[Tensor]) -> Generator:
        names = [str(number) for number in range(len(components.components))]
        return Generator(paths, images, normals.format, components, names, progress, longest=LONGEST)

    taught = look(normals.paths.train, normals.train)
    asked = look(normals.paths.validation, normals.validation)
    erased = taught.generate(ERASED, seed=seed, progress=progress, changes=("drop",))
    changed = asked.generate(questions, seed=seed, progress=progress, changes=ASKED)
    held_out = tuple(
        components.scene(normals.validation[asked.source(number)], parts)
        for number, parts in enumerate(asked.population.parts)
    )
    return Lessons(
        good=_good(normals.train, components, progress),
        erased=tuple(_changed(anomaly, taught, normals, components) for anomaly in erased),
        held_out=held_out,
        questions=tuple(
            Question(
                anomaly.change,
                held_out[_number(anomaly, asked)],
                _changed(anomaly, asked, normals, components),
                _cells(np.any(anomaly.masks, axis=0)),
            )
            for anomaly in changed
            if _is_told(anomaly, asked)
        ),
    )


def _good(images: Sequence[Tensor], components: Components, progress: Progress) -> tuple[Scene, ...]:
    chosen = [images[index] for index in evenly(len(images), LEARNED)]
    population = Population(
        find_all(components, chosen, "reading scenes", progress),
        lambda number, thing: surroundings(as_photo(chosen[number]), thing.mask),
    )
    return tuple(components.scene(image, parts) for image, parts in zip(chosen, population.parts, strict=True))


def _changed(anomaly: Anomaly, generator: Generator, normals: Normals, components: Components) -> Scene:
    """The scene that an anomaly shows: of the good picture's tokens those of the part are gone, or elsewhere."""
    parts = _named(anomaly, generator)
    gone = [part for part in parts if part in pieces(anomaly.modification.part)]
    rest = [part for part in parts if part not in gone]
    arrived = [moved for part in gone if (moved := _moved(part, anomaly))] if anomaly.change == "move" else []
    return components.scene(photo_as_network_image(anomaly.photo, normals.format), [*arrived, *rest])


def _is_told(anomaly: Anomaly, generator: Generator) -> bool:
    """Whether the good picture's prompt names all of what was changed."""
    named = _named(anomaly, generator)
    return all(piece in named for piece in pieces(anomaly.modification.part))


def _named(anomaly: Anomaly, generator: Generator) -> list[Instance]:
    """The parts that the good picture's prompt names: the largest."""
    return generator.population.parts[_number(anomaly, generator)][:MOST_TOKENS]


def _number(anomaly: Anomaly, generator: Generator) -> int:
    """Which image of the population it was made from."""
    sources = [generator.source(number) for number in range(generator.population.size)]
    return sources.index(anomaly.source)


def _moved(part: Instance, anomaly: Anomaly) -> Instance | None:
    """A part where it has come to lie, unturned; None if nothing of it is left in the image."""
    drawn = anomaly.modification
    if drawn.place is None:
        return None
    here = centre(drawn.part)
    step = [NETWORK_SIDE * (there - was) for there, was in zip(drawn.place, here, strict=True)]
    mask = shift(part.mask, step, order=0)
    return replace(part, mask=mask) if mask.any() else None


def _cells(mask: Mask) -> Tensor:
    """(H, W) -> (64, 64) share of each cell."""
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), SIDE)[0]
