import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from models import data
from models.data import DataError
from models.evaluate import Scored, evaluate
from models.evaluation import Evaluation

SIZE = (32, 48)
BOX = (slice(8, 16), slice(20, 32))


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def boxed(value: int) -> np.ndarray:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[BOX] = value
    return pixels


def predict(image: data.Image) -> Scored:
    """The image itself is the map, its maximum the score, and "blind" sees nothing."""
    brightness = image.max(axis=2).astype(np.float32)
    score = float(brightness.max())
    return Scored(score, brightness, {"maps": score, "blind": 0.0}, latency_ms=2.0)


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    """Two good parts (scores 0, 10), two logical (100, 5), one structural (200)."""
    dataset = tmp_path / "juice"
    for name, value in (("good/000", 0), ("good/001", 10)):
        write(dataset / f"test/{name}.png", boxed(value))
    for name, value in (
        ("logical_anomalies/000", 100),
        ("logical_anomalies/001", 5),
        ("structural_anomalies/000", 200),
    ):
        write(dataset / f"test/{name}.png", boxed(value))
        write(dataset / f"ground_truth/{name}/000.png", boxed(255 if name.startswith("logical") else 254))
    (dataset / "labels.csv").write_text(
        "file,defect_types\ntest/logical_anomalies/000.png,no_cap\ntest/logical_anomalies/001.png,no_cap+no_label\n"
    )
    kinds = [
        {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 20, "relative_saturation": False},
        {"defect_name": "b", "pixel_value": 254, "saturation_threshold": 1.0, "relative_saturation": True},
    ]
    (dataset / "defects_config.json").write_text(json.dumps(kinds))
    return dataset


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """One good part (0), a hole (100) and a scratch (50)."""
    dataset = tmp_path / "bottle"
    write(dataset / "test/good/000.png", boxed(0))
    for kind, value in (("hole", 100), ("scratch", 50)):
        write(dataset / f"test/{kind}/000.png", boxed(value))
        write(dataset / f"ground_truth/{kind}/000_mask.png", boxed(255))
    return dataset


def judge(dataset: Path, **options: Path) -> Evaluation:
    return evaluate(predict, dataset, threshold=50.0, bundle="juice-0123", **options)


def test_the_json_has_exactly_the_keys_of_the_contract(loco: Path) -> None:
    evaluation = json.loads(judge(loco).model_dump_json())
    assert list(evaluation) == [
        *("dataset", "bundle", "image_auroc", "image_auroc_by_score", "pixel_auroc", "au_pro", "au_spro"),
        *("threshold", "confusion", "images"),
    ]
    assert list(evaluation["image_auroc"]) == ["pooled", "mean", "logical", "structural", "by_type"]
    assert list(evaluation["confusion"]) == ["tp", "fp", "tn", "fn"]
    assert list(evaluation["images"][0]) == ["file", "type", "score", "verdict", "latency_ms"]
    assert "0.05" in evaluation["au_spro"]


def test_image_figures_of_a_loco_set(loco: Path) -> None:
    evaluation = judge(loco)
    figures = evaluation.image_auroc
    assert (figures.pooled, figures.logical, figures.structural) == (pytest.approx(5 / 6), 0.75, 1.0)
    assert figures.mean == pytest.approx(0.875)
    assert figures.by_type == {"logical_anomalies": 0.75, "structural_anomalies": 1.0, "no_cap": 0.75, "no_label": 0.5}
    assert evaluation.image_auroc_by_score == {
        "maps": pytest.approx(5 / 6),
        "blind": 0.5,
        "anomaly_map": pytest.approx(5 / 6),
    }
    assert evaluation.confusion.model_dump() == {"tp": 2, "fp": 0, "tn": 2, "fn": 1}
    assert (evaluation.dataset, evaluation.bundle, evaluation.threshold) == ("juice", "juice-0123", 50.0)
    assert [(image.file, image.verdict) for image in evaluation.images] == [
        ("test/good/000.png", "accept"),
        ("test/good/001.png", "accept"),
        ("test/logical_anomalies/000.png", "reject"),
        ("test/logical_anomalies/001.png", "accept"),
        ("test/structural_anomalies/000.png", "reject"),
    ]


def test_the_map_alone_is_judged_by_its_highest_value(loco: Path) -> None:
    def blind_but_for_the_map(image: data.Image) -> Scored:
        brightness = image.max(axis=2).astype(np.float32)
        return Scored(0.0, np.where(brightness > 0, brightness, -brightness.max()), {}, latency_ms=2.0)

    evaluation = evaluate(blind_but_for_the_map, loco, threshold=50.0, bundle="blind")
    assert evaluation.image_auroc.pooled == 0.5
    assert evaluation.image_auroc_by_score == {"anomaly_map": pytest.approx(5 / 6)}


