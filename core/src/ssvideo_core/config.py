"""One frozen dataclass per command becomes its flags, and nothing else does.

    @dataclass(frozen=True)
    class Extract:
        weights: str = option(help="published name, file or 'random'")
        batch_size: int = option(8, help="clips per step", operational=True)

    config = parse(Extract, argv, prog="vicc extract")

Past `main()` only the dataclass exists. A field without `flags` is spelled `--batch-size`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

C = TypeVar("C")
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    flags: Sequence[str] = (),
    choices: Sequence[Any] | None = None,
    metavar: str | None = None,
    shown: str | None = None,
    read: Callable[[str], Any] | None = None,
    operational: bool = False,
) -> Any:
    """A dataclass field that is also a flag; without a default the flag is required.

    flags: the original program's spellings, the first one is shown first. read: text to value,
    raising ValueError with advice. shown: how the help spells the default. operational: changes
    speed or place, never results, and therefore stays out of `digest`.
    """
    metadata = {
        "help": help,
        "flags": tuple(flags),
        "choices": choices,
        "metavar": metavar,
        "shown": shown,
        "read": read,
        "operational": operational,
    }
    return dataclasses.field(default=default, metadata=metadata)


def read_bool(text: str) -> bool:
    """yes/true/t/y/1 or no/false/f/n/0 in any case; ValueError otherwise."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError(f"'{text}' is neither yes nor no")


def add_arguments(parser: argparse.ArgumentParser, config: type[Any]) -> None:
    """One argument per field of the dataclass `config`."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        flags = field.metadata["flags"] or ("--" + field.name.replace("_", "-"),)
        kind, many = _value_type(hints[field.name])
        required = field.default is dataclasses.MISSING
        text = field.metadata["help"]
        if not required and field.default not in (None, "", ()):
            text += f" (default: {field.metadata['shown'] or _shown(field.default)})"
        read = field.metadata["read"] or (read_bool if kind is bool else None)
        extra: dict[str, Any] = {"nargs": "+"} if many else {}
        if kind is bool:  # a bare flag is a yes
            extra = {"nargs": "?", "const": True}
        parser.add_argument(
            *flags,
            dest=field.name,
            required=required,
            default=None if required else field.default,
            type=_reader(read) if read else kind,
            choices=field.metadata["choices"],
            metavar=field.metadata["metavar"] or ("yes|no" if kind is bool else None),
            help=text.replace("%", "%%"),
            **extra,
        )


def from_namespace(config: type[C], namespace: argparse.Namespace) -> C:
    """The dataclass filled from parsed arguments; lists become tuples."""
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    values = {name: getattr(namespace, name) for name in names}
    return config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def parse(config: type[C], argv: Sequence[str] | None, *, prog: str) -> C:
    """Read flags into `config`. A wrong flag prints the usage and exits with 2.

    `--check-only` reads the flags and exits with 0 before anything is done.
    """
    parser = make_parser(prog, inspect.cleandoc(config.__doc__ or ""))
    add_arguments(parser, config)
    namespace = parser.parse_args(argv)
    if namespace.check_only:
        raise SystemExit(0)
    return from_namespace(config, namespace)


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser that neither guesses shortened flags nor rewraps its description."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check-only", action="store_true", help="read the flags and stop")
    return parser


def to_json(config: Any) -> dict[str, Any]:
    """Field names to JSON values; paths become text."""
    return {f.name: _json_value(getattr(config, f.name)) for f in dataclasses.fields(config)}


def digest(config: Any, *, length: int = 10) -> str:
    """Hex digest of every field that can change a result; equal settings, equal digest."""
    values = to_json(config)
    kept = {f.name: values[f.name] for f in dataclasses.fields(config) if not _operational(f)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:length]


def _operational(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("operational", False))


def _value_type(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether the flag takes several (tuple[int, ...])."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and parts[-1] is Ellipsis:
        return parts[0], True
    return hint, False


def _reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def value(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _json_value(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_json_value(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _json_value(v) for k, v in value.items()}
    return value
