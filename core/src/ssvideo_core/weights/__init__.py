"""Weights files as NumPy arrays: read without running code, compared, exported, found.

`read_weights` opens every container the originals used; `select_tensors` takes the tensors out of
a checkpoint; `match_keys` compares them with a network; `write_safetensors` exports them;
`locate` turns a published name or a path into a file.
"""

from ssvideo_core.weights.locate import locate, weights_folder
from ssvideo_core.weights.names import Record
from ssvideo_core.weights.readers import read_weights
from ssvideo_core.weights.tensors import (
    KeyReport,
    fingerprint,
    json_entry,
    match_keys,
    read_safetensors,
    select_tensors,
    write_safetensors,
)

__all__ = [
    "KeyReport", "Record", "fingerprint", "json_entry", "locate", "match_keys", "read_safetensors",
    "read_weights", "select_tensors", "weights_folder", "write_safetensors",
]  # fmt: skip
