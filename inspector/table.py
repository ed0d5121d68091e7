"""What the tables of station.toml have in common. Knows none of them, and reads no file that they name."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo


class Table(BaseModel):
    """A frozen table: an unknown key is an error, and so is a number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def beside(path: Path, info: ValidationInfo) -> Path:
    """The path as the station file means it: relative to that file's folder, of which the context knows."""
    folder = info.context["folder"] if info.context else Path.cwd()
    return Path(folder, path.expanduser())


BesideFile = Annotated[Path, AfterValidator(beside)]
