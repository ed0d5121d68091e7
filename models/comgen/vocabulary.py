"""What people call a product's components: a TOML file that they edit. Knows no image."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.comgen.components import Component
from models.data import DataError

GREYNESS = 30  # of 255, between the channels of a colour that nobody would name
HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "violet", "pink")
HUE_ENDS = (15, 42, 70, 165, 200, 255, 290, 345)  # degrees, of each
HEADER = """\
# The components that `inspector components` has found, in the order of their numbers. Give them the names that you use:
# they stand in the pictures and in the names of generated anomalies. The numbers and what stands behind # are its own.
"""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A name for each component, and the images that they were found in."""

    fingerprint: str
    names: tuple[str, ...]

    def write(self, path: Path, components: Sequence[Component]) -> None:
        """Write the file for people to edit."""
        lines = [HEADER, f'images = "{self.fingerprint}"  # do not change\n\n[names]\n']
        for number, (name, component) in enumerate(zip(self.names, components, strict=True)):
            lines.append(f'{number} = "{name}"  # {explain(component)}\n')
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(path)


def read_vocabulary(path: Path, fingerprint: str, count: int) -> Vocabulary:
    """The names that people gave.

    Raises:
        DataError: the file cannot be read, is of other images, or a name is missing, doubled or not a name.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read as a vocabulary: {error}") from error
    if content.get("images") != fingerprint:
        raise DataError(f"{path} names the components of other images: run inspector components again, elsewhere")
    table = content.get("names")
    wanted = [str(number) for number in range(count)]
    if not isinstance(table, dict) or sorted(table) != sorted(wanted):
        raise DataError(f"{path}: [names] must have the numbers 0 to {count - 1}, each once")
    names = [table[number] for number in wanted]
    for number, name in zip(wanted, names, strict=True):
        if not isinstance(name, str) or not re.fullmatch(r"[^\W_](?:[\w -]*[^\W_])?", name):
            raise DataError(f"{path}: names.{number}: write a name of letters, digits, blanks and hyphens ({name!r})")
        if names.count(name) > 1:
            raise DataError(f"{path}: names.{number}: {name!r} is the name of two components")
    return Vocabulary(fingerprint, tuple(names))


def suggest(fingerprint: str, components: Sequence[Component]) -> Vocabulary:
    """Names by colour and place, until somebody knows better."""
    plain = [f"{colour_word(item.colour)} {place_word(item.place)}" for item in components]
    names = []
    for number, name in enumerate(plain):
        again = plain[:number].count(name)
        names.append(f"{name} {again + 1}" if again else name)
    return Vocabulary(fingerprint, tuple(names))


def explain(component: Component) -> str:
    """What is known of a component, in words."""
    kinds = f", {component.modes} kinds" if component.modes > 1 else ""
    return (
        f"in {component.share:.0%} of the images, {component.per_image:.1f} in each, {component.area:.1%} of the "
        f"image{kinds}"
    )


def colour_word(colour: tuple[int, int, int]) -> str:
    """What people call an RGB colour."""
    high, low = max(colour), min(colour)
    if high - low < GREYNESS:
        return "dark" if high < 85 else "grey" if high < 170 else "light"
    red, green, blue = colour
    if high == red:
        hue = 60 * ((green - blue) / (high - low) % 6)
    elif high == green:
        hue = 60 * ((blue - red) / (high - low) + 2)
    else:
        hue = 60 * ((red - green) / (high - low) + 4)
    return next((word for word, end in zip(HUES, HUE_ENDS, strict=True) if hue < end), "red")


def place_word(place: tuple[float, float]) -> str:
    """Which third of the image, both ways."""
    row = ("top", "middle", "bottom")[min(int(3 * place[0]), 2)]
    column = ("left", "centre", "right")[min(int(3 * place[1]), 2)]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"
