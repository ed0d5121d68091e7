from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from models.data import DataError
from models.method import ABLATION, NAMED, REPORT, Method, load_method


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def test_a_recipe_switches_what_it_names_and_leaves_the_rest(recipe: Path) -> None:
    recipe.write_text('[training]\nteacher = "mine.safetensors"\nmargin = 1\nheads = ["global"]\nseparation = false\n')
    expected = Method(teacher=str(recipe.parent / "mine.safetensors"), margin=1.0, heads=("global",), separation=False)
    assert load_method(recipe) == expected


def test_a_recipe_without_a_training_table_is_the_default(recipe: Path) -> None:
    recipe.write_text("")
    assert load_method(recipe) == Method()


def test_without_a_student_there_must_be_a_map_to_show(recipe: Path) -> None:
    recipe.write_text('[training]\nstudent = "never"\n')
    assert load_method(recipe) == Method(student="never")
    recipe.write_text('[training]\nstudent = "never"\nheads = ["global"]\n')
    with pytest.raises(DataError, match=r"recipe\.toml: training\.heads: without a student it is patch that shows"):
        load_method(recipe)


def test_an_unknown_key_is_named_with_its_file_and_a_suggestion(recipe: Path) -> None:
    recipe.write_text("[training]\nmomentun = 0.9\n")
    with pytest.raises(
        DataError, match=r"recipe\.toml: training\.momentun is not a known key: did you mean momentum\?"
    ):
        load_method(recipe)


def test_a_key_like_no_other_is_answered_with_those_that_are_known(recipe: Path) -> None:
    recipe.write_text("[training]\nzzz = 0.9\n")
    with pytest.raises(DataError, match=r"training\.zzz .*known are teacher, .*heads"):
        load_method(recipe)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('margin = "wide"', "margin"),
        ("separation = 3", "separation"),
        ('heads = ["global", "gobal"]', r"heads\.1"),
        ('norm_order = "both"', "norm_order"),
        ("teacher = 1", "teacher"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_file_and_key(recipe: Path, line: str, key: str) -> None:
    recipe.write_text(f"[training]\n{line}\n")
    with pytest.raises(DataError, match=rf"recipe\.toml: training\.{key}: .*got"):
        load_method(recipe)


@pytest.mark.parametrize(
    "line",
    [
        *("margin = 5.0", "quantile = 1.5", "dropout = -1.0", "momentum = 2.0", "momentum = -0.1"),
        *("learning_rate = -1.0", "weight = -1.0", "weight_decay = -1.0", "margin = nan"),
    ],
)
def test_a_number_out_of_its_range_is_refused(recipe: Path, line: str) -> None:
    recipe.write_text(f"[training]\n{line}\n")
    with pytest.raises(DataError, match=rf"recipe\.toml: training\.{line.partition(' ')[0]}"):
        load_method(recipe)


@pytest.mark.parametrize(
    "text",
    [
        "[training",
        "training = 3\n",
        "\x00",
    ],
)
def test_what_is_no_recipe_is_named(recipe: Path, text: str) -> None:
    recipe.write_text(text)
    with pytest.raises(DataError, match=r"recipe\.toml"):
        load_method(recipe)


def test_a_missing_recipe_is_named(recipe: Path) -> None:
    with pytest.raises(DataError, match=r"recipe\.toml cannot be read"):
        load_method(recipe)


def test_each_row_of_the_ablation_adds_one_element_to_the_one_before() -> None:
    added = [
        {field.name for field in fields(Method) if getattr(before, field.name) != getattr(after, field.name)}
        for before, after in pairwise(ABLATION.values())
    ]
    assert added == [{"instance_norm"}, {"sigmoid"}, {"separation"}, {"momentum"}]


def test_the_margins_of_the_report_differ_in_their_margin_only() -> None:
    assert {NAMED[f"dfsc-m{margin}"].margin for margin in ("0", "0.2", "1", "2")} == {0, 0.2, 1, 2}
    assert NAMED["dfsc"] == REPORT
