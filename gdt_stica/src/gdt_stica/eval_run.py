"""`eval_video` from its configuration: folds one after the other, then what they have in common.

RUN/config.json, command.txt, environment.json, left-out.csv     what made this
RUN/hmdb51-fold1/, ...                                           each fold: see `eval_fold`
RUN/results.jsonl                                                last and best epoch of each fold
RUN/summary.json                                                 their means over the folds
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssvideo_core.batches import steps_per_epoch
from ssvideo_core.errors import EXIT_OK
from ssvideo_core.interruption import Interruption
from ssvideo_core.results import Result
from ssvideo_core.runs import run_folder
from ssvideo_torch.precision import make_scaler
from ssvideo_torch.start import Process

from gdt_stica.eval_config import EvalVideo
from gdt_stica.eval_data import Fold, find_folds
from gdt_stica.eval_fold import FoldRun
from gdt_stica.eval_results import best_of, record_results, results_of, write_summary
from gdt_stica.eval_settings import Quirks, draw_test_views, eval_quirks, sampler_of
from gdt_stica.eval_weights import fold_folder, make_network, read_weights
from gdt_stica.finetune import check_clips_of_step
from gdt_stica.launch import first_then_others, record_run, start_processes


def run_eval(config: EvalVideo, command: Sequence[str]) -> int:
    """Fine-tune and test, or go on with it; returns the exit code.

    Raises ConfigError, DataError and WeightsError before the first step, and before anything is
    written, for settings, videos and weights that do not fit.
    """
    folder = config.output_dir or run_folder(Path("runs"), "eval_video", config)
    quirks = eval_quirks(config)
    with start_processes(config) as process:
        _check_settings(config, quirks, process)
        folds = first_then_others(process, lambda: _find_folds(config))
        notes = process.together(lambda: _check_folds(config, folds))
        excluded = {video: why for fold in folds for video, why in fold.excluded.items()}
        record_run(process, folder, config, command, excluded=excluded, notes=notes)
        results: list[Result] = []
        with Interruption() as interruption:
            for fold in folds:
                run = _prepare(config, quirks, fold, folder, process, interruption)
                code = run.test_only() if config.test_only else run.train()
                if code != EXIT_OK:
                    return code
                results += process.together(lambda done=run: _results(done))  # type: ignore[misc]
        process.together(lambda: _report(folder, results, process))
    return EXIT_OK


def _check_settings(config: EvalVideo, quirks: Quirks, process: Process) -> None:
    sampler_of(config, quirks)
    draw_test_views(config, quirks)
    make_scaler(process.device, config.precision)
    if not config.test_only:
        check_clips_of_step(config.batch_size, process.world_size, statistics_of_all=config.sync_bn)


def _find_folds(config: EvalVideo) -> list[Fold]:
    return find_folds(
        config.root_dir,
        config.dataset,
        config.fold,
        lists=config.annotation_path,
        training=not config.test_only,
        num_data_samples=config.num_data_samples,
        workers=config.workers,
    )


def _check_folds(config: EvalVideo, folds: Sequence[Fold]) -> list[str]:
    """What is said of each fold and its weights, which are tried."""
    notes = []
    for fold in folds:
        notes.append(str(fold))
        if not config.test_only:
            steps_per_epoch(len(fold.train) * config.train_clips_per_video, config.batch_size)
        checkpoint = read_weights(config, fold)
        _, unused = make_network(config, fold, checkpoint)
        if checkpoint is not None:
            left_out = f"; not used: {', '.join(unused)}" if unused else ""
            notes.append(f"  weights {checkpoint.path}{left_out}")
            if checkpoint.published is not None:
                notes.append(f"  licence of these weights: {checkpoint.published.licence}")
    return notes


def _prepare(
    config: EvalVideo,
    quirks: Quirks,
    fold: Fold,
    folder: Path,
    process: Process,
    interruption: Interruption,
) -> FoldRun:
    network, _ = make_network(config, fold, read_weights(config, fold))
    place = fold_folder(folder, fold.dataset, fold.name)
    if process.is_main:
        place.mkdir(parents=True, exist_ok=True)
    return FoldRun(config, quirks, fold, place, network, process, interruption)


def _results(run: FoldRun) -> list[Result]:
    """Of a fold that is through, on rank 0: its last epoch, and its best."""
    if not run.process.is_main:
        return []
    tests = run.tests()
    results = results_of(tests[-1], run.fold, run.start, best=False)
    if not run.config.test_only:
        results += results_of(best_of(tests), run.fold, run.start, best=True)
    return results


def _report(folder: Path, results: Sequence[Result], process: Process) -> None:
    if not process.is_main:
        return
    record_results(folder / "results.jsonl", results)
    for result in results:
        print(result.describe())
    print(write_summary(folder / "summary.json", results))
