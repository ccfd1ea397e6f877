"""Count how often the likeness to a portrait chooses the right one of two drawn people: the figure of docs/faces.md.

    python -m bench.likeness     24 people, three pictures of each beside their portrait; edgetalk fetch face before

The portrait is taken in the studio, the pictures under other lamps, with heads that turn and mouths that speak. In each
of the three every person stands beside every other, as two faces in one film. Drawn people alone are counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetalk.arrays import Picture
from edgetalk.errors import InputError
from edgetalk.face.look import Look
from edgetalk.face.tracker import _crop
from edgetalk.train import program
from edgetalk.train.announcers.announcer import STUDIO, Announcer, Light
from edgetalk.train.announcers.features import Controls
from edgetalk.train.announcers.identity import random_identity
from edgetalk.train.announcers.visemes import SHAPES

PEOPLE, PICTURES, SIZE = 24, 3, 512
FIRST = 90_000  # seed of the first person; the data sets draw others
TURNS = np.radians([20, 12, 10])  # the most that a head turns to either side: yaw, pitch, roll


def drawn(person: int, scene: int) -> Picture:
    """Return a person in a scene, uint8 (SIZE, SIZE, 3) RGB; scene 0 is the portrait, each other has its lamp."""
    identity = random_identity(FIRST + person)
    if scene == 0:
        return Announcer(identity, SIZE).draw(Controls())
    lamp, moved = np.random.default_rng([scene, 1]), np.random.default_rng([scene, 2, person])
    tint = 1 + lamp.uniform(-1, 1) * np.array([0.14, 0, -0.16]) + lamp.uniform(-0.12, 0.12)
    direction = (lamp.uniform(-1, 1), lamp.uniform(0.1, 0.8), STUDIO.direction[2])
    mouth = list(SHAPES.values())[moved.integers(len(SHAPES))]
    controls = Controls(pose=moved.uniform(-TURNS, TURNS), mouth=np.asarray(mouth, float))
    return Announcer(identity, SIZE, light=Light(direction, tuple(tint.tolist()))).draw(controls)


def right(portraits: NDArray[np.float32], pictures: NDArray[np.float32]) -> int:
    """Return how many of P (P - 1) pairs are chosen rightly, of portraits and pictures of P people, (P, N) each.

    A pair is a portrait, the picture of its person, and that of another: the likeness to the first has to be larger.
    """
    likeness = portraits @ pictures.T
    return int((likeness.diagonal()[:, None] > likeness).sum())


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.likeness", __doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"how many (default: {PEOPLE})")
    parser.add_argument("--face-models", metavar="FOLDER", help="from edgetalk fetch face -o FOLDER")
    args = parser.parse_args(arguments)
    look = Look(args.face_models)

    def crop(person: int, scene: int) -> NDArray[np.float32]:
        picture = drawn(person, scene)
        seen = look.all(picture)
        if not seen:
            raise InputError(f"person {person} in scene {scene}: found no face; expected one")
        return _crop(picture, max(seen, key=lambda sight: sight.size)).ravel()

    try:
        scenes = [np.stack([crop(i, scene) for i in range(args.people)]) for scene in range(PICTURES + 1)]
    finally:
        look.close()
    chosen, pairs = sum(right(scenes[0], one) for one in scenes[1:]), PICTURES * args.people * (args.people - 1)
    print(f"the right one of two people in {chosen:,} of {pairs:,} pairs, {100 * chosen / pairs:.1f} %")


if __name__ == "__main__":
    program.run(main)
