"""The examples in Python: what they make, and what they say where they cannot. That of C is in test_c_library.py."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

pytest.importorskip("aiohttp", reason="needs aiohttp: the live extra")

EXAMPLES = Path(__file__).parents[2] / "examples/python"
LINES = 60


@contextlib.contextmanager
def served(engine, *options):
    """`edgetalk live` on a free port, and its process."""
    run = [sys.executable, "-m", "edgetalk.cli", "live", str(engine), "--port", "0", *options]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process.stdout.readline().split()[0].replace("http", "ws") + "/face", process
        finally:
            process.kill()


def client(*arguments, cwd, **options):
    """The client as a process; what it sees goes to a file, which is never full as a pipe is."""
    command = [sys.executable, EXAMPLES / "client.py", *map(str, arguments)]
    with (cwd / f"{arguments[-1]}.mjpeg").open("wb") as seen:
        return subprocess.Popen(command, cwd=cwd, stdout=seen, stderr=subprocess.PIPE, **options)


def seen(path):
    """The pictures that a client has got, once there are any."""
    for _ in range(600):
        if data := path.read_bytes():
            return data
        time.sleep(0.05)
    pytest.fail("it gets no picture")


def wav(path, seconds):
    """Sound without a sample of silence, so that what comes back is known by it; int16."""
    pcm = np.random.default_rng(0).integers(1, 3000, round(16000 * seconds)).astype(np.int16)
    soundfile.write(path, pcm, 16000, subtype="PCM_16")
    return pcm


def test_a_client_says_a_file_and_gets_it_back_with_pictures(tmp_path):
    """From the real command with the bundled AMNet-lite, behind a pause in the file too.

    Where this machine is busy and a piece comes late, the face falls silent for a moment: nothing else may differ.
    """
    wav(tmp_path / "a.wav", 0.7)
    said, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    said = np.concatenate([said, np.zeros(20000, np.int16), said[:3000]])
    soundfile.write(tmp_path / "a.wav", said, rate, subtype="PCM_16")
    with served("amnet-lite") as (url, _):
        process = client(url, "a.wav", "heard.wav", cwd=tmp_path)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, b"")
    heard, _ = soundfile.read(tmp_path / "heard.wav", dtype="int16")
    first, last = np.flatnonzero(heard)[[0, -1]]
    np.testing.assert_array_equal(heard[heard != 0], said[said != 0])
    assert last + 1 - first >= len(said)
    assert len(heard) - last > 16000
    pictures = re.findall(rb"\xff\xd8.*?\xff\xd9", seen(tmp_path / "heard.wav.mjpeg"), re.S)
    assert len(pictures) == len(heard) // 640
    shown = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (pictures[0], pictures[-1])]
    assert [picture.shape for picture in shown] == [(256, 256, 3)] * 2


def test_a_client_says_why_the_server_ended_it(zoo, tmp_path):
    wav(tmp_path / "a.wav", 20)
    with served(zoo.set("f32", tmp_path)) as (url, server):
        speaking = client(url, "a.wav", "one.wav", cwd=tmp_path)
        assert seen(tmp_path / "one.wav.mjpeg").startswith(b"\xff\xd8")  # it has the only face
        second = client(url, "a.wav", "two.wav", cwd=tmp_path)
        _, told = second.communicate(timeout=30)
        assert told == b"client: the server closed (1013 all faces are taken; see --faces)\n"
        assert second.returncode == 1
        server.send_signal(signal.SIGTERM)
        _, told = speaking.communicate(timeout=30)
    assert (speaking.returncode, told) == (1, b"client: the server closed (1001 edgetalk live has ended)\n")
    assert len(soundfile.read(tmp_path / "one.wav")[0]) >= 640  # what came is a whole file


def test_a_client_is_ended_by_ctrl_c(zoo, tmp_path):
    wav(tmp_path / "a.wav", 20)

    def heed():  # a background job ignores it
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with served(zoo.set("f32", tmp_path)) as (url, _):
        speaking = client(url, "a.wav", "one.wav", cwd=tmp_path, preexec_fn=heed)
        assert seen(tmp_path / "one.wav.mjpeg")
        speaking.send_signal(signal.SIGINT)
        _, told = speaking.communicate(timeout=30)
        assert (speaking.returncode, told) == (130, b"") and len(soundfile.read(tmp_path / "one.wav")[0]) >= 640


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.wav", "No such file or directory"),
        ("text.wav", "file does not start with RIFF id"),
        ("empty.wav", "expected a wav file, 16-bit mono at 16 kHz"),
        ("slow.wav", "expected a wav file, 16-bit mono at 16 kHz"),
        ("a.wav", "127.0.0.1:9"),
    ],
)
def test_a_client_says_what_is_wrong_in_one_line(tmp_path, name, message):
    wav(tmp_path / "a.wav", 0.1)
    (tmp_path / "text.wav").write_text("no sound, a text")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "slow.wav", np.zeros(800, np.int16), 8000, subtype="PCM_16")
    process = client("ws://127.0.0.1:9/face", name, "heard.wav", cwd=tmp_path)  # where nobody listens
    told = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 1 and told.startswith("client: ") and message in told and told.count("\n") == 1


# Doubles: no sound card and no window is used. The microphone gives a tone at 48 kHz from a thread, as PortAudio does;
# the loudspeaker and the window keep what they get; Escape is pressed at the last picture, Space in the middle.
DOUBLES = """
import sys, threading, time, types
import cv2, numpy as np

