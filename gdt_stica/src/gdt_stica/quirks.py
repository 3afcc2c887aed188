"""Where the released code of GDT and STiCA differs from what it means to do, and what we do.

Every quirk is a choice between "released" and a mended value. `resolve` turns --fidelity and single
options of a command into plain words, which the functions below training take as keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssvideo_core.quirks import FIDELITIES
from ssvideo_core.quirks import Quirk as PlainQuirk

from gdt_stica.choices import check_choice

GDT, STICA, EVAL = COMMANDS = ("main_gdt", "main_stica", "eval_video")


@dataclass(frozen=True)
class Quirk(PlainQuirk):
    """One difference, in one or several commands.

    commands: of `COMMANDS`, those that have the option.
    """

    commands: tuple[str, ...]


ALL_QUIRKS = (
    Quirk(
        name="negatives",
        commands=(GDT,),
        released="released",
        fixed="unique",
        default="released",
        why="The lists of negatives from other processes grow during a step, so hypotheses 3, 5 "
        "and 7 to 9 have some copies twice. The published networks were trained so.",
    ),
    Quirk(
        name="schedule",
        commands=(GDT, EVAL),
        released="released",
        fixed="exact",
        default="released",
        why="After a warm-up the rate drops one epoch later than its milestone, and the cosine "
        "ends above 0. The published numbers were made so.",
    ),
    Quirk(
        name="warm_up",
        commands=(GDT,),
        released="released",
        fixed="nonzero",
        default="nonzero",
        why="With one process the warm-up starts at rate 0, so the first epoch trains nothing. "
        "Published runs had many processes and start at the rate of one.",
    ),
    Quirk(
        name="color_jitter",
        commands=(GDT,),
        released="released",
        fixed="per_frame",
        default="released",
        why="Colour jitter takes frames for channels: gray is mixed from the first three frames, "
        "in the order of blue, green, red, and the other frames are only scaled. The published "
        "networks saw these colours.",
    ),
    Quirk(
        name="random_crop",
        commands=(GDT, STICA, EVAL),
        released="released",
        fixed="inclusive",
        default="released",
        why="A random crop never takes the last row or column. The published networks saw these "
        "crops.",
    ),
    Quirk(
        name="feature_crops",
        commands=(STICA,),
        released="released",
        fixed="inclusive",
        default="released",
        why="A crop of the feature map never takes the last row, column or time, so a large one is "
        "always the same. The published numbers were made so.",
    ),
    Quirk(
        name="crop_passes",
        commands=(STICA,),
        released="released",
        fixed="needed",
        default="needed",
        why="Small crops are drawn and encoded again for each large one, and the sound for each "
        "view, though the losses are the same. Only dropout and running statistics notice.",
    ),
    Quirk(
        name="clip_colors",
        commands=(STICA, EVAL),
        released="released",
        fixed="fixed",
        default="released",
        why="Colours are changed after standardisation, so darker is closer to the mean gray, and "
        "gray has the weights of blue, green, red. The published numbers were made so.",
    ),
    Quirk(
        name="blur",
        commands=(STICA, EVAL),
        released="released",
        fixed="fixed",
        default="released",
        why="The range of sigma is taken for a sigma of each axis, so every blur is along the rows "
        "and of 2 pixels, not of 0.1 to 2 along both. The published numbers were made so.",
    ),
    Quirk(
        name="test_aug",
        commands=(EVAL,),
        released="released",
        fixed="deterministic",
        default="deterministic",
        why="Clips are scaled and coloured at random when a network is tested, so that two tests "
        "differ. One test of one network should have one result.",
    ),
    Quirk(
        name="feature_bn",
        commands=(EVAL,),
        released="released",
        fixed="frozen",
        default="frozen",
        why="When only the classifier is trained, the batch norms of the trunk still use each "
        "batch's statistics and keep them. A trunk that is not trained should not change.",
    ),
)


def quirks_of(command: str) -> tuple[Quirk, ...]:
    """Those that one of `COMMANDS` has an option for."""
    check_choice(f"command {command}", command, COMMANDS)
    return tuple(quirk for quirk in ALL_QUIRKS if command in quirk.commands)


QUIRKS = quirks_of(GDT)


def resolve(
    fidelity: str, overrides: Mapping[str, str | None], *, command: str = GDT
) -> dict[str, str]:
    """Quirk to value, for all of a command.

    fidelity: one of `FIDELITIES`. overrides: quirk to the value that an option gives it; None where
    it was not given. command: one of `COMMANDS`. Raises ConfigError for a fidelity, a command, a
    quirk of it or a value that does not exist.
    """
    check_choice(f"--fidelity {fidelity}", fidelity, FIDELITIES)
    quirks = quirks_of(command)
    for name in overrides:
        check_choice(f"quirk {name}", name, tuple(quirk.name for quirk in quirks))
    values = {}
    for quirk in quirks:
        given = overrides.get(quirk.name)
        if given is not None:
            check_choice(f"--{quirk.name} {given}", given, (quirk.released, quirk.fixed))
        values[quirk.name] = quirk.value(fidelity) if given is None else given
    return values


def markdown_table() -> str:
    """The README's table of all quirks: a header and one line each, with a last line break."""
    header = ("option", "of", "released", "fixed", "default", "what and why")
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for quirk in ALL_QUIRKS:
        commands = ", ".join(f"`{command}`" for command in quirk.commands)
        values = (f"`{value}`" for value in (quirk.released, quirk.fixed, quirk.default))
        lines.append(f"| {' | '.join((f'`{quirk.name}`', commands, *values, quirk.why))} |")
    return "\n".join(lines) + "\n"
