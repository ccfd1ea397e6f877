"""The pipeline that speaks from an avatar: what it writes is the film with every crop put back where it was."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgetalk import benchmark
from edgetalk.film_avatar import make_film_avatar
from edgetalk.motion import Still
from edgetalk.pasting import Pasting
from edgetalk.postprocess import blend
from edgetalk.reader import Reader
from edgetalk.session import Session
from edgetalk.windows import sound_windows


@pytest.fixture(scope="module")
def given(swaps, tmp_path_factory):
    """Folder with a drawn film of five frames, its track, a portrait, and a WavSyncSwap of random weights."""
    from edgetalk.export import to_onnx
    from edgetalk.train.swap.scene import write_scene

    folder = tmp_path_factory.mktemp("dubs")
    swaps.write(folder)
    to_onnx(folder / "wavsyncswap.safetensors", folder / "wavsyncswap.onnx", family="wavsyncswap")
    write_scene(folder, seconds=0.2)
    return folder


@pytest.mark.parametrize("streams", [1, 2])
def test_speaking_from_an_avatar_pastes_into_the_film(given, root, tmp_path, streams):
    from bench import dubs

    avatar = make_film_avatar(given / "wavsyncswap.onnx", given / "target.mp4", given / "portrait.png", pictures=False)
    film, pcm, pasting = avatar.film, benchmark.sentence(0.2), Pasting("wavsyncswap", 96, swaps=True)
    assert np.isfinite(film.jaws).all()
    pictures = list(Reader(given / "target.mp4"))
    with Session(given / "wavsyncswap.onnx", avatar=avatar, threads=2, streams=streams) as session:
        assert dubs.speak(session, given / "target.mp4", pcm, tmp_path / "out.mp4") > 0
        heard = sound_windows(pcm, session.audio, Fraction(25))
        wanted = []
        for i, (mel, picture) in enumerate(zip(heard, pictures, strict=True)):
            painted, matrix = session.frame(i, mel, Still(), Fraction(25)), film.matrices[i].astype(float)
            wanted.append(picture.copy())
            blend(wanted[-1], *pasting.layers(painted, film.target[i], matrix, film.jaws[i]), matrix)
    made = list(Reader(tmp_path / "out.mp4"))
    assert len(made) == len(pictures) == len(wanted) == 5
    for got, exact, picture in zip(made, wanted, pictures, strict=True):
        # The codec costs about this much; what was painted is much farther from the film.
        near, far = (np.abs(cv2.blur(got, (5, 5)).astype(int) - cv2.blur(p, (5, 5))).mean() for p in (exact, picture))
        assert near < 1.5 and far > 2 * near


def test_clips_of_other_engines_are_made_again(root, monkeypatch, tmp_path):
    from bench import dubs

    made, stop = [], []

    def clip():
        if stop and len(made) == stop[0]:
            raise KeyboardInterrupt
        made.append(1)
        return 0.5

    monkeypatch.setattr(dubs, "scene", lambda folder, seconds: None)
    monkeypatch.setattr(dubs, "engines", lambda folder: {})
    monkeypatch.setattr(dubs, "clips", lambda *given: {(name, "int8"): clip for name in dubs.PIPELINES})
    out, kept = tmp_path / "dubs.json", tmp_path / "kept"
    kept.mkdir()

    def measure(engine, until=None):
        (kept / "wavsyncswap.bin").write_bytes(engine)
        made.clear()
        stop[:] = [] if until is None else [until]
        dubs.measure(1.0, 3, 2, out, kept)

    with pytest.raises(KeyboardInterrupt):
        measure(b"one", until=4)
    measure(b"one")
    assert len(made) == 2 and not out.with_name("dubs.json.turns.part").exists()
    with pytest.raises(KeyboardInterrupt):
        measure(b"one", until=4)
    measure(b"two")
    assert len(made) == 6
