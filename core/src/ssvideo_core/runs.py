"""Run folders: which settings made what lies here.

A run folder holds config.json, command.txt, environment.json, metrics.jsonl and what the command
itself writes. The same settings come back to the same folder; other settings never share one.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ssvideo_core import config as configs
from ssvideo_core.errors import ConfigError
from ssvideo_core.files import write_text


def run_folder(root: Path, name: str, config: Any) -> Path:
    """ROOT/<name>-<digest of the settings that can change a result>."""
    return root / f"{name}-{configs.digest(config)}"


def start_run(
    folder: Path, config: Any, argv: Sequence[str], *, resume_anyway: bool = False
) -> Path:
    """Create or re-enter `folder` and record settings, command and environment.

    config: a config dataclass. Raises ConfigError when the folder was made with other settings,
    unless `resume_anyway`; operational settings (workers, places) may differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "config.json"
    wanted = {"digest": configs.digest(config), "config": configs.to_json(config)}
    if record.exists() and not resume_anyway:
        _refuse_other_settings(record, wanted)
    write_text(record, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
    write_text(folder / "command.txt", shlex.join(argv) + "\n")
    write_text(folder / "environment.json", json.dumps(environment(), indent=1) + "\n")
    return folder


def _refuse_other_settings(record: Path, wanted: Mapping[str, Any]) -> None:
    try:
        stored = json.loads(record.read_text())
        digest, settings = stored["digest"], stored["config"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{record} is not a run's record ({error}); choose another output folder"
        ) from None
    if digest == wanted["digest"]:
        return
    names = sorted(settings.keys() | wanted["config"].keys())
    differing = [
        f"{name}: {settings.get(name)!r} there, {wanted['config'].get(name)!r} now"
        for name in names
        if settings.get(name) != wanted["config"].get(name)
    ]
    raise ConfigError(
        f"{record.parent} was made with other settings ({'; '.join(differing)}). "
        "Choose another output folder, or pass --resume-anyway"
    )


def environment() -> dict[str, Any]:
    """Python, machine and the version of every installed distribution."""
    versions = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "distributions": dict(sorted(versions.items(), key=lambda item: item[0].lower())),
    }


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add one JSON object as one line with a single write, so that a kill never splits two."""
    line = json.dumps(values, sort_keys=True) + "\n"
    with path.open("ab") as file:
        file.write(line.encode())
