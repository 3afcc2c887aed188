"""What a user asks for: methods with their weights, and how to run each."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.errors import ConfigError
from ssvideo_core.files import sha256

RANDOM, UNTRAINED = "random", "untrained"
OWN_FLAGS = (
    *("--weights", "--videos", "--out", "--modality", "--views"),
    *("--seed", "--device", "--batch-size", "--workers", "--on-bad", "--keep", "--shard"),
)
_ITEM = re.compile(r"(?P<method>[A-Za-z_]\w*)(@((?P<label>[\w.+-]+)=)?(?P<weights>.+))?")
_NOT_IN_FILE_NAMES = re.compile(r"[^\w.+-]")


@dataclass(frozen=True)
class Item:
    """One method with one set of weights.

    weights: what the method is given; a file or folder as an absolute path. label: what tables
    call them. content: sha256 of a weights file, because other content under an old name is other
    weights; "" for names and folders.
    """

    method: str
    weights: str
    label: str
    content: str = ""

    def __str__(self) -> str:
        return f"{self.method}@{self.label}"

    @property
    def file_name(self) -> str:
        """`method-label`, safe as a part of a file name."""
        return _NOT_IN_FILE_NAMES.sub("_", f"{self.method}-{self.label}")


def is_untrained(label: str) -> bool:
    """Whether weights called `label` never saw data: "random", or "untrained" and what follows."""
    return label == RANDOM or label.startswith(UNTRAINED)


def split_list(texts: Iterable[str]) -> list[str]:
    """The items of flags that are separated by spaces, commas or both."""
    return [item.strip() for text in texts for item in text.split(",") if item.strip()]


def read_items(texts: Iterable[str]) -> list[Item]:
    """Items from METHOD[@[LABEL=]WEIGHTS].

    Without WEIGHTS they are "random". WEIGHTS that are an existing file or folder are called by its
    name; `encoder-untrained.safetensors`, which every training run writes, by "untrained". Raises
    ConfigError for another form, and when two items would be one row of a table.
    """
    items = [_read_item(text) for text in split_list(texts)]
    if not items:
        raise ConfigError("name at least one method, as in --methods gdt_stica@random")
    counts = Counter(str(item) for item in items)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(
            f"--methods has {', '.join(twice)} more than once; give labels of your own, as in "
            f"{items[0].method}@mine=FILE"
        )
    return items


def _read_item(text: str) -> Item:
    match = _ITEM.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"--methods: '{text}' is not of the form METHOD, METHOD@WEIGHTS or METHOD@LABEL=WEIGHTS"
        )
    method, weights = match["method"], match["weights"] or RANDOM
    path = Path(weights)
    if not path.exists():
        return Item(method, weights, match["label"] or weights)
    name = UNTRAINED if path.name.startswith("encoder-untrained") else path.stem
    content = ""
    if path.is_file():
        content = sha256(path)
    return Item(method, str(path.resolve()), match["label"] or name, content)


def add_python(parser: argparse.ArgumentParser) -> None:
    """The flag --python; `read_pythons` reads its values."""
    parser.add_argument(
        "--python",
        nargs="+",
        action="extend",
        default=[],
        metavar="METHOD=PATH",
        help="interpreters of methods that live in other environments",
    )


def read_pythons(texts: Iterable[str]) -> dict[str, Path]:
    """Method to interpreter, from METHOD=PATH; a command's name is looked up on PATH.

    Raises ConfigError for another form and when there is no such program.
    """
    pythons = {}
    for text in split_list(texts):
        method, separator, path = text.partition("=")
        if not separator or not method or not path:
            raise ConfigError(f"--python: '{text}' is not of the form METHOD=PATH")
        pythons[method] = find_python(path)
    return pythons


def find_python(path: str) -> Path:
    """The interpreter at `path` or called so, absolute. ConfigError when there is none."""
    found = shutil.which(path)
    if found is None:
        raise ConfigError(
            f"--python: there is no program {path}; give the interpreter of the environment in "
            "which the method is installed, as in --python brave=/envs/brave/bin/python"
        )
    # Not resolved: an environment's python is a link, and its place says which packages it has.
    return Path(found).absolute()


def python_of(method: str, pythons: Mapping[str, Path]) -> Path:
    """The interpreter that runs `method`: the given one, or this one."""
    return pythons.get(method, Path(sys.executable))


def read_method_options(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """METHOD or METHOD@LABEL to further flags of its `extract`, from METHOD[@LABEL]=FLAGS.

    FLAGS are written as on a command line. Raises ConfigError for another form and for flags that
    have their own name here.
    """
    options = {}
    for text in texts:
        name, separator, flags = text.partition("=")
        try:
            words = tuple(shlex.split(flags))
        except ValueError as error:
            raise ConfigError(f"--method-options: '{text}' ({error})") from None
        if not separator or not words or not words[0].startswith("--"):
            raise ConfigError(
                f"--method-options: '{text}' is neither METHOD=FLAGS nor METHOD@LABEL=FLAGS, as "
                "in 'gdt_stica=--architecture width=0.25'"
            )
        if own := [word for word in words if word.partition("=")[0] in OWN_FLAGS]:
            raise ConfigError(
                f"--method-options: give {own[0]} to shared_eval run itself, or not at all"
            )
        options[name] = words
    return options


def options_of(item: Item, options: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The further flags of one item: those of its method, then its own."""
    return (*options.get(item.method, ()), *options.get(str(item), ()))
