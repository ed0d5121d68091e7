"""Anomalies that nobody had to photograph: good images with their components edited, at full resolution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from models.comgen.components import Components, Instance, find_all, union
from models.comgen.composite import (
    Edited,
    Mask,
    Photo,
    as_photo,
    cut_out,
    fill,
    paste,
    shrunk,
    slide,
    surroundings,
    turned,
    upscaled,
)
from models.comgen.population import Population
from models.comgen.prompts import CHANGES, Change, Modification, modify
from models.data import read_image, to_uint8
from models.grid import NETWORK_SIDE
from models.normals import ImageFormat, evenly
from models.progress import Progress
from models.resize import network_image

GALLERY = 40  # good images that are edited and that lend their parts
TRIES = 30  # draws for one anomaly
OTHERS = 8  # good images that are asked for a filling
SEEN = 20  # of 255: a change of one pixel that can be seen
USUALLY = 0.5  # share of the good images, from which on a place where parts lie is taken to be busy
NEWER = 1.5  # by how much further than before from the nearest good image what has changed must be
LEAST_SEEN = 0.25  # share of a defect's pixels that must have changed by that much: less is invisible


@dataclass(frozen=True, slots=True, eq=False)
class Anomaly:
    """A generated image and everything that is known of it."""

    photo: Photo
    masks: tuple[Mask, ...]  # defect by defect
    modification: Modification
    before: str  # prompts
    after: str
    source: int  # of the good images
    reference: int | None  # the good image that lent something
    seed: int

    @property
    def change(self) -> Change:
        """What was done."""
        return self.modification.change


class Generator:
    """Edits good images of a product."""

    def __init__(
        self,
        paths: Sequence[Path],
        images: Sequence[Tensor],
        image_format: ImageFormat,
        components: Components,
        names: Sequence[str],
        progress: Progress,
        *,
        longest: int | None = None,
    ) -> None:
        """Look at good images.

        Args:
            paths: of the good images.
            images: the same as network images.
            image_format: what they have in common.
            components: of the product.
            names: of the components.
            progress: told how many images are looked at.
            longest: pixels of the longer side to shrink the images to; None: their own size.
        """
        self._longest = longest
        self._shrunk: dict[int, Photo] = {}
        self._chosen = evenly(len(paths), GALLERY)
        self._paths, self._format, self._names = paths, image_format, names
        found = find_all(components, [images[index] for index in self._chosen], "looking at good images", progress)
        self._good = np.stack([as_photo(images[index]) for index in self._chosen])
        self.population = Population(found, lambda number, thing: surroundings(self._good[number], thing.mask))
        busy = [union(parts) for parts in self.population.solid]
        self._usually_busy = np.mean(busy, axis=0) > USUALLY

    def generate(
        self,
        count: int,
        *,
        seed: int,
        progress: Progress,
        rare: bool = True,
        changes: Sequence[Change] = CHANGES,
    ) -> Iterator[Anomaly]:
        """So many anomalies, or fewer where the product does not allow for them; each from a seed of its own."""
        for number in range(count):
            rng = np.random.default_rng((seed, number))
            for attempt in range(TRIES):
                change = changes[(number + attempt // 6) % len(changes)]
                image = int(rng.integers(self.population.size))
                drawn = modify(image, change, self.population, rng, rare=rare)
                edited = self._render(image, drawn, rng) if drawn else None
                if drawn and edited:
                    before, after = drawn.words(self.population.images[image], self._names)
                    lender = None if drawn.other_image is None else self._chosen[drawn.other_image]
                    yield Anomaly(edited.photo, edited.masks, drawn, before, after, self._chosen[image], lender, number)
                    break
            progress("generating", number + 1, count)

    def _render(self, image: int, drawn: Modification, rng: np.random.Generator) -> Edited | None:
        photo = self.photo(self._chosen[image])
        edited = self._edit(image, drawn, photo, upscaled(drawn.part.mask, _size(photo)), rng)
        if edited is None:
            return None
        difference = np.abs(edited.photo.astype(np.int16) - photo).max(axis=2)
        visible = all(mask.any() and (difference[mask] > SEEN).mean() > LEAST_SEEN for mask in edited.masks)
        loose = {*self.population.things[image], *self.population.loose[image]}
        in_place = drawn.change == "level" or drawn.part not in loose  # of others, counts, pairs and places are judged
        return edited if visible and (not in_place or self._is_new(image, edited)) else None

    def _is_new(self, image: int, edited: Edited) -> bool:
        """Whether what has changed looks less like any good image at this place than it did.

        A neck whose reflections are wider is not: good images differ by as much.
        """
        changed = np.any(edited.masks, axis=0).astype(np.float32)
        mask = cv2.resize(changed, (NETWORK_SIDE, NETWORK_SIDE), interpolation=cv2.INTER_AREA) > 0
        now = as_photo(network_image(torch.from_numpy(edited.photo)))
        good = self._good[:, mask].astype(np.float32)
        others = np.delete(good, image, axis=0)
        if not len(others):
            return True
        before, after = (float(np.abs(others - pixels).mean(axis=(1, 2)).min()) for pixels in (good[image], now[mask]))
        return after > NEWER * before

    def _edit(
        self, image: int, drawn: Modification, photo: Photo, mask: Mask, rng: np.random.Generator
    ) -> Edited | None:
        """Carry a modification out; None if it lacks what it needs."""
        if drawn.change == "drop":
            below = self._without(image, photo, (drawn.part,), rng)
            return None if below is None else Edited(below, (mask,))
        if drawn.change == "level":
            step = round(drawn.step[0] * photo.shape[0]), round(drawn.step[1] * photo.shape[1])
            changed, band = slide(photo, mask, step, grow=drawn.grow)
            return Edited(changed, (band,))
        if drawn.place:
            return self._placed(image, drawn, photo, mask, rng)
        if drawn.other is None:
            return None
        if drawn.other_image is None:
            return self._swapped(image, drawn.part, drawn.other, photo, rng)
        return self._lent(image, drawn, photo, mask, rng)

    def _placed(
        self, image: int, drawn: Modification, photo: Photo, mask: Mask, rng: np.random.Generator
    ) -> Edited | None:
        """The part at another place, or there as well."""
        row, column = drawn.place or (0.0, 0.0)
        moves = drawn.change == "move"
        below = self._without(image, photo, (drawn.part,), rng) if moves else photo
        if below is None:
            return None
        piece = turned(cut_out(photo, mask), drawn.degrees)
        pasted, there = paste(below, piece, (row * photo.shape[0], column * photo.shape[1]))
        return Edited(pasted, (mask, there) if moves else (there,))

    def _swapped(
        self, image: int, part: Instance, other: Instance, photo: Photo, rng: np.random.Generator
    ) -> Edited | None:
        """Each of two parts where the other was."""
        one, two = (upscaled(item.mask, _size(photo)) for item in (part, other))
        first, second = cut_out(photo, one), cut_out(photo, two)
        below = self._without(image, photo, (part, other), rng)
        if below is None:
            return None
        pasted, there = paste(below, second, first.centre)
        pasted, here = paste(pasted, first, second.centre)
        return Edited(pasted, (there | one, here | two))

    def _lent(
        self, image: int, drawn: Modification, photo: Photo, mask: Mask, rng: np.random.Generator
    ) -> Edited | None:
        """What another good image has: another part in this one's stead, or this part of another kind."""
        if drawn.other is None or drawn.other_image is None:
            return None
        lender = self.photo(self._chosen[drawn.other_image])
        lent = upscaled(drawn.other.mask, _size(lender))
        below = self._without(image, photo, (drawn.part,), rng)
        if below is None:
            return None
        pasted, there = paste(below, cut_out(lender, lent), cut_out(photo, mask).centre)
        return Edited(pasted, (there | mask,))

    def _without(self, image: int, photo: Photo, parts: Sequence[Instance], rng: np.random.Generator) -> Photo | None:
        """The photograph without some parts; None if it cannot be told what lies beneath them."""
        size = _size(photo)
        present = [item for item in self.population.solid[image] if item not in parts]
        occupied = upscaled(union(present) | self._usually_busy, size)  # a part may have been overlooked in this image
        chosen = rng.permutation(self.population.size)[: OTHERS + 1]
        others = [
            (other, upscaled(union(self.population.solid[index]), size))
            for index in chosen.tolist()
            if index != image and _size(other := self.photo(self._chosen[index])) == size
        ]
        for part in parts:
            filled = fill(photo, upscaled(part.mask, size), others, occupied, rng)
            if filled is None:
                return None
            photo = filled
        return photo

    def source(self, image: int) -> int:
        """Which of the good images an image of the population is."""
        return self._chosen[image]

    def photo(self, source: int) -> Photo:
        """One of the good images in 8 bit RGB."""
        if source in self._shrunk:
            return self._shrunk[source]
        pixels = to_uint8(read_image(self._paths[source]), self._format.bit_depth)
        colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        if self._longest is None:
            return colour
        self._shrunk[source] = shrunk(colour, self._longest)
        return self._shrunk[source]


def _size(photo: Photo) -> tuple[int, int]:
    return photo.shape[0], photo.shape[1]
