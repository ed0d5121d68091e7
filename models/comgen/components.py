"""Finds a product's components without labels: the pieces that recur from one good image to the next.

Knows no generator. What is found can be named by people (`models.comgen.vocabulary`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn import functional as F

from models.comgen.scene import MOST_TOKENS, SIDE, Scene, Token
from models.comgen.shapes import Mask, overlap, shapes, spread
from models.comgen.surfaces import Look, Surfaces, cut
from models.grid import NETWORK_SIDE
from models.normals import evenly
from models.progress import Progress
from models.teacher import Lite0Teacher

IMAGES = 60  # good images that are looked at to find components
REACH = 1.4  # how far pieces of one kind may differ on average (`_describe`)
PLACE_WEIGHT = 0.7  # of where a piece lies
RECURRENCE, RARE_KIND = 0.5, 0.15  # shares of the images that show a component, and one of its kinds
EXCLUSIVE, SAME_PLACE = 0.1, 0.4  # kinds of one component are seen together this rarely, and overlap this much


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A component, seen in an image."""

    component: int
    mode: int  # which kind of it: a colour, a print
    mask: Mask  # (256, 256)
    members: tuple["Instance", ...] = ()  # what it is made of, where that is several, the largest first

    def as_token(self) -> Token:
        """As a denoiser's prompt names it."""
        rows, columns = np.nonzero(self.mask)
        top, left = rows.min() / NETWORK_SIDE, columns.min() / NETWORK_SIDE
        bottom, right = (rows.max() + 1) / NETWORK_SIDE, (columns.max() + 1) / NETWORK_SIDE
        share = F.avg_pool2d(torch.from_numpy(self.mask)[None].float(), NETWORK_SIDE // SIDE)[0]
        return Token(self.component, self.mode, (float(top), float(left), float(bottom), float(right)), share)


def union(instances: Sequence[Instance]) -> Mask:
    """Where any of them is, (256, 256)."""
    masks = [instance.mask for instance in instances]
    return np.asarray(np.any(masks, axis=0)) if masks else np.zeros((NETWORK_SIDE, NETWORK_SIDE), bool)


@dataclass(frozen=True, slots=True)
class Component:
    """What recurs: how often, how large, where, in which kinds."""

    modes: int
    share: float  # of the images that show it
    per_image: float  # instances in an image that shows it
    area: float  # share of the image, of one instance
    place: tuple[float, float]  # centre, row and column in 0..1
    colour: tuple[int, int, int]  # mean RGB


class Components:
    """The components of a product, and where they are in an image."""

    def __init__(self, images: Sequence[Tensor], *, seed: int, progress: Progress) -> None:
        """Learn them from good network images (1, 3, 256, 256); a product may turn out to have none."""
        chosen = [images[index] for index in evenly(len(images), IMAGES)]
        self._teacher, cuts = Lite0Teacher(), []
        for done, image in enumerate(chosen, start=1):
            cuts.append(cut(image, self._teacher))
            progress("cutting images into surfaces", done, len(chosen))
        self._surfaces = Surfaces(cuts, seed)
        seen = []
        for done, segments in enumerate(cuts, start=1):
            look = self._surfaces.look(segments)
            seen.append((look, shapes(look.labels)))
            progress("finding components", done, len(chosen))
        pieces = _Pieces(seen)
        kinds = pieces.kinds()
        groups = pieces.grouped(kinds)
        self._kinds = np.array([pieces.centre(kind) for group in groups for kind in group])
        self._names = [(number, mode) for number, group in enumerate(groups) for mode in range(len(group))]
        self.components = tuple(pieces.component(group, chosen) for group in groups)

    def find(self, image: Tensor, *, anywhere: bool = False) -> list[Instance]:
        """The components that a network image (1, 3, 256, 256) shows, the largest first.

        Args:
            image: to look at.
            anywhere: also far from where good images show them, every piece as the component it is most like.
        """
        if not self.components:
            return []
        look = self._surfaces.look(cut(image, self._teacher))
        found = []
        for mask in shapes(look.labels):
            difference = self._kinds - _describe(mask, look)
            distance = np.linalg.norm(difference[:, : -2 if anywhere else None], axis=1)
            nearest = int(distance.argmin())
            if anywhere or distance[nearest] < REACH:
                found.append((float(distance[nearest]), Instance(*self._names[nearest], mask)))
        return sorted(_without_doubles(found), key=lambda instance: -np.count_nonzero(instance.mask))

    def scene(self, image: Tensor, instances: Sequence[Instance]) -> Scene:
        """A network image and its components as the denoiser takes them; the largest ones, if there are too many."""
        small = F.avg_pool2d(image, NETWORK_SIDE // SIDE)[0]
        return Scene(small, tuple(instance.as_token() for instance in instances[:MOST_TOKENS]))


def find_all(components: Components, images: Sequence[Tensor], stage: str, progress: Progress) -> list[list[Instance]]:
    """What each of several network images shows."""
    found = []
    for done, image in enumerate(images, start=1):
        found.append(components.find(image))
        progress(stage, done, len(images))
    return found


class _Pieces:
    """All pieces of all images, and which of them are of one kind."""

    def __init__(self, seen: Sequence[tuple[Look, list[Mask]]]) -> None:
        self.images = len(seen)
        self.masks = [mask for _, masks in seen for mask in masks]
        self.owner = np.array([number for number, (_, masks) in enumerate(seen) for _ in masks], np.int64)
        self.described = np.array([_describe(mask, look) for look, masks in seen for mask in masks])
        self.kind = np.zeros(len(self.masks), np.int64)

    def kinds(self) -> list[int]:
        """Kinds of pieces that are seen in enough images, the most frequent first."""
        if len(self.masks) < 2:
            return []
        clusters = AgglomerativeClustering(None, distance_threshold=REACH, linkage="average")
        self.kind = clusters.fit_predict(self.described)
        shares = {kind: len(self.shown_by([kind])) / self.images for kind in range(int(self.kind.max()) + 1)}
        return sorted((kind for kind, share in shares.items() if share >= RARE_KIND), key=lambda kind: -shares[kind])

    def grouped(self, kinds: Sequence[int]) -> list[list[int]]:
        """Kinds of one component together: they lie at the same place, but hardly ever in the same image."""
        occupied = {kind: self.occupancy(kind) for kind in kinds}
        groups: list[list[int]] = []
        for kind in kinds:
            home = next(
                (group for group in groups if all(self._excludes(kind, other, occupied) for other in group)), None
            )
            if home is None:
                groups.append([kind])
            else:
                home.append(kind)
        return [group for group in groups if len(self.shown_by(group)) >= RECURRENCE * self.images]

    def shown_by(self, kinds: Sequence[int]) -> set[int]:
        """The images that show one of the kinds."""
        return set(self.owner[np.isin(self.kind, kinds)].tolist())

    def occupancy(self, kind: int) -> npt.NDArray[np.float64]:
        """How often each place is covered, in 0..1; the most frequent is 1."""
        mean = np.mean([self.masks[index] for index in np.flatnonzero(self.kind == kind)], axis=0)
        return np.asarray(mean / mean.max())

    def centre(self, kind: int) -> npt.NDArray[np.float64]:
        """The mean description of a kind."""
        return np.asarray(self.described[self.kind == kind].mean(axis=0))

    def component(self, kinds: Sequence[int], images: Sequence[Tensor]) -> Component:
        """What is known of a component of these kinds."""
        members = np.flatnonzero(np.isin(self.kind, kinds))
        shown = len(self.shown_by(kinds))
        centres = np.array([np.argwhere(self.masks[index]).mean(axis=0) for index in members]) / NETWORK_SIDE
        colours = [images[self.owner[index]][0][:, self.masks[index]].mean(dim=1).numpy() for index in members]
        red, green, blue = (255 * np.mean(colours, axis=0)).astype(int).tolist()
        return Component(
            modes=len(kinds),
            share=shown / self.images,
            per_image=len(members) / shown,
            area=float(np.mean([self.masks[index].mean() for index in members])),
            place=(float(centres[:, 0].mean()), float(centres[:, 1].mean())),
            colour=(red, green, blue),
        )

    def _excludes(self, kind: int, other: int, occupied: dict[int, npt.NDArray[np.float64]]) -> bool:
        one, two = self.shown_by([kind]), self.shown_by([other])
        if len(one & two) > EXCLUSIVE * min(len(one), len(two)):
            return False
        first, second = occupied[kind], occupied[other]
        return bool(np.minimum(first, second).sum() > SAME_PLACE * np.maximum(first, second).sum())


def _describe(mask: Mask, look: Look) -> npt.NDArray[np.float64]:
    """What a piece looks like, how wide and long it is, and where it lies; (D,)."""
    centre = np.argwhere(mask).mean(axis=0) / (NETWORK_SIDE / 2)
    return np.concatenate([look.planes[mask].mean(axis=0), np.log(spread(mask)), PLACE_WEIGHT * centre])


def _without_doubles(found: list[tuple[float, Instance]]) -> list[Instance]:
    """Of pieces of one component that lie in each other, the one that is most like it."""
    kept: list[Instance] = []
    for _, instance in sorted(found, key=lambda item: item[0]):
        rivals = (other for other in kept if other.component == instance.component)
        if not any(overlap(instance.mask, other.mask) > 0.3 for other in rivals):
            kept.append(instance)
    return kept
