"""The flags of the subcommands every method has, and how their words are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssvideo_core.config import option


def read_grid(text: str) -> tuple[int, int]:
    """ "10x3" to (10, 3): clips over time, crops over space."""
    temporal, _, spatial = text.partition("x")
    if not (temporal.isdecimal() and spatial.isdecimal() and int(temporal) and int(spatial)):
        raise ValueError(f"'{text}' is not of the form 10x3 (clips over time x crops)")
    return int(temporal), int(spatial)


def read_count(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise ValueError(f"'{text}' is not a whole number from 0")
    return int(text)


def read_seed(text: str) -> int:
    """A whole number that every framework takes as a seed: 0 to 2**32 - 1."""
    seed = read_count(text)
    if seed >= 2**32:
        raise ValueError(f"'{text}' is not a seed from 0 to {2**32 - 1}")
    return seed


def read_shard(text: str) -> tuple[int, int]:
    """ "0/4" to (0, 4): this process and the number of processes."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"'{text}' is not of the form 0/4 (this process / processes)")
    return int(index), int(count)


def read_options(text: str) -> dict[str, Any]:
    """ "width=0.25,use_mlp=false" to a dictionary; values are JSON, or text."""
    options: dict[str, Any] = {}
    for item in text.split(","):
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise ValueError(f"'{item}' is not of the form name=value")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


@dataclass(frozen=True)
class Extract:
    """Features of a folder or a list of videos.

    Given again after an interruption, the same command keeps the finished blocks of 256 videos.
    """

    weights: str = option(help="published name, file, folder of a run, or 'random'")
    videos: Path = option(help="folder of videos, or CSV with a column 'video'")
    out: Path = option(help="folder for the features", operational=True)
    modality: str = option("rgb", help="which encoder", choices=("rgb", "flow", "sound"))
    views: tuple[int, int] = option(
        (10, 3), help="clips x crops", read=read_grid, metavar="TxS", shown="10x3"
    )
    frames: int | None = option(None, help="frames per clip instead of the encoder's own")
    size: int | None = option(None, help="pixels per side instead of the encoder's own")
    architecture: dict[str, Any] | None = option(
        None, help="options of the network, for weights that do not tell", read=read_options
    )
    output: str = option("embedding", help="embedding, projection, logits or a layer's name")
    keep: str = option("video", help="store one row a video or a view", choices=("video", "views"))
    on_bad: str = option("skip", help="a video that cannot be read", choices=("skip", "raise"))
    seed: int = option(0, help="of random weights", read=read_seed)
    device: str = option("cpu", help="where the network runs", operational=True)
    batch_size: int = option(8, help="clips per step")
    workers: int = option(0, help="processes that decode", read=read_count, operational=True)
    shard: tuple[int, int] = option(
        (0, 1),
        help="this process / processes",
        read=read_shard,
        metavar="I/N",
        shown="0/1",
        operational=True,
    )
    download: bool = option(False, help="fetch published weights if absent", operational=True)


@dataclass(frozen=True)
class Evaluate:
    """Numbers from features: one Result per split and metric, printed and appended to a file."""

    protocol: str = option(help="common-svm, common-retrieval, or one of the method's own")
    features: Path = option(help="folder that `extract` made")
    dataset: str = option("", help="hmdb51, ucf101 (their splits are built in) or your own name")
    splits: tuple[str, ...] = option((), help="names of splits; all if absent", metavar="NAME")
    split_files: Path | None = option(None, help="CSV or folder with your own splits")
    out: Path | None = option(None, help="JSON lines to append to", operational=True)


@dataclass(frozen=True)
class CheckData:
    """Compare a data set on disk with what it should be; exit 2 at a mismatch."""

    videos: Path = option(help="root folder or CSV")
    dataset: str = option(
        "", help="whose official lists to compare with", choices=("", "hmdb51", "ucf101")
    )
    decode: bool = option(True, help="open every video")
    workers: int = option(0, help="processes that decode", operational=True)


@dataclass(frozen=True)
class Convert:
    """Between a published file and our safetensors; the direction is the target's ending."""

    weights: str = option(help="published name, file or folder of a run")
    out: Path = option(
        help="FILE.safetensors, or a name with the ending of the published files",
        metavar="FILE",
    )
    architecture: dict[str, Any] | None = option(
        None, help="options of the network, for weights that do not tell", read=read_options
    )
    download: bool = option(False, help="fetch published weights if absent", operational=True)


@dataclass(frozen=True)
class RunRecipe:
    """Run a recipe on your data. Flags after `--` are added to the recipe's, and win."""

    data: str = option("", help="what the recipe's {data} stands for")
    out: Path | None = option(None, help="its folder (default: runs/RECIPE-DIGEST)")
