"""From a trained detector to a bundle on disk: complete and verified, or not there at all."""

import shutil
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from export import parity
from export.onnx import OUTPUTS, export_onnx
from inspector.bundle import (
    MANIFEST,
    MODEL,
    SELF_TEST_IMAGE,
    Bundle,
    BundleError,
    DataFingerprint,
    InputSpec,
    Manifest,
    SelfTest,
    Threshold,
    Training,
    hash_files,
    load_bundle,
    write_manifest,
)
from models.data import read_image
from models.grid import NETWORK_SIDE
from models.normals import as_graph_image
from models.trained import Trained

PARITY_IMAGES = 8
PACKAGES = ("inspector", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "opencv-python")


def package(trained: Trained, out: Path) -> Bundle:
    """Export the detector, prove the export, and put the bundle at `out`.

    A bundle that is already at `out` stays until the new one is verified, and is then replaced.

    Raises:
        ParityError: the exported graph is not the trained network.
        BundleError: `out` holds something else, or the finished bundle does not verify.
    """
    refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        _fill(folder, trained)
        load_bundle(folder)
        _replace(folder, out)
    return load_bundle(out)


def refuse_foreign(out: Path) -> None:
    """Say now if the bundle could not be put there: what is replaced must be a bundle itself.

    Raises:
        BundleError: `out` is something else.
    """
    if not out.name:
        raise BundleError(f"{out} is no name for a bundle: use one such as cap.bundle")
    if out.exists() and not (out / MANIFEST).is_file():
        raise BundleError(f"{out} exists and is no bundle, so it is not replaced: choose another name")


def _fill(folder: Path, trained: Trained) -> None:
    images = _parity_images(trained)
    export_onnx(trained.detector, trained.record.format, folder / MODEL)
    proof = parity.measure(trained.detector, folder / MODEL, images)
    self_test = _write_self_test(folder, images[0])
    record, threshold, settings = trained.record, trained.record.threshold, trained.record.settings
    write_manifest(
        folder,
        Manifest(
            format="inspector-bundle",
            format_version=1,
            product=record.product,
            created=datetime.now(UTC),
            files=hash_files(folder),
            input=InputSpec(**asdict(record.format)),
            map_height=NETWORK_SIDE,
            map_width=NETWORK_SIDE,
            parts=trained.detector.parts,
            threshold=Threshold(**asdict(threshold)),
            parity=proof,
            self_test=self_test,
            data=DataFingerprint(
                dataset=record.images.train[0].parents[2].name,
                train_images=len(record.images.train),
                validation_images=len(record.images.validation),
                sha256=record.fingerprint,
            ),
            training=Training(
                method=_in_words(trained),
                budget=settings.budget,
                seed=settings.seed,
                iterations=settings.schedule.steps,
                seconds=round(record.seconds, 1),
            ),
            metrics={},
            versions=_versions(),
        ),
    )


def _in_words(trained: Trained) -> str:
    """What was learned how, and which scores were found to count for this product."""
    method, counted = trained.record.settings.method, trained.detector.counted_parts()
    constraint = f"DFSC, margin {method.margin:g}" if method.separation else "no DFSC"
    return f"EfficientAD-S with {constraint}; teacher {method.teacher}; scores that count: {', '.join(counted)}"


def _parity_images(trained: Trained) -> list[npt.NDArray[np.uint8]]:
    paths = trained.record.images.validation[:PARITY_IMAGES]
    return [as_graph_image(read_image(path), trained.record.format) for path in paths]


def _write_self_test(folder: Path, image: npt.NDArray[np.uint8]) -> SelfTest:
    """Keep an image with the score that the graph gives it here; every station must find that score again."""
    path = folder / SELF_TEST_IMAGE
    if not cv2.imwrite(str(path), image[:, :, ::-1]):
        raise OSError(f"{path} could not be written: is the disk full?")
    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    (score,) = session.run([OUTPUTS[1]], {"image": image})
    return SelfTest(image=SELF_TEST_IMAGE, score=float(score), tolerance=parity.SCORE_TOLERANCE)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _replace(folder: Path, out: Path) -> None:
    """Put the new bundle in the old one's place; the old one is removed last."""
    if not out.exists():
        folder.rename(out)
        return
    old = folder.with_name(f"{out.name}.old")
    out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
