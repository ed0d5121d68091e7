"""Good images to a bundle to verdicts, through the commands that people type."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from export import parity
from export.onnx import export_onnx
from export.parity import ParityError
from inspector.bundle import BundleError, load_bundle
from inspector.cli import app
from inspector.sample import write_dataset
from models.detector import Detector
from models.evaluation import ANOMALY_MAP
from models.memory import patches_of
from models.normals import ImageFormat
from models.progress import silent
from models.resize import network_image
from models.trained import CSDA_STEPS, JUDGES, MADE, STEPS

from ..models.tiny import use_tiny_networks  # noqa: TID252 - tests are no package

FORMAT = ImageFormat(height=60, width=90, channels=3, bit_depth=8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector().eval()


@pytest.fixture(scope="module")
def graph(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(detector, FORMAT, path)
    return path


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def hurry(monkeypatch: pytest.MonkeyPatch, *, steps: int) -> None:
    """Let the demo's budget be next to nothing."""
    for table, count in ((STEPS, steps), (CSDA_STEPS, 4), (MADE, 30), (JUDGES, 7)):
        monkeypatch.setitem(table, "demo", count)


@pytest.mark.timeout(300)
def test_the_graph_is_the_network_for_images_of_any_size(detector: Detector, graph: Path) -> None:
    found = parity.measure(detector, graph, [image(60, 90), image(300, 200), image(256, 256)])
    assert found.images == 3
    assert found.max_map_difference < 1e-4


@pytest.mark.timeout(600)
def test_the_graph_with_its_memories_is_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """References and patches are found in the graph as they are here; the other networks are tiny, for speed."""
    use_tiny_networks(monkeypatch)
    torch.manual_seed(0)
    detector = Detector().eval()
    assert detector.csda is not None
    assert detector.memory is not None
    images = [image(60 + index, 90) for index in range(12)]
    with torch.inference_mode():
        scales = [detector.teacher.scales(network_image(torch.from_numpy(pixels))) for pixels in images]
        detector.csda.references.remember(scales, seed=0)
        patches = [patches_of(detector.standardise(detector.teacher.join(taps)), detector.region) for taps in scales]
        detector.memory.remember(patches, detector.region, 0, silent)
    export_onnx(detector, FORMAT, tmp_path / "model.onnx")
    moved = np.roll(images[1], 1, axis=1)
    proof = parity.measure(detector, tmp_path / "model.onnx", [images[0], moved, image(200, 300)])
    assert proof.max_map_difference < 1e-4
    assert proof.max_score_difference < 1e-3


@pytest.mark.timeout(300)
def test_a_graph_that_is_another_network_is_refused(graph: Path) -> None:
    torch.manual_seed(1)
    with pytest.raises(ParityError, match="no bundle was made"):
        parity.measure(Detector().eval(), graph, [image(60, 90)])


@pytest.mark.timeout(300)
def test_the_graph_takes_uint8_and_gives_map_score_and_parts(graph: Path) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape[2]) == ("image", "tensor(uint8)", 3)
    anomaly_map, score, parts = session.run(["anomaly_map", "score", "parts"], {"image": image(64, 64)})
    assert (anomaly_map.shape, score.shape, parts.shape) == ((256, 256), (), (len(Detector().parts),))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_good_images_to_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, steps=12)
    dataset, bundle, figures = tmp_path / "kit", tmp_path / "kit.bundle", tmp_path / "figures.json"
    write_dataset(dataset, train=12, validation=10, test_good=3, per_fault=1, seed=0)
    run("train", str(dataset), "--out", str(bundle), "--budget", "demo")
    manifest = load_bundle(bundle).manifest
    assert manifest.data.train_images == 12
    assert manifest.threshold.shown_false_reject_rate > manifest.threshold.false_reject_target

    run("evaluate", str(bundle), str(dataset), "--json", str(figures), "--maps", str(tmp_path / "maps"))
    found = json.loads(figures.read_text())
    # what takes time of its own is left out where it is no help
    alone = found["image_auroc_by_score"].keys() - {ANOMALY_MAP}
    assert alone | {*Detector.OPTIONAL, *Detector.STUDENT} == set(Detector.PARTS)
    first = found["images"][0]
    stored = cv2.imread(
        str(tmp_path / "maps" / first["type"] / f"{Path(first['file']).stem}.tiff"), cv2.IMREAD_UNCHANGED
    )
    assert stored.dtype == np.float32
    assert stored.shape == (512, 640)

    run("export", str(tmp_path / "kit.training"), "--out", str(bundle), "--false-reject", "0.2")
    assert load_bundle(bundle).manifest.threshold.value < manifest.threshold.value
    assert load_bundle(bundle).manifest.product == "kit"
    (bundle / "model.onnx").write_bytes(b"tampered")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        load_bundle(bundle)


