"""The recipes: their flags are read by the commands they name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from brave.config import EvaluateVideoEmbeddings
from brave.config_files import find_config, load_config
from brave.download_config import DownloadHMDB
from brave.experiment_settings import settings_of
from brave.published_numbers import published_top1
from ssvideo_core.config import parse
from ssvideo_core.recipes import Recipe, load_recipes

RECIPES = load_recipes("brave")
TRAININGS = {
    "v-a": ["audio"],
    "v-v": ["video"],
    "v-va": ["video", "audio"],
    "v-af": ["audio", "flow"],
    "v-vvv": ["video", "video_2", "video_3"],
}
EVALUATIONS = [name for name in RECIPES if name.startswith("eval-")]


def words_of(name: str) -> list[str]:
    return RECIPES[name].arguments(data="DATA", out="OUT")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_flags_are_those_of_the_command(recipe: Recipe) -> None:
    if recipe.command == "extract":
        return  # a subcommand, which test_commands runs
    main: Any = importlib.import_module(f"brave.{recipe.command}").main
    try:
        code = main([*recipe.arguments(data="DATA", out="OUT"), "--check-only"])
    except SystemExit as ended:
        code = ended.code
    assert code == 0


def test_each_row_of_the_table_has_recipes() -> None:
    expected = {
        f"eval-{weights}-{dataset}"
        for weights in ("va-f-1x", "va-f-2x", "va-1x", "vvvv-1x")
        for dataset in ("hmdb51", "ucf101")
    }
    assert set(EVALUATIONS) == expected


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_is_that_of_its_row(name: str) -> None:
    config = parse(EvaluateVideoEmbeddings, words_of(name), prog="test")
    assert name == f"eval-{config.checkpoint_path}-{config.dataset}"
    assert published_top1(config.checkpoint_path, config.dataset)
    assert (config.svm_regularization, config.batch_size) == (1e-4, 8)
    assert (config.num_video_frames, config.video_step, config.image_size) == (32, 2, 224)
    splits = config.each_split()
    assert [one.split for one in splits] == ["1", "2", "3"]
    assert splits[2].train_dataset_shards == ("DATA/split_3/train/*",)
    assert splits[2].test_dataset_shards == ("DATA/split_3/test/*",)
    assert config.out == Path("OUT")


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("views", TRAININGS)
def test_a_training_is_that_of_its_views(views: str, width: int) -> None:
    words = words_of(f"train-{views}-{width}x")
    overrides = dict(zip(words[::2], words[1::2], strict=True))
    path, out = (overrides.pop(flag) for flag in ("--config", "--out"))
    pairs = [f"{key}={value}" for key, value in overrides.items()]
    settings = settings_of(load_config(find_config(Path(path)), pairs))
    assert [view.name for view in settings.broad] == TRAININGS[views]
    assert out == "OUT" and settings["model.dataset_shards"] == ("DATA/*",)
    assert (settings["training_steps"], settings["experiment.global_batch_size"]) == (300_000, 512)
    pictures = [view for view in settings.views if view.modality != "sound"]
    assert {view.width for view in pictures} == {width}
    # One pair of heads takes features of one size only.
    one_size = len({view.feature_size for view in settings.views}) == 1
    assert settings["model.separate_heads"] is not one_size
    assert "--config.model.narrow_placement" not in overrides
    video = "video" in TRAININGS[views]
    assert settings.placement == ("random" if video else "start")


def test_shards_are_where_evaluations_look_for_them() -> None:
    config = parse(DownloadHMDB, words_of("hmdb51-shards"), prog="test")
    assert (config.output_dir, config.videos_dir) == (Path("OUT"), Path("DATA"))
