"""Write docs/protocols.md from `ssvideo_core.protocols`: python docs/make_protocols.py

tests/test_protocols_page.py fails while the page is not what this makes.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from ssvideo_core.protocols import DEFAULT_VIEWS, INTERVAL_LEVEL, PROTOCOLS, Protocol

PAGE = Path(__file__).with_name("protocols.md")
TEMPLATE = """# Protocols

Made by `python docs/make_protocols.py` from `ssvideo_core.protocols`; change that file, not this
page.

A protocol turns a folder of features and a split into numbers, in the same way for every method. It
has a version: a change that could change a number is a new version. Its full name also says the
views of a video, `{example}`: {temporal} clips over time x {spatial} crops over space, the default;
`{name}@2x1` asks for others. Numbers of other versions or other views never share a column.
Protocols of the papers themselves (`METHOD describe` lists them) live in the methods' packages.

```bash needs=features
python -m gdt_stica evaluate --protocol {name} --features FEATURES --dataset hmdb51
```

| protocol | what it measures | numbers |
|---|---|---|
{rows}

{sections}

## What all have in common

- **Values** are fractions in [0, 1]; percent only where they are printed.
- **Intervals** of {level:.0%} are bootstrapped over groups of test videos cut from one recording:
  class and `g` number of UCF101, class and source of HMDB51, else the column `group`, else each
  video. A single group has no interval.
- **Left out**, and that is said: top5 of 5 classes or fewer, recall@k of fewer than k training
  videos.
- **Videos that failed** in extraction are left out of training and test, and counted beside the
  number.
- **Refused**, with the first example: scores, other views, several encoders, NaN, a video in both
  training and test or twice, a video without features or label, a class that only tests have.
"""


def page() -> str:
    """The whole text of docs/protocols.md."""
    first = next(iter(PROTOCOLS.values()))
    temporal, spatial = DEFAULT_VIEWS
    return TEMPLATE.format(
        example=f"{full_name(first)}@{temporal}x{spatial}",
        name=first.name,
        temporal=temporal,
        spatial=spatial,
        rows="\n".join(map(row, PROTOCOLS.values())),
        sections="\n\n".join(map(section, PROTOCOLS.values())),
        level=INTERVAL_LEVEL,
    )


def full_name(protocol: Protocol) -> str:
    return f"{protocol.name}/{protocol.version}"


def row(protocol: Protocol) -> str:
    return f"| `{full_name(protocol)}` | {protocol.title} | {', '.join(protocol.metrics)} |"


def section(protocol: Protocol) -> str:
    return f"## {full_name(protocol)}\n\n" + textwrap.fill(protocol.description, 100)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
