"""What can be switched in the method, as a recipe file's `[training]` table names it. Knows no network."""

import json
import tomllib
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from models.data import DataError

Anomalies = Literal["cutpaste", "perlin", "structural", "comgen", "comgen-any"]
Head = Literal["patch", "memory", "global", "puad", "components", "csda"]
HEADS: tuple[Head, ...] = ("patch", "memory", "global", "puad", "components", "csda")


@dataclass(frozen=True, slots=True)
class Method:
    """DFSC's elements (Lee & Kim) and what this product adds; the defaults are what `inspector train` does."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    # "lite0", "pdn" (the distilled PDN-S that ships) or a file that `inspector distill` made, beside the recipe
    teacher: str = "lite0"
    # DFSC's student and auto-encoder, which take most of an inspection's time; "chosen" leaves them out where they do
    # harm; "never" does not train them: the heads but puad judge alone, in a fraction of the time
    student: Literal["chosen", "always", "never"] = "chosen"
    instance_norm: bool = True  # in the auto-encoder, before every activation, and a ReLU at its decoder's start
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # in the auto-encoder's decoder
    separation: bool = True  # L_DFSC (Eq 6)
    margin: Annotated[float, Field(ge=0, le=2)] = 0.4  # m of Eq 6, in 0..2
    choose_margin: bool = True  # the last steps with others, too; kept is that with which made anomalies stand out most
    quantile: Annotated[float, Field(ge=0, lt=1)] = 0.999  # behind tau (Eq 2) and tau' (Eq 3), per image and element
    norm_order: Literal["mask first", "norm first"] = "mask first"  # of Eq 4 and the l2 norm
    weight: Annotated[float, Field(ge=0)] = 2.0  # alpha of Eq 7
    # of the moving average that is kept of student and auto-encoder; 0 keeps the last
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    augmentation: bool = False  # brightness, contrast or colour of what auto-encoder and student see (EfficientAD)
    penalty: bool = False  # the student must stay silent on pictures of other things (EfficientAD's ImageNet penalty)
    # without it the budget's: the report's 1e-4 is for 70k steps
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    sigmoid: bool = True  # on each normalised map before they are combined
    whitening: bool = True  # differences as Mahalanobis distances among good images; else plain squares (Eq 1)
    heads: tuple[Head, ...] = HEADS  # scores beside the maps'
    # made anomalies choose what counts; false: all that the method has counts, for comparing what CSDA has learned from
    choose_scores: bool = True
    # made of good images: CSDA learns from them; with ComGEN's, among which there is damage, choices are made by them;
    # comgen-any is without low-density sampling, with which CSDA is no better (docs/benchmark.md)
    anomalies: Anomalies = "comgen-any"

    @property
    def chooses(self) -> bool:
        """Whether there are maps and scores to choose among."""
        return self.choose_scores and bool(self.heads)


SHIPPED_TEACHERS = ("lite0", "pdn")
REPORT = Method(teacher="pdn", student="always", choose_margin=False, whitening=False, heads=())
EFFICIENTAD = replace(
    REPORT, instance_norm=False, dropout=0.2, separation=False, momentum=0.0, sigmoid=False, augmentation=True,
    penalty=True,
)  # fmt: skip
_BARE = replace(EFFICIENTAD, dropout=0.0, augmentation=False, penalty=False)  # the first row of the report's Table 4

NAMED: dict[str, Method] = {
    "efficientad": EFFICIENTAD,
    "dfsc": REPORT,
    **{f"dfsc-m{margin:g}": replace(REPORT, margin=margin) for margin in (0.0, 0.2, 1.0, 2.0)},
    "inspector": Method(),
    "inspector-pdn": Method(teacher="pdn"),
    **{
        f"inspector-m{margin:g}": Method(student="always", margin=margin, choose_margin=False)
        for margin in (0.0, 0.4, 1.0)
    },
    # fused with those heads that need no student, CSDA by what it has learned from
    **{
        f"heads+csda-{kind}": Method(student="never", choose_scores=False, anomalies=kind)
        for kind in get_args(Anomalies)
    },
    # nothing of ComGEN's: DFSC with all heads but CSDA, and those of them that need no student
    "dfsc+heads": Method(student="always", choose_margin=False, heads=HEADS[:-1], anomalies="structural"),
    "heads": Method(student="never", heads=HEADS[:-1], anomalies="structural"),
}
ABLATION: dict[str, Method] = {  # the report's Table 4, row by row
    "bare": _BARE,
    "bare+norm": replace(_BARE, instance_norm=True),
    "bare+norm+sigmoid": replace(_BARE, instance_norm=True, sigmoid=True),
    "bare+norm+sigmoid+dfsc": replace(REPORT, momentum=0.0),
    "bare+norm+sigmoid+dfsc+momentum": REPORT,
}


def load_method(path: Path) -> Method:
    """A recipe file's `[training]` table; what it does not name is the default.

    Raises:
        DataError: the file cannot be read, or a key is unknown or out of its range.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read as a recipe: {error}") from error
    for key in content:
        if key != "training":
            raise DataError(f"{path}: {key} is not a known table: a recipe has [training] alone")
    table = content.get("training", {})
    if not isinstance(table, dict):
        raise DataError(f"{path}: training must be a table: write [training] on a line of its own, and its keys below")
    known = [field.name for field in fields(Method)]
    for key in table:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise DataError(f"{path}: training.{key} is not a known key: {advice}")
    try:
        method = TypeAdapter(Method).validate_json(json.dumps(table, default=str))  # JSON has lists for tuples
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("training", *first["loc"]))
        raise DataError(f"{path}: {key}: {first['msg']} (got {first['input']!r})") from error
    if "patch" in method.heads and not method.whitening:
        raise DataError(f"{path}: training.heads: patch needs whitening = true")
    if method.student == "never" and "patch" not in method.heads:
        raise DataError(f"{path}: training.heads: without a student it is patch that shows where a defect is")
    return method if method.teacher in SHIPPED_TEACHERS else replace(method, teacher=str(path.parent / method.teacher))
