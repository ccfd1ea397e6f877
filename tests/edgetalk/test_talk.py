"""From a sound file to a film through a tiny real engine: what is in the film, what is refused, what is left behind."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import soundfile

import edgetalk
from edgetalk import InputError, Session, audio, cli, clock, motion
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.progress import Progress
from edgetalk.reader import Reader
from edgetalk.render import render
from edgetalk.windows import sound_windows
from edgetalk.writer import Writer

RATES = [Fraction(25), Fraction(30000, 1001)]


def speech(samples=24000, seed=0):
    envelope = np.clip(np.sin(np.arange(samples) / 1500), 0, 1)
    return (0.3 * envelope * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


@pytest.fixture
def wav(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(), 16000, subtype="FLOAT")
    return tmp_path / "a.wav"


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("life", ["idle", "still"])
def test_the_film_shows_what_talk_yields(engine, tmp_path, fps, life):
    pcm = speech()
    calls = []
    with Session(engine) as session:
        timings = render(
            session,
            pcm,
            tmp_path / "a.mp4",
            motion.motion_of(life, 5, fps),
            fps,
            crf=4,
            progress=lambda *call: calls.append(call),
        )
        expected = list(session.talk(pcm, motion=life, seed=5, fps=fps))
    shown = list(Reader(tmp_path / "a.mp4"))
    count = clock.frame_count(len(pcm), fps)
    assert len(shown) == len(expected) == count
    assert calls == [(i + 1, count) for i in range(count)]
    # The tiny networks paint noise, which chroma at half resolution cannot hold: compare brightness.
    luma = np.array([0.2126, 0.7152, 0.0722])
    for got, want in zip(shown, expected, strict=True):
        assert np.abs(got @ luma - want @ luma).mean() < 4
    for stage in (timings.mel, timings.step, timings.encode, timings.done):
        assert len(stage) == count
    assert min(timings.mel + timings.step + timings.encode) > 0 and timings.done == sorted(timings.done)
    assert timings.sound == len(pcm) / 16000
    assert timings.wall > sum(timings.step) and timings.real_time_factor == timings.wall / timings.sound


def test_windows_of_a_front_end_at_another_rate():
    spec = AudioSpec(
        kind="mfcc", sample_rate=44100, n_fft=2048, hop=512, n_mels=128, n_mfcc=20, window=64, offset=-32.0
    )
    pcm = np.zeros(16000, np.float32)
    pcm[8000] = 1.0  # after half a second, in the middle of frame 12
    cut = list(sound_windows(pcm, spec, Fraction(25)))
    assert len(cut) == 25 and all(window.shape == (64, 60) for window in cut)
    # Window 12 starts at floor(12 * 44100 / (512 * 25) - 32) = 9, and the click is at 22050 / 512 = 43.07.
    assert abs(int(np.argmax(cut[12][:, 0])) - (43 - 9)) <= 1


def test_sound_in_every_form(engine, tmp_path):
    forms = {
        "silence.wav": (np.zeros(8000), 16000, "PCM_16"),
        "stereo.wav": (np.stack([speech(22050), speech(22050, 1)], 1), 44100, "PCM_24"),
        "narrow.wav": (speech(4000), 8000, "PCM_16"),
        "float.flac": (speech(8000), 16000, "PCM_16"),
        "short.wav": (speech(200), 16000, "FLOAT"),
    }
    for name, (samples, rate, depth) in forms.items():
        soundfile.write(tmp_path / name, samples, rate, subtype=depth)
        pcm_seconds = len(samples) / rate
        with Session(engine) as session:
            render(session, audio.read(tmp_path / name), tmp_path / "o.webm", motion.Still(), Fraction(25))
        frames = len(list(Reader(tmp_path / "o.webm")))
        assert frames == math.ceil(pcm_seconds * 25)


@pytest.mark.parametrize(
    ("pcm", "words"),
    [
        (np.zeros(0, np.float32), "pcm: got 0 samples, expected sound"),
        (np.zeros(9, np.int16), "pcm: got int16"),
        (np.full(9, np.nan, np.float32), "pcm: got NaN"),
    ],
)
def test_sound_that_cannot_be_said_is_refused_before_the_film_begins(engine, tmp_path, pcm, words):
    with Session(engine) as session, pytest.raises(InputError, match=words):
        render(session, pcm, tmp_path / "o.mp4", motion.Still(), Fraction(25))
    assert not list(tmp_path.glob("o.mp4*"))


def test_command(engine, wav, tmp_path, edgetalk_cli):
    run = edgetalk_cli("talk", engine, "--audio", wav, "--fps", "30000/1001", "-o", tmp_path / "o.mp4")
    assert run.returncode == 0 and not run.stderr  # no bar where nobody watches
    assert "45 frames at 30000/1001 per second, 1.50 s of sound in" in run.stdout
    assert len(list(Reader(tmp_path / "o.mp4"))) == 45


def test_in_python_as_by_the_command(engine, wav, tmp_path, edgetalk_cli):
    options = ["--fps", "30", "--seed", "3", "--crf", "5"]
    edgetalk_cli("talk", engine, "--audio", wav, *options, "-o", tmp_path / "command.mp4")
    calls = []
    done = edgetalk.talk(
        engine,
        audio.read(wav),
        tmp_path / "python.mp4",
        fps=30,
        seed=3,
        crf=5,
        progress=lambda *call: calls.append(call),
    )
    assert (done.fps, len(done.step), calls[-1]) == (30, 45, (45, 45))
    assert (tmp_path / "python.mp4").read_bytes() == (tmp_path / "command.mp4").read_bytes()


@pytest.mark.parametrize(("peak", "warned"), [(0.0, True), (0.0005, True), (0.01, False)])
def test_silence_of_a_file_is_told(engine, tmp_path, monkeypatch, capfd, peak, warned):
    """A track that nobody spoke into, perhaps with a recorder's noise; a quiet voice is none."""
    noise = np.random.default_rng(0).uniform(-peak, peak, 4000).astype(np.float32)
    soundfile.write(tmp_path / "silent.wav", noise, 16000, subtype="PCM_16")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["talk", str(engine), "--audio", "silent.wav", "-o", "out.mp4"]) == 0
    told = "silent.wav is silent: nothing in it reaches -60 dB, so the lips stay closed; another track?"
    assert capfd.readouterr().err == (f"edgetalk talk: {told}\n" if warned else "")


