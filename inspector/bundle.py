"""A trained model ready to run: a folder with a manifest that vouches for every file in it. Knows no runtime."""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST = "manifest.json"
MODEL = "model.onnx"
SELF_TEST_IMAGE = "selftest.png"
FORMAT = "inspector-bundle"
FORMAT_VERSION = 1


class BundleError(Exception):
    """The bundle must not be used; the text names the folder or file and what to do."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSpec(_Frozen):
    """The images the network takes: uint8 (height, width, channels), RGB or grey."""

    height: int | None = Field(description="pixels; None: learned from mixed sizes, any size is taken")
    width: int | None = Field(description="pixels; None: learned from mixed sizes, any size is taken")
    channels: Literal[1, 3]
    bit_depth: int = Field(ge=8, le=16, description="of the camera's samples; more than 8 are shifted down to 8")


class Threshold(_Frozen):
    """When to reject, and how that was found. Reject when score > value."""

    value: float
    false_reject_target: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    method: str
    validation_images: int
    shown_false_reject_rate: float = Field(description="upper bound that the validation images alone can show")


class Parity(_Frozen):
    """How far the exported graph is from the trained network, on real images."""

    engine: str
    images: int
    max_map_difference: float
    max_score_difference: float


class SelfTest(_Frozen):
    """An image and the score that it must get again on the machine that loads the bundle."""

    image: str
    score: float
    tolerance: float


class DataFingerprint(_Frozen):
    """Which images the model has learned from."""

    dataset: str
    train_images: int
    validation_images: int
    sha256: str


class Training(_Frozen):
    """How the model was trained."""

    method: str
    budget: str
    seed: int
    iterations: int
    seconds: float


class Manifest(_Frozen):
    """The bundle's table of contents and passport."""

    format: Literal["inspector-bundle"]
    format_version: Literal[1]
    product: str
    created: datetime
    files: dict[str, str] = Field(description="sha256 of every other file in the bundle, by name")
    input: InputSpec
    map_height: int
    map_width: int
    parts: tuple[str, ...] = Field(description="names of the image score's parts, in the order of the graph's output")
    threshold: Threshold
    parity: Parity
    self_test: SelfTest
    data: DataFingerprint
    training: Training
    metrics: dict[str, float | None]
    versions: dict[str, str]

    @property
    def bundle_id(self) -> str:
        """Short name of exactly this model: the product and the first digits of the graph's hash."""
        return f"{self.product}-{self.files[MODEL][:12]}"

    @property
    def model_number(self) -> int:
        """The first four of those digits, for a PLC, which has a word of 16 bits for them."""
        return int(self.files[MODEL][:4], 16)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose every file is what the manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The exported graph."""
        return self.folder / MODEL

    @property
    def self_test_image(self) -> Path:
        """The image whose score is known."""
        return self.folder / self.manifest.self_test.image


def load_bundle(folder: Path) -> Bundle:
    """Read the manifest and check every file against it.

    Raises:
        BundleError: something is missing, changed, added, or not understood by this version.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no such bundle: train one with `inspector train`, or copy one there")
    manifest = _read_manifest(folder / MANIFEST)
    _check_names(folder, manifest)
    _check_files(folder, manifest.files)
    return Bundle(folder, manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest whole or not at all: a reader sees the old one or the new one, never a part."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".manifest-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)


def hash_files(folder: Path) -> dict[str, str]:
    """Give the sha256 of every file in the folder but the manifest, by name: what `Manifest.files` holds."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def describe(manifest: Manifest) -> str:
    """Say in a few words what the bundle is, for a person to recognise it."""
    size = manifest.input
    pixels = "any size" if size.height is None or size.width is None else f"{size.width} x {size.height}"
    return (
        f"{manifest.bundle_id}, made {manifest.created:%Y-%m-%d %H:%M} by {manifest.training.method} "
        f"from {manifest.data.train_images} good images; {'RGB' if size.channels == 3 else 'grey'}, {pixels}; "
        f"rejects above {manifest.threshold.value:.4g}"
    )


def _read_manifest(path: Path) -> Manifest:
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent}: has no {MANIFEST}, so it is no bundle: {_copy_again(path.parent)}"
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}): {_copy_again(path.parent)}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise BundleError(f"{path}: is not the manifest of an Inspector bundle: point to a folder that `train` made")
    version = raw.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: format version {version} was made by a newer Inspector (this one reads {FORMAT_VERSION}): "
            "update this station"
        )
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {key}: {first['msg']}: {_copy_again(path.parent)}") from error


def _check_names(folder: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        if not _is_plain(name):
            raise BundleError(f"{folder}: the manifest names {name!r}, outside the bundle: do not use this bundle")
    for name in (MODEL, manifest.self_test.image):
        if name not in manifest.files:
            raise BundleError(f"{folder}: the manifest does not vouch for {name}: {_copy_again(folder)}")


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
    return inside and str(path) == name and name not in {".", MANIFEST}


def _check_files(folder: Path, files: dict[str, str]) -> None:
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    for name, path in present.items():
        if path.is_symlink():
            raise BundleError(f"{path}: is a link; a bundle holds its own files: {_copy_again(folder)}")
        if name not in files and name != MANIFEST:
            raise BundleError(f"{path}: is not in the manifest: remove it, or {_copy_again(folder)}")
    for name, expected in files.items():
        if name not in present:
            raise BundleError(f"{folder / name}: is missing: {_copy_again(folder)}")
        try:
            actual = _sha256(folder / name)
        except OSError as error:
            raise BundleError(f"{folder / name}: cannot be read ({error.strerror}): check its permissions") from error
        if actual != expected:
            raise BundleError(f"{folder / name}: was changed or cut short (sha256 differs): {_copy_again(folder)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy_again(folder: Path) -> str:
    return f"copy {folder.name} again from where it was trained"
