"""What was written, read back from the file: pictures, sound, lengths, rates, tags; and nothing where it failed."""

import errno
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from edgetalk import __version__, audio, writer
from edgetalk.clock import frame_rate
from edgetalk.errors import BackendError, InputError
from edgetalk.files import claim
from edgetalk.reader import Reader
from edgetalk.writer import Writer, check_output

from .dub_models import speech

NTSC = Fraction(30000, 1001)
SUFFIXES = ["mp4", "webm"]


def picture(i, width=96, height=64):
    """Smooth ramps in saturated colours with a bar whose place is the frame's number."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack([255 * x / width, 255 * y / height, np.full((height, width), 20.0 + 2 * i)], -1)
    frame[:, (4 * i) % width : (4 * i) % width + 4] = 255
    return frame.astype(np.uint8)


def write(path, count, fps=Fraction(25), pcm=None, **options):
    with Writer(path, (96, 64), fps, audio=pcm, **options) as writer:
        for i in range(count):
            writer.write(picture(i))


def lengths(path):
    """Seconds of picture and of sound by adding up what the packets say, not by trusting a header."""
    import av

    seconds = {}
    with av.open(str(path)) as film:
        for packet in film.demux():
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                seconds[packet.stream.type] = max(seconds.get(packet.stream.type, 0.0), end)
    return seconds


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_come_back(tmp_path, suffix):
    write(tmp_path / f"a.{suffix}", 30)
    frames = list(Reader(tmp_path / f"a.{suffix}"))
    assert len(frames) == 30
    for i, frame in enumerate(frames):
        assert frame.dtype == np.uint8 and frame.shape == (64, 96, 3)
        errors = [np.abs(frame.astype(int) - picture(k)).mean() for k in range(30)]
        assert int(np.argmin(errors)) == i and errors[i] < 6


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program as an independent reader")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_colours_are_what_another_player_sees(tmp_path, suffix):
    colours = [(220, 30, 40), (30, 190, 60), (40, 60, 210), (224, 172, 140), (128, 128, 128)]
    with Writer(tmp_path / f"a.{suffix}", (64, 64), Fraction(25)) as writer:
        for colour in colours:
            writer.write(np.full((64, 64, 3), colour, np.uint8))
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(tmp_path / f"a.{suffix}"),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    seen = np.frombuffer(raw, np.uint8).reshape(-1, 64 * 64, 3).mean(1)
    assert np.abs(seen - colours).max() < 5
    for frame, colour in zip(Reader(tmp_path / f"a.{suffix}"), colours, strict=True):
        assert np.abs(frame.reshape(-1, 3).mean(0) - colour).max() < 5


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program as an independent reader")
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "gray"])
def test_films_of_others_look_as_in_another_player(tmp_path, pixels):
    source = ["-f", "lavfi", "-i", "testsrc=duration=0.2:size=64x48:rate=25"]
    encode = ["-c:v", "libx264", "-crf", "1", "-pix_fmt", pixels, str(tmp_path / "a.mp4")]
    subprocess.run(["ffmpeg", "-v", "error", *source, *encode], check=True)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    seen = np.frombuffer(raw, np.uint8).reshape(-1, 48, 64, 3)
    read = np.stack(list(Reader(tmp_path / "a.mp4")))
    assert read.shape == seen.shape and np.abs(read.astype(int) - seen).mean() < 2


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(60)])
@pytest.mark.parametrize("sound", ["as long", "longer", "shorter", "almost none"])
def test_picture_and_sound_are_equally_long(tmp_path, suffix, fps, sound):
    count = 50
    seconds = float(count / fps)
    pcm = speech({"as long": seconds, "longer": seconds + 0.7, "shorter": seconds - 0.3, "almost none": 0.01}[sound])
    write(tmp_path / f"a.{suffix}", count, fps, pcm)
    measured = lengths(tmp_path / f"a.{suffix}")
    assert abs(measured["video"] - seconds) < 0.003  # webm counts milliseconds
    assert abs(measured["audio"] - measured["video"]) < 1 / fps


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sound_is_where_it_was(tmp_path, suffix):
    pcm = speech(3.0)
    write(tmp_path / f"a.{suffix}", 75, pcm=pcm)
    back = audio.read(tmp_path / f"a.{suffix}")
    assert abs(len(back) - len(pcm)) <= 64
    inner = pcm[8000:40000]
    scores = [float(back[8000 + lag : 40000 + lag] @ inner) for lag in range(-2000, 2001)]
    assert abs(int(np.argmax(scores)) - 2000) <= 1
    assert max(scores) > 0.9 * float(inner @ inner)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rate_is_exact(tmp_path, suffix):
    import av

    write(tmp_path / f"a.{suffix}", 60, NTSC)
    with av.open(str(tmp_path / f"a.{suffix}")) as film:
        assert film.streams.video[0].average_rate == NTSC
        times = [frame.pts * frame.time_base for frame in film.decode(video=0)]
    slack = 0 if suffix == "mp4" else Fraction(1, 1000)
    assert all(abs(time - i / NTSC) <= slack for i, time in enumerate(times))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_rate_that_was_computed_is_exact_too(tmp_path, suffix):
    write(tmp_path / f"a.{suffix}", 2, frame_rate(30000 / 1001))
    assert Reader(tmp_path / f"a.{suffix}").fps == NTSC


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs the ffprobe program")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_says_that_a_machine_made_it(tmp_path, suffix):
    write(tmp_path / f"a.{suffix}", 3)
    command = ["ffprobe", "-v", "error", "-show_format", "-of", "json", str(tmp_path / f"a.{suffix}")]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["format"]["tags"]
    tags = {name.lower(): value for name, value in tags.items()}
    assert tags["comment"].startswith(f"AI-generated by edgetalk {__version__}")
    assert tags["description"].endswith("digitalsourcetype/trainedAlgorithmicMedia")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_a_failure_leaves_nothing(tmp_path, suffix, error, count):
    file = tmp_path / f"a.{suffix}"
    with pytest.raises(error), Writer(file, (96, 64), Fraction(25), audio=speech(1)) as writer:
        for i in range(count):
            writer.write(picture(i))
        assert [p.name for p in tmp_path.iterdir()] == [f"a.{suffix}.part"]
        raise error
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_older_file_alone(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"older")
    with pytest.raises(RuntimeError), Writer(file, (96, 64), Fraction(25)) as writer:
        writer.write(picture(0))
        raise RuntimeError
    assert file.read_bytes() == b"older"
    write(file, 2)
    assert len(list(Reader(file))) == 2


def test_no_frame_is_no_video(tmp_path):
    with pytest.raises(InputError, match="no frame was written"):
        write(tmp_path / "a.mp4", 0)
    assert not list(tmp_path.iterdir())


def test_closing_twice_is_closing_once(tmp_path):
    """Somebody else may write the same file meanwhile."""
    path = tmp_path / "out.mp4"
    with Writer(path, (64, 64), Fraction(25)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.close()
        whole = path.read_bytes()
        part, held = claim(path)
        with pytest.raises(InputError, match="out.mp4: is closed"):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    assert part.exists() and path.read_bytes() == whole
    held.close()


def test_lower_quality_is_smaller(tmp_path):
    for crf in (10, 40):
        write(tmp_path / f"{crf}.mp4", 30, crf=crf)
    assert (tmp_path / "40.mp4").stat().st_size < 0.7 * (tmp_path / "10.mp4").stat().st_size


def test_the_buffer_may_be_used_again(tmp_path):
    buffer = np.empty((64, 96, 3), np.uint8)
    with Writer(tmp_path / "a.mp4", (96, 64), Fraction(25)) as writer:
        for i in range(20):
            buffer[:] = picture(i)
            writer.write(buffer)
    for i, frame in enumerate(Reader(tmp_path / "a.mp4")):
        assert np.abs(frame.astype(int) - picture(i)).mean() < 6


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("a.avi", (96, 64), "got suffix '.avi', expected .mp4 or .webm"),
        ("a", (96, 64), "got suffix '', expected .mp4 or .webm"),
    ],
)
def test_refusals(tmp_path, name, size, words):
    with pytest.raises(InputError, match=words):
        Writer(tmp_path / name, size, Fraction(25))
    assert not list(tmp_path.iterdir())


def test_a_wrong_frame_is_refused(tmp_path):
    with (
        pytest.raises(InputError, match=r"frame: got float32 \(64, 96, 3\), expected uint8 \(64, 96, 3\)"),
        Writer(tmp_path / "a.mp4", (96, 64), Fraction(25)) as writer,
    ):
        writer.write(picture(0).astype(np.float32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "crf", "words"),
    [
        ("a.mp4", -1, "0 .the best. to 51"),
        ("a.webm", 64, "0 .the best. to 63"),
        ("a.mp4", "17", "0 .the best. to 51"),
        ("a.mp4", True, "0 .the best. to 51"),
    ],
)
def test_a_quality_that_the_codec_does_not_know_is_refused(tmp_path, name, crf, words):
    with pytest.raises(InputError, match=f"crf: got {crf!r}, expected {words}"):
        Writer(tmp_path / name, (96, 64), Fraction(25), crf=crf)
    assert not list(tmp_path.iterdir())


def test_what_is_read_is_not_written_over(tmp_path):
    file, link = tmp_path / "a.mp4", tmp_path / "link.mp4"
    check_output(file, None, file, "idle", np.zeros(3))  # nothing is there yet
    write(file, 1)
    link.symlink_to(file)
    check_output(file, None, "idle", tmp_path / "none.wav", np.zeros(3))
    for given in (file, str(link)):
        with pytest.raises(InputError, match="a.mp4 is read and would be written over; give the result another name"):
            check_output(file, None, given)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_error_however_often_it_is_met(tmp_path, suffix):
    """A limit of the process stands for the disk: FFmpeg cannot write a byte, and crashes if it is called again."""
    code = f"""
