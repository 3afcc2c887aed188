"""Where the released trainer differs from what it means to do, and what ours does.

Each quirk is a key of the configuration. Its value "" means what `fidelity` says, and of
`model.narrow_placement` what the broad views say; `resolve` puts plain words there, which the
functions below training take as keywords.
"""

from __future__ import annotations

from collections.abc import Mapping

from ssvideo_core.errors import ConfigError
from ssvideo_core.quirks import FIDELITIES, Quirk

PLACEMENT = "model.narrow_placement"

QUIRKS = (
    Quirk(
        name="optimizer.masks",
        released="released",
        fixed="intended",
        default="intended",
        why="Weight decay and the trust ratio act on biases and batch norms alone, because a mask "
        "is the wrong way round; all other weights are trained by plain SGD at rates up to 1. The "
        "paper says the opposite, and the published networks come from another trainer.",
    ),
    Quirk(
        name="optimizer.rate_rules_at",
        released="before_trust",
        fixed="after_trust",
        default="before_trust",
        why="The predictor's gradients are multiplied by 10 before the trust ratio, which divides "
        "by their norm: where it acts, the factor has hardly any effect.",
    ),
    Quirk(
        name=PLACEMENT,
        released="start",
        fixed="random",
        default="random",
        why="The narrow view begins where the broad ones begin. The paper finds that too easy when "
        "a broad view is video. Without such a view, as with sound alone, all three columns mean "
        "`start`.",
    ),
)


def resolve(fidelity: str, given: Mapping[str, str], *, broad_video: bool) -> dict[str, str]:
    """Quirk to value, for all of them.

    given: what the configuration says of each; "" leaves it to `fidelity`, one of `FIDELITIES`.
    broad_video: whether some broad view is video; without one the narrow view begins with the
    others unless something else is given. Raises ConfigError for a fidelity or a value that
    does not exist.
    """
    _check("fidelity", fidelity, FIDELITIES)
    values = {}
    for quirk in QUIRKS:
        meant = quirk.value(fidelity)
        if quirk.name == PLACEMENT and not broad_video:
            meant = quirk.released
        value = given[quirk.name] or meant
        _check(quirk.name, value, (quirk.released, quirk.fixed))
        values[quirk.name] = value
    return values


def _check(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"--config.{key}={value}: expected {' or '.join(choices)}")


def markdown_table() -> str:
    """The README's table of all quirks: a header and one line each, with a last line break."""
    header = ("`--config.` key", "released", "fixed", "default", "what and why")
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for quirk in QUIRKS:
        values = (f"`{value}`" for value in (quirk.released, quirk.fixed, quirk.default))
        lines.append(f"| {' | '.join((f'`{quirk.name}`', *values, quirk.why))} |")
    return "\n".join(lines) + "\n"
