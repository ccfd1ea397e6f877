"""Every kind of sound that works, against the signal it was written from, and every kind that is refused."""

import itertools
import os
import shutil
import subprocess
import tracemalloc
import warnings
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr

from edgetalk import audio
from edgetalk.errors import InputError
from edgetalk.reader import TS_DISCONT, Reader


def tone(rate, seconds=1.0, hz=440.0):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def assert_is_tone(pcm, seconds=1.0, tolerance=1e-3):
    """Away from the ends, where a resampling filter has nothing to look at."""
    assert pcm.dtype == np.float32 and pcm.ndim == 1
    assert abs(len(pcm) - 16000 * seconds) <= 1
    inner = slice(1000, len(pcm) - 1000)
    assert np.abs(pcm[inner] - tone(16000, seconds)[: len(pcm)][inner]).max() < tolerance


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_any_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(rate), rate, subtype="PCM_16")
    assert_is_tone(audio.read(tmp_path / "a.wav"))


@pytest.mark.parametrize(
    ("suffix", "depth"),
    [
        (suffix, depth)
        for suffix in ("wav", "flac", "aiff", "au", "w64", "rf64", "caf")
        for depth in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
        if depth in soundfile.available_subtypes(suffix.upper())
    ],
)
def test_any_depth(tmp_path, suffix, depth):
    file = tmp_path / f"a.{suffix}"
    soundfile.write(file, tone(16000), 16000, subtype=depth)
    assert_is_tone(audio.read(file), tolerance=1e-4)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program to write such files")
