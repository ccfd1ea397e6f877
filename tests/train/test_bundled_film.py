"""The bundled WavSyncSwap in the bundled film: another face, lips that follow another sound, the rest as it was."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
import torch

import edgetalk
from edgetalk import audio, bundled
from edgetalk.commands.demo import FILM_MODEL, SCENE
from edgetalk.face import read_track
from edgetalk.reader import Reader
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.motion import controls
from edgetalk.train.announcers.speech import synthesize
from edgetalk.train.networks.landmarks import inner_opening, load
from edgetalk.train.scores.report import JUDGE
from edgetalk.train.swap.scene import TO_SAY

FOLDER = bundled.MODELS / SCENE
pytestmark = pytest.mark.skipif(
    not (bundled.MODELS / f"{FILM_MODEL}.xml").is_file(),
    reason=f"this copy carries no bundled model: edgetalk/models/{FILM_MODEL}.xml",
)


def dubbed(folder, pcm):
    edgetalk.dub(FILM_MODEL, FOLDER / "target.mp4", pcm, folder / "out.mp4", FOLDER / "portrait.png")
    return np.stack(list(Reader(folder / "out.mp4")))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    return dubbed(tmp_path_factory.mktemp("spoken"), audio.read(FOLDER / "speech.wav"))


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    return dubbed(tmp_path_factory.mktemp("silent"), np.zeros(3 * 16000, np.float32))


@pytest.fixture(scope="module")
def openings():
    judge = load(JUDGE)[0]

    def measure(frames):
        small = np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in frames])
        with torch.no_grad():
            seen = [judge(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1).landmarks
                    for part in np.array_split(small, 8)]  # fmt: skip
        return 256 * inner_opening(torch.cat(seen)).numpy()

    return measure


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed, which knows the phones' times")
def test_lips_move_as_the_sentence_wants_and_rest_in_silence(spoken, silent, openings):
    said = synthesize(TO_SAY, "rms")
    assert abs(len(said.pcm) - len(audio.read(FOLDER / "speech.wav"))) < 640
    drawn = Announcer(CAST["finn"], 256)
    lips = [drawn.landmarks(Controls(c.mouth)) for c in controls(said, 25.0, seed=5)]
    wanted = 256 * inner_opening(torch.from_numpy(np.stack(lips).astype(np.float32))).numpy()
    moved, still = openings(spoken), openings(silent)
    assert 0 <= len(moved) - len(wanted) <= 1  # in the last frame sound may end
    moved = moved[: len(wanted)]
    r = np.corrcoef(moved, wanted)[0, 1]
    print(f"lips: r {r:.2f}, deviation {moved.std():.2f} of {wanted.std():.2f} px, in silence {still.std():.2f} px")
    assert r > 0.6
    assert moved.std() > 0.4 * wanted.std() and moved.std() > 3 * still.std()


def test_the_face_is_the_portraits_and_the_rest_the_films(spoken):
    target, portrait = next(iter(Reader(FOLDER / "target.mp4"))), cv2.imread(str(FOLDER / "portrait.png"))[..., ::-1]

    def cheeks(picture, track):
        [eye, other, nose, *_] = read_track(track).faces[0].points
        places = (0.5 * (p + nose) + (0, 0.1 * (other - eye)[0]) for p in (eye, other))
        return np.mean([picture[int(y) - 6 : int(y) + 6, int(x) - 6 : int(x) + 6].mean((0, 1)) for x, y in places], 0)

    made = cheeks(spoken[0].astype(float), FOLDER / "target.track.npz")
    near = np.abs(made - cheeks(portrait.astype(float), FOLDER / "portrait.track.npz")).mean()
    far = np.abs(made - cheeks(target.astype(float), FOLDER / "target.track.npz")).mean()
    assert near < 0.5 * far
    box = read_track(FOLDER / "target.track.npz").faces[0].box
    assert np.abs(spoken[0, : int(box[1]) - 60].astype(int) - target[: int(box[1]) - 60]).mean() < 2  # hair and wall
