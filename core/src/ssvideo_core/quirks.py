"""Where a released program differs from what it means to do: a choice for each difference."""

from __future__ import annotations

from dataclasses import dataclass

FIDELITIES = ("default", "released", "fixed")


@dataclass(frozen=True)
class Quirk:
    """One difference.

    name: of the option or the key that chooses. released, fixed: its value as in the released code,
    and mended. default: one of the two. why: what the released code does, and the reason for the
    default.
    """

    name: str
    released: str
    fixed: str
    default: str
    why: str

    def value(self, fidelity: str) -> str:
        """Its value under one of `FIDELITIES`."""
        return {"default": self.default, "released": self.released, "fixed": self.fixed}[fidelity]
