from __future__ import annotations

import logging
from pathlib import Path

import pytest
from brave.config_files import PACKAGED, find_config, load_config
from ssvideo_core.errors import ConfigError

import brave


def test_the_packaged_file_stands_in_wherever_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("brave/config.py")) == PACKAGED
    monkeypatch.chdir(Path(brave.__file__).parent.parent)
    assert find_config(Path("brave/config.py")) == PACKAGED
    monkeypatch.chdir(tmp_path)
    own = Path("brave/config.py")
    own.parent.mkdir()
    own.write_text("")
    assert find_config(own) == own
    with pytest.raises(ConfigError, match=r"other\.py: there is no such file"):
        find_config(Path("other.py"))


def test_every_key_of_the_released_configuration_has_its_value() -> None:
    config = load_config(PACKAGED)
    released = {
        "training_steps": 300_000,
        "log_tensors_interval": 60,
        "save_checkpoint_interval": 600,
        "train_checkpoint_all_hosts": False,
        "best_model_eval_metric": "multiple_of_saving_period",
        "experiment.global_batch_size": 512,
        "experiment.eval_modes": ("eval",),
        "model.include_video_in_broad_view": False,
        "model.include_audio_in_broad_view": True,
        "model.num_frames_narrow": 16,
        "model.step_narrow": 2,
        "model.image_size_narrow": 224,
        "model.num_frames_broad": 64,
        "model.step_broad": 4,
        "model.image_size_broad": 112,
        "model.output_dims": 128,
        "model.tsm_resnet_width_multiplier": 1,
        "model.num_spectrogram_bins": 80,
        "model.fft_step": 160,
        "model.input_audio_sample_rate": 48_000,
        "model.input_video_sample_rate": 25.0,
        "model.dataset_shards": (),
        "optimizer.weight_decay": 1e-2,
        "optimizer.schedule.peak_value": 1.0,
        "optimizer.schedule.warmup_steps": 5000,
    }
    assert {key: config[key] for key in released} == released
    assert config["checkpoint_dir"].endswith("jaxline/brave")


def test_values_are_read_by_the_type_of_their_key() -> None:
    words = [
        *("--config.model.include_video_in_broad_view", "--config.model.remat=no"),
        *("--config.model.dataset_shards=/a/*,/b/*", "--config.model.output_dims", "4"),
        "--config.optimizer.weight_decay=1",
        "--config.model.tsm_resnet_width_multiplier=0.25",
        "--config.optimizer.rate_rules=[['.*', 2]]",
        "--config.optimizer.masks=released",
    ]
    config = load_config(PACKAGED, words)
    assert config["model.include_video_in_broad_view"] is True
    assert config["model.remat"] is False
    assert config["model.dataset_shards"] == ("/a/*", "/b/*")
    assert config["model.output_dims"] == 4
    assert type(config["optimizer.weight_decay"]) is float
    assert config["model.tsm_resnet_width_multiplier"] == 0.25
    assert config["optimizer.rate_rules"] == ((".*", 2),)
    assert config["optimizer.masks"] == "released"
    assert load_config(PACKAGED, ["--config.model.dataset_shards="])["model.dataset_shards"] == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.model.outputs_dim=4"], "no such key; similar ones are model.output_dims"),
        (["--config.global_batch_size=4"], "similar ones are experiment.global_batch_size"),
        (["--config.model.output_dims=4.5"], "output_dims=4.5: expected a whole number"),
        (["--config.model.remat=maybe"], "remat=maybe: expected yes or no"),
        (["--config.optimizer.rate_rules=((1,"], "expected a list"),
        (["--config.model.broad_views=(5)"], r"broad_views=\(5\): expected a list"),
        (["--config.model.broad_views=([{[]: 1}])"], "expected a list"),
        (["--config.model.output_dims"], "a value is missing, such as .*output_dims=128"),
        (["--confg.model.remat=yes"], "'--confg.model.remat=yes' is no flag"),
        (["stray"], "'stray' is no flag"),
    ],
)
def test_a_wrong_word_is_refused_with_advice(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(PACKAGED, words)


def test_a_file_changes_what_it_names_and_flags_win(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict({'training_steps': 7, 'model': {'output_dims': 9,\n"
        "        'dataset_shards': ['a', 'b'], 'input_video_sample_rate': 16},\n"
        "        'optimizer': {'schedule': {'boundaries_and_scales': {10: 0.5}}}})\n"
    )
    with caplog.at_level(logging.INFO):
        config = load_config(path, ["--config.training_steps=8"])
    assert f"executing the configuration {path}" in caplog.text
    assert config["training_steps"] == 8
    assert config["model.output_dims"] == 9
    assert config["model.dataset_shards"] == ("a", "b")
    assert type(config["model.input_video_sample_rate"]) is float
    assert config["model.fft_step"] == 160


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(): return {'model': {'output_dim': 1}}", "model.output_dim: there is no"),
        ("def get_config(): return {'training_steps': 'many'}", "training_steps is 'many'"),
        ("def get_config(): return 5", "returned a int"),
        ("def get_config(): return 1 / 0", "executing it failed .ZeroDivisionError"),
        ("config = {}", "executing it failed .KeyError"),
        ("import", "executing it failed .SyntaxError"),
    ],
)
def test_a_wrong_file_is_a_users_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
