from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clips() -> Path:
    """Real videos; `data/clips/README.md` states what was measured of each."""
    return Path(__file__).parent / "data" / "clips"
