"""The command teaches, checks and fails in one clear line."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspector.bench import bench
from inspector.bundle import Bundle, load_bundle
from inspector.check import check
from inspector.cli import app
from inspector.station import Bus

from .tiny import build_bundle, part, write_image

runner = CliRunner()


@pytest.fixture
def station_file(tmp_path: Path, bus: Bus, bundle_folder: Path) -> Path:
    assert bundle_folder.exists()
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", part(100))
    path = tmp_path / "station.toml"
    path.write_text(
        f"""
        name = "line1"
        deadline_ms = 10000
        camera = {{ kind = "folder", folder = "images" }}
        recipe = {{ name = "tray", bundle = "tiny.bundle" }}
        bus = {{ result = "{bus.result}", view = "{bus.view}", status = "{bus.status}" }}
        """
    )
    return path


def test_run_ends_with_a_summary_when_the_folder_does(station_file: Path) -> None:
    done = runner.invoke(app, ["run", "--station", str(station_file)])
    assert done.exit_code == 0
    assert "1 parts: 1 accepted, 0 rejected, 0 faults; latency p50" in done.stdout


@pytest.mark.parametrize("command", ["run", "watch"])
def test_a_missing_station_is_one_clear_line_and_exit_code_2(command: str, tmp_path: Path) -> None:
    done = runner.invoke(app, [command, "--station", str(tmp_path / "none.toml")])
    assert done.exit_code == 2
    missing = f"{tmp_path / 'none.toml'}: cannot be read (No such file or directory): name the file with --station"
    assert done.stderr.strip() == missing
    assert "Traceback" not in done.output


@pytest.mark.parametrize("damage", ["bundle", "camera", "engine"])
def test_a_station_that_cannot_start_is_exit_code_2(station_file: Path, damage: str) -> None:
    text = station_file.read_text()
    wrong = {
        "bundle": text.replace("tiny.bundle", "none.bundle"),
        "camera": text.replace('"images"', '"none"'),
        "engine": 'engine = "onnxruntime-cuda"\n' + text,
    }
    station_file.write_text(wrong[damage])
    done = runner.invoke(app, ["run", "--station", str(station_file)])
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert {"bundle": "none.bundle", "camera": "none", "engine": "onnxruntime-cuda"}[damage] in done.stderr


def test_check_has_a_line_for_everything_that_works(station_file: Path) -> None:
    done = runner.invoke(app, ["check", "--station", str(station_file)])
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", what] for what in ("station", "bundle", "engine", "camera", "frame")
    ]


def test_check_shows_every_failure_and_not_only_the_first(station_file: Path) -> None:
    station_file.write_text(station_file.read_text().replace("images", "none").replace("tiny.", "none."))
    done = runner.invoke(app, ["check", "--station", str(station_file)])
    assert done.exit_code == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", "station"],
        ["FAILED", "bundle"],
        ["FAILED", "engine"],
        ["FAILED", "camera"],
    ]


def test_check_names_a_wrong_key(station_file: Path) -> None:
    station_file.write_text(station_file.read_text().replace("deadline_ms", "deadlin_ms"))
    (finding,) = check(station_file)
    assert not finding.ok
    assert "did you mean deadline_ms?" in finding.text


def test_check_tells_of_frames_that_do_not_fit_the_bundle(station_file: Path) -> None:
    write_image(station_file.parent / "images" / "a.png", part(100)[:16])
    assert [finding.what for finding in check(station_file) if not finding.ok] == ["frame"]


def test_bench_measures_the_real_loop_to_another_process(bundle_folder: Path, tmp_path: Path) -> None:
    done = runner.invoke(app, ["bench", str(bundle_folder), "--parts", "20", "--json", str(tmp_path / "bench.json")])
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert row.keys() == {
        "engine", "precision", "profile", "frame", "p50_ms", "p95_ms", "p99_ms", "p999_ms", "fps", "stages", "rss_mb",
        "start_ms",
    }  # fmt: skip
    assert row["frame"] == [32, 32]
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert row["p999_ms"] is None  # 20 parts cannot show it
    assert row["stages"].keys() == {"wait", "infer", "decide", "publish", "total"}


def test_bench_uses_camera_frames_where_the_bundle_takes_any_size(tmp_path: Path) -> None:
    from .test_engine import ANY_SIZE

    bundle: Bundle = load_bundle(build_bundle(tmp_path / "b", input=ANY_SIZE))
    (row,) = bench(bundle, parts=3)
    assert row["frame"] == [1024, 1280]


def test_the_version_is_the_packages() -> None:
    done = runner.invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.strip() == metadata.version("inspector")


@pytest.mark.parametrize(
    "command", ["run", "watch", "check", "mqtt", "mqtt check", "bench", "train", "distill", "benchmark"]
)
def test_help_teaches_by_example(command: str) -> None:
    done = runner.invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert f"Example: inspector {command}" in done.stdout


@pytest.mark.parametrize("package", ["paho", "google"])
def test_a_missing_extra_is_named(package: str, station_file: Path) -> None:
    without = f"import sys; sys.modules[{package!r}] = None; from inspector.cli import app; app()"
    command = [sys.executable, "-c", without, "mqtt", "check", "--station", str(station_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    assert done.returncode == 2
    assert "is not installed here: this command needs pip install -e '.[mqtt]'" in done.stderr


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for grey in (60, 90, 120):
        write_image(folder / f"{grey}.png", part(grey))
    return folder


def test_capture_takes_the_stations_camera(station_file: Path, tmp_path: Path) -> None:
    done = runner.invoke(
        app, ["capture", str(tmp_path / "set"), "--station", str(station_file), "--count", "5", "--into", "test/dent"]
    )
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'set' / 'test' / 'dent'}: 1 kept" in done.stdout
    assert len(list((tmp_path / "set" / "test" / "dent").iterdir())) == 1


def test_cameras_shows_what_a_folder_of_images_gives(images: Path) -> None:
    done = runner.invoke(app, ["cameras", "--live", "--video", str(images)])
    assert done.exit_code == 0, done.output
    assert "3 frames, 0 parts without a picture" in done.stdout


def test_cameras_without_a_producer_says_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    done = runner.invoke(app, ["cameras"])
    assert done.exit_code == 2
    assert "no GenTL producer: name the camera maker's .cti file" in done.stderr


def test_features_of_a_camera_that_has_none(station_file: Path) -> None:
    done = runner.invoke(app, ["cameras", "--features", "--station", str(station_file)])
    assert done.exit_code == 2
    assert "only GenICam cameras have features" in done.stderr


def test_simulate_names_a_folder_without_images(tmp_path: Path) -> None:
    done = runner.invoke(app, ["simulate", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds no image" in done.stderr
