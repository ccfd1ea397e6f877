"""Live faces at once: what counts as missed, that time is real, and what `edgetalk bench --sessions` prints."""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from edgetalk import Session, cli, crowd


def test_every_session_gets_its_frames_in_real_time(engine, monkeypatch):
    seen = []
    step = Session._step
    monkeypatch.setattr(
        Session, "_step", lambda self, *inputs: seen.append((id(self), time.perf_counter())) or step(self, *inputs)
    )
    monkeypatch.setattr(crowd, "ROUND", 1.0)
    with Session(engine, threads=1) as one, one.twin() as two:
        start = time.perf_counter()
        taken = crowd.crowd([one, two], 2.0, Fraction(4))
        assert time.perf_counter() - start > 2.0
    assert len(taken) == 2 * 2 * 4 and min(frame.taken for frame in taken) > 0
    for session in (one, two):
        times = [at for who, at in seen if who == id(session)]
        assert len(times) == 8
        # never before its sound, in two rounds; each waits for START, and seed 0 draws 0.18 s and more for the first
        assert all(np.array(times) - start >= np.arange(1, 9) / 4 + 0.28)


def test_frames_that_come_too_late_are_missed(engine, monkeypatch):
    monkeypatch.setattr(crowd, "WARM_UP", 0.1)
    step = Session._step
    monkeypatch.setattr(Session, "_step", lambda self, *inputs: time.sleep(0.06) or step(self, *inputs))
    held = crowd.measure(2, 1.0, functools.partial(Session, engine, threads=1))
    assert (held.sessions, held.streams, held.fps, held.frames, held.missed) == (2, 1, 25, 50, 50)
    assert 60 <= held.p50_ms <= held.p95_ms <= held.p99_ms <= held.max_ms
    assert held.p50_ms > 150  # they fall behind more and more
    assert 25 < held.missed_delayed <= 50  # all but the first of each, on a machine at rest
    held = crowd.measure(1, 1.0, functools.partial(Session, engine, threads=1), Fraction(4))
    assert (held.frames, held.missed, held.missed_delayed, held.fps) == (4, 0, 0, 4)
    assert 0 < held.rss_of_one_mb <= held.rss_mb


def test_sessions_are_closed_where_one_more_cannot_be_opened(monkeypatch):
    opened = []

    class Session(contextlib.AbstractContextManager):
        fps = Fraction(25)

        def __init__(self):
            if len(opened) == 2:
                raise RuntimeError("no memory is left")
            opened.append(self)

        def twin(self):
            return Session()

        def __exit__(self, *error):
            opened.remove(self)

    monkeypatch.setattr(crowd, "crowd", lambda *all: [])
    with pytest.raises(RuntimeError, match="no memory is left"):
        crowd.measure(3, 1.0, Session)
    assert not opened


def test_misses_of_a_slow_machine_are_told_apart():
    """Three seconds of 25 frames: one good, one of twice the processor time, one in which the frames only waited."""
    frames, cpu = [], 0.0
    for second, (cost, late) in enumerate([(0.02, 0), (0.04, 5), (0.02, 3)]):
        for i in range(25):
            cpu += cost
            frames.append(crowd.Timed(100.0 + second + i / 25, 0.05 if i < late else 0.03, cpu))
    seconds = crowd.by_second(frames, 0.04)
    assert crowd.missed_slow(seconds) == 5 and crowd.usual_cpu(seconds) == pytest.approx(0.02)
    alone = crowd.by_second(frames[:1], 0.04)
    assert (crowd.missed_slow(alone), crowd.usual_cpu(alone)) == (0, 0.0)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)  # which the main thread hears


