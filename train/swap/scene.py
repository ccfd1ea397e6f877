"""A drawn scene to dub: a film of an announcer, its exact track, somebody else's portrait and another sentence.

`python -m edgetalk.train.swap scene -o DIR` writes target.mp4, target.track.npz, portrait.png,
portrait.track.npz and speech.wav. No tracker is needed for them: the tracks are known.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from edgetalk.errors import InputError
from edgetalk.face import Face, write_track
from edgetalk.picture import write_picture
from edgetalk.train.announcers.landmarks import BROW_LEFT, BROW_RIGHT, CONTOUR
from edgetalk.writer import Writer

from .crops import FIVE

FPS = Fraction(25)
SIZE = 512
SAID = "Good evening. The harbour is open again, and the first boats came home this afternoon with a good catch."
TO_SAY = "Here is the weather for tomorrow. Warm in the morning, some rain over the hills, and a clear night."
CALM = 0.6
"""Share of motion.POSE_LIMIT that the target's head turns."""
TAGS = {"comment": "Drawn by edgetalk: a person who does not exist"}


def exact(landmarks: np.ndarray, pose: np.ndarray, blink: np.ndarray, size: int) -> Face:
    """Return what a faultless tracker would say of landmarks (106, 2), fractions of a picture of `size` pixels.

    Fractions count from the picture's corner, a Face's pixels from the centre of the first.
    """
    points = (landmarks * size - 0.5).astype(np.float32)
    outline, brows = points[CONTOUR], points[BROW_LEFT.start : BROW_RIGHT.stop]
    box = np.array([outline[:, 0].min(), brows[:, 1].min(), *outline.max(0)], np.float32)
    lids = np.asarray(blink, np.float32)
    return Face(box, points[list(FIVE)], 1.0, None, np.asarray(pose, np.float32), lids, outline[::2])  # of 33 points


def write_scene(folder: Path, target: str = "dan", portrait: str = "finn", seconds: float | None = None) -> None:
    """Write the scene of two announcers of CAST into `folder`; the film is as long as its sentence, or `seconds`.

    Longer than the sentence it goes on in silence. Raises InputError where nobody is called so, or the film would have
    no frame or no end.
    """
    import soundfile
    from tqdm import tqdm

    from edgetalk.train.announcers import CAST, Announcer, Controls
    from edgetalk.train.announcers.motion import controls
    from edgetalk.train.announcers.speech import RATE, joined, silence, synthesize

    for name in (target, portrait):
        if name not in CAST:
            raise InputError(f"announcer: got {name!r}, expected one of {', '.join(CAST)}")
    if seconds is not None and not 1 / FPS <= seconds < math.inf:
        raise InputError(f"seconds: got {seconds}, expected {float(1 / FPS)} or more, a frame; change --seconds")
    folder.mkdir(parents=True, exist_ok=True)
    speech = synthesize(SAID, "slt" if CAST[target].sex == "f" else "rms")
    if seconds is not None and seconds > speech.seconds:
        speech = joined([speech, silence(seconds - speech.seconds + float(1 / FPS))])  # cut to whole frames below
    motion = controls(speech, float(FPS), seed=5)[: None if seconds is None else round(seconds * FPS)]
    motion = [Controls(c.mouth, CALM * c.pose, c.blink) for c in motion]
    announcer, faces = Announcer(CAST[target], SIZE), []
    with Writer(folder / "target.mp4", (SIZE, SIZE), FPS, speech.pcm, tags=TAGS) as writer:
        for shown in tqdm(motion, desc="target", unit="frame"):
            writer.write(announcer.draw(shown))
            faces.append(exact(announcer.landmarks(shown), shown.pose, shown.blink, SIZE))
    write_track(folder / "target.track.npz", faces, FPS, (SIZE, SIZE))
    still, sitter = Controls(), Announcer(CAST[portrait], SIZE)
    write_picture(folder / "portrait.png", sitter.draw(still))
    known = exact(sitter.landmarks(still), still.pose, still.blink, SIZE)
    write_track(folder / "portrait.track.npz", [known], FPS, (SIZE, SIZE))
    wanted = synthesize(TO_SAY, "slt" if CAST[portrait].sex == "f" else "rms")
    soundfile.write(folder / "speech.wav", wanted.pcm, RATE)
