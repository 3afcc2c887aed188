"""`shared_eval methods`: what is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ssvideo_core import config as configs
from ssvideo_core.errors import EXIT_OK, EXIT_USER, SSVideoError

from shared_eval.drive import describe, installed
from shared_eval.items import add_python, python_of, read_pythons


def main(argv: Sequence[str]) -> int:
    """Print the list; exit 2 if a method cannot describe itself."""
    about = "The installed methods with their weights, licences and own protocols."
    parser = configs.make_parser("shared_eval methods", about)
    parser.add_argument("--json", action="store_true", help="for other programs")
    add_python(parser)
    flags = parser.parse_args(argv)
    if flags.check_only:
        return EXIT_OK
    pythons = read_pythons(flags.python)
    records: dict[str, Mapping[str, Any]] = {}
    failures: dict[str, str] = {}
    for name in sorted({*installed(), *pythons}):
        try:
            records[name] = describe(python_of(name, pythons), name).record
        except SSVideoError as error:
            failures[name] = str(error)
    if flags.json:
        print(json.dumps({"methods": records, "failures": failures}, indent=1))
    else:
        shown = [*map(_describe, records.values()), *(f"{n}: {m}" for n, m in failures.items())]
        print("\n\n".join(shown) or "no method is installed; see examples/sixth_method")
    return EXIT_USER if failures else EXIT_OK


def _describe(record: Mapping[str, Any]) -> str:
    papers = f", arXiv {', '.join(record['arxiv'])}" if record["arxiv"] else ""
    lines = [f"{record['name']} ({record['framework']}{papers}): {record['title']}"]
    lines += [f"  encoder {modality}: {name}" for modality, name in record["backbones"].items()]
    lines += [
        f"  weights {weights['name']} ({', '.join(weights['modalities'])}): "
        f"licence {weights['licence']}" + (f"; {weights['note']}" if weights["note"] else "")
        for weights in record["weights"]
    ]
    lines += [f"  protocol {name}" for name in record["protocols"]]
    return "\n".join(lines)
