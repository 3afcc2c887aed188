"""What the rest of the project knows of this package; pure data."""

from __future__ import annotations

from ssvideo_core.methods import Method, PublishedWeights

_LICENCE = "CC-BY-NC 4.0"
_ADDRESS = "https://dl.fbaipublicfiles.com/GDT/"

METHOD = Method(
    name="gdt_stica",
    title="GDT (generalised data transformations) and STiCA (space-time crop and attend)",
    arxiv=("2003.04298", "2103.10211"),
    framework="torch",
    encoder="gdt_stica.encoders:load_encoder",
    convert="gdt_stica.checkpoints:convert",
    backbones={"rgb": "R(2+1)D-18", "sound": "ResNet-9"},
    protocols={"audio-svm": "gdt_stica.audio_svm", "gdt-finetune": "gdt_stica.eval_video"},
    commands={"audio-svm": "gdt_stica.audio_svm"},
    version="0.1.0",
    weights=(
        PublishedWeights(
            name="gdt_K400",
            address=_ADDRESS + "gdt_K400.pth",
            file="gdt_K400.pth",
            licence=_LICENCE,
            modalities=("rgb", "sound"),
            architecture={"model": "av_gdt", "vid_base_arch": "r2plus1d_18"},
            note="Kinetics-400, video and sound",
        ),
        PublishedWeights(
            name="gdt_HT100M",
            address=_ADDRESS + "gdt_HT100M.pth",
            file="gdt_HT100M.pth",
            licence=_LICENCE,
            modalities=("rgb",),
            architecture={"model": "vid_text_gdt", "vid_base_arch": "r2plus1d_18"},
            note="HowTo100M, video and text; pixels are divided by 255 and not standardised",
        ),
        PublishedWeights(
            name="gdt_IG65M",
            address=_ADDRESS + "gdt_IG65M.pth",
            file="gdt_IG65M.pth",
            licence=_LICENCE,
            modalities=("rgb", "sound"),
            architecture={"model": "av_gdt", "vid_base_arch": "r2plus1d_18"},
            note="Instagram-65M, video and sound",
        ),
    ),
)
