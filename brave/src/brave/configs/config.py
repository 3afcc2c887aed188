"""The configuration that `--config=brave/config.py` means where no such file lies.

Copy it to change it for good; `--config.KEY=VALUE` changes single values. A file of your own needs
a function `get_config` and may leave keys out: they keep the values of this one. Keys that the
released configuration does not have are marked (ours).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ml_collections import ConfigDict  # type: ignore[import-untyped]


def get_config() -> ConfigDict:
    """All keys; a value's type is the type that the key takes."""
    config = ConfigDict()
    config.training_steps = 300_000
    config.random_seed = 42  # of weights, order and draws
    config.fidelity = "default"  # (ours) default, released or fixed: brave/quirks.py

    config.checkpoint_dir = str(Path(tempfile.gettempdir(), "jaxline", "brave"))  # the run's folder
    config.save_checkpoint_interval = 600  # seconds
    config.checkpoint_steps = 0  # (ours) besides, every n steps
    config.keep_checkpoint_steps = 50_000  # (ours) those of its multiples stay
    config.log_steps = 10  # (ours) steps between lines of metrics.jsonl
    # Without effect: lines come every log_steps steps, so that a resumed run has the same ones; one
    # process writes what all share; what best_model_eval_metric is for, keep_checkpoint_steps does.
    config.log_tensors_interval = 60
    config.train_checkpoint_all_hosts = False
    config.best_model_eval_metric = "multiple_of_saving_period"

    config.experiment = _experiment()
    config.model = _model()
    config.optimizer = _optimizer()
    return config


def _experiment() -> ConfigDict:
    experiment = ConfigDict()
    experiment.global_batch_size = 512
    experiment.eval_modes = ("eval",)  # without effect: --jaxline_mode says it
    # (ours) The online linear probe of --jaxline_mode=eval: patterns of shards with labels, C of
    # the linear SVM, random clips of each training video, clips of a batch.
    experiment.probe_train_shards = ()
    experiment.probe_test_shards = ()
    experiment.probe_svm_regularization = 1e-4
    experiment.probe_epochs = 1
    experiment.probe_batch_size = 8
    return experiment


def _model() -> ConfigDict:
    model = ConfigDict()
    model.dataset_shards = ()  # patterns of shards, such as /data/train-*
    model.input_video_sample_rate = 25.0  # of what is stored; nothing is resampled
    model.input_audio_sample_rate = 48_000

    model.include_video_in_broad_view = False
    model.include_audio_in_broad_view = True
    # (ours) Names instead of these two, for any number of broad views: video, video_2, audio, flow.
    # A name alone takes the keys _broad below; video:64:4:112 has frames, step and size of its own,
    # audio:64:4 frames and step.
    model.broad_views = ()
    model.num_frames_narrow = 16
    model.step_narrow = 2
    model.image_size_narrow = 224
    model.num_frames_broad = 64
    model.step_broad = 4
    model.image_size_broad = 112
    model.num_spectrogram_bins = 80
    model.fft_step = 160
    # (ours) start or random; "": as fidelity says, and start when no broad view is video
    model.narrow_placement = ""

    model.output_dims = 128
    model.tsm_resnet_width_multiplier = 1.0
    model.audio_resnet_width_multiplier = 1.0  # (ours)
    model.head_hidden_size = 4096  # (ours)
    model.separate_heads = False  # (ours) a projector and a predictor for each view
    model.precision = "float32"  # (ours) of the layers: float32 or bfloat16
    model.remat = False  # (ours) less memory, more time
    return model


def _optimizer() -> ConfigDict:
    optimizer = ConfigDict()
    optimizer.name = "lars"  # or adam
    optimizer.weight_decay = 1e-2
    optimizer.momentum = 0.9
    optimizer.nesterov = True
    optimizer.trust_coefficient = 0.001
    optimizer.b1, optimizer.b2, optimizer.eps = 0.9, 0.999, 1e-8  # of adam
    optimizer.rate_rules = ((".*predictor.*", 10.0),)  # expression of names, factor of the rate
    optimizer.rate_rules_at = ""  # (ours) before_trust or after_trust; "": as fidelity says
    optimizer.masks = ""  # (ours) intended or released; "": as fidelity says

    optimizer.schedule = ConfigDict()
    optimizer.schedule.name = "warmup_cosine"  # or piecewise_constant
    optimizer.schedule.init_value = 0.0
    optimizer.schedule.peak_value = 1.0
    optimizer.schedule.end_value = 0.0
    optimizer.schedule.warmup_steps = 5000
    optimizer.schedule.total_steps = 0  # 0: training_steps
    optimizer.schedule.boundaries_and_scales = ()  # ((step, factor), …) of piecewise_constant
    return optimizer
