"""Films walked for training: which picture a frame shows, and that the sound stays with it."""

import warnings
from contextlib import closing
from fractions import Fraction

import av
import numpy as np
import pytest

from edgetalk.errors import InputError
from edgetalk.face import Face, write_track
from edgetalk.reader import Reader
from edgetalk.targets import Faces
from edgetalk.train.filmed.films import frames, people, sound
from edgetalk.writer import Writer

SIZE = 48


def face(i):
    at = np.array([(16, 20), (32, 20), (24, 26), (18, 34), (30, 34)], np.float32) + i / 10
    return Face(np.array([10, 10, 40, 40], np.float32), at, 1.0, None, np.zeros(3, np.float32), np.zeros(2, np.float32))


def write(path, count, fps, pcm=None, unseen=()):
    """A film whose picture i is evenly grey, 3 i + 20, with its track."""
    with Writer(path, (SIZE, SIZE), fps, pcm, crf=1) as writer:
        for i in range(count):
            writer.write(np.full((SIZE, SIZE, 3), 20 + 3 * i, np.uint8))
    write_track(path.with_name(f"{path.stem}.track.npz"), [None if i in unseen else face(i) for i in range(count)], fps)
    return Reader(path)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(50), Fraction(30000, 1001), Fraction(10)])
def test_a_frame_shows_what_the_film_shows_at_its_middle(tmp_path, fps):
    count = 60
    film = write(tmp_path / "film.mp4", count, fps, unseen=(3,))
    with closing(Faces(film)) as faces:
        got = list(frames(film, faces))
    seconds = count / float(fps)
    assert len(got) == round(25 * seconds)
    for i, frame in enumerate(got):
        index = int((i + 0.5) / 25 * float(fps) + 1e-9)
        assert abs(frame.picture.mean() - (20 + 3 * index)) < 1.4 and frame.picture.shape == (SIZE, SIZE, 3)
        assert (frame.face is None) == (index == 3) and frame.scene == 0
        if frame.face is not None:
            assert np.array_equal(frame.face.points, face(index).points)


def lay(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_what_is_hidden_is_no_film(tmp_path):
    lay(tmp_path, "ada.MP4", "._ada.mp4", "ada.track.npz", "dan lane/1.mov", "dan lane/._1.mov", ".Trashes/old.mov")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people([tmp_path])
    assert people([tmp_path]) == [("ada", (tmp_path / "ada.MP4",)), ("dan lane", (tmp_path / "dan lane" / "1.mov",))]


def test_what_is_no_film_by_its_name_is_told(tmp_path):
    lay(tmp_path, "ada.mp4", "dan/1.MTS", "dan/notes.txt", "eli/1.rm", "finn.mp5")
    (tmp_path / "zoe").mkdir()
    told = "dan/notes.txt, .*eli, .*finn.mp5 and 1 more: passed over, no film by its name; those end in .3gp, "
    with pytest.warns(UserWarning, match=told):
        assert [person.name for person in people([tmp_path])] == ["ada", "dan"]


def test_a_cut_is_another_scene(tmp_path):
    with Writer(tmp_path / "film.mp4", (SIZE, SIZE), Fraction(25)) as writer:
        for i in range(10):
            writer.write(np.full((SIZE, SIZE, 3), 30 if i < 6 else 200, np.uint8))
    write_track(tmp_path / "film.track.npz", [face(i) for i in range(10)], Fraction(25))
    film = Reader(tmp_path / "film.mp4")
    with closing(Faces(film)) as faces:
        assert [frame.scene for frame in frames(film, faces)] == [0] * 6 + [1] * 4


def beep(rate, seconds, at, loud=0.3):
    pcm = np.zeros(int(seconds * rate), np.float32)
    first = int(at * rate)
    pcm[first : first + rate // 10] = loud * np.sin(2 * np.pi * 440 * np.arange(rate // 10) / rate)
    return pcm


@pytest.mark.parametrize("loud", [0.02, 0.9])
def test_sound_is_mono_and_as_loud_as_an_announcers(tmp_path, loud):
    film = write(tmp_path / "film.mp4", 50, Fraction(25), beep(16000, 2, 1, loud))
    pcm = sound(film)
    assert pcm.dtype == np.float32 and pcm.ndim == 1 and abs(len(pcm) - 32000) < 200
    assert abs(np.sqrt(np.mean(pcm[16200:17400] ** 2)) - 0.08) < 0.01


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.2])
def test_sound_stays_with_the_pictures_where_they_begin_apart(tmp_path, late):
    """The file's pictures begin `late` seconds after its sound; a beep 0.5 s after the first picture stays there."""
    path, rate = tmp_path / "film.mkv", 16000
    with av.open(str(path), "w") as container:
        pictures, spoken = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=rate)
        pictures.width = pictures.height = SIZE
        pictures.pix_fmt, spoken.layout = "yuv420p", "mono"
        for i in range(25):
            picture = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), 99, np.uint8), format="rgb24")
            picture.pts, picture.time_base = round((max(late, 0) + i / 25) * 1000), Fraction(1, 1000)
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        pcm = (beep(rate, 1.5, 0.5 + late) * 32767).astype(np.int16)
        block = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, round(max(-late, 0) * rate), Fraction(1, rate)
        container.mux(spoken.encode(block))
        container.mux(spoken.encode(None))
    heard = np.flatnonzero(np.abs(sound(Reader(path))) > 0.01)
    assert abs(heard[0] / rate - 0.5) < 0.002


def test_films_without_speech_are_refused(tmp_path):
    with pytest.raises(InputError, match="has no sound"):
        sound(write(tmp_path / "mute.mp4", 5, Fraction(25)))
    with pytest.raises(InputError, match="silent throughout"):
        sound(write(tmp_path / "silent.mp4", 25, Fraction(25), np.zeros(16000, np.float32)))
