"""What announcers say: the lines of sentences.txt, all written for this project; every fifth is held out for tests."""

from __future__ import annotations

from pathlib import Path


def sentences() -> list[str]:
    """All of them."""
    return (Path(__file__).parent / "sentences.txt").read_text("utf-8").split("\n")[:-1]


def training() -> list[str]:
    """Those for training."""
    return [text for i, text in enumerate(sentences()) if i % 5 != 4]


def held_out() -> list[str]:
    """Those that no training clip says."""
    return sentences()[4::5]
