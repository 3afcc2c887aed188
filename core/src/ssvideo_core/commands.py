"""The subcommands every method has, built from its `Method`: `python -m NAME <subcommand>`.

Flags are read before anything heavy is imported, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssvideo_core import config as configs
from ssvideo_core import runs
from ssvideo_core.command_flags import CheckData, Convert, Evaluate, Extract, RunRecipe
from ssvideo_core.errors import EXIT_OK, EXIT_USER, ConfigError, exit_code
from ssvideo_core.methods import Method, PublishedWeights, resolve
from ssvideo_core.recipes import (
    DATA,
    OUT,
    Recipe,
    find_recipe,
    load_recipes,
    module_and_arguments,
)
from ssvideo_core.views import ClipSpec, Samples, check_clip


@dataclass(frozen=True)
class RecordedRecipe:
    """What a run folder remembers of a recipe; `{out}` stays open, so a folder may be moved."""

    recipe: str
    arguments: tuple[str, ...]


def main(method: Method, argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code. User errors print one message and return 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    commands = _commands()
    if not words or words[0] in ("-h", "--help"):
        print(_usage(method, commands))
        return EXIT_OK if words else EXIT_USER
    if words[0] in method.commands:
        return int(resolve(f"{method.commands[words[0]]}:main")(words[1:]) or EXIT_OK)
    if words[0] not in commands:
        known = ", ".join([*commands, *method.commands])
        print(f"{method.name}: no command '{words[0]}'; there is {known}", file=sys.stderr)
        return EXIT_USER
    command = commands[words[0]]
    return exit_code(f"{method.name} {words[0]}", lambda: command(method, words[1:]))


Command = Callable[[Method, Sequence[str]], int]


def _commands() -> Mapping[str, Command]:
    return {
        "describe": describe,
        "extract": extract,
        "evaluate": evaluate,
        "recipes": recipes,
        "check-data": check_data,
        "convert": convert,
    }


def _usage(method: Method, commands: Mapping[str, Command]) -> str:
    rows = [
        f"  {name:<12}{(function.__doc__ or '').splitlines()[0]}"
        for name, function in commands.items()
    ]
    rows += [f"  {name:<12}python -m {module}" for name, module in method.commands.items()]
    start = f"usage: python -m {method.name} COMMAND [--help]\n\n{method.title}\n"
    return "\n".join([start, *rows])


def describe(method: Method, argv: Sequence[str]) -> int:
    """What this method is: weights with their licences, protocols, recipes."""
    parser = configs.make_parser(f"{method.name} describe", describe.__doc__ or "")
    parser.add_argument("--json", action="store_true", help="for other programs")
    flags = parser.parse_args(argv)
    if flags.check_only:
        return EXIT_OK
    record = {**method.describe(), "recipes": list(load_recipes(method.name))}
    if flags.json:
        print(json.dumps(record, indent=1))
        return EXIT_OK
    print(f"{method.title}\narXiv {', '.join(method.arxiv)}; {method.framework}")
    for weights in method.weights:
        print(f"weights {weights.name}: {weights.address} (licence: {weights.licence})")
    print(f"own protocols: {', '.join(method.protocols) or 'none'}")
    print(f"recipes: {', '.join(record['recipes']) or 'none'}")
    return EXIT_OK


def extract(method: Method, argv: Sequence[str]) -> int:
    """Features of a folder or a list of videos."""
    config = configs.parse(Extract, argv, prog=f"{method.name} extract")
    from ssvideo_core import extract as extraction
    from ssvideo_core.progress import ProgressLines
    from ssvideo_core.source import open_source
    from ssvideo_core.video_index import VideoIndex, default_index_path

    print(f"features: {config.out}")
    published = _published(method, config.weights)
    if published is not None:
        print(f"{published.name}: licence of these weights: {published.licence}")
    source = open_source(config.videos, index=VideoIndex(default_index_path()))
    for notice in source.notices:
        print(notice)
    encoder = method.load_encoder(
        config.weights,
        modality=config.modality,
        architecture=config.architecture,
        output=config.output,
        device=config.device,
        seed=config.seed,
        download=config.download,
    )
    encoder.clip = override_clip(encoder.clip, frames=config.frames, size=config.size)
    temporal, spatial = config.views
    features = extraction.extract(
        encoder,
        source,
        config.out,
        request=_request(method, config),
        temporal=temporal,
        spatial=spatial,
        keep=config.keep,
        kind="scores" if config.output == "logits" else "features",
        batch_size=config.batch_size,
        workers=config.workers,
        on_bad=config.on_bad,
        shard=config.shard,
        progress=ProgressLines(),
    )
    if features is None:
        print(f"{config.out}: this process is done, others still have blocks to write")
        return EXIT_OK
    info = features.info
    done = info.videos - info.bad - info.no_sound
    silent = f", {info.no_sound} without sound" if info.no_sound else ""
    listed = f" ({config.out / 'failures.csv'})" if info.bad else ""
    print(f"{config.out}: {done} of {info.videos} videos, {info.bad} failed{listed}{silent}")
    return EXIT_OK


def _request(method: Method, config: Extract) -> dict[str, Any]:
    return {
        "method": method.name,
        "weights": config.weights,
        "backbone": method.backbones.get(config.modality, ""),
        "version": method.version,
        "architecture": config.architecture or {},
        "output": config.output,
        "seed": config.seed,
    }


def _published(method: Method, weights: str) -> PublishedWeights | None:
    return next((record for record in method.weights if record.name == weights), None)


def override_clip(clip: ClipSpec, *, frames: int | None, size: int | None) -> ClipSpec:
    """`clip` with another number of frames or another side length in pixels.

    Raises ConfigError where a clip of sound has neither.
    """
    if frames is not None:
        if isinstance(clip.time, Samples):
            raise ConfigError("--frames: a clip of sound has samples, not frames")
        clip = replace(clip, time=replace(clip.time, num_frames=frames))
    if size is not None:
        if clip.pixels is None:
            raise ConfigError("--size: a clip of sound has no pixels")
        clip = replace(clip, pixels=replace(clip.pixels, size=size))
    check_clip(clip)
    return clip


def evaluate(method: Method, argv: Sequence[str]) -> int:
    """Results of a protocol from extracted features."""
    own = method.protocols.get(_protocol_name(argv))
    if own is not None:
        return int(resolve(f"{own}:main")(argv) or EXIT_OK)
    config = configs.parse(Evaluate, argv, prog=f"{method.name} evaluate")
    from ssvideo_core import protocols
    from ssvideo_core.datasets.splits import find_splits
    from ssvideo_core.features import open_features
    from ssvideo_core.results import append_results

    protocols.parse_protocol(config.protocol)
    if config.out is not None:
        append_results(config.out, [])  # a path that cannot be written is found before the work
    if not config.dataset and config.split_files is None:
        raise ConfigError("which splits? Give --dataset hmdb51 or ucf101, or --split-files")
    features = open_features(config.features)
    splits = find_splits(config.dataset, names=config.splits, files=config.split_files)
    for split in splits:
        results = protocols.evaluate(config.protocol, features, split)
        for result in results:
            print(result.describe())
        if config.out is not None:
            append_results(config.out, results)
    return EXIT_OK


def _protocol_name(argv: Sequence[str]) -> str:
    """The value of --protocol, read early: a method's own protocol has flags of its own."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--protocol", default="")
    return str(parser.parse_known_args(argv)[0].protocol)


