"""Class names of the data sets, in the orders in which files and networks number them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from ssvideo_core.errors import DataError

ClassOrder = Literal["official", "alphabetical", "coclr"]
# File of data/classes, number of classes. The file's lines are in the official order.
_LISTS = {
    "hmdb51": ("hmdb51.txt", 51),
    "ucf101": ("ucf101.txt", 101),
    "kinetics400": ("kinetics400.txt", 400),
    "kinetics_sound": ("kinetics_sound32.txt", 32),
    "vggsound": ("vggsound309.txt", 309),
    "ave": ("ave28.txt", 28),
}


def class_names(dataset: str, order: ClassOrder = "official") -> list[str]:
    """Class names; the position of a name is its number, from 0.

    dataset: hmdb51, ucf101, kinetics400, kinetics_sound, vggsound, ave. order:
    "official" is alphabetical, except that UCF101's index file ignores case (Hammering before
    HammerThrow, JumpingJack before JumpRope); its numbers start at 1 there and at 0 here.
    "alphabetical" is Python's `sorted`, as for class folders without an index file.
    "coclr" is how CoCLR and ViCC number: HMDB51 by a list of their own, UCF101 by its index file.
    Numbers in a foreign file must be mapped through names.
    Raises DataError for a data set or an order that is not known.
    """
    if order == "coclr" and dataset == "hmdb51":
        return list(_lines("hmdb51_coclr.txt", 51))
    if dataset not in _LISTS or (order == "coclr" and dataset != "ucf101"):
        known = "hmdb51, ucf101" if order == "coclr" else ", ".join(_LISTS)
        raise DataError(f"there is no class list of '{dataset}' in {order} order, only of {known}")
    names = list(_lines(*_LISTS[dataset]))
    return sorted(names) if order == "alphabetical" else names


@cache
def _lines(name: str, count: int) -> tuple[str, ...]:
    """One class per line: names contain commas, brackets and apostrophes, so this is no CSV."""
    text = files("ssvideo_core.datasets").joinpath("data", "classes", name).read_text("utf-8")
    names = tuple(text.removesuffix("\n").split("\n"))
    if len(set(names)) != count or len(names) != count:
        raise DataError(
            f"the packaged list {name} is damaged: {len(names)} lines, expected {count}"
        )
    return names
