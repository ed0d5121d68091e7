from pathlib import Path

import numpy as np
import pytest
import torch

from models.baselines import PatchCore, Thumbnail
from models.coreset import greedy_coreset
from models.data import read_image
from models.evaluate import Predict, evaluate
from models.normals import Normals, load_normals
from models.progress import silent

from .discs import write_discs

BENCHMARK_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def normals(dataset: Path) -> Normals:
    return load_normals(dataset, seed=0, progress=silent)


@pytest.fixture(scope="module", params=["thumbnail", "patchcore"])
def predict(request: pytest.FixtureRequest, normals: Normals) -> Predict:
    return Thumbnail(normals) if request.param == "thumbnail" else PatchCore(normals, seed=0, progress=silent)


def test_a_baseline_finds_a_hole_and_where_it_is(predict: Predict, dataset: Path) -> None:
    figures = evaluate(predict, dataset, threshold=0.0, bundle="baseline")
    assert figures.image_auroc.pooled == 1.0
    assert figures.pixel_auroc is not None
    assert figures.pixel_auroc > 0.95


def test_a_baseline_takes_grey_images_where_it_learned_colour(predict: Predict, dataset: Path) -> None:
    grey = read_image(dataset / "test/good/000.png")[:, :, :1]
    assert np.isfinite(predict(grey).score)


def test_a_good_image_that_is_known_is_at_distance_zero(normals: Normals) -> None:
    assert Thumbnail(normals)(read_image(normals.paths.train[0])).score == 0.0


def test_the_same_seed_gives_the_same_patchcore(normals: Normals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatchCore, "CANDIDATES", 500)
    image = read_image(normals.paths.validation[0])
    scores = [PatchCore(normals, seed=seed, progress=silent)(image).score for seed in (1, 1, 2)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_more_images_than_candidates_leave_one_patch_each(normals: Normals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatchCore, "CANDIDATES", 1)
    assert np.isfinite(PatchCore(normals, seed=0, progress=silent)(read_image(normals.paths.train[0])).score)


def test_the_coreset_visits_every_cluster_before_a_second_of_any() -> None:
    random = torch.Generator().manual_seed(0)
    clusters = torch.arange(200) % 8
    patches = 10 * torch.eye(8)[clusters] + 0.01 * torch.randn(200, 8, generator=random)
    chosen = greedy_coreset(patches, 8, random, silent)
    assert sorted(clusters[chosen].tolist()) == list(range(8))


@pytest.mark.slow
@pytest.mark.benchmark_data
@pytest.mark.timeout(900)
def test_patchcore_lands_near_its_known_figures_on_bottles() -> None:
    dataset = BENCHMARK_DATA / "mvtec_bottle"
    if not dataset.is_dir():
        pytest.skip(f"{dataset} is not there: put the benchmark images beside the checkout to run this")
    normals = load_normals(dataset, seed=0, progress=silent)
    figures = evaluate(PatchCore(normals, seed=0, progress=silent), dataset, threshold=0.0, bundle="patchcore")
    assert figures.image_auroc.pooled == pytest.approx(1.0, abs=0.01)
    assert figures.pixel_auroc == pytest.approx(0.986, abs=0.01)
