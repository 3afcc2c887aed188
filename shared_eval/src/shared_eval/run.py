"""`shared_eval run`: features by each method in its own process, then numbers, all alike.

RUN/features/METHOD-LABEL-MODALITY-DIGEST/   what `METHOD extract` wrote
RUN/results.jsonl                            one Result a line, appended
RUN/table.csv  table.md  report.html         made anew from everything in the folder
RUN/run.json  evaluated.jsonl                what was asked, extracted, evaluated and failed
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssvideo_core import config as configs
from ssvideo_core.config import option
from ssvideo_core.datasets.official import OFFICIAL_COUNTS
from ssvideo_core.datasets.splits import Split, find_splits
from ssvideo_core.errors import EXIT_OK, EXIT_USER, ConfigError, DataError, SSVideoError
from ssvideo_core.features import FeatureSet, clip_to_json, open_features
from ssvideo_core.protocols import Request, evaluate, parse_protocols
from ssvideo_core.results import canonical_json

from shared_eval.drive import Description, describe, run_method
from shared_eval.items import (
    RANDOM,
    Item,
    add_python,
    options_of,
    python_of,
    read_items,
    read_method_options,
    read_pythons,
    split_list,
)
from shared_eval.output import show
from shared_eval.record import (
    DESCRIBE,
    EXTRACT,
    Extracted,
    Invocation,
    Ledger,
    Problem,
    evaluation,
    write_invocation,
)


@dataclass(frozen=True)
class Run:
    """Features and numbers of several methods on one data set.

    --methods takes METHOD, METHOD@WEIGHTS or METHOD@LABEL=WEIGHTS, separated by commas:

      gdt_stica                    random weights, called untrained in the table
      gdt_stica@gdt_K400           a published name
      gdt_stica@mine=encoder.safetensors   a file or the folder of a run, with a name for the table

    What is done is not done again: the same command goes on after an interruption, and further
    methods, splits and protocols may be added to a folder.
    """

    methods: tuple[str, ...] = option(help="which methods and weights", metavar="METHOD@WEIGHTS")
    data: Path = option(help="folder of videos, or CSV with columns video,label[,split][,group]")
    out: Path = option(help="folder for features, results, tables and the page", operational=True)
    dataset: str = option("", help="hmdb51, ucf101, or your own name (default: that of the data)")
    splits: tuple[str, ...] = option(
        (), help="names of splits, or a file or folder with your own; all if absent"
    )
    split_files: Path | None = option(
        None, help="CSV or folder with your own splits (default: official ones, or the data's own)"
    )
    protocols: tuple[str, ...] = option(
        ("common-svm", "common-retrieval"),
        help="common-svm, common-retrieval; other views than 10x3 as in common-svm@2x1",
        metavar="PROTOCOL",
    )
    modality: str = option("rgb", help="which encoders", choices=("rgb", "flow", "sound"))
    frames: int | None = option(None, help="frames per clip instead of each encoder's own")
    size: int | None = option(None, help="pixels per side instead of each encoder's own")
    seed: int = option(0, help="of random weights")
    batch_size: int = option(8, help="clips per step")
    on_bad: str = option("skip", help="a video that cannot be read", choices=("skip", "raise"))
    method_options: tuple[str, ...] = option(
        (),
        help="further flags of a method's extract, as in 'gdt_stica=--architecture width=0.25'",
        metavar="METHOD=FLAGS",
    )
    device: str = option("cpu", help="where the networks run", operational=True)
    workers: int = option(0, help="processes that decode", operational=True)
    download: bool = option(False, help="fetch published weights if absent", operational=True)
    papers: str = option(
        "matching",
        help="papers' numbers on the terminal: those beside a row, also the others, or none",
        choices=("matching", "all", "none"),
        operational=True,
    )


@dataclass(frozen=True)
class Task:
    """What is the same for all methods. videos: digest of ids, labels and groups."""

    items: tuple[Item, ...]
    pythons: dict[str, Path]
    options: dict[str, tuple[str, ...]]
    data: Path
    videos: str
    splits: tuple[Split, ...]
    requests: tuple[Request, ...]

    @property
    def views(self) -> list[tuple[int, int]]:
        """The different numbers of clips and crops that the protocols need."""
        return list(dict.fromkeys(request.views for request in self.requests))


def main(argv: Sequence[str]) -> int:
    """Run everything; exit 2 when something could not be done, after doing the rest."""
    parser = configs.make_parser("shared_eval run", (Run.__doc__ or "").strip())
    configs.add_arguments(parser, Run)
    add_python(parser)
    flags = parser.parse_args(argv)
    _refuse_repeated(argv)
    if flags.check_only:
        return EXIT_OK
    config = configs.from_namespace(Run, flags)
    print(f"run: {config.out}")
    config.out.mkdir(parents=True, exist_ok=True)
    task, invocation = _prepare(config, read_pythons(flags.python), argv)
    ledger = Ledger.open(config.out)
    extracted: list[Extracted] = []
    problems: list[Problem] = []
    for outcome in _run_all(config, task, ledger):
        if isinstance(outcome, Problem):
            print(f"shared_eval run: {outcome}", file=sys.stderr)
            problems.append(outcome)
        else:
            extracted.append(outcome)
    invocation = replace(invocation, extracted=tuple(extracted), problems=tuple(problems))
    invocations = write_invocation(config.out, invocation)
    show(config.out, ledger.results, invocations, papers=config.papers)
    return EXIT_USER if problems else EXIT_OK


def _refuse_repeated(argv: Sequence[str]) -> None:
    for flag in ("--methods", "--splits", "--protocols", "--method-options"):
        if sum(word.partition("=")[0] == flag for word in argv) > 1:
            raise ConfigError(f"{flag} is given twice; give all its values after one")


def _prepare(config: Run, pythons: dict[str, Path], argv: Sequence[str]) -> tuple[Task, Invocation]:
    """Everything that can be wrong before the first video is read."""
    from ssvideo_core.source import open_source

    requests = parse_protocols(",".join(split_list(config.protocols)))
    items = read_items(config.methods)
    options = read_method_options(config.method_options)
    data = config.data.absolute()
    source = open_source(data)
    for notice in source.notices:
        print(notice, file=sys.stderr)
    entries = [source.entry(number) for number in range(len(source))]
    labels = {entry.video_id: entry.label for entry in entries}
    splits = _splits(config)
    for split in splits:
        _check_split(split, labels, data)
    rows = [[entry.video_id, entry.label, entry.group] for entry in entries]
    videos = hashlib.sha256(canonical_json(rows).encode()).hexdigest()
    task = Task(
        tuple(items), pythons, options, data, videos, tuple(splits), tuple(dict.fromkeys(requests))
    )
    invocation = Invocation(
        command=("python", "-m", "shared_eval", "run", *argv),
        data=str(config.data),
        dataset=splits[0].dataset,
        videos=len(entries),
        classes=len({label for label in labels.values() if label is not None}),
        splits={split.name: (len(split.train), len(split.test)) for split in splits},
        protocols=tuple(str(request) for request in task.requests),
    )
    return task, invocation


def _splits(config: Run) -> list[Split]:
    names, files = split_list(config.splits), config.split_files
    if files is None and len(names) == 1 and Path(names[0]).exists():
        names, files = [], Path(names[0])
    data = config.data.absolute()
    dataset = config.dataset or (data.stem if data.is_file() else data.name)
    if files is None and dataset not in OFFICIAL_COUNTS:
        files = config.data
    return find_splits(dataset, names=names, files=files)


def _check_split(split: Split, labels: dict[str, str | None], data: Path) -> None:
    wanted = [*split.train, *split.test]
    name = f"split {split.name} of {split.dataset}"
    if absent := [video for video in wanted if video not in labels]:
        raise DataError(
            f"{data} lacks {len(absent)} of the {len(wanted)} videos of {name}, first: "
            f"'{absent[0]}' (it begins with '{next(iter(labels), None)}'). Complete the data, or "
            "give the splits of these videos with --split-files"
        )
    if unlabelled := [video for video in wanted if labels[video] is None]:
        raise DataError(
            f"{data} has no label for {len(unlabelled)} videos of {name}, first: '{unlabelled[0]}'."
            " Use class folders or a CSV with a column label"
        )


def _run_all(config: Run, task: Task, ledger: Ledger) -> Iterator[Extracted | Problem]:
    for item in task.items:
        try:
            description = describe(python_of(item.method, task.pythons), item.method)
        except SSVideoError as error:
            yield Problem(str(item), DESCRIBE, str(error))
            continue
        if item.weights == RANDOM:
            print(f"{item}: random weights of seed {config.seed}, untrained", file=sys.stderr)
        for views in task.views:
            try:
                features = _extract(config, task, item, description, views)
            except SSVideoError as error:
                yield Problem(str(item), EXTRACT, str(error))
                continue
            yield _extracted(features, item, description)
            yield from _evaluate(task, item, features, ledger)


def _extract(
    config: Run, task: Task, item: Item, description: Description, views: tuple[int, int]
) -> FeatureSet:
    """The features, from the folder of an earlier run or by the method's process."""
    temporal, spatial = views
    settings = {
        "--modality": config.modality,
        "--views": f"{temporal}x{spatial}",
        "--frames": config.frames,
        "--size": config.size,
        "--seed": config.seed,
        "--batch-size": config.batch_size,
        "--on-bad": config.on_bad,
    }
    further = options_of(item, task.options)
    asked = [item.method, item.weights, item.content, settings, further]
    depends = [*asked, description.version, str(task.data), task.videos]
    digest = hashlib.sha256(canonical_json(depends).encode()).hexdigest()[:8]
    folder = config.out / "features" / f"{item.file_name}-{config.modality}-{digest}"
    if (folder / "features.json").exists():
        try:
            return open_features(folder)
        except DataError as error:  # extracting again repairs it
            print(f"{item}: {error}", file=sys.stderr)
    words = ["extract", "--weights", item.weights, "--videos", str(task.data), "--out", str(folder)]
    words += [
        word for flag, value in settings.items() if value is not None for word in (flag, str(value))
    ]
    words += ["--device", config.device, "--workers", str(config.workers)]
    words += ["--download", "yes"] if config.download else []
    run_method(python_of(item.method, task.pythons), item.method, [*words, *further])
    return open_features(folder)


