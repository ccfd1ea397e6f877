"""Boxes and arrows as SVG, on a card of its own that reads on light and dark pages. Leaves out where they stand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from edgetalk.files import replacing

INK, GREY = "#1f2328", "#59636e"
COLOURS = {
    "once": ("#ddf4ff", "#0969da"),
    "step": ("#fff1e5", "#bc4c00"),
    "given": ("#ffffff", "#8c959f"),
    "note": ("#f6f8fa", "#d1d9e0"),
}
"""Filling and rim of each kind of box."""
LINE = 15  # pixels between two lines of text
Point = tuple[float, float]


class Box:
    """Where a box stands."""

    def __init__(self, x: float, y: float, width: float, height: float) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height

    def left(self, share: float = 0.5) -> Point:
        """Return a point on the left edge, so far down."""
        return self.x, self.y + share * self.height

    def right(self, share: float = 0.5) -> Point:
        return self.x + self.width, self.y + share * self.height

    def top(self, share: float = 0.5) -> Point:
        """Return a point on the upper edge, so far across."""
        return self.x + share * self.width, self.y

    def bottom(self, share: float = 0.5) -> Point:
        return self.x + share * self.width, self.y + self.height


class Drawing:
    """A picture of `width` × `height` pixels with a title that programs read aloud."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.root = ET.Element("svg", {
            "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "width": str(width),
            "height": str(height), "role": "img", "font-family": "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif",
        })  # fmt: skip
        self._add("title").text = title
        head = ET.SubElement(self._add("defs"), "marker", {
            "id": "head", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "7", "markerHeight": "7",
            "orient": "auto",
        })  # fmt: skip
        ET.SubElement(head, "path", {"d": "M0 0 L8 4 L0 8 z", "fill": GREY})
        self._add("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=8, fill="#ffffff", stroke="#d1d9e0")

    def _add(self, tag: str, **attributes: object) -> ET.Element:
        return ET.SubElement(self.root, tag, {k.replace("_", "-"): f"{v}" for k, v in attributes.items()})

    def text(
        self, at: Point, words: str, size: float = 12, colour: str = INK, anchor: str = "middle", bold: bool = False
    ) -> None:
        """Write one line whose baseline passes through `at`."""
        more = {"font_weight": "600"} if bold else {}
        self._add("text", x=at[0], y=at[1], font_size=size, fill=colour, text_anchor=anchor, **more).text = words

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        kind: str,
        *lines: str,
        size: float = 12,
        rim: float = 1.2,
    ) -> Box:
        """Draw a box of a kind (COLOURS) with lines of text in its middle, the first in bold."""
        fill, stroke = COLOURS[kind]
        self._add("rect", x=x, y=y, width=width, height=height, rx=6, fill=fill, stroke=stroke, stroke_width=rim)
        step = LINE * size / 12
        first = y + height / 2 - step * (len(lines) - 1) / 2 + 0.35 * size
        for number, line in enumerate(lines):
            self.text((x + width / 2, first + number * step), line, size if number == 0 else size - 1,
                      INK if number == 0 else GREY, bold=number == 0)  # fmt: skip
        return Box(x, y, width, height)

    def arrow(self, *points: Point, head: bool = True) -> None:
        """Draw a line through the points, with a head at its end."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        more = {"marker_end": "url(#head)"} if head else {}
        self._add("path", d=path, fill="none", stroke=GREY, stroke_width=1.4, **more)

    def write(self, path: Path) -> None:
        ET.indent(self.root)
        with replacing(path) as part:
            part.write_bytes(ET.tostring(self.root, encoding="utf-8") + b"\n")
