import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.comgen.components import Components
from models.comgen.composite import dilate
from models.comgen.dataset import write_anomalies
from models.comgen.generate import Anomaly, Edited, Generator
from models.comgen.population import Population, centre
from models.comgen.prompts import CHANGES, RARE, Modification, is_anomalous, modify
from models.comgen.quality import component_iou, edit_quality
from models.comgen.sheet import draw_anomalies, draw_components
from models.comgen.vocabulary import read_vocabulary, suggest
from models.data import DataError
from models.data import test_images as read_test_images
from models.normals import ImageFormat
from models.progress import silent

from .toy import network, photo

COUNT = 16


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for seed in range(COUNT):
        cv2.imwrite(str(folder / f"{seed:02}.png"), photo(seed)[0][:, :, ::-1])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def generator(paths: list[Path], components: Components) -> Generator:
    names = suggest("", components.components).names
    images = [network(photo(seed)[0]) for seed in range(COUNT)]
    return Generator(paths, images, ImageFormat(256, 256, 3, 8), components, names, silent)


@pytest.fixture(scope="module")
def anomalies(generator: Generator) -> list[Anomaly]:
    return list(generator.generate(21, seed=0, progress=silent))


def test_most_of_what_is_asked_for_is_made_in_several_ways(anomalies: list[Anomaly]) -> None:
    assert len(anomalies) >= 18
    assert {"drop", "duplicate", "move"} <= {anomaly.change for anomaly in anomalies}


def test_what_has_changed_is_what_the_masks_show(generator: Generator, anomalies: list[Anomaly]) -> None:
    for anomaly in anomalies:
        original = generator.photo(anomaly.source)
        changed = np.abs(anomaly.photo.astype(int) - original).max(axis=2) > 12
        marked = np.any(anomaly.masks, axis=0)
        assert changed[marked].mean() > 0.25
        assert changed[~dilate(marked, 12)].mean() < 0.002, anomaly.change


def test_the_prompt_says_what_was_done(anomalies: list[Anomaly]) -> None:
    for anomaly in anomalies:
        assert anomaly.before != anomaly.after
    dropped = next(anomaly for anomaly in anomalies if anomaly.change == "drop")
    assert len(dropped.after) < len(dropped.before)


def test_a_change_is_found_again_where_it_was_made_and_only_there(
    generator: Generator, components: Components, anomalies: list[Anomaly]
) -> None:
    made = [anomaly for anomaly in anomalies if anomaly.change in {"drop", "duplicate", "move"}]
    originals = [generator.photo(anomaly.source) for anomaly in made]

    after = edit_quality(made, originals, [components.find(network(anomaly.photo), anywhere=True) for anomaly in made])
    assert after.intended > 0.8
    assert after.inside > 20
    assert after.outside < 2
    unchanged = [components.find(network(original)) for original in originals]
    assert edit_quality(made, originals, unchanged).intended == 0


def test_components_are_measured_against_the_true_ones(components: Components) -> None:
    found, truth = [], []
    for seed in range(200, 204):
        picture, discs, plate = photo(seed)
        found.append(components.find(network(picture)))
        truth.append((discs + 2 * plate).astype(np.uint8))

    measured = component_iou(found, truth)
    assert measured[1] > 0.8
    assert measured[2] > 0.8
    assert component_iou(found, [np.roll(item, 90, axis=0) for item in truth])[2] < 0.3


def test_the_same_seed_makes_the_same_anomalies(generator: Generator, anomalies: list[Anomaly]) -> None:
    again = list(generator.generate(5, seed=0, progress=silent))

    assert all((one.photo == other.photo).all() for one, other in zip(again, anomalies, strict=False))
    other = next(iter(generator.generate(1, seed=1, progress=silent)))
    assert (other.photo != anomalies[0].photo).any()


def test_a_missing_disc_is_an_anomaly_and_a_usual_place_is_none(generator: Generator) -> None:
    population = generator.population
    disc = next(item for item in population.parts[0] if 600 < item.mask.sum() < 1000)

    assert is_anomalous(Modification("drop", disc), 0, population)
    assert not is_anomalous(Modification("move", disc, place=centre(disc)), 0, population)
    assert is_anomalous(Modification("move", disc, place=(0.9, 0.1)), 0, population)