def _extracted(features: FeatureSet, item: Item, description: Description) -> Extracted:
    info = features.info
    licence = description.licences.get(item.weights, "your own file" if item.content else "")
    return Extracted(
        method=item.method,
        title=description.title,
        framework=description.framework,
        arxiv=description.arxiv,
        label=item.label,
        licence=licence,
        modality=info.modality,
        views=info.views,
        clip=clip_to_json(info.clip),
        feature_size=info.feature_size,
        fingerprint=info.fingerprint,
        folder=features.folder.name,
        videos=info.videos,
        bad=info.bad,
        no_sound=info.no_sound,
        versions=info.versions,
    )


def _evaluate(task: Task, item: Item, features: FeatureSet, ledger: Ledger) -> Iterator[Problem]:
    for request in task.requests:
        if request.views != features.info.views:
            continue
        for split in task.splits:
            name = f"{request}, split {split.name}"
            done = evaluation(features, item.label, split, str(request))
            if ledger.has(done):
                print(f"{item}: {name} is done", file=sys.stderr)
                continue
            try:
                results = evaluate(str(request), features, split)
            except SSVideoError as error:
                yield Problem(str(item), name, str(error))
                continue
            named = [replace(r, key=replace(r.key, weights=item.label)) for r in results]
            ledger.add(done, named)
            for result in named:
                print(result.describe(), file=sys.stderr)
