from __future__ import annotations

from pathlib import Path

import pytest
from ssvideo_core.errors import ConfigError
from ssvideo_core.recipes import find_recipe, load_recipes

GOOD = """
about = "two clips each"
command = "{command}"
[flags]
"--videos" = "{{data}}"
"--sizes" = [1, 2]
"--out" = "{{out}}/features"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch, request) -> str:
    name = f"recipes_of_{request.node.name.partition('[')[0]}"
    folder = tmp_path / name / "recipes"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "small.toml").write_text(GOOD.format(command="extract"))
    (folder / "large.toml").write_text(GOOD.format(command="main_gdt"))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_names_are_sorted(package: str) -> None:
    assert list(load_recipes(package)) == ["large", "small"]


def test_command_line_is_what_a_user_types(package: str) -> None:
    shown = find_recipe(package, "small").command_line(package)
    assert shown == f"python -m {package} extract --videos DATA --sizes 1 2 --out OUT/features"
    shown = find_recipe(package, "large").command_line(package, data="my videos")
    assert shown.startswith(f"python -m {package}.main_gdt --videos 'my videos'")


def test_needs(package: str) -> None:
    recipe = find_recipe(package, "small")
    assert recipe.needs("{data}")
    assert not recipe.needs("{weights}")


def test_unknown_recipe_lists_the_others(package: str) -> None:
    with pytest.raises(ConfigError, match="no recipe 'huge'; it has: large, small"):
        find_recipe(package, "huge")


def test_a_package_without_recipes() -> None:
    assert load_recipes("ssvideo_core") == {}


@pytest.mark.parametrize("text", ["about = ", 'about = "x"', 'about="x"\ncommand="y"\nflags=3'])
def test_a_damaged_recipe_is_named(package: str, tmp_path: Path, text: str) -> None:
    (tmp_path / package / "recipes" / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.toml is not a recipe"):
        load_recipes(package)
