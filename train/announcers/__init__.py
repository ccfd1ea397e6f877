"""Announcers: drawn, talking heads with exact labels, the project's only training data.

    from edgetalk.train.announcers import CAST, Announcer, speech, motion
    said = speech.synthesize("Good evening.", "slt")
    ada = Announcer(CAST["ada"])
    frames = [ada.draw(c) for c in motion.controls(said, fps=25, seed=1)]

identity.py says who they are, speech.py what they say, motion.py how they move, announcer.py draws them,
landmarks.py labels them, dataset.py writes data sets. Three-dimensional heads of our own making, drawn on the CPU;
no picture, model or voice of anybody is in here.
"""

from .announcer import STUDIO, Announcer, Light
from .camera import FACE, PORTRAIT, Framing
from .features import Controls
from .identity import CAST, Identity, dressed, random_identity, swapped

__all__ = [
    "CAST",
    "FACE",
    "PORTRAIT",
    "STUDIO",
    "Announcer",
    "Controls",
    "Framing",
    "Identity",
    "Light",
    "dressed",
    "random_identity",
    "swapped",
]