def test_silence_of_an_array_is_meant(engine, tmp_path, recwarn):
    edgetalk.talk(engine, np.zeros(4000, np.float32), tmp_path / "out.mp4")
    assert not recwarn.list


def test_words_are_spoken(engine, tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.setattr("edgetalk.speech.say", lambda text: said.append(text) or speech(16000))
    assert cli.main(["talk", str(engine), "--text", "Good morning.", "-o", str(tmp_path / "out.mp4")]) == 0
    assert said == ["Good morning."] and "25 frames at 25 per second, 1.00 s of sound" in capsys.readouterr().out


def test_the_same_seed_makes_the_same_film(engine, wav, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        edgetalk.talk(engine, wav, tmp_path / f"{name}.mp4", seed=seed)
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b != c


def test_a_failing_step_leaves_nothing(engine, tmp_path):
    class Leaning:
        def pose_blink(self, i):
            return np.array([4.0 if i == 20 else 0.0, 0, 0], np.float32), np.zeros(2, np.float32)

    with Session(engine) as session, pytest.raises(InputError, match="yaw"):
        render(session, speech(), tmp_path / "o.mp4", Leaning(), Fraction(25))
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_failing_encoder_is_heard_of(engine, tmp_path, monkeypatch):
    written = []

    def write(self, frame):
        written.append(frame)
        if len(written) == 10:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "write", write)
    with Session(engine) as session, pytest.raises(OSError, match="No space left"):
        render(session, speech(160000), tmp_path / "o.mp4", motion.Still(), Fraction(25))
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def size(part):
    try:
        return part.stat().st_size
    except FileNotFoundError:  # also where the place was only tried
        return 0


def started(folder, engine, number):
    """A talk of ten minutes that has begun to write, in a process that a signal ends."""
    soundfile.write(folder / "long.wav", np.tile(speech(160000), 60), 16000)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetalk.cli", "talk", engine, "--audio", "long.wav", "-o", "o.mp4"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # whoever runs us in the background ignores it
    )
    deadline = time.monotonic() + 30
    while not size(folder / "o.mp4.part") and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert (folder / "o.mp4.part").exists() and process.poll() is None
    return process


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_what_ends_it_leaves_nothing(engine, tmp_path, number, status, told):
    process = started(tmp_path, engine, number)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == status and errors == f"edgetalk talk: {told}\n"
    assert sorted(os.listdir(tmp_path)) == ["long.wav", "model"]