def test_spro_is_the_mean_of_logical_and_structural_each_with_the_good(loco: Path) -> None:
    # Of the free pixels of good and logical images, only the box of the good part with score 10 outscores the defect of
    # score 5: half of the logical defects is found up to that rate, all from there on. The structural one is on top.
    pixels, box = SIZE[0] * SIZE[1], 8 * 12
    rate = box / (4 * pixels - 2 * box)
    logical = (0.5 * rate + (0.05 - rate)) / 0.05
    assert judge(loco).au_spro["0.05"] == pytest.approx((logical + 1.0) / 2)


def test_figures_of_an_mvtec_set(mvtec: Path) -> None:
    evaluation = judge(mvtec)
    assert evaluation.image_auroc.logical is None
    assert evaluation.image_auroc.structural is None
    assert evaluation.image_auroc.mean == 1.0
    assert evaluation.image_auroc.by_type == {"hole": 1.0, "scratch": 1.0}
    assert [evaluation.pixel_auroc, evaluation.au_pro, evaluation.au_spro["0.05"]] == pytest.approx([1.0, 1.0, 1.0])
    assert evaluation.images[-1].verdict == "accept"  # a score of exactly the threshold is no reject


def test_without_ground_truth_pixel_figures_are_none(tmp_path: Path) -> None:
    write(tmp_path / "test/good/000.png", boxed(0))
    write(tmp_path / "test/hole/000.png", boxed(100))
    evaluation = judge(tmp_path)
    assert evaluation.image_auroc.pooled == 1.0
    assert (evaluation.pixel_auroc, evaluation.au_pro) == (None, None)
    assert set(evaluation.au_spro.values()) == {None}


@pytest.mark.parametrize("kind", ["good", "hole"])
def test_one_kind_of_image_alone_has_no_auroc_but_verdicts_and_a_report(tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"test/{kind}/000.png", boxed(100))
    evaluation = judge(tmp_path, report=tmp_path / "report")
    assert evaluation.image_auroc.pooled is None
    assert evaluation.image_auroc.mean is None
    assert evaluation.images[0].verdict == "reject"
    assert (tmp_path / "report/report.html").is_file()


def test_maps_are_written_at_the_images_own_size(mvtec: Path, tmp_path: Path) -> None:
    def coarse(_: data.Image) -> Scored:
        return Scored(1.0, np.ones((4, 4), np.float32), {}, 1.0)

    evaluate(coarse, mvtec, threshold=0.5, bundle="b", maps=tmp_path / "maps")
    written = sorted(path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.*"))
    assert written == ["good/000.tiff", "hole/000.tiff", "scratch/000.tiff"]
    pixels = cv2.imread(str(tmp_path / "maps/hole/000.tiff"), cv2.IMREAD_UNCHANGED)
    assert (pixels.shape, pixels.dtype) == (SIZE, np.float32)


def test_progress_is_told_after_every_image(mvtec: Path) -> None:
    told: list[tuple[int, int]] = []
    evaluate(predict, mvtec, threshold=1.0, bundle="b", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_score_that_is_no_number_is_refused(mvtec: Path) -> None:
    def broken(_: data.Image) -> Scored:
        return Scored(float("nan"), np.ones((4, 4), np.float32), {}, 1.0)

    with pytest.raises(ValueError, match="no finite number"):
        evaluate(broken, mvtec, threshold=0.5, bundle="b")


def test_a_mask_of_another_size_or_unknown_value_is_named(loco: Path) -> None:
    mask = loco / "ground_truth/logical_anomalies/000/000.png"
    write(mask, boxed(7))
    with pytest.raises(DataError, match=r"logical_anomalies/000/000.png holds the values \[7\]"):
        judge(loco)
    write(mask, np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"logical_anomalies/000/000.png is \(5, 5\) pixels"):
        judge(loco)
    (loco / "defects_config.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"defects_config.json is malformed"):
        judge(loco)


def test_the_report_is_one_file_that_loads_nothing_and_speaks_plainly(loco: Path, tmp_path: Path) -> None:
    judge(loco, report=tmp_path / "report")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["report.html"]
    text = (tmp_path / "report/report.html").read_text()
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    assert "Of 2 good parts, none would have been rejected" in text
    assert "Of 3 anomalous parts, 1 would have been missed" in text
    assert "Missed anomalies" in text
    assert "logical_anomalies/001.png" in text
    assert "no cap, no label" in text


def test_the_report_shows_grey_16_bit_images_and_escapes_names(tmp_path: Path) -> None:
    write(tmp_path / "test/good/000.png", boxed(0).astype(np.uint16))
    write(tmp_path / "test/a<b>&c/000.png", boxed(100).astype(np.uint16) * 40)
    judge(tmp_path, report=tmp_path / "report")
    text = (tmp_path / "report/report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in text
    assert "a<b>" not in text
