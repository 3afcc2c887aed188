"""`shared_eval compare`: results of several runs, and the papers', in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core import config as configs
from ssvideo_core.config import option
from ssvideo_core.errors import EXIT_OK, DataError
from ssvideo_core.results import Result, canonical_json, read_results

from shared_eval.items import split_list
from shared_eval.join import ALL_METRICS
from shared_eval.output import grids, papers_of, write_tables
from shared_eval.record import RESULTS, RUN, Invocation, read_invocations
from shared_eval.table import INTERVALS, as_csv, as_json_lines, as_markdown, as_text

FORMATS = ("text", "markdown", "csv", "jsonl")


@dataclass(frozen=True)
class Compare:
    """Results of several runs in one table, the papers' numbers beside them.

    RUN is a folder of `shared_eval run`, or a file of results as JSON lines. Numbers stand in one
    column only if data set, split, protocol with its version and views, and metric are the same.
    """

    dataset: tuple[str, ...] = option((), help="only these data sets")
    metric: tuple[str, ...] = option(
        (), help="only these metrics, or all (default: the first of each common protocol)"
    )
    papers: str = option(
        "matching",
        help="papers' numbers: those beside a row, also the others, or none",
        choices=("matching", "all", "none"),
    )
    format: str = option("text", help="of what is printed", choices=FORMATS)
    out: Path | None = option(None, help="folder for table.csv, table.md and report.html")


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it where --out says."""
    parser = configs.make_parser("shared_eval compare", (Compare.__doc__ or "").strip())
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path)
    configs.add_arguments(parser, Compare)
    flags = parser.parse_args(argv)
    if flags.check_only:
        return EXIT_OK
    config = configs.from_namespace(Compare, flags)
    results, invocations = read_runs(flags.runs)
    wanted = select(results, split_list(config.dataset), split_list(config.metric))
    print(_text(config, wanted), end="")
    if config.out is not None:
        write_tables(config.out, wanted, invocations)
    return EXIT_OK


def read_runs(paths: Iterable[Path]) -> tuple[list[Result], list[Invocation]]:
    """Results of run folders and files, each once, and what the folders say was done.

    Raises DataError for a folder that is no run.
    """
    results: dict[str, Result] = {}
    invocations: list[Invocation] = []
    for path in paths:
        file = path / RESULTS if path.is_dir() else path
        if path.is_dir() and not file.exists() and not (path / RUN).exists():
            raise DataError(f"{path} is no folder of a run: it has no {RESULTS}")
        for result in read_results(file) if file.exists() or not path.is_dir() else ():
            digest = result.provenance.digest if result.provenance else ""
            results[canonical_json([vars(result.key), digest, result.source])] = result
        invocations += read_invocations(path) if path.is_dir() else []
    return list(results.values()), invocations


def select(
    results: Sequence[Result], datasets: Sequence[str], metrics: Sequence[str]
) -> list[Result]:
    """The results of these data sets; DataError when a name occurs nowhere."""
    for flag, names, found in (
        ("--dataset", datasets, {r.key.dataset for r in results}),
        ("--metric", [m for m in metrics if m != ALL_METRICS], {r.key.metric for r in results}),
    ):
        if unknown := [name for name in names if name not in found]:
            raise DataError(
                f"{flag}: no result is about {', '.join(unknown)}; there is "
                f"{', '.join(sorted(found)) or 'none at all'}"
            )
    return [r for r in results if not datasets or r.key.dataset in datasets]


def _text(config: Compare, results: Sequence[Result]) -> str:
    metrics = split_list(config.metric)
    if config.format in ("text", "markdown"):
        tables = grids(results, papers=config.papers, metrics=metrics)
        if config.format == "markdown":
            return as_markdown(tables) + f"\n{INTERVALS}\n"
        return (as_text(tables) or "there are no such results\n") + f"\n{INTERVALS}\n"
    rows = [*results, *papers_of(results, config.papers)]
    if metrics and ALL_METRICS not in metrics:
        rows = [row for row in rows if row.key.metric in metrics]
    return as_csv(rows) if config.format == "csv" else as_json_lines(rows)