@pytest.mark.parametrize(("name", "options"), [("a.mp3", ["-q:a", "4", "-write_xing", "0"]), ("a.aac", [])])
def test_a_length_that_is_only_guessed_is_not_believed(tmp_path, name, options):
    """After a silent start, at few bits, FFmpeg takes the size of a file for much more sound than it holds."""
    noise = 0.2 * np.random.default_rng(0).normal(size=32000)
    samples = np.concatenate([np.zeros(5 * 16000), noise, np.zeros(5 * 16000)])
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), *options, str(tmp_path / name)]
    subprocess.run(command, check=True)
    pcm = audio.read(tmp_path / name)
    assert abs(len(pcm) - len(samples)) < 4000 and np.abs(pcm).max() > 0.2


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.xyz"])
def test_damage_is_told_by_us_alone(tmp_path, capfd, name):
    """Not by the libraries below, some of which write to stderr."""
    whole = tmp_path / "whole.mp3"
    soundfile.write(whole, tone(16000), 16000)
    frames = whole.read_bytes()
    for content in (os.urandom(70_000), b"\xff\xfb" + os.urandom(70_000), b"ID3" + bytes(70_000), frames[:700]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            audio.read(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.mka"])
def test_channels_that_cancel_each_other_out_leave_the_loudest(tmp_path, name):
    """A microphone wired in opposite phase: the average of the two is silence, or nearly so."""
    samples = tone(16000)
    for quieter in (1.0, 0.9):
        soundfile.write(tmp_path / "a.wav", np.stack([-quieter * samples, samples], 1), 16000)
        if name == "a.mp3":
            soundfile.write(tmp_path / name, np.stack([-quieter * samples, samples], 1), 16000)
        elif name == "a.mka":
            rewrap(tmp_path / "a.wav", tmp_path / name)
        pcm = audio.read(tmp_path / name)
        assert_is_tone(pcm * np.sign(pcm[2005] * np.float32(tone(16000)[2005])), tolerance=0.05)


@pytest.mark.parametrize(("opened", "what"), [(audio.read, "sound"), (Reader, "film")])
def test_a_name_that_no_file_can_have_is_refused(opened, what):
    with pytest.raises(InputError, match=f"^'a.x00.wav' has a zero byte in it, expected the name of a {what} file$"):
        opened("a\0.wav")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(InputError, match="a.wav is a pipe, .*; write the sound to a file"):
        audio.read(tmp_path / "a.wav")


def test_of_several_sound_tracks_the_first_is_heard_that_can_be_decoded(tmp_path, monkeypatch):
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("aac", rate=16000, layout="mono") for _ in range(2)]
        for stream, hz in zip(streams, (1000, 440), strict=True):
            block = av.AudioFrame.from_ndarray(tone(16000, hz=hz)[None].astype(np.float32), "fltp", "mono")
            block.sample_rate, block.pts, block.time_base = 16000, 0, Fraction(1, 16000)
            output.mux([*stream.encode(block), *stream.encode(None)])

    def loudest():
        return np.argmax(np.abs(np.fft.rfft(audio.read(path)[4000:12000]))) * 2  # a bin is 2 Hz

    assert loudest() == 1000
    data = path.read_bytes()
    for count in (1, 2):
        path.write_bytes(data.replace(b"mp4a", b"zzzz", count).replace(b"esds", b"zzzz", count))
        if count == 1:
            assert loudest() == 440
    opened, really = [], av.open
    monkeypatch.setattr(av, "open", lambda path: opened.append(really(path)) or opened[-1])
    with pytest.raises(InputError, match="a.mp4 has sound that this FFmpeg cannot decode, .*; convert it"):
        audio.read(path)
    with pytest.raises(AssertionError, match="not open"):
        opened[0].seek(0)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program to write such films")
def test_the_sound_of_a_film_is_read_without_a_word_of_its_pictures(tmp_path, monkeypatch):
    """And without a touch to the filters of warnings, which are those of all threads."""
    made = ["-f", "lavfi", "-i", "testsrc=duration=1:size=64x48:rate=25", "-f", "lavfi", "-i", "sine=duration=1"]
    codecs = ["-c:v", "libx264", "-color_trc", "smpte2084", "-c:a", "aac"]
    subprocess.run(["ffmpeg", "-v", "error", *made, *codecs, str(tmp_path / "film.mp4")], check=True)
    seen = []
    monkeypatch.setattr(audio, "Reader", lambda path: seen.append(warnings.filters[:]) or Reader(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(audio.read(tmp_path / "film.mp4")) == 16000 and seen == [warnings.filters]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program to write such films")
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("late", [0.0, 0.09, 0.32, -0.09, -0.32])
def test_sound_of_a_film_begins_with_its_first_picture(tmp_path, suffix, late):
    """A click lies half a second into the sound; how late that begins beside the pictures is the films' matter."""
    click = np.zeros(32000, np.float32)
    click[8000:8010] = 0.9
    soundfile.write(tmp_path / "a.wav", click, 16000)
    pictures = ["-itsoffset", f"{max(0, -late)}", "-f", "lavfi", "-i", "testsrc=duration=2:size=64x48:rate=25"]
    sound = ["-itsoffset", f"{max(0, late)}", "-i", str(tmp_path / "a.wav")]
    film = tmp_path / f"film.{suffix}"
    codecs = ["-fps_mode", "passthrough", "-c:v", "libx264", "-c:a", "aac", "-b:a", "128k"]
    subprocess.run(["ffmpeg", "-v", "error", *pictures, *sound, *codecs, str(film)], check=True)
    assert np.abs(audio.read(film)).argmax() / 16000 == pytest.approx(0.5 + late, abs=0.015)


@pytest.mark.parametrize(
    ("kind", "codec", "form", "parts"), [("matroska", "pcm_f32le", "flt", 1), ("mpegts", "ac3", "fltp", 2)]
)
def test_a_hole_in_the_sound_is_silent_and_what_follows_comes_in_time(tmp_path, kind, codec, form, parts):
    """In the second part of a broadcast too, where the clock is set back."""
    import av

    path = tmp_path / "hole"
    samples = tone(48000, 2.0).astype(np.float32)
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        for first in range(0, len(samples), 4800):
            if 28800 <= first < 67200:  # eight packets are lost
                continue
            block = av.AudioFrame.from_ndarray(samples[None, first : first + 4800], format=form, layout="mono")
            block.sample_rate, block.pts, block.time_base = 48000, first, Fraction(1, 48000)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    path.write_bytes(parts * path.read_bytes())
    pcm = audio.read(path)
    spare, lost = {"pcm_f32le": (20, 1e-3), "ac3": (600, 0.01)}[codec]  # samples, of its frames of 512; loudness
    assert len(pcm) == pytest.approx(parts * 32000, abs=parts * spare)
    for part in np.split(pcm[: len(pcm) // parts * parts], parts):
        heard = (part[: 9600 - spare], part[9600 + spare : 22400 - spare], part[22400 + spare :])
        assert [float(np.abs(sound).max()) for sound in heard] == pytest.approx([0.3, 0.0, 0.3], abs=lost)


@pytest.mark.parametrize(
    "parts",
    [
        [("stereo", 48000), ("5.1", 48000)],
        [("5.1", 48000), ("stereo", 32000), ("mono", 48000)],
        [("mono", 32000), ("stereo", 48000)],
    ],
)
def test_a_broadcast_changes_its_channels_and_its_rate(tmp_path, parts):
    """Speech in the middle of six, or alike in two: as loud and as high throughout."""
    import av

    for layout, rate in parts:
        silent = {"mono": [1], "stereo": [1, 1], "5.1": [0, 0, 1, 0, 0, 0]}[layout]
        with av.open(str(tmp_path / "part.ts"), "w", format="mpegts") as output:
            sound = output.add_stream("ac3", rate=rate, layout=layout, bit_rate=448_000)
            samples = np.outer(silent, tone(rate)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            block.sample_rate = rate
            output.mux([*sound.encode(block), *sound.encode(None)])
        with (tmp_path / "a.ts").open("ab") as whole:
            whole.write((tmp_path / "part.ts").read_bytes())
    pcm = audio.read(tmp_path / "a.ts")
    assert abs(len(pcm) / 16000 - len(parts)) < 0.1 * len(parts)
    hann = np.hanning(8000)
    for second in range(len(parts)):
        heard = np.abs(np.fft.rfft(pcm[16000 * second + 4000 :][:8000] * hann))
        assert np.argmax(heard) == 440 / 2  # a bin is 2 Hz
        np.testing.assert_allclose(heard.max(), 0.3 * hann.sum() / 2, rtol=0.05)


@pytest.mark.parametrize("name", ["a.wav", "a.mka"])
def test_channels_are_added_up_to_the_level_of_the_loudest(tmp_path, name):
    """Alike, of different sound, of one alone, and silence; a film's six with speech in the middle and music beside."""
    left, right, nothing = tone(16000), tone(16000, hz=300), np.zeros(16000)
    half = right / 2  # a quarter of the energy
    for channels, share in (
        ([left, left], 2),
        ([left, right], 2),
        ([left, nothing], 1),
        ([nothing, left], 1),
        ([nothing, nothing], 1),
        ([left, half], 1.25),
        ([nothing, nothing, left, nothing, nothing, nothing], 1),
        ([half, half, left, nothing, nothing, nothing], 1.5),
    ):
        soundfile.write(tmp_path / "a.wav", np.stack(channels, 1), 16000, subtype="FLOAT")
        if name == "a.mka":
            rewrap(tmp_path / "a.wav", tmp_path / name)
        np.testing.assert_allclose(audio.read(tmp_path / name), np.sum(channels, 0) / share, atol=1e-4)


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("decibels", [19, 21])
def test_channels_cancel_each_other_out_from_20_decibels_on(tmp_path, pairs, decibels):
    """Less than what as many channels of the same energy leave that have nothing to do with each other."""
    # (1 - q)^2 = r (1 + q^2): how much of a tone the other channel of its pair takes off
    rest = 10 ** (-decibels / 10)
    quieter = (1 - np.sqrt(1 - (1 - rest) ** 2)) / (1 - rest)
    tones = [share * tone(16000, hz=hz) for share, hz in ((1.5, 440), (0.6, 300), (0.9, 1000))][:pairs]
    channels = np.stack([sign * each for each in tones for sign in (-quieter, 1)], 1)
    soundfile.write(tmp_path / "a.wav", channels, 16000, subtype="FLOAT")
    energies = (channels**2).sum(0)
    loudest = channels[:, energies.argmax()]
    added = channels.sum(1) * energies.max() / energies.sum()
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), loudest if decibels > 20 else added, atol=1e-4)


def whole(parts, rate, length):
    """The sound of (N, C) parts, one after another, as `audio.read` tells: all at once, then resampled by soxr."""
    sounds, gains = [], {}
    for count in {part.shape[1] for part in parts}:
        energies = (np.concatenate([part for part in parts if part.shape[1] == count]).astype(np.float64) ** 2).sum(0)
        gains[count] = count * energies.max() / energies.sum()
    sounds = [gains[part.shape[1]] * part.astype(np.float64).mean(1) for part in parts]
    sound = np.concatenate(sounds)[:length].astype(np.float32)
    return sound if rate == 16000 else soxr.resample(sound, rate, 16000)


@pytest.mark.parametrize("layout", [(1,), (2,), (6,), (2, 6, 2), (1, 2, 8)], ids=str)
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_what_is_resampled_block_by_block_is_what_all_at_once_would_be(rate, layout):
    """In blocks of every size, to its end or to where a header says that it ends."""
    noise = np.random.default_rng(0)
    loud = 10.0 ** noise.uniform(-1, 0, 8)  # channels of one count are as loud in all parts, of which they know nothing
    parts = [(loud[:count] * noise.uniform(-0.5, 0.5, (2 * rate + 17, count))).astype(np.float32) for count in layout]
    held = sum(map(len, parts))
    for size, length in ((audio.BLOCK, held), (1152, held), (1152, held - 700), (997, held - rate // 2), (rate, held)):
        mix = audio._Mix({})
        for part in parts:
            for first in range(0, len(part), size):
                mix.add(part[first : first + size], rate)
        assert mix.held == held and not mix.cancelled()
        expected = whole(parts, rate, length)
        assert abs(mix.peak() - np.abs(whole(parts, 16000, held)).max()) < 1e-6
        np.testing.assert_allclose(mix.mono(length), expected, atol=2e-6)


def test_a_promise_far_behind_what_came_is_kept():
    """As of a film whose header tells of its first minutes alone."""
    mix, sound = audio._Mix({}), tone(48000, 9.0).astype(np.float32)
    mix.add(sound[:, None], 48000)
    mix.add(sound[:, None], 48000)
    mono = mix.mono(4 * 48000)
    assert len(mono) == 64000
    np.testing.assert_allclose(mono[:-200], soxr.resample(sound, 48000, 16000)[: 64000 - 200], atol=2e-6)


def test_a_long_file_is_never_held_at_its_own_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(tone(48000, hz=330)[:, None], (120, 2)), 48000, subtype="PCM_16")
    tracemalloc.start()
    try:
        sound = audio.read(tmp_path / "a.wav")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    blocks = 16 * audio.BLOCK * 2  # as read, and squared in double precision
    assert sound.nbytes == 120 * 16000 * 4 and peak < 1.3 * sound.nbytes + blocks


def placed(times, begin=0, flags=0, rate=8000):
    """What `_placed` makes of blocks of half a second that begin at `times`: how loud, and for how many samples."""
    import av

    blocks = []
    for k, time in enumerate(times):
        block = av.AudioFrame.from_ndarray(np.full((1, rate // 2), k + 1, np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, round(time * rate), Fraction(1, rate)
        blocks.append(block)
    container = SimpleNamespace(format=SimpleNamespace(flags=flags), decode=lambda stream: iter(blocks))
    sound = np.concatenate([block.samples[:, 0] for block in audio._placed(container, None, Fraction(begin))])
    return [(int(level), len(list(samples))) for level, samples in itertools.groupby(sound)]


@pytest.mark.parametrize(
    ("times", "begin", "expected"),
    [
        ([0, 0.5], 0, [(1, 4000), (2, 4000)]),
        ([0.05, 0.55], 0, [(0, 400), (1, 4000), (2, 4000)]),  # it begins beside the pictures: later, earlier, hardly
        ([-0.05, 0.45], 0, [(1, 3600), (2, 4000)]),
        ([3.005, 3.505], 3, [(1, 4000), (2, 4000)]),
        ([2.995, 3.495], 3, [(1, 4000), (2, 4000)]),
        ([-0.75, -0.25, 0.25], 0, [(2, 2000), (3, 4000)]),
        ([0, 0.7], 0, [(1, 4000), (0, 1600), (2, 4000)]),  # packets were lost
        ([0, 0.55, 1.05], 0, [(1, 4000), (2, 4000), (3, 4000)]),  # times were rounded
        ([0, 60], 0, [(1, 4000), (0, 59.5 * 8000), (2, 4000)]),
        ([0, 7200], 0, [(1, 4000), (2, 4000)]),  # the clock was set
        ([7200, 7200.5], 0, [(1, 4000), (2, 4000)]),
        ([100, 20, 20.7], 100, [(1, 4000), (2, 4000), (0, 1600), (3, 4000)]),
        ([0, 0.1, 2.1], 0, [(1, 4000), (2, 4000), (0, 8800), (3, 4000)]),  # an overlap: the clock goes on
    ],
)
def test_every_block_of_sound_is_where_its_time_says(times, begin, expected):
    assert placed(times, begin) == expected


def test_a_hole_in_a_broadcast_that_is_longer_than_ten_seconds_is_a_clock_that_was_set():
    assert placed([0, 9.5], flags=TS_DISCONT) == [(1, 4000), (0, 72000), (2, 4000)]
    assert placed([0, 11.5], flags=TS_DISCONT) == [(1, 4000), (2, 4000)]


def test_nothing_is_lost_where_the_rate_changes():
    """A resampler holds some of the sound back; its delay is not to be heard of."""
    import av

    frames = []
    for rate in (48000, 32000, 44100):
        frames.append(av.AudioFrame.from_ndarray(np.ones((1, rate), np.float32), format="fltp", layout="mono"))
        frames[-1].sample_rate = rate
    blocks = [block.to_ndarray() for block in audio._floats(frames)]
    assert abs(sum(block.shape[1] for block in blocks) - 3 * 48000) <= 4


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", tone(16000), 16000)
    assert_is_tone(audio.read(tmp_path / f"a.{suffix}"), tolerance=0.05)


def rewrap(path, target):
    """The samples of a wav file in a container that FFmpeg alone reads."""
    import av

    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)


def black_frames(stream, count):
    import av

    for i in range(count):
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_with_av(path, codec, samples, rate, frames=0):
    import av

    with av.open(str(path), "w", format="mp4" if path.suffix == ".wav" else None) as output:
        if frames:
            picture = output.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        if samples is not None:
            sound = output.add_stream(codec, rate=rate, layout="mono")
            block = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
            output.mux([*sound.encode(block), *sound.encode(None)])
        if frames:
            output.mux(list(black_frames(picture, frames)))


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mp4", "aac")])
def test_what_ffmpeg_reads(tmp_path, name, codec):
    """In time too: a decoder's priming samples would be a video frame and a half of delay."""
    write_with_av(tmp_path / name, codec, tone(48000), 48000, frames=25 if name == "a.mp4" else 0)
    pcm = audio.read(tmp_path / name)
    assert abs(len(pcm) - 16000) <= 2  # what fills the last packet is not sound
    reference = tone(16000)[2000:12000]
    assert np.abs(pcm[2000:12000] - reference).mean() < 0.03  # a shift by one sample alone makes 0.033


def test_stereo_is_averaged(tmp_path):
    left, right = tone(16000, hz=440), tone(16000, hz=1000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    assert np.allclose(audio.read(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)


def test_more_than_one_block(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, audio.BLOCK * 2 + 17).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert np.array_equal(audio.read(tmp_path / "a.wav"), samples)


def test_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    pcm = audio.read(tmp_path / "a.wav")
    assert pcm.shape == (16000,) and not pcm.any()


def test_louder_than_full_scale_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", 4 * tone(16000), 16000, subtype="FLOAT")
    pcm = audio.read(tmp_path / "a.wav")
    assert pcm.max() == 1.0 and pcm.min() == -1.0


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program to write to a pipe")
def test_a_wav_from_a_pipe_has_no_length_and_is_whole(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), "-f", "wav", "-"]
    (tmp_path / "b.wav").write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (tmp_path / "b.wav").read_bytes()[4:8] == b"\xff\xff\xff\xff"
    assert_is_tone(audio.read(tmp_path / "b.wav"))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program to write to a pipe")
@pytest.mark.parametrize("kind", ["flac", "caf", "aiff", "au", "w64", "ogg", "rf64"])
def test_what_was_written_to_a_pipe_is_whole(tmp_path, kind):
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    options = ["-f", "wav", "-rf64", "always"] if kind == "rf64" else ["-f", kind]
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), *options, "pipe:1"]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    if kind == "rf64":  # whose header tells a length of 0
        with pytest.raises(InputError, match="tells no length, as where it was written to a pipe; write it to a file"):
            audio.read(path)
    else:
        assert_is_tone(audio.read(path), tolerance=0.05 if kind == "ogg" else 1e-3)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64", "rf64", "caf", "mp3"])
@pytest.mark.parametrize("part", [0.5, 0.93])
def test_truncated(tmp_path, suffix, part):
    file = tmp_path / f"a.{suffix}"
    soundfile.write(file, tone(16000, 3.0) + 0.01 * np.random.default_rng(1).normal(size=48000), 16000)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError, match="truncated"):
        audio.read(file)


def test_truncated_film(tmp_path):
    write_with_av(tmp_path / "a.mka", "libopus", tone(48000, 3.0), 48000)
    whole = (tmp_path / "a.mka").read_bytes()
    (tmp_path / "a.mka").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="truncated"):
        audio.read(tmp_path / "a.mka")


def float_wav(samples):
    return lambda path: soundfile.write(path, np.asarray(samples, np.float32), 16000, subtype="FLOAT")


def with_one(value):
    samples = tone(16000)
    samples[5000] = value
    return samples


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
        (float_wav([]), "is empty: its header is followed by no samples"),
        (float_wav([0.5]), r"lasts 1 sample \(0.062 ms\), expected at least 10 ms"),
        (float_wav(tone(16000)[:159]), "lasts 159 samples"),
        (float_wav(with_one(np.nan)), "NaN or infinite"),
        (float_wav(with_one(np.inf)), "NaN or infinite"),
        (float_wav(32767 * tone(16000)), "float samples up to 9830, expected -1 to 1"),
        (lambda path: soundfile.write(path, tone(7999), 7999), "7999 Hz, expected at least 8000 Hz"),
        (lambda path: path.write_text("not a sound\n" * 100), "is no sound"),
        (lambda path: path.write_bytes(os.urandom(50_000)), "is no sound"),
        (lambda path: path.write_bytes(b"RIFF"), "is no sound"),
        (lambda path: write_with_av(path, "", None, 0, frames=5), "has no sound"),
    ],
)
def test_refusals(tmp_path, write, words):
    file = tmp_path / "a.wav"
    write(file)
    with pytest.raises(InputError, match=words) as refusal:
        audio.read(file)
    message = str(refusal.value)
    assert str(file) in message and "\n" not in message


def test_a_raw_file_is_refused_and_not_guessed(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"\0\1" * 5000)
    with pytest.raises(InputError):
        audio.read(tmp_path / "a.raw")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        audio.read(tmp_path / "none.wav")