def recipes(method: Method, argv: Sequence[str]) -> int:
    """Ready-made command lines: list, show NAME, run NAME."""
    words = list(argv)
    if words[:1] in (["-h"], ["--help"]):
        print(f"usage: {method.name} recipes [list | show NAME | run NAME --help]")
        return EXIT_OK
    if words in ([], ["list"]):
        for recipe in load_recipes(method.name).values():
            print(f"{recipe.name:<24}{recipe.about}")
        return EXIT_OK
    if words[:1] == ["run"] and words[1:2] in (["-h"], ["--help"]):
        configs.parse(RunRecipe, ["--help"], prog=f"{method.name} recipes run NAME")
    if words[0] not in ("show", "run") or len(words) < 2 or (words[0] == "show" and words[2:]):
        raise ConfigError("say 'recipes list', 'recipes show NAME' or 'recipes run NAME'")
    recipe = find_recipe(method.name, words[1])
    if words[0] == "show":
        print(recipe.command_line(method.name))
        return EXIT_OK
    end = words.index("--") if "--" in words else len(words)
    own, further = words[2:end], words[end + 1 :]
    config = configs.parse(RunRecipe, own, prog=f"{method.name} recipes run {recipe.name}")
    return _run_recipe(method, recipe, config, further)


def _run_recipe(method: Method, recipe: Recipe, config: RunRecipe, further: list[str]) -> int:
    if recipe.needs(DATA) and not config.data:
        raise ConfigError(f"recipe '{recipe.name}' needs --data")
    record = RecordedRecipe(recipe.name, (*recipe.arguments(data=config.data, out=OUT), *further))
    out = config.out or runs.run_folder(Path("runs"), recipe.name, record)
    words = module_and_arguments(method.name, recipe.command)
    arguments = [word.replace(OUT, str(out)) for word in record.arguments]
    if recipe.command not in _commands():  # a program of its own, which records its run itself
        return int(resolve(f"{method.name}.{recipe.command}:main")(arguments) or EXIT_OK)
    print(f"run: {out}")
    runs.start_run(out, record, ["python", "-m", *words, *arguments])
    return _commands()[recipe.command](method, arguments)


def check_data(method: Method, argv: Sequence[str]) -> int:
    """Compare a data set on disk with what it should be."""
    return run_check_data(argv, prog=f"{method.name} check-data")


def run_check_data(argv: Sequence[str], *, prog: str) -> int:
    """`check-data` without a method."""
    config = configs.parse(CheckData, argv, prog=prog)
    from ssvideo_core.datasets.check import check_data as check

    report = check(
        config.dataset or None, config.videos, decode=config.decode, workers=config.workers
    )
    print(report)
    return EXIT_OK if report.ok else EXIT_USER


def convert(method: Method, argv: Sequence[str]) -> int:
    """Write weights in another format, with what is needed to load them again."""
    config = configs.parse(Convert, argv, prog=f"{method.name} convert")
    if not method.convert:
        raise ConfigError(f"{method.name} has no weights to convert")
    if config.download and _published(method, config.weights) is not None:
        from ssvideo_core.weights import locate

        locate(config.weights, method.weights, method=method.name, download=True)
    resolve(method.convert)(config.weights, config.out, config.architecture)
    print(config.out)
    return EXIT_OK