def test_a_forked_worker_that_is_ended_says_nothing():
    code = (
        "import os, sys, time, types\n"
        "from edgetalk import cli\n"
        "def run(args):\n"
        "    told, tell = os.pipe()\n"
        "    worker = os.fork()\n"
        "    if not worker:\n"
        "        os.write(tell, b'here')\n"
        "        time.sleep(20)\n"
        "        os._exit(0)\n"
        "    os.read(told, 4)\n"
        "    os.kill(worker, 15)\n"
        "    print(os.waitpid(worker, 0)[1] >> 8, flush=True)\n"
        "    os.kill(os.getpid(), 15)\n"
        "    time.sleep(20)\n"
        "sys.modules['work'] = types.SimpleNamespace(configure=lambda parser: None, run=run, __spec__=None)\n"
        "cli.COMMANDS['work'] = cli.Command('work', '')\n"
        "sys.exit(cli.main(['work']))"
    )
    heed = lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)  # noqa: E731
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=heed)
    assert (run.returncode, run.stdout, run.stderr) == (143, "143\n", "edgetalk work: ended by SIGTERM\n")


def test_without_stderr_a_film_is_made_and_errors_are_no_output(engine, wav, tmp_path):
    def quiet(sound):
        code = "import sys; sys.stderr = None; from edgetalk import cli; sys.exit(cli.main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "talk", engine, "--audio", sound, "-o", tmp_path / "o.mp4"]
        return subprocess.run(command, capture_output=True, text=True)

    made, refused = quiet(wav), quiet(tmp_path / "none.wav")
    assert made.returncode == 0 and len(list(Reader(tmp_path / "o.mp4"))) == 38
    assert (refused.returncode, refused.stdout) == (1, "")


def test_what_a_killed_run_has_left_is_overwritten(engine, wav, tmp_path, edgetalk_cli):
    process = started(tmp_path, engine, signal.SIGINT)
    process.kill()
    process.communicate(timeout=20)
    assert (tmp_path / "o.mp4.part").exists() and not (tmp_path / "o.mp4").exists()
    assert edgetalk_cli("talk", engine, "--audio", wav, "-o", tmp_path / "o.mp4").returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "long.wav", "model", "o.mp4"]
    assert len(list(Reader(tmp_path / "o.mp4"))) == 38


def test_nothing_heavy_is_imported(engine, wav, tmp_path):
    code = (
        "import sys; from edgetalk.cli import main\n"
        f"assert main(['talk', {str(engine)!r}, '--audio', {str(wav)!r}, '-o', {str(tmp_path / 'o.mp4')!r}]) == 0\n"
        "print(sorted({'torch', 'onnx', 'librosa', 'scipy', 'matplotlib', 'tqdm'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_bar_tells_no_rate_before_it_knows_one(monkeypatch, capsys):
    """Its clock starts with the first frame: another bar may have gone before it."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("edgetalk.progress.time.monotonic", lambda: next(clock))
    bar = Progress("talk")
    bar(1, 100)
    assert capsys.readouterr().err == ""
    bar(50, 100)
    assert "50/100 frames, 25/s, 2 s left" in capsys.readouterr().err


def test_the_bar_is_drawn_on_a_terminal(engine, wav, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "edgetalk.cli", "talk", engine, "--audio", wav, "-o", tmp_path / "o.mp4"],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "38/38 frames" in drawn and drawn.endswith("\r\033[K")


def test_a_face_that_the_network_cannot_know_gets_one_line_of_warning(zoo, wav, tmp_path, edgetalk_cli):
    import cv2
    import onnx

    engine = zoo.set("onnx", tmp_path / "model")
    model = onnx.load(engine)
    text = Metadata.from_json(model.metadata_props[0].value, "zoo")
    model.metadata_props[0].value = replace(text, persons=("ada", "bea")).to_json()
    onnx.save(model, engine)
    cv2.imwrite(str(tmp_path / "face.png"), np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 64, 3)))
    run = edgetalk_cli("talk", engine, "--audio", wav, "--source", tmp_path / "face.png", "-o", tmp_path / "o.mp4")
    assert run.returncode == 0 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("edgetalk talk: amnet.onnx was trained on ada, bea alone")