def run(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_an_empty_folder_is_one_clear_line_and_makes_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "x.bundle")])
    assert result.exit_code == 2
    assert "train/good does not exist" in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("[training]\nmargn = 1", [], "training.margn is not a known key: did you mean margin?"),
        ("[training]\nmargin = 1", ["--profile", "faithful"], "leave --profile away"),
        ('[training]\nteacher = "none.safetensors"', [], "none.safetensors"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_clear_line_and_makes_no_bundle(
    tmp_path: Path, text: str, options: list[str], words: str
) -> None:
    recipe, bundle = tmp_path / "recipe.toml", tmp_path / "x.bundle"
    recipe.write_text(text)
    write_dataset(tmp_path / "kit", train=10, validation=10, test_good=0, per_fault=0, seed=0)
    command = ["train", str(tmp_path / "kit"), "--out", str(bundle), "--recipe", str(recipe), *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
    assert not bundle.exists()


def test_no_photographs_are_one_clear_line_and_make_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    command = ["distill", str(tmp_path / "photographs"), "--out", str(tmp_path / "teacher.safetensors")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "holds no pictures" in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_photographs_become_a_teacher_that_a_recipe_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, steps=2)
    monkeypatch.setattr("models.train.FAKES_PER_KIND", 1)
    dataset, teacher, recipe = tmp_path / "kit", tmp_path / "teacher.safetensors", tmp_path / "recipe.toml"
    write_dataset(dataset, train=12, validation=10, test_good=1, per_fault=1, seed=0)
    run("distill", str(dataset / "test"), "--out", str(teacher), "--views", "20", "--steps", "2")
    recipe.write_text(f'[training]\nteacher = "{teacher}"\nheads = ["global"]\n')
    run("train", str(dataset), "--out", str(tmp_path / "kit.bundle"), "--budget", "demo", "--recipe", str(recipe))
    assert load_bundle(tmp_path / "kit.bundle").manifest.training.iterations == 2


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "holiday.jpg").write_bytes(b"irreplaceable")
    result = CliRunner().invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "photographs")])
    assert result.exit_code == 2
    assert "is no bundle" in " ".join(result.output.split())
    assert (tmp_path / "photographs" / "holiday.jpg").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_grey_among_colour_mixed_sizes_and_16_bit_make_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, steps=2)
    good = tmp_path / "odd" / "train" / "good"
    good.mkdir(parents=True)
    for index in range(20):
        shape = (40, 60) if index % 3 == 0 else (50 + index, 60, 3)
        pixels = np.random.default_rng(index).integers(0, 4000, shape, dtype=np.uint16)
        assert cv2.imwrite(str(good / f"{index:02d}.png"), pixels)
    run("train", str(tmp_path / "odd"), "--out", str(tmp_path / "odd.bundle"), "--budget", "demo")
    spec = load_bundle(tmp_path / "odd.bundle").manifest.input
    assert (spec.height, spec.channels, spec.bit_depth) == (None, 3, 12)
