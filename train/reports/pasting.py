"""How near a dubbed film is to the exact swap, at the film's own size: what a crop that is pasted back keeps of it.

    python -m edgetalk.train.reports.pasting         print a table, by the bundled WavSyncSwap

People whom no training has seen are filmed while they say one sentence, and dubbed with another and under another face;
the same frames are drawn under that face. Compared is what lies under the crop's mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from edgetalk import portrait
from edgetalk.bundled import find_engine
from edgetalk.face import Face
from edgetalk.painter import Painter
from edgetalk.planes import blend, of_rgb, to_rgb
from edgetalk.postprocess import change, match_colour, spread
from edgetalk.preprocess import align, crop_matrix
from edgetalk.train import program
from edgetalk.train.announcers import Announcer, Controls, motion
from edgetalk.train.announcers.identity import dressed, random_identity, swapped
from edgetalk.train.announcers.speech import synthesize
from edgetalk.train.options import check_bounds
from edgetalk.train.swap.data import FIRST
from edgetalk.train.swap.scene import CALM, SAID, SIZE, TO_SAY, exact
from edgetalk.windows import sound_windows

ROWS = {
    "dubbed": "as it is dubbed",
    "jaw": "what lies beside the jaw repainted, too",
    "crop": "the crop alone, without the film's detail",
    "faultless": "as it is dubbed, by a network without any fault",
}
FPS = Fraction(25)


@dataclass(frozen=True)
class Shot:
    """One frame: the film's and the exact swap's picture, uint8 (SIZE, SIZE, 3), the face, what the network made."""

    film: np.ndarray
    truth: np.ndarray
    face: Face
    cut: np.ndarray
    painted: np.ndarray


def shots(painter: Painter, pair: int, every: int) -> Iterator[Shot]:
    """Yield each `every`-th frame of the target of one pair of test persons, dubbed."""
    target, source = (random_identity(FIRST["test"] + 2 * pair + k) for k in (0, 1))
    target, still = dressed(target, pair), Controls()
    own, swap, sitter = (Announcer(one, SIZE) for one in (target, swapped(source, target), source))
    points = exact(sitter.landmarks(still), still.pose, still.blink, SIZE).points
    picture = sitter.draw(still)

    def cut_out(template: str, size: int) -> np.ndarray:
        return align(picture, crop_matrix(template, points, size), size)

    painter.wear(portrait.extract(portrait.extractor(painter.path), cut_out).identity)
    said, told = synthesize(SAID, "slt"), synthesize(TO_SAY, "rms")
    moves = zip(motion.controls(said, 25, pair), motion.controls(told, 25, pair), strict=False)
    assert painter.audio is not None
    reference = None
    for i, ((shown, spoken), heard) in enumerate(zip(moves, sound_windows(told.pcm, painter.audio, FPS), strict=False)):
        if i % every:
            continue
        shown = replace(shown, pose=CALM * shown.pose)
        film = own.draw(shown)
        face = exact(own.landmarks(shown), shown.pose, shown.blink, SIZE)
        cut = painter.crop(of_rgb(film), painter.matrix(face.points))
        assert cut is not None  # the face is in the picture
        reference = cut if reference is None else reference
        painted = painter.paint(cut, np.asarray(heard, np.float32), reference).copy()
        yield Shot(film, swap.draw(replace(shown, mouth=spoken.mouth)), face, cut, painted)


def pasted(painter: Painter, shot: Shot, row: str) -> np.ndarray:
    """Return the dubbed frame, uint8 (SIZE, SIZE, 3), as a row of ROWS has it."""
    planes, matrix = of_rgb(shot.film), painter.matrix(shot.face.points)
    painted, jaw = shot.painted, shot.face.jaw
    if row == "faultless":
        crop = painter.crop(of_rgb(shot.truth), matrix)
        assert crop is not None
        painted = crop
    if row == "crop":
        blend(planes, *change(match_colour(painted, shot.cut, 1 - painter.pasting.mask), painter.pasting.mask), matrix)
    else:
        painter.paste(planes, painted, shot.cut, matrix, None if row == "jaw" else jaw)
    return to_rgb(planes)


def measured(frame: np.ndarray, truth: np.ndarray, under: np.ndarray) -> tuple[float, float, float]:
    """Return SSIM, squared error and the share of the truth's edges, of pictures where `under` (H, W) is true."""
    import cv2
    from skimage.metrics import structural_similarity

    _, likeness = structural_similarity(
        frame, truth, channel_axis=2, full=True, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    squared = np.square(frame[under].astype(float) - truth[under]).mean()
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in (frame, truth)]
    ours, exactly = (np.hypot(cv2.Sobel(g, cv2.CV_32F, 1, 0), cv2.Sobel(g, cv2.CV_32F, 0, 1))[under] for g in grey)
    return float(likeness[under].mean()), float(squared), float(ours.mean() / exactly.mean())


def table(engine: Path, pairs: int, every: int) -> str:
    """Return the table as Markdown."""
    from tqdm import tqdm

    found: dict[str, list[tuple[float, float, float]]] = {row: [] for row in ROWS}
    whole = slice(0, SIZE), slice(0, SIZE)
    with Painter(engine) as painter:
        for pair in tqdm(range(pairs), desc="dubbed", unit="pair"):
            for shot in shots(painter, pair, every):
                under = spread(painter.pasting.mask, painter.matrix(shot.face.points))(whole) > 0.3
                truth = to_rgb(of_rgb(shot.truth))
                for row, figures in found.items():
                    figures.append(measured(pasted(painter, shot, row), truth, under))
    lines = [f"| {len(found['dubbed'])} frames of {SIZE}×{SIZE} | SSIM | PSNR, dB | edges |", "|---|---:|---:|---:|"]
    for row, figures in found.items():
        likeness, squared, edges = np.mean(figures, 0)
        decibels = 10 * np.log10(255**2 / squared)
        lines.append(f"| {ROWS[row]} | {likeness:.3f} | {decibels:.1f} | {edges:.2f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("edgetalk.train.reports.pasting", __doc__)
    parser.add_argument("--engine", default="wavsyncswap", help="the network, a name or a file")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of people")
    parser.add_argument("--every", type=int, default=9, help="one in so many frames")
    args = parser.parse_args(arguments)
    check_bounds(args, {"pairs": (1, 1000), "every": (1, 100)})
    print(table(find_engine(args.engine), args.pairs, args.every))


if __name__ == "__main__":
    program.run(main)
