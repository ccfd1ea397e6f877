"""A run's page: what its log tells as curves, and its last sheets, in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

from edgetalk.files import replacing

COLOURS = ("#1f6feb", "#d29922", "#2da44e", "#cf222e", "#8250df", "#57606a")
WIDTH, HEIGHT = 640, 180


def _curve(name: str, steps: list[int], values: list[float], colour: str) -> str:
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, steps[-1] or 1
    points = " ".join(
        f"{WIDTH * s / last:.1f},{HEIGHT - 8 - (HEIGHT - 16) * (v - low) / span:.1f}"
        for s, v in zip(steps, values, strict=True)
    )
    return (
        f"<figure><figcaption>{html.escape(name)}: {values[-1]:.4g} (from {values[0]:.4g}, lowest {low:.4g})"
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}"><polyline points="{points}" fill="none" '
        f'stroke="{colour}" stroke-width="1.5"/></svg></figure>'
    )


def write_page(run: Path, config: dict[str, Any], shown: str) -> None:
    """Write run/index.html from run/log.jsonl and run/sheets; `shown` says what is on a sheet."""
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    curves = []
    for i, name in enumerate(names):
        pairs = [(line["step"], line[name]) for line in lines if name in line]
        curves.append(_curve(name, [s for s, _ in pairs], [v for _, v in pairs], COLOURS[i % len(COLOURS)]))
    sheets = []
    for sheet in sorted((run / "sheets").glob("*.jpg"))[-3:][::-1]:
        data = base64.b64encode(sheet.read_bytes()).decode()
        caption = f"step {int(sheet.stem)}: {html.escape(shown)}"
        sheets.append(f'<h2>{caption}</h2><img alt="{caption}" src="data:image/jpeg;base64,{data}">')
    rows = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(str(v))}" for k, v in config.items())
    style = "body{font:15px system-ui;max-width:1500px;margin:2em auto;padding:0 1em}img{max-width:100%}"
    style += "figure{display:inline-block;width:47%;margin:1%}svg{background:#f6f8fa;width:100%}"
    page = (
        f'<!doctype html><meta charset="utf-8"><title>{html.escape(run.name)}</title><style>{style}</style>'
        f"<h1>{html.escape(run.name)}</h1>{''.join(curves)}{''.join(sheets)}<h2>Configuration</h2><table>{rows}</table>"
    )
    with replacing(run / "index.html") as part:
        part.write_text(page)