class PortAudioError(Exception):
    pass

class InputStream:
    def __init__(self, samplerate, channels, dtype, callback):
        assert (samplerate, channels, dtype) == (48000, 1, "float32")
        self._callback, self._over = callback, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        block = np.empty((1920, 1), np.float32)  # the same one each time
        for i in range(1000):
            block[:, 0] = 0.3 * np.sin((i * 1920 + np.arange(1920)) * 2 * np.pi * 440 / 48000)
            self._callback(block, len(block), None, None)
            if i > 5 and self._over.wait(0.04):  # a little ahead, so that a busy machine makes no hole
                return

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

played, shown = [], []

class OutputStream:
    def __init__(self, samplerate, channels, dtype):
        assert (samplerate, channels, dtype) == (44100, 1, "float32")

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass

    def write(self, sound):
        assert sound.dtype == np.float32 and sound.ndim == 2 and sound.shape[1] == 1 and sound.flags.c_contiguous
        played.append(sound[:, 0].copy())

def query_devices(kind):
    if BROKEN:
        raise PortAudioError("Error querying device -1")
    return {"default_samplerate": {"input": 48000.0, "output": 44100.0}[kind]}

BROKEN = "broken" in sys.argv
sys.modules["sounddevice"] = types.SimpleNamespace(
    InputStream=InputStream, OutputStream=OutputStream, query_devices=query_devices, PortAudioError=PortAudioError)
cv2.imshow = lambda name, picture: shown.append(picture)
cv2.waitKey = lambda wait: {25: 32, 50: 27}.get(len(shown), -1)
sys.path.insert(0, EXAMPLES)
import microphone
status = microphone.main()
if played:
    whole = np.concatenate(played)
    tone = whole[26460:44100]  # 0.6 to 1 s
    crossed = np.count_nonzero((tone[1:] >= 0) & (tone[:-1] < 0)) / len(tone) * 44100
    later = np.abs(whole[44100 : len(whole) // 441 * 441]).reshape(-1, 441).max(1)  # every 10 ms behind
    hushed = np.count_nonzero(later < 0.001)
    print(len(shown), len(shown[0]), round(np.abs(tone).max(), 1), round(crossed, -1), len(whole) // 1764, hushed)
sys.exit(status)
"""


def microphone(*arguments):
    code = DOUBLES.replace("EXAMPLES)", f"{str(EXAMPLES)!r})")
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


def test_the_face_says_what_a_double_of_a_microphone_hears(zoo, tmp_path):
    begun = time.monotonic()
    result = microphone(str(zoo.set("f32", tmp_path)))
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert time.monotonic() - begun > 1.9  # 50 pictures, real time
    count, height, loud, hertz, frames, hushed = map(float, result.stdout.split())
    assert (count, height, loud, hertz) == (50, 32, 0.3, 440) and frames >= 46
    assert hushed >= 4  # of 10 ms each: it was silent for a frame or more
    assert len((EXAMPLES / "microphone.py").read_text().splitlines()) <= LINES


def test_a_microphone_or_an_engine_that_is_not_there_is_one_line(zoo, tmp_path):
    for arguments, message in (((zoo.set("f32", tmp_path), "broken"), None), (("none.xml",), "none.xml")):
        result = microphone(*map(str, arguments))
        assert result.returncode == 1 and result.stderr.startswith("microphone: ") and result.stderr.count("\n") == 1
        assert message is None or message in result.stderr


@pytest.mark.parametrize("numbers", [["x"], ["1", "two"]])
def test_frames_are_not_begun_where_a_number_is_none(tmp_path, numbers):
    wav(tmp_path / "a.wav", 0.1)
    command = [sys.executable, EXAMPLES / "talk.py", "amnet-lite", tmp_path / "a.wav", *numbers]
    told = subprocess.run(command, capture_output=True, text=True)
    expected = f"talk: got {' '.join(numbers)}, expected whole numbers as SEED and THREADS\n"
    assert (told.returncode, told.stdout, told.stderr) == (1, "", expected)
