"""Contact sheets to look at: what was found, and what was made of it."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from models.comgen.attended import Drawn, attended
from models.comgen.components import Component, Instance
from models.comgen.composite import Photo, as_photo, shrunk
from models.comgen.generate import Anomaly
from models.comgen.network import Network
from models.comgen.shapes import outline
from models.comgen.vocabulary import explain

COLUMNS = 6
THING = (255, 255, 255)  # colour of the outline around what belongs together
WRONG = (255, 0, 255)  # and around what is wrong
TOKENS_SHOWN = 10  # changes that the sheet of the tokens has
SHOWN_SIDE = 360  # pixels of the longer side of a photograph


def draw_components(
    shown: Sequence[tuple[Tensor, Sequence[Instance]]],
    components: Sequence[Component],
    names: Sequence[str],
    out: Path,
) -> None:
    """Images, below each the same with its components in colour, and beside them what the colours mean.

    Args:
        shown: network images (1, 3, 256, 256), what was found in them, and what that makes up.
        components: what is known of each.
        names: of each.
        out: a PNG file.
    """
    colours = palette(len(components))
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(2 * COLUMNS + 5, max(4 * rows, 0.28 * len(components)) + 0.4), layout="constrained")
    grid, words = figure.subfigures(1, 2, width_ratios=(2 * COLUMNS, 5), squeeze=False)[0]
    axes = grid.subplots(2 * rows, COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (image, instances) in enumerate(shown):
        row, column = 2 * (number // COLUMNS), number % COLUMNS
        pixels = as_photo(image)
        axes[row, column].imshow(pixels)
        axes[row + 1, column].imshow(coloured(pixels, instances, colours))
    keys = [
        Patch(color=_share(colour), label=f"{number} {name}\n   {explain(component)}")
        for number, (colour, name, component) in enumerate(zip(colours, names, components, strict=True))
    ]
    keys.append(
        Patch(edgecolor=_share(THING), facecolor="grey", label="white outline: belongs together, is moved as one")
    )
    words.legend(handles=keys, loc="upper left", frameon=False, fontsize=7)
    figure.savefig(out, dpi=100)


def draw_anomalies(anomalies: Sequence[Anomaly], originals: Sequence[Photo], out: Path) -> None:
    """Each generated image below the good one it was made from, what is wrong outlined, and its change.

    Args:
        anomalies: what was generated, at any size.
        originals: the good images that they were made from.
        out: a PNG file.
    """
    rows = -(-len(anomalies) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 5.4 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (anomaly, original) in enumerate(zip(anomalies, originals, strict=True)):
        above, below = (axes[2 * (number // COLUMNS) + step, number % COLUMNS] for step in (0, 1))
        above.imshow(shrunk(original, SHOWN_SIDE))
        below.imshow(_outlined(anomaly))
        below.set_title(f"{number}: {anomaly.change}", fontsize=8)
    figure.savefig(out, dpi=110)


def draw_tokens(network: Network, drawn: Sequence[Drawn], components: int, out: Path, *, seed: int) -> None:
    """A good picture, where the network looks in it, a change of it in real pixels, and the network's drawing of that.

    Args:
        network: that has drawn.
        drawn: its drawings.
        components: of the product.
        out: a PNG file.
        seed: of the noise through which it looks.
    """
    shown, colours = drawn[:TOKENS_SHOWN], palette(components)
    rows = "good", "attention", "real pixels", "drawn"
    figure = Figure(figsize=(1.5 * len(shown), 1.55 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for axis, title in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(title, fontsize=8)
    for column, one in enumerate(shown):
        looked = attended(network, one.question.before, told_where=True, seed=seed).numpy()
        seen = np.array([*colours, (40, 40, 40)], np.uint8)[looked]
        good, real, drawing = (
            as_photo(picture[None]) for picture in (one.question.before.image, one.question.after.image, one.picture)
        )
        for axis, picture in zip(axes[:, column], (good, seen, real, drawing), strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(one.question.change, fontsize=8)
    figure.savefig(out, dpi=110)


def _outlined(anomaly: Anomaly) -> Photo:
    picture = shrunk(anomaly.photo, SHOWN_SIDE)
    for mask in anomaly.masks:
        small = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_AREA)
        cv2.drawContours(picture, outline(small > 0), -1, WRONG, 1)
    return picture


def coloured(pixels: Photo, instances: Sequence[Instance], colours: Sequence[tuple[int, int, int]]) -> Photo:
    """An image in grey, its components in their colours, smaller ones over larger ones; what they make up outlined."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = (0.6 * grey).astype(np.uint8)
    for instance in sorted(instances, key=lambda item: (bool(item.members), -np.count_nonzero(item.mask))):
        mask, colour = instance.mask, THING if instance.members else colours[instance.component]
        if not instance.members:
            picture[mask] = (0.35 * grey[mask] + 0.65 * np.array(colour)).astype(np.uint8)
        cv2.drawContours(picture, outline(mask), -1, colour, 1)
    return picture


def _share(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def palette(count: int) -> list[tuple[int, int, int]]:
    """So many colours that can be told apart, RGB."""
    golden = 0.618034  # neighbours in number are far apart in hue
    found = []
    for number in range(count):
        channels = colorsys.hsv_to_rgb(number * golden % 1, 0.85 if number % 2 else 0.6, 1.0 if number % 3 else 0.8)
        found.append((round(255 * channels[0]), round(255 * channels[1]), round(255 * channels[2])))
    return found
