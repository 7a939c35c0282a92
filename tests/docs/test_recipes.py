"""Each recipe trains, shrunk, and says how it is used."""

import random
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tinyslm.core.config import load_config
from tinyslm.planning.train import train
from tinyslm.training.config import RunConfig

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
SHRUNK = {
    "model": {"dim": 64, "depth": 1, "context": 32},
    "tokenizer": {"vocab_size": 320},
    "train": {"steps": 2, "batch": 2, "device": "cpu"},
}


def test_there_are_recipes():
    assert {"tiny", "shakespeare-characters", "stories", "python-code"} <= {recipe.stem for recipe in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_recipe_trains(recipe, tmp_path):
    config = load_config(RunConfig, recipe, SHRUNK)
    result = train([write_text(tmp_path / "texts")], tmp_path / "run", settings=config)
    assert result["bits_per_byte"] > 0
    assert (tmp_path / "run/model/model.safetensors").is_file()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_recipe_says_how_it_is_used(recipe):
    assert f"--config recipes/{recipe.name}" in recipe.read_text(encoding="utf-8")


def test_the_wheel_has_the_recipes():
    wheel = WheelBuilder(str(ROOT))
    shipped = {file.distribution_path for file in wheel.recurse_included_files()}
    recipes = [path for path in (ROOT / "recipes").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {f"tinyslm/recipes/{path.relative_to(ROOT / 'recipes').as_posix()}" for path in recipes} <= shipped
    assert {
        "tinyslm/serving/page/static/index.html",
        "tinyslm/lessons/tiny.py",
        "tinyslm/lessons/article.py",
    } <= shipped
    assert all(path.startswith("tinyslm/") for path in shipped)


def write_text(folder: Path) -> Path:
    """Thirty documents of invented sentences."""
    folder.mkdir()
    dice = random.Random(0)
    words = ["".join(dice.choices("aeioulmnrst", k=dice.randint(2, 7))) for _ in range(200)]
    for number in range(30):
        sentences = (" ".join(dice.choices(words, k=8)) + "." for _ in range(20))
        (folder / f"{number}.txt").write_text("\n".join(sentences), encoding="utf-8")
    return folder
