"""A block as a picture: values with their intervals, as SVG text without a library."""

from __future__ import annotations

from html import escape

from shared_eval.join import RUN, Block, Cell, Column, Row
from shared_eval.papers import MEAN
from shared_eval.table import cell_text, row_texts

LEFT, WIDTH, RIGHT = 270, 430, 20
LANE, GAP, TOP, BOTTOM = 11, 12, 8, 36


def svg(block: Block) -> str:
    """One row an encoder, one lane in it a split: a dot with its interval.

    The mean over splits is a stroke through the lanes, a paper's number a hollow diamond. The axis
    goes from 0 to 100 %. The same block gives the same text.
    """
    lanes = [column for column in block.columns if column.kind == RUN]
    others = [column for column in block.columns if column.kind != RUN]
    height_of_row = LANE * len(lanes) + GAP
    bottom = TOP + height_of_row * len(block.rows)
    names = row_texts(block.rows)
    parts = [*_axis(bottom)]
    for number, row in enumerate(block.rows):
        top = TOP + number * height_of_row
        middle = top + height_of_row / 2
        label = f"{names[row][0]} {names[row][1]}, {row.input}"
        css = "untrained" if row.untrained else "trained"
        parts.append(f'<g class="{css}">')
        parts.append(_text(LEFT - 10, middle + 4, _short(label), "row"))
        for lane, column in enumerate(lanes):
            y = top + GAP / 2 + LANE * (lane + 0.5)
            parts += _dot(block, row, column, y)
        for column in others:
            cell = block.cells.get((row, column))
            if cell is not None:
                parts.append(_other(column, cell, top + GAP / 2, middle, LANE * len(lanes)))
        parts.append("</g>")
    width, height = LEFT + WIDTH + RIGHT, bottom + BOTTOM
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(block.title)}">'
    )
    return "\n".join([head, *parts, "</svg>"])


def _x(value: float) -> str:
    return f"{LEFT + WIDTH * min(max(value, 0.0), 1.0):.1f}"


def _axis(bottom: float) -> list[str]:
    lines = []
    for step in range(0, 101, 20):
        x = _x(step / 100)
        lines.append(f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>')
        lines.append(_text(float(x), bottom + 16, f"{step} %", "tick"))
    return lines


def _dot(block: Block, row: Row, column: Column, y: float) -> list[str]:
    cell = block.cells.get((row, column))
    if cell is None:
        return []
    parts = []
    if cell.interval is not None:
        low, high = map(_x, cell.interval)
        parts.append(f'<line class="interval" x1="{low}" y1="{y:.1f}" x2="{high}" y2="{y:.1f}"/>')
    x = _x(cell.value)
    parts.append(f'<circle cx="{x}" cy="{y:.1f}" r="3.2">{_tip(column, cell)}</circle>')
    return parts


def _other(column: Column, cell: Cell, top: float, middle: float, height: float) -> str:
    x, tip = float(_x(cell.value)), _tip(column, cell)
    if column.kind == MEAN:
        place = f'x1="{x}" y1="{top:.1f}" x2="{x}" y2="{top + height:.1f}"'
        return f'<line class="mean" {place}>{tip}</line>'
    points = [(x - 5, middle), (x, middle - 5), (x + 5, middle), (x, middle + 5)]
    shape = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polygon class="paper" points="{shape}">{tip}</polygon>'


def _tip(column: Column, cell: Cell) -> str:
    """What a browser shows when one points at a mark."""
    where = column.title.replace("\n", ", ")
    return f"<title>{escape(f'{where}: {cell_text(cell)}')}</title>"


def _text(x: float, y: float, text: str, css: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
