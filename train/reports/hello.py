"""The README's moving picture: three bundled announcers speak, and the bundled film as it is and as it was dubbed.

    python -m edgetalk.train.reports.hello           write docs/results/hello.webp

No sound goes with it. Everything is of the bundled models, as `edgetalk demo` and `edgetalk demo --film` show it.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from edgetalk import Session, audio, dub
from edgetalk.arrays import Picture
from edgetalk.bundled import MODELS, SENTENCE
from edgetalk.files import replacing
from edgetalk.reader import Reader
from edgetalk.train import program

ANNOUNCERS = "ada", "dan", "bea"
SIDE, FRAMES, FPS, QUALITY = 176, 75, Fraction(25), 88
SCENE = MODELS / "scene"


def speaking(announcer: str, seed: int) -> Iterator[Picture]:
    with Session("amnet", avatar=announcer) as session:
        yield from session.talk(SENTENCE, seed=seed, fps=FPS)


def dubbed(folder: Path) -> Reader:
    sound = audio.read(SCENE / "speech.wav")
    dub("wavsyncswap", SCENE / "target.mp4", sound, folder / "dubbed.mp4", SCENE / "portrait.png")
    return Reader(folder / "dubbed.mp4")


def shown(frames: Iterator[Picture]) -> list[Picture]:
    """Return the first FRAMES as squares of SIDE."""
    import cv2

    return [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in itertools.islice(frames, FRAMES)]


def main(arguments: list[str] | None = None) -> None:
    import cv2

    parser = program.parser("edgetalk.train.reports.hello", __doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/hello.webp"), help="picture to write")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="edgetalk-") as folder:
        columns = [shown(speaking(name, seed)) for seed, name in enumerate(ANNOUNCERS)]
        columns += [shown(iter(film)) for film in (Reader(SCENE / "target.mp4"), dubbed(Path(folder)))]
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(np.hstack(row), cv2.COLOR_RGB2BGR) for row in zip(*columns, strict=True)]
    animation.durations = np.full(FRAMES, int(1000 / FPS))
    _, encoded = cv2.imencodeanimation(".webp", animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    with replacing(args.output) as part:
        part.write_bytes(encoded)


if __name__ == "__main__":
    program.run(main)
