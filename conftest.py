"""Import each package before its tests.

`--import-mode=importlib` names a test module after its folders: `gdt_stica.tests.test_model`.
Without the package it would make an empty module `gdt_stica` out of the folder, and hide the real
one.
"""

import importlib
import importlib.util
from pathlib import Path

for _file in sorted(Path(__file__).parent.glob("*/pyproject.toml")):
    _spec = importlib.util.find_spec(_file.parent.name)
    if _spec is not None and _spec.origin is not None:
        importlib.import_module(_file.parent.name)