def test_a_product_that_comes_with_and_without_a_part_does_not_miss_it(generator: Generator) -> None:
    images = [list(instances) for instances in generator.population.images]
    disc = next(item for item in generator.population.parts[0] if 600 < item.mask.sum() < 1000)
    for instances in images[::2]:
        first = next(item for item in instances if item.component == disc.component)
        instances.remove(first)
    images[0].append(disc)

    assert not is_anomalous(Modification("drop", disc), 0, Population(images))


def test_only_what_no_good_image_shows_at_a_place_is_new(generator: Generator) -> None:
    photo = generator.photo(0)
    mask = np.zeros(photo.shape[:2], bool)
    mask[: photo.shape[0] // 4] = True
    noise = np.random.default_rng(0).integers(-2, 3, photo.shape)
    noisy, white = np.clip(photo + noise, 0, 255).astype(np.uint8), photo.copy()
    white[mask] = 255
    assert not generator._is_new(0, Edited(noisy, (mask,)))
    assert generator._is_new(0, Edited(white, (mask,)))


def test_rare_places_are_rarer_than_any(generator: Generator) -> None:
    population = generator.population

    def densities(*, rare: bool) -> list[float]:
        rng = np.random.default_rng(0)
        drawn = [modify(number % COUNT, "duplicate", population, rng, rare=rare) for number in range(60)]
        return [abs(population.log_density(one.part.component, one.place) + RARE) for one in drawn if one and one.place]

    assert np.median(densities(rare=True)) < np.median(densities(rare=False))


def test_a_product_without_components_makes_none() -> None:
    bare = Population([[] for _ in range(COUNT)])

    assert all(modify(0, change, bare, np.random.default_rng(0)) is None for change in CHANGES)


def test_they_are_written_as_a_dataset_that_can_be_read(
    tmp_path: Path, paths: list[Path], anomalies: list[Anomaly]
) -> None:
    out = tmp_path / "made"
    write_anomalies(anomalies[:3], paths, out)

    read = read_test_images(out)
    assert [len(image.masks) for image in read] == [len(anomaly.masks) for anomaly in anomalies[:3]]
    assert all(image.mask_per_defect and image.defect_types for image in read)
    with (out / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["prompt_before"] == anomalies[0].before
    assert rows[0]["source"] == paths[anomalies[0].source].name


def test_nothing_is_written_over_and_nothing_half(tmp_path: Path, paths: list[Path], anomalies: list[Anomaly]) -> None:
    out = tmp_path / "made"
    write_anomalies(anomalies[:1], paths, out)
    with pytest.raises(DataError, match="exists"):
        write_anomalies(anomalies[:1], paths, out)

    broken = replace(anomalies[0], masks=(np.zeros((0, 0), bool),))
    with pytest.raises((DataError, cv2.error)):
        write_anomalies([anomalies[1], broken], paths, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_sheets_are_pictures(
    tmp_path: Path, components: Components, generator: Generator, anomalies: list[Anomaly]
) -> None:
    image = network(photo(50)[0])
    draw_components([(image, components.find(image))], components.components, generator._names, tmp_path / "a.png")
    draw_anomalies(anomalies[:2], [generator.photo(item.source) for item in anomalies[:2]], tmp_path / "b.png")

    for name in ("a.png", "b.png"):
        drawn = cv2.imread(str(tmp_path / name))
        assert drawn is not None
        assert np.ptp(drawn) > 200


def test_names_that_people_gave_are_read(tmp_path: Path, components: Components) -> None:
    file = tmp_path / "vocabulary.toml"
    suggested = suggest("abc", components.components)
    suggested.write(file, components.components)
    text = file.read_text()

    assert read_vocabulary(file, "abc", len(suggested.names)) == suggested
    file.write_text(text.replace(f'"{suggested.names[0]}"', '"gold disc"'))
    assert read_vocabulary(file, "abc", len(suggested.names)).names[0] == "gold disc"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('"abc"', '"other"', "other images"),
        ("0 = ", "77 = ", "numbers 0 to"),
        ('0 = "', '0 = "_', "names.0"),
        ("[names]", "[names", "cannot be read"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    tmp_path: Path, components: Components, old: str, new: str, word: str
) -> None:
    file = tmp_path / "vocabulary.toml"
    suggest("abc", components.components).write(file, components.components)
    file.write_text(file.read_text().replace(old, new, 1))

    with pytest.raises(DataError, match=word) as caught:
        read_vocabulary(file, "abc", len(components.components))
    assert str(file) in str(caught.value)