def fail():
    raise RuntimeError("broken")


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("end, error", [(fail, RuntimeError), (interrupt, KeyboardInterrupt)])
def test_what_ends_one_session_is_heard_of_and_ends_all(engine, monkeypatch, end, error, broken):
    """Python, as it ends, would abort with a thread inside the engine."""
    step, before = Session._step, threading.active_count()
    with Session(engine, threads=1) as one, one.twin() as two:
        which, stepped = (one, two)[broken], []

        def stepping(self, *inputs):
            stepped.append(self)
            if self is which and stepped.count(self) == 3:
                end()
            return step(self, *inputs)

        monkeypatch.setattr(Session, "_step", stepping)
        with pytest.raises(error):
            crowd.crowd([one, two], 300.0, Fraction(25))
        assert threading.active_count() == before
    assert len(stepped) < 100


@pytest.mark.parametrize(
    "hold, short, tries", [(3, 3, [1, 2, 3, 4, 3]), (2, 4, [1, 2, 3, 4, 5, 4, 3, 2]), (0, 0, [1, 1])]
)
def test_the_most_that_miss_nothing(monkeypatch, hold, short, tries):
    """`short` is what the machine holds for a moment, `hold` for long."""
    seen = []

    def measure(count, seconds, open_session, fps):
        seen.append((count, seconds))
        missed = count > (hold if seconds > crowd.TRIAL else short)
        return crowd.Crowd(count, 1, 25, seconds, 100, int(missed), 0, 0, 9, 1, 1, 1, 1, 1, 1)

    monkeypatch.setattr(crowd, "measure", measure)
    tried = crowd.most(120.0, lambda: None)
    assert [each.sessions for each in tried] == tries == [count for count, _ in seen]
    assert (tried[-1].sessions if not tried[-1].missed else 0) == hold and tried[-1].seconds == 120


def test_one_session_on_one_stream_is_told_as_such():
    one = crowd.Crowd(1, 1, 25, 10, 250, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1)
    assert str(one).startswith("1 session at 25 frames per second on 1 stream for 10 s: ")


def test_command(engine, capsys, monkeypatch):
    monkeypatch.setattr(crowd, "WARM_UP", 0.1)
    assert cli.main(["bench", str(engine), "--sessions", "2", "--seconds", "1", "--streams", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 sessions at 25 frames per second on 2 streams for 1 s: ") and "of 50 frames missed" in out
    assert cli.main(["bench", str(engine), "--sessions", "1", "--seconds", "1", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["frames"] == 25 and set(told) == {field.name for field in dataclasses.fields(crowd.Crowd)}
    assert cli.main(["bench", str(engine), "--sessions", "1", "--find-sessions"]) == 2


def test_command_that_finds(engine, capsys, monkeypatch):
    monkeypatch.setattr(
        crowd, "measure", lambda n, s, *_: crowd.Crowd(n, 1, 25, s, 9, int(n > 3), 0, 0, 9, 1, 1, 1, 1, 1, 1)
    )
    assert cli.main(["bench", str(engine), "--find-sessions", "--seconds", "20"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 live faces without a missed frame in 20 s"


def test_sessions_after_the_first_are_told_of_where_there_are_some():
    told = crowd.Crowd(1, 1, 25, 9, 225, 0, 0, 0, 9, 1, 1, 1, 1, 80.5, 80.1)
    assert str(told).endswith("; memory 80 MB")
    told = dataclasses.replace(told, sessions=3, rss_mb=84.1)
    assert str(told).endswith("; memory 84 MB, 2.0 MB for each session after the first")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--sessions", "0"], "sessions: got 0, expected at least 1"),
        (
            ["--streams", "2"],
            "streams: got 2, which is of live faces; give --sessions or --find-sessions, or leave it out",
        ),
        (
            ["--streams", "0"],
            "streams: got 0, which is of live faces; give --sessions or --find-sessions, or leave it out",
        ),
        (["--sessions", "1", "--streams", "0"], "streams: got 0"),
    ],
)
def test_command_refuses(engine, capsys, options, message):
    assert cli.main(["bench", str(engine), *options]) == 1
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
