"""ComGEN's commands as maintenance staff use them, on a toy product of two discs and a plate."""

from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from inspector.cli import app
from tests.models.comgen.toy import photo

GOOD, HELD_OUT = 16, 10
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    for seed in range(GOOD + HELD_OUT):
        good = folder / ("train" if seed < GOOD else "validation") / "good"
        good.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(good / f"{seed:02}.png"), photo(seed)[0][:, :, ::-1])
    return folder


def said(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_components_are_shown_named_and_their_names_kept(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "components"
    assert "0 " in said("components", dataset, "--out", out, "--images", 2)
    assert (out / "components.png").stat().st_size > 10_000
    names = out / "vocabulary.toml"
    names.write_text(names.read_text().replace('0 = "', '0 = "my '))
    assert " my " in said("components", dataset, "--out", out, "--images", 2)


def test_anomalies_are_written_with_their_masks_and_a_sheet(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "anomalies"
    assert "found again in" in said("generate", dataset, "--out", out, "--count", 7)
    images = list((out / "test" / "logical_anomalies").iterdir())
    assert len(images) >= 5
    assert {path.stem for path in (out / "ground_truth" / "logical_anomalies").iterdir()} == {
        path.stem for path in images
    }
    assert (out / "sheet.png").stat().st_size > 10_000


@pytest.mark.timeout(600)
def test_tokens_are_learned_shown_and_not_learned_twice(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.comgen.denoiser.CHANNELS", (8, 16, 16))
    monkeypatch.setattr("models.comgen.lessons.ERASED", 6)
    out = tmp_path / "tokens"
    first = said("tokens", dataset, "--out", out, "--steps", 3, "--questions", 2)
    assert "attention's IoU with the components" in first
    assert (out / "tokens.png").stat().st_size > 10_000
    learned = (out / "denoiser.checkpoint").stat().st_mtime_ns
    again = said("tokens", dataset, "--out", out, "--steps", 3, "--questions", 2)
    assert again.splitlines()[-4:] == first.splitlines()[-4:]
    assert (out / "denoiser.checkpoint").stat().st_mtime_ns == learned
