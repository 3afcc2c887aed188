"""What the rest of the project knows of this package; pure data."""

from __future__ import annotations

from ssvideo_core.methods import Method, PublishedWeights

_LICENCE = "not stated"
_ADDRESS = "https://storage.googleapis.com/dm-jaxline/brave/"

METHOD = Method(
    name="brave",
    title="BraVe (broaden your views)",
    arxiv=("2103.16559",),
    framework="jax",
    encoder="brave.encoders:load_encoder",
    convert="brave.checkpoints:convert",
    backbones={"rgb": "TSM-ResNet-50", "sound": "ResNet-50", "flow": "TSM-ResNet-50"},
    protocols={"brave-svm": "brave.evaluate_video_embeddings"},
    commands={"convert-data": "brave.convert_training_data"},
    version="0.1.0",
    weights=(
        PublishedWeights(
            name="va-f-1x",
            address=_ADDRESS + "29557527_2_0.npy",
            file="29557527_2_0.npy",
            licence=_LICENCE,
            modalities=("rgb", "sound"),
            architecture={"width": 1},
            note="V/AF: the broad view is sound and optical flow",
        ),
        PublishedWeights(
            name="va-f-2x",
            address=_ADDRESS + "29509415_1_0.npy",
            file="29509415_1_0.npy",
            licence=_LICENCE,
            modalities=("rgb", "sound"),
            architecture={"width": 2},
            note="V/AF: the broad view is sound and optical flow; twice the channels",
        ),
        PublishedWeights(
            name="va-1x",
            address=_ADDRESS + "29466668_1_0.npy",
            file="29466668_1_0.npy",
            licence=_LICENCE,
            modalities=("rgb", "sound"),
            architecture={"width": 1},
            note="V/A: the broad view is sound",
        ),
        PublishedWeights(
            name="vvvv-1x",
            address=_ADDRESS + "29332798_5_0.npy",
            file="29332798_5_0.npy",
            licence=_LICENCE,
            architecture={"width": 1},
            note="V/VVV: three broad views of pictures",
        ),
    ),
)
