"""Where the released code of GDT differs from what it means to do, and what we do.

Every quirk is a choice between "released" and a mended value. `resolve` turns --fidelity and single
options into plain words, which the functions below training take as keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gdt_stica.choices import check_choice

FIDELITIES = ("default", "released", "fixed")


@dataclass(frozen=True)
class Quirk:
    """One difference.

    name: of the option. released, fixed: its value as in the released code, and mended. default:
    one of the two. why: what the released code does, and the reason for the default.
    """

    name: str
    released: str
    fixed: str
    default: str
    why: str

    def value(self, fidelity: str) -> str:
        """Its value under one of `FIDELITIES`."""
        return {"default": self.default, "released": self.released, "fixed": self.fixed}[fidelity]


QUIRKS = (
    Quirk(
        name="negatives",
        released="released",
        fixed="unique",
        default="released",
        why="The lists of negatives from other processes grow during a step, so hypotheses 3, 5 "
        "and 7 to 9 have some copies twice. The published networks were trained so.",
    ),
    Quirk(
        name="schedule",
        released="released",
        fixed="exact",
        default="released",
        why="After a warm-up the rate drops one epoch later than its milestone, and the cosine "
        "ends above 0. The published numbers were made so.",
    ),
    Quirk(
        name="warm_up",
        released="released",
        fixed="nonzero",
        default="nonzero",
        why="With one process the warm-up starts at rate 0, so the first epoch trains nothing. "
        "Published runs had many processes and start at the rate of one.",
    ),
    Quirk(
        name="color_jitter",
        released="released",
        fixed="per_frame",
        default="released",
        why="Colour jitter takes frames for channels: gray is mixed from the first three frames, "
        "in the order of blue, green, red, and the other frames are only scaled. The published "
        "networks saw these colours.",
    ),
    Quirk(
        name="random_crop",
        released="released",
        fixed="inclusive",
        default="released",
        why="A random crop never takes the last row or column. The published networks saw these "
        "crops.",
    ),
)


def resolve(fidelity: str, overrides: Mapping[str, str | None]) -> dict[str, str]:
    """Quirk to value, for all `QUIRKS`.

    fidelity: one of `FIDELITIES`. overrides: quirk to the value that an option gives it; None where
    it was not given. Raises ConfigError for a fidelity, a quirk or a value that does not exist.
    """
    check_choice(f"--fidelity {fidelity}", fidelity, FIDELITIES)
    for name in overrides:
        check_choice(f"quirk {name}", name, tuple(quirk.name for quirk in QUIRKS))
    values = {}
    for quirk in QUIRKS:
        given = overrides.get(quirk.name)
        if given is not None:
            check_choice(f"--{quirk.name} {given}", given, (quirk.released, quirk.fixed))
        values[quirk.name] = quirk.value(fidelity) if given is None else given
    return values


def markdown_table() -> str:
    """The README's table of all quirks: a header and one line each, with a last line break."""
    lines = ["| option | released | fixed | default | what and why |", "|---|---|---|---|---|"]
    for quirk in QUIRKS:
        values = (f"`{value}`" for value in (quirk.released, quirk.fixed, quirk.default))
        lines.append(f"| {' | '.join((f'`{quirk.name}`', *values, quirk.why))} |")
    return "\n".join(lines) + "\n"
