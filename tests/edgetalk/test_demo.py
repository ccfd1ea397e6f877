"""demo and bench as a newcomer runs them, on tiny real engines in the place of the bundled model."""

import asyncio
import json
import os
import re
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest
import soundfile

from edgetalk import audio, benchmark, bundled, cli, speech, timing
from edgetalk.face import write_track
from edgetalk.reader import Reader

from . import dub_models as tiny

STAGE = re.compile(r"^(mel|step|encode|end to end) +(\d+\.\d\d) +(\d+\.\d\d) +(\d+\.\d\d) +(\d+)$", re.MULTILINE)


@pytest.fixture
def models(zoo, tmp_path, monkeypatch):
    """A folder of bundled models with a second announcer, and an empty current folder."""
    folder = tmp_path / "models"
    engine = zoo.set("f32", folder)
    shutil.copy(engine.with_suffix(".avatar"), folder / "bea.avatar")
    monkeypatch.setattr(bundled, "MODELS", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_demo_writes_a_film_and_a_table(models, capsys):
    assert cli.main(["demo"]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    assert [row[0] for row in STAGE.findall(printed.out)] == ["mel", "step", "encode"]
    assert "demo.mp4: 163 frames, 6.52 s of speech in" in printed.out and "real-time factor 0." in printed.out
    assert os.listdir() == ["demo.mp4"]
    assert len(list(Reader("demo.mp4"))) == 163
    spoken, heard = audio.read(bundled.SENTENCE), audio.read("demo.mp4")
    assert abs(len(spoken) - len(heard)) <= 640
    assert np.corrcoef(spoken[:90000], heard[:90000])[0, 1] > 0.9


def test_a_second_model_is_no_announcer(models, capsys):
    for file in list(models.glob("amnet.*")):
        shutil.copy(file, file.with_stem("amnet-lite"))
    assert cli.main(["demo", "--announcer", "amnet-lite"]) == 1
    assert "announcer: got 'amnet-lite', expected one of bea\n" in capsys.readouterr().err


def test_the_bundled_sentence():
    pcm = audio.read(bundled.SENTENCE)
    assert 5 < len(pcm) / 16000 < 8 and 0.5 < np.abs(pcm).max() <= 1
    assert np.abs(pcm[:3000]).max() < 0.02 and np.abs(pcm[-4000:]).max() < 0.02  # the mouth opens from closed
    assert bundled.SENTENCE.stat().st_size < 300_000
    assert len(benchmark.sentence(10)) == 160000 and np.array_equal(benchmark.sentence(10)[: len(pcm)], pcm)


def test_another_announcer_and_another_sound(models, capsys):
    soundfile.write("a.wav", np.zeros(16000), 16000)
    assert cli.main(["demo", "--announcer", "bea", "--audio", "a.wav", "-o", "b.webm"]) == 0
    assert len(list(Reader("b.webm"))) == 25


def test_the_bundled_film_gets_another_face_and_another_sound(models, capsys):
    scene = models / "scene"
    scene.mkdir()
    tiny.swap(models / "wavsyncswap.onnx")  # paints the direction of the portrait's colour
    tiny.extractor(models / "arcface.onnx")
    tiny.film(scene / "target.mp4", 30)
    portrait = np.full((tiny.HEIGHT, tiny.WIDTH, 3), (0, 90, 0), np.uint8)
    cv2.imwrite(str(scene / "portrait.png"), portrait[..., ::-1])
    write_track(scene / "portrait.track.npz", [tiny.face()], Fraction(25))
    soundfile.write("a.wav", tiny.speech(1.0), 16000)
    assert cli.main(["demo", "--film", "--audio", "a.wav"]) == 0
    printed = capsys.readouterr()
    assert not printed.err and re.search(r"^paint +\d", printed.out, re.MULTILINE)
    assert "demo-film.mp4: 25 frames of" in printed.out and "portrait.png" in printed.out
    made = list(Reader("demo-film.mp4"))
    assert len(made) == 25 and [tiny.number(frame) for frame in made] == list(range(25))
    x, y = tiny.POINTS[2].astype(int)
    assert all(frame[y, x, 1] > 200 and frame[y, x, 0] < 60 for frame in made)  # the nose has become green
    assert cli.main(["demo", "--film", "--announcer", "bea"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--announcer", "zoe"], "announcer: got 'zoe', expected one of bea"),
        (["--audio", "none.wav"], "none.wav"),
        (["--text", " … "], "expected words to say"),
        (["-o", "demo.gif"], "got suffix '.gif'"),
        (["--film", "--seed", "0"], "seed: is of an announcer's idle life, a film moves as it was shot"),
    ],
)
def test_refusals(models, capsys, arguments, words):
    assert cli.main(["demo", *arguments]) == 1
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1 and not os.listdir()


def test_no_bundled_model_is_one_line(models, capsys):
    for file in models.iterdir():
        file.unlink()
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("program", ["flite", "espeak-ng"])
def test_text_is_spoken_by_what_is_installed(tmp_path, monkeypatch, program):
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    (tmp_path / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    short, long = speech.say("Hello."), speech.say("-o Hello, this is a longer sentence than the other one.")
    for pcm in (short, long):
        assert pcm.dtype == np.float32 and np.abs(pcm).max() > 0.1
    np.testing.assert_array_equal(asyncio.run(speech.say_cancellably("Hello.")), short)
    assert 0.2 < len(short) / 16000 < 2 < len(long) / 16000 < 8


def test_text_that_is_no_utf_8_is_one_line(models, tmp_path, capsys, monkeypatch):
    """The words of a terminal of another encoding come as halves of characters."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["demo", "--text", "hello \udcff"]) == 1
    assert capsys.readouterr().err == (
        "edgetalk demo: text: got 'hello \\udcff', expected UTF-8; write it in that encoding\n"
    )


def test_text_without_a_program_is_one_line(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["demo", "--text", "hello"]) == 1
    assert capsys.readouterr().err == (
        "edgetalk demo: text needs flite or espeak-ng, and neither is installed; "
        "try: apt install flite, or pass a sound file\n"
    )


def test_bench_prints_a_table(models, capsys):
    assert cli.main(["bench", str(models / "amnet.xml"), "--seconds", "2"]) == 0
    printed = capsys.readouterr().out
    rows = {row[0]: [float(v) for v in row[1:]] for row in STAGE.findall(printed)}
    assert list(rows) == ["mel", "step", "encode", "end to end"]
    for p50, p95, p99, fps in rows.values():
        assert 0 <= p50 <= p95 <= p99 and fps > 10
    assert "50 frames for 2.0 s of speech" in printed


def test_bench_for_programs(models, edgetalk_cli):
    run = edgetalk_cli("bench", models / "amnet.xml", "--seconds", "2", "--threads", "1", "--json")
    report = json.loads(run.stdout)
    assert report["precision"] == "f32" and report["size"] == [32, 32] and report["threads"] == 1
    assert set(report["stages"]) == {"mel", "step", "encode", "end_to_end"}
    assert set(report["stages"]["step"]) == {"p50_ms", "p95_ms", "p99_ms", "fps"}
    assert report["frames"] == 50 and report["sound_s"] == 2.0
    assert report["real_time_factor"] == pytest.approx(report["wall_s"] / 2.0)
    assert 0 < report["load_ms"] < 10_000 and 0 < report["first_frame_ms"] < 1000
    assert 30 < report["rss_mb"] <= report["peak_rss_mb"] + 1 < 1000


def test_bench_refuses(models, capsys, tmp_path):
    assert cli.main(["bench", "none.xml"]) == 1
    assert cli.main(["bench", str(models / "amnet.xml"), "--seconds", "0"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "none.xml" in errors[0] and "seconds: got 0, expected 1 to 3600" in errors[1]


def test_percentiles():
    stage = timing.Spread.of([k / 1000 for k in range(1, 102)])
    assert (stage.p50_ms, stage.p95_ms, stage.p99_ms) == pytest.approx((51, 96, 100))
    assert stage.fps == pytest.approx(1 / 0.051)


def test_memory_is_what_the_system_counts():
    grown = timing.memory("VmRSS")
    ballast = np.ones(50_000_000, np.uint8)
    grown = timing.memory("VmRSS") - grown
    assert 45e6 < grown < 60e6 and ballast[-1] == 1


def test_sample_leaves_the_warm_up_out():
    calls = []
    assert len(timing.sample(lambda: calls.append(0), 7, warm_up=3)) == 7 and len(calls) == 10


@pytest.mark.skipif(not (bundled.MODELS / "amnet.xml").is_file(), reason="this copy carries no bundled model")
def test_the_bundled_model_speaks(tmp_path, edgetalk_cli):
    """The first second of the sentence; all of it is heard with the tiny one."""
    soundfile.write(tmp_path / "a.wav", audio.read(bundled.SENTENCE)[:16000], 16000)
    run = edgetalk_cli("demo", "--audio", "a.wav", cwd=tmp_path)
    frames = np.stack(list(Reader(tmp_path / "demo.mp4"))).astype(np.float32)
    assert len(frames) == 25 and frames.shape[1] == frames.shape[2] and "real-time factor" in run.stdout
    still = np.abs(frames[1:5] - frames[0:4]).mean()
    moving = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert frames.std() > 20 and moving.max() > still
