"""Records as TensorFlow reads them: the features that BraVe asks for, one example at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from ssvideo_core.formats.sequence_examples import IMAGES, LABELS, WAVEFORM

CONTEXT = {LABELS: tf.io.VarLenFeature(tf.int64)}
LISTS = {
    IMAGES: tf.io.FixedLenSequenceFeature([], tf.string),
    WAVEFORM: tf.io.VarLenFeature(tf.float32),
}


def records(path: Path, threads: int | None) -> Any:
    """A data set of payloads. threads: of the process' pool; None: what TensorFlow chooses."""
    options = tf.data.Options()
    if threads is not None:
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = threads
    return tf.data.TFRecordDataset(str(path)).with_options(options)


def parsed(path: Path, threads: int | None) -> Iterator[tuple[Any, Any, Any]]:
    """Frames [T], waveform and labels (sparse): tensors, whose content is not copied out."""
    parallel = tf.data.AUTOTUNE if threads is None else None
    examples = records(path, threads).map(_parse, num_parallel_calls=parallel)
    for context, lists in examples:
        yield lists[IMAGES], lists[WAVEFORM], context[LABELS]


def _parse(payload: Any) -> Any:
    return tf.io.parse_single_sequence_example(payload, CONTEXT, LISTS)
