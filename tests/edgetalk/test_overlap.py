"""Jobs side by side: the order, how far they run ahead, and what an error, an early end or Ctrl-C leaves behind."""

import itertools
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgetalk.overlap import ROOM, Job, codec_threads, overlap

SOON = 5.0  # seconds; far more than any of this takes


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def add(number):
    return lambda item: item + number


def test_what_comes_out_is_what_one_after_another_would_make():
    rng = random.Random(0)
    delays = [rng.random() * 1e-3 for _ in range(120)]

    def halting(item):  # the second of two hands overtakes the first at times
        time.sleep(delays[item])
        return item * 2

    seconds, come = ([], []), []
    jobs = Job("double", [halting] * 3, seconds[0]), Job("add", [add(1)], seconds[1])
    assert list(overlap(range(120), *jobs, seconds=come)) == [2 * i + 1 for i in range(120)]
    assert [len(taken) for taken in (*seconds, come)] == [120] * 3
    assert sum(seconds[0]) >= sum(delays) and min(seconds[0]) >= min(delays)


@pytest.mark.parametrize("count", [0, 1, 2, 3 * ROOM])
@pytest.mark.parametrize("jobs", [0, 1, 4])
def test_any_number_of_items_and_jobs(count, jobs):
    assert list(overlap(iter(range(count)), *(Job("add", [add(1)] * 2, []) for _ in range(jobs)))) == [
        i + jobs for i in range(count)
    ]


def test_each_item_is_counted_for_the_time_that_it_took():
    def slow():
        for i in range(6):
            time.sleep(0.01)
            yield i

    come, taken, started = [], [], time.perf_counter()
    assert len(list(overlap(slow(), Job("sleep", [lambda item: time.sleep(0.01)], taken), seconds=come))) == 6
    for seconds in (come, taken):
        assert min(seconds) >= 0.01 and sum(seconds) <= time.perf_counter() - started


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4)])
def test_codecs_take_half_of_the_cores(monkeypatch, cores, threads):
    monkeypatch.setattr("edgetalk.overlap.cores", lambda: cores)
    assert codec_threads() == threads


def test_jobs_work_at_the_same_time():
    """Hands that wait for each other, within a job and across jobs: one after another they would never pass."""
    both, begun = threading.Barrier(2, timeout=SOON), [threading.Event() for _ in range(6)]

    def first(item):
        begun[item].set()
        both.wait()
        return item

    def last(item):
        assert item > 3 or begun[item + 2].wait(SOON)
        return item

    assert list(overlap(range(6), Job("first", [first, first], []), Job("last", [last], []))) == list(range(6))


def test_a_hand_is_one_thread_alone():
    seen = {0: set(), 1: set()}

    def hand(k):
        return lambda item: (seen[k].add(threading.get_ident()), time.sleep(1e-3))

    list(overlap(range(20), Job("work", [hand(0), hand(1)], [])))
    assert [len(threads) for threads in seen.values()] == [1, 1] and seen[0] != seen[1]


def settled(counter):
    """Wait until a list does not grow any more; return its length."""
    length = -1
    while length != len(counter):
        length = len(counter)
        time.sleep(0.05)
    return length


def test_nobody_runs_farther_ahead_than_there_is_room():
    drawn, made = [], []
    items = (drawn.append(i) or i for i in itertools.count())
    made_by = Job("make", [lambda item: made.append(item) or item] * 2, [])
    with_slow_caller = overlap(items, made_by)
    for i in range(3):
        assert next(with_slow_caller) == i
    # What was taken, what waits for the caller and what two hands hold; then what waits for them and what was drawn.
    assert 3 + ROOM <= settled(made) <= 3 + ROOM + 2
    assert settled(drawn) <= len(made) + ROOM + 1
    with_slow_caller.close()


def test_a_slow_job_holds_back_those_before_it():
    gate, drawn = threading.Event(), []

    def slow(item):
        assert gate.wait(SOON)
        return item

    items = (drawn.append(i) or i for i in range(1000))
    results = overlap(items, Job("fast", [add(0)], []), Job("slow", [slow], []))
    threading.Timer(0.3, gate.set).start()
    next(results)
    assert len(drawn) < 1000
    assert settled(drawn) < 10 * ROOM
    assert sum(1 for _ in results) == 999


class Broken(Exception):
    pass


@pytest.mark.parametrize("place", ["items", "first", "second", "last"])
@pytest.mark.parametrize("at", [0, 1, 25])
def test_an_error_anywhere_is_raised_and_ends_all(place, at):
    done = []

    def stop_at(name):
        def work(item):
            if name == place and item == at:
                raise Broken(name)
            done.append(item)
            return item

        return work

    items = map(stop_at("items"), itertools.count())  # without end: only the error can end it
    jobs = [Job(name, [stop_at(name)] * hands, []) for name, hands in (("first", 1), ("second", 3), ("last", 1))]
    with pytest.raises(Broken, match=place):
        for result in overlap(items, *jobs):
            assert result < at
    assert len(done) < 4 * (at + 5 * ROOM)


def test_the_first_of_two_errors_is_raised_and_at_once():
    """The later item fails first; the earlier one, which is still being worked on, is not waited for in vain."""
    failed, started = threading.Event(), []

    def work(item):
        started.append(item)
        if item == 1:
            failed.set()
            raise Broken("first")
        assert failed.wait(SOON)
        time.sleep(0.05)
        raise Broken("second")

    with pytest.raises(Broken, match="first"):
        list(overlap(itertools.count(), Job("work", [work, work], [])))
    assert sorted(started) == [0, 1]


def test_an_error_of_the_caller_ends_all():
    drawn = []
    with pytest.raises(Broken):
        for item in overlap(map(drawn.append, itertools.count()), Job("pass", [lambda item: item], [])):
            raise Broken(item)
    assert len(drawn) < 5 * ROOM


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closed_early(taken):
    results = overlap(itertools.count(), Job("add", [add(1)] * 2, []), Job("sleep", [lambda i: time.sleep(1e-3)], []))
    for _ in range(taken):
        next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgetalk-")]
    assert list(results) == []


def test_errors_and_ends_at_any_moment_leave_nobody_waiting():
    """Many short runs under a hurried scheduler: a hand-on that can deadlock does so here."""
    interval, rng = sys.getswitchinterval(), random.Random(1)
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            count, bad = rng.randrange(30), rng.randrange(40)

            def work(item, bad=bad):
                if item == bad:
                    raise Broken
                return item

            jobs = [Job("work", [work] * rng.randint(1, 3), []) for _ in range(rng.randint(1, 3))]
            try:
                assert list(overlap(range(count), *jobs)) == list(range(count)) and bad >= count
            except Broken:
                assert bad < count
    finally:
        sys.setswitchinterval(interval)


def test_ctrl_c_while_all_wait():
    code = (
        "import itertools, threading, time\n"
        "from edgetalk.overlap import Job, overlap\n"
        "results = overlap(itertools.count(), Job('slow', [lambda i: time.sleep(0.5)] * 2, []))\n"
        "try:\n"
        "    next(results)\n"
        "    print('running', flush=True)\n"
        "    for _ in results: pass\n"
        "except KeyboardInterrupt:\n"
        "    print(threading.active_count())\n"
    )
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731, a background job ignores it
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10)[0].splitlines()[-1] == "1" and process.returncode == 0
