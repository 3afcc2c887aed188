"""What the original's README states for its published files; a table in this package's README.

Top-1 accuracy in percent of a linear SVM (C = 0.0001) on frozen features. The splits behind the
numbers of UCF101 are not stated.
"""

from __future__ import annotations

from collections.abc import Mapping

# The settings behind them, by flag: C, the clips, how many of each training video.
SETTINGS: Mapping[str, float] = {
    "svm_regularization": 1e-4,
    "num_video_frames": 32,
    "video_step": 2,
    "image_size": 224,
    "train_epochs": 10,
}
MEAN, NOT_STATED = "mean", "not stated"
SPLITS = ("1", "2", "3")
_HMDB51_SPLITS = (MEAN, *SPLITS)
_HMDB51 = {
    "va-f-1x": (69.2, 71.307, 68.497, 67.843),
    "va-f-2x": (69.9, 72.157, 68.432, 69.020),
    "va-1x": (69.4, 70.131, 68.889, 69.085),
    "vvvv-1x": (65.4, 66.797, 63.856, 65.425),
}
_UCF101 = {"va-f-1x": 92.9, "va-f-2x": 93.2, "va-1x": 93.0, "vvvv-1x": 92.6}


def published_top1(weights: str, dataset: str) -> Mapping[str, float]:
    """Percent by split: "1", "2", "3" and "mean" of hmdb51, "not stated" of ucf101.

    weights: a published name. Nothing for other weights and data sets.
    """
    if dataset == "hmdb51" and weights in _HMDB51:
        return dict(zip(_HMDB51_SPLITS, _HMDB51[weights], strict=True))
    if dataset == "ucf101" and weights in _UCF101:
        return {NOT_STATED: _UCF101[weights]}
    return {}
