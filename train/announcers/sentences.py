"""What announcers say: the lines of sentences.txt, all written for this project; every fifth is held out for tests."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np


def sentences() -> list[str]:
    """All of them."""
    return (Path(__file__).parent / "sentences.txt").read_text("utf-8").split("\n")[:-1]


def training() -> list[str]:
    """Those for training."""
    return [text for i, text in enumerate(sentences()) if i % 5 != 4]


def held_out() -> list[str]:
    """Those that no training clip says."""
    return sentences()[4::5]


def scrambled(rng: np.random.Generator) -> str:
    """Return four to twelve of the words for training, each as likely as any: sounds meet that seldom do."""
    words = _words()
    drawn = [str(rng.choice(words)) + ("," if rng.random() < 0.15 else "") for _ in range(rng.integers(4, 13))]
    return " ".join(drawn).rstrip(",").capitalize() + "."


@functools.cache
def _words() -> list[str]:
    """All words of the sentences for training, each once."""
    return sorted(set(re.findall(r"[\w']+", " ".join(training()).lower())))
