"""Charts of lines as SVG, and sheets of images as PNG, without a plotting library."""

import math
import struct
import zlib
from dataclasses import dataclass, field
from html import escape
from typing import Final

from torch import Tensor

COLORS: Final = ("#0072b2", "#d55e00", "#333333")
WIDTH: Final = 360
HEIGHT: Final = 220
LEFT: Final = 52
TOP: Final = 34
BOTTOM: Final = 44


@dataclass(frozen=True)
class Line:
    """Points, (x, y), joined by a line."""

    name: str
    points: list[tuple[float, float]]
    dashed: bool = False


@dataclass
class Panel:
    """Lines with one pair of axes."""

    title: str
    lines: list[Line] = field(default_factory=list)
    logarithmic: bool = False


def draw(panels: list[Panel], x_title: str) -> str:
    """Panels side by side, with one legend."""
    width = len(panels) * (LEFT + WIDTH + 16)
    height = TOP + HEIGHT + BOTTOM + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        left = number * (LEFT + WIDTH + 16) + LEFT
        parts += _panel(panel, x_title, left)
    names = {line.name: line for panel in panels for line in panel.lines}
    for number, line in enumerate(names.values()):
        x, y = LEFT + 180 * number, height - 12
        parts.append(_stroke([(x, y - 4), (x + 24, y - 4)], number, line.dashed))
        parts.append(f'<text x="{x + 30}" y="{y}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, x_title: str, left: float) -> list[str]:
    """Frame, ticks and lines of one panel."""
    scale = math.log10 if panel.logarithmic else float
    points = [point for line in panel.lines for point in line.points]
    right = max(x for x, _ in points)
    values = [scale(y) for _, y in points]
    low, high = (min(values), max(values)) if panel.logarithmic else (0.0, 100.0)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (scale(y) - low) / ((high - low) or 1)
        return left + WIDTH * x / right, TOP + HEIGHT * (1 - share)

    bottom = TOP + HEIGHT
    parts = [
        f'<text x="{left}" y="{TOP - 12}" font-weight="bold">{escape(panel.title)}</text>',
        f'<text x="{left + WIDTH / 2}" y="{bottom + 32}" text-anchor="middle">{x_title}</text>',
    ]
    for y in _ticks(low, high, panel.logarithmic):
        row = place(0, y)[1]
        parts.append(
            f'<line x1="{left}" x2="{left + WIDTH}" y1="{row:.1f}" y2="{row:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{row + 4:.1f}" text-anchor="end">{y:g}</text>'
        )
    for x in range(0, int(right) + 1, 10):
        column = place(x, 10**low if panel.logarithmic else low)[0]
        parts.append(f'<text x="{column:.1f}" y="{bottom + 16}" text-anchor="middle">{x}</text>')
    for number, line in enumerate(panel.lines):
        parts.append(_stroke([place(*point) for point in line.points], number, line.dashed))
    return parts


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Values at the lines of the grid."""
    if not logarithmic:
        return [0, 20, 40, 60, 80, 100]
    steps = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    return [step for step in steps if low <= math.log10(step) <= high]


def _stroke(points: list[tuple[float, float]], number: int, dashed: bool) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    color = COLORS[number % len(COLORS)]
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>'


def sheet(images: Tensor, columns: int, scale: int = 4, gap: int = 2) -> bytes:
    """Images on a sheet, row by row, as PNG.

    Args:
        images: (N, 1, H, W) in [0, 1]; N is a multiple of the columns.
        columns: images per row.
        scale: pixels of the sheet per pixel, high and wide.
        gap: pixels between images, before scaling.
    """
    count, _, height, width = images.shape
    grid = images.new_full((count, 1, height + gap, width + gap), 0.5)
    grid[:, :, :height, :width] = images
    rows = grid.view(count // columns, columns, height + gap, width + gap).transpose(1, 2)
    plane = rows.reshape(count // columns * (height + gap), columns * (width + gap))
    plane = plane.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    data = plane.mul(255).round().byte().cpu().numpy()
    lines = b"".join(b"\0" + line.tobytes() for line in data)
    header = struct.pack(">IIBBBBB", data.shape[1], data.shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
