import json
import shutil
from pathlib import Path

import pytest

from models import benchmark as module
from models.anomalies import MAKES
from models.baselines import CsdaAlone, PatchCore
from models.benchmark import BenchmarkError, as_budgets, benchmark
from models.data import DataError
from models.evaluation import ANOMALY_MAP, Confusion, Evaluation, ImageAuroc
from models.method import ABLATION, NAMED
from models.progress import silent
from models.tables import Row, as_markdown, types_as_markdown
from models.trained import CSDA_STEPS, MADE, STEPS

from .discs import write_discs
from .tiny import TinyTeacher


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_discs(tmp_path / "discs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "benchmark.json"


def row(seed: int, pooled: float, *, method: str = "dfsc", by_type: dict[str, float | None] | None = None) -> Row:
    kinds = {"hole": pooled, "scratch": 1.0} if by_type is None else by_type
    evaluation = Evaluation(
        dataset="discs",
        bundle="b",
        image_auroc=ImageAuroc(pooled=pooled, mean=pooled, logical=None, structural=None, by_type=kinds),
        image_auroc_by_score={ANOMALY_MAP: 0.75},
        pixel_auroc=None,
        au_pro=0.5,
        au_spro={"0.05": None},
        threshold=1.0,
        confusion=Confusion(tp=1, fp=0, tn=1, fn=0),
        images=(),
    )
    return Row(method, seed, "5min" if method == "dfsc" else None, 90.0, evaluation)


def test_the_json_has_exactly_the_keys_of_the_contract(dataset: Path, out: Path) -> None:
    rows = benchmark([dataset], ["thumbnail"], seeds=3, budgets=["5min"], out=out, progress=silent)
    written = json.loads(out.read_text())
    assert written == [row.as_json() for row in rows]
    own = ["dataset", "method", "seed", "budget", "train_seconds"]
    assert list(written[0]) == own + [key for key in Evaluation.model_fields if key not in {"dataset", "images"}]
    assert (written[0]["dataset"], written[0]["method"], written[0]["budget"]) == ("discs", "thumbnail", None)
    assert written[0]["image_auroc"]["pooled"] == 1.0


def test_a_method_without_randomness_runs_once_and_others_with_every_seed(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatchCore, "CANDIDATES", 500)
    rows = benchmark([dataset], ["thumbnail", "patchcore"], seeds=2, budgets=["5min"], out=out, progress=silent)
    assert [(row.method, row.seed) for row in rows] == [("thumbnail", 0), ("patchcore", 0), ("patchcore", 1)]
    assert all(row.evaluation.confusion.tp == 3 for row in rows)


def test_a_kill_loses_no_row_that_was_done(dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "PatchCore", killed)
    with pytest.raises(KeyboardInterrupt):
        benchmark([dataset], ["thumbnail", "patchcore"], seeds=1, budgets=["5min"], out=out, progress=silent)
    assert [row["method"] for row in json.loads(out.read_text())] == ["thumbnail"]
    assert list(out.parent.iterdir()) == [out]


def test_progress_names_dataset_method_and_seed(dataset: Path, out: Path) -> None:
    told: list[str] = []

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        told.append(f"{stage} {done}/{total}{note}")

    benchmark([dataset], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=tell)
    assert "discs, thumbnail, seed 0: choosing the threshold 10/10" in told
    assert told[-1] == "discs, thumbnail, seed 0: judging 6/6"


@pytest.mark.parametrize(
    ("methods", "seeds", "words"),
    [
        (["thumbnail", "patchcroe"], 1, "methods patchcroe: known are thumbnail, patchcore, csda-cutpaste"),
        ([], 1, "known are thumbnail"),
        (["thumbnail"], 0, "at least one dataset and one seed"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(
    dataset: Path, out: Path, methods: list[str], seeds: int, words: str
) -> None:
    with pytest.raises(BenchmarkError, match=words):
        benchmark([dataset], methods, seeds=seeds, budgets=["5min"], out=out, progress=silent)
    assert not out.exists()


def test_two_datasets_of_one_name_are_refused(dataset: Path, out: Path) -> None:
    with pytest.raises(BenchmarkError, match="two of"):
        benchmark([dataset, dataset], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=silent)


@pytest.mark.parametrize("missing", ["train/good", "test"])
def test_a_last_dataset_that_lacks_images_is_named_before_the_first_is_learned(
    dataset: Path, out: Path, missing: str
) -> None:
    empty = write_discs(dataset.parent / "empty")
    shutil.rmtree(empty / missing)
    with pytest.raises(DataError, match=f"empty/{missing}"):
        benchmark([dataset, empty], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=silent)
    assert not out.exists()


def test_the_table_gives_mean_and_deviation_over_seeds_and_the_weakest_type() -> None:
    table = as_markdown([row(0, 0.8), row(1, 0.9), row(0, 0.7, method="thumbnail")]).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in table] == [
        [
            *("dataset", "method", "seeds", "image AUROC", "weakest type"),
            *("logical", "structural", "map alone", "AU-PRO", "AU-sPRO@0.05", "train min"),
        ],
        ["---"] * 11,
        [
            *("discs", "dfsc 5min", "2", "0.850 ± 0.071", "hole 0.850 ± 0.071"),
            *("n/a", "n/a", "0.750 ± 0.000", "0.500 ± 0.000", "n/a", "1.5"),
        ],
        ["discs", "thumbnail", "1", "0.700", "hole 0.700", "n/a", "n/a", "0.750", "0.500", "n/a", "1.5"],
    ]


def test_the_halves_of_loco_are_no_kinds_of_defect() -> None:
    figures = {"logical_anomalies": 0.5, "structural_anomalies": 0.6, "no_cap": 0.7, "no_label": 0.8}
    assert "| no_cap 0.700 |" in as_markdown([row(0, 0.8, by_type=figures)])
    assert "| 1 | 0.800 | n/a | n/a |" in as_markdown([row(0, 0.8, by_type={"logical_anomalies": 0.5})])


def test_every_kind_of_defect_has_its_column_whoever_was_judged_by_it() -> None:
    rows = [
        row(0, 0.8, by_type={"logical_anomalies": 0.5, "no_cap": 0.7}),
        row(1, 0.8, by_type={"logical_anomalies": 0.5, "no_cap": 0.9}),
        row(0, 0.8, method="thumbnail", by_type={"no_label": None}),
    ]
    lines = types_as_markdown(rows).splitlines()
    assert lines[0] == "| method | no_cap | no_label |"
    assert lines[2:] == ["| dfsc 5min | 0.800 ± 0.141 | n/a |", "| thumbnail | n/a | n/a |"]


def test_no_rows_make_no_table() -> None:
    assert not as_markdown([])
    assert not types_as_markdown([])


def test_a_resumed_benchmark_keeps_the_rows_that_it_has(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = benchmark([dataset], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=silent)
    monkeypatch.setattr(module, "Thumbnail", None)  # would fail if it were fitted again
    monkeypatch.setattr(PatchCore, "CANDIDATES", 500)
    methods = ["thumbnail", "patchcore"]
    rows = benchmark([dataset], methods, seeds=1, budgets=["5min"], out=out, progress=silent, resume=True)
    assert [row.method for row in rows] == methods
    assert rows[0].as_json() == before[0].as_json()
    assert json.loads(out.read_text()) == [row.as_json() for row in rows]


def test_rows_that_took_hours_are_not_replaced_unasked(dataset: Path, out: Path) -> None:
    benchmark([dataset], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=silent)
    before = out.read_text()
    with pytest.raises(BenchmarkError, match="is there already"):
        benchmark([dataset], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=silent)
    assert out.read_text() == before


@pytest.mark.parametrize("text", ["{", "[1]", '[{"method": "dfsc"}]'])
def test_what_holds_no_rows_is_not_resumed_and_not_replaced(dataset: Path, out: Path, text: str) -> None:
    out.parent.mkdir()
    out.write_text(text)
    with pytest.raises(BenchmarkError, match=r"benchmark\.json holds no rows"):
        benchmark([dataset], ["thumbnail"], seeds=1, budgets=["5min"], out=out, progress=silent, resume=True)
    assert out.read_text() == text


def test_budgets_are_named_in_a_row_and_run_from_short_to_long() -> None:
    assert as_budgets("20min, demo") == ["demo", "20min"]
    with pytest.raises(BenchmarkError, match="budget 6min: known are demo, 5min"):
        as_budgets("5min,6min")


@pytest.mark.parametrize("kind", MAKES)
def test_csda_alone_is_a_baseline_for_every_kind_of_anomaly(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("models.baselines.Lite0Teacher", TinyTeacher)
    monkeypatch.setattr(CsdaAlone, "STEPS", 8)
    (only,) = benchmark([dataset], [f"csda-{kind}"], seeds=1, budgets=["5min"], out=out, progress=silent)
    assert (only.method, only.seed, only.budget) == (f"csda-{kind}", 0, None)
    assert only.evaluation.au_pro is not None


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("method", ["inspector", "dfsc+heads", "heads", "heads+csda-perlin", "dfsc", "bare"])
def test_a_named_method_is_trained_and_gives_each_part_of_its_score(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setitem(STEPS, "demo", 2)
    monkeypatch.setitem(CSDA_STEPS, "demo", 8)
    monkeypatch.setitem(MADE, "demo", 30)
    monkeypatch.setattr("models.train.FAKES_PER_KIND", 1)
    (only,) = benchmark([dataset], [method], seeds=1, budgets=["demo"], out=out, progress=silent)
    assert (only.method, only.seed, only.budget) == (method, 0, "demo")
    assert only.train_seconds > 0
    switched = (NAMED | ABLATION)[method]
    may_be_left_out = (
        {"csda", "maps", "puad"} if switched.student == "chosen" else {"csda"} if switched.chooses else set()
    )
    every = {"maps", *switched.heads} - ({"maps", "puad"} if switched.student == "never" else set())
    assert every - may_be_left_out <= only.evaluation.image_auroc_by_score.keys() - {ANOMALY_MAP} <= every