import resource, signal, numpy as np
from fractions import Fraction
from edgetalk.writer import Writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
said = []
try:
    with Writer({str(tmp_path / f"a.{suffix}")!r}, (96, 64), Fraction(25), np.zeros(64000, "f4")) as writer:
        for i in range(100):
            try:
                writer.write(np.random.default_rng(i).integers(0, 255, (64, 96, 3), "u1"))
            except OSError as error:
                said.append(str(error))
except OSError as error:
    said.append(str(error))
print(set(said))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("File too large") == 1
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_opened_leaves_nothing(tmp_path, monkeypatch):
    def refused(file, *args, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), file)

    monkeypatch.setattr("av.open", refused)
    with pytest.raises(OSError, match="Too many open files: '.*/a.mp4'$"):
        Writer(tmp_path / "a.mp4", (96, 64), Fraction(25))
    assert not list(tmp_path.iterdir())
    part, held = claim(tmp_path / "a.mp4")  # nor is it held
    held.close()


@pytest.mark.parametrize("codec", ["libx264", "aac", "libvpx-vp9", "libopus"])
def test_an_ffmpeg_without_the_encoder_is_told_before_the_work(tmp_path, monkeypatch, codec):
    path = tmp_path / ("a.mp4" if codec in ("libx264", "aac") else "a.webm")
    kind = writer.CONTAINERS[path.suffix]
    lacking = kind._replace(**{key: "none" for key in ("video", "audio") if getattr(kind, key) == codec})
    monkeypatch.setitem(writer.CONTAINERS, path.suffix, lacking)
    for make in (check_output, lambda path: Writer(path, (96, 64), Fraction(25), np.zeros(640, np.float32))):
        with pytest.raises(BackendError, match=f"a{path.suffix} needs the encoder none, and the FFmpeg .*; install"):
            make(path)
    assert not list(tmp_path.iterdir())


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such folder"):
        Writer(tmp_path / "none" / "a.mp4", (96, 64), Fraction(25))
