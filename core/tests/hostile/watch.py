"""Proof that a block of code ran nothing of what a file said."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 1.0  # of processor time, so that a busy machine does not fail the tests
FORBIDDEN = ("os.", "subprocess.", "pickle.", "import", "exec", "compile", "socket.", "ctypes.")
SEEN: list[str] = []
_watching = False

for _name in ("ascii", "latin-1", "cp437", "unicode_escape", "raw_unicode_escape", "utf-8"):
    codecs.lookup(_name)  # imports its module, which pickles and zip files may need


def _note(event: str, args: tuple[Any, ...]) -> None:
    """Note what the interpreter is asked to do that no reader of weights does."""
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if _watching and (event.startswith(FORBIDDEN) or writes):
        SEEN.append(f"{event} {args!r:.200}")


sys.addaudithook(_note)  # cannot be removed again, hence `_watching`


@contextmanager
def nothing_runs(marker: Path, *, seconds: float = SECONDS) -> Iterator[None]:
    """Fails when the block runs, imports, unpickles or writes anything, or takes long.

    marker: what a payload would create. Afterwards `SEEN` holds what was noticed.
    """
    global _watching
    SEEN.clear()
    started, _watching = time.process_time(), True
    try:
        yield
    finally:
        _watching = False
    assert SEEN == [], SEEN
    assert time.process_time() - started < seconds
    assert not marker.exists()
