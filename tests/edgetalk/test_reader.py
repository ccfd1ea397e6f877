"""Films of every kind, made by PyAV or FFmpeg, read and compared with what went in and with FFmpeg's own program."""

import os
import shutil
import subprocess
import warnings
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from edgetalk import planes as codec
from edgetalk.errors import InputError
from edgetalk.postprocess import change, feather, paste
from edgetalk.preprocess import align
from edgetalk.reader import Reader, _promised, _rate
from edgetalk.writer import Writer

from .conftest import cut

NTSC = Fraction(30000, 1001)
FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program as an independent reader")


def picture(i, width=96, height=64):
    """Ramps, and the frame's number in the brightness of the upper left corner."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack([255 * x / width, 255 * y / height, np.full((height, width), 90.0)], -1)
    frame[: height // 4, : width // 4] = 20 + 4 * i
    return frame.astype(np.uint8)


def number(frame):
    height, width = frame.shape[:2]
    return round((float(frame[2 : height // 4 - 2, 2 : width // 4 - 2].mean()) - 20) / 4)


def write(path, count=20, fps=Fraction(25), size=(96, 64), **options):
    with Writer(path, size, fps, crf=4, **options) as writer:
        for i in range(count):
            writer.write(picture(i, *size))
    return path


def ffmpeg(*arguments):
    return subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, capture_output=True).stdout


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(60)])
def test_rate_size_and_order_are_kept(tmp_path, suffix, fps):
    film = Reader(write(tmp_path / f"a.{suffix}", 40, fps))
    assert (film.size, film.fps, film.length, film.pixel_aspect) == ((96, 64), fps, 40, 1)
    frames = list(film)
    assert [number(frame) for frame in frames] == list(range(40))
    assert frames[0].dtype == np.uint8 and frames[0].shape == (64, 96, 3) and frames[0].flags.c_contiguous
    assert [number(frame) for frame in film] == list(range(40)), "a second pass starts anew"


@pytest.mark.parametrize("size", [(95, 64), (96, 63), (95, 63)])
@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_odd_sizes_are_written_and_read(tmp_path, size, suffix):
    write(tmp_path / f"a.{suffix}", 3, size=size)
    film = Reader(tmp_path / f"a.{suffix}")
    assert film.size == (96, 64)
    frame = next(iter(film))
    assert np.abs(frame[: size[1], : size[0]].astype(int) - picture(0, *size)).mean() < 5
    np.testing.assert_allclose(frame[:, 94].astype(int), frame[:, 95], atol=12)


@FFMPEG
def test_films_of_odd_size_have_one_pixel_more_as_planes(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=0.2:size=63x47:rate=25", "-pix_fmt", "yuv444p", tmp_path / "a.mkv")
    film = Reader(tmp_path / "a.mkv")
    frame, planes = next(iter(film)), next(film.planes())
    assert (film.size, frame.shape, planes.shape) == ((63, 47), (47, 63, 3), (72, 64))
    assert np.median(np.abs(codec.to_rgb(planes)[:47, :63].astype(int) - frame)) <= 3  # edges lose colour
    np.testing.assert_array_equal(planes[:47, 63], planes[:47, 62])


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_applied(tmp_path, turn):
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:24, :32] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(turn)
        stream.sample_aspect_ratio = Fraction(16, 15)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(corner, format="rgb24")), *stream.encode(None)]:
            film.mux(packet)
    film = Reader(tmp_path / "a.mp4")
    expected = np.rot90(corner, turn // 90)
    assert film.size == (expected.shape[1], expected.shape[0])
    assert film.pixel_aspect == (Fraction(16, 15) if turn == 180 else Fraction(15, 16))
    assert np.abs(next(iter(film)).astype(int) - expected).mean() < 2
    assert np.abs(codec.to_rgb(next(film.planes())).astype(int) - expected).mean() < 2
    if shutil.which("ffmpeg"):
        seen = ffmpeg("-i", tmp_path / "a.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
        assert np.abs(np.frombuffer(seen, np.uint8).reshape(expected.shape).astype(int) - expected).mean() < 2


@FFMPEG
@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        ("yuv420p", ["-colorspace", "bt709", "-vf", "scale=out_color_matrix=bt709"]),
        ("yuv420p", ["-colorspace", "smpte170m"]),
        ("yuv420p", []),
        ("yuvj420p", []),
        ("yuv444p10le", []),
        ("gray", []),
    ],
)
def test_colours_are_those_of_another_player(tmp_path, pixels, options):
    source = ["-f", "lavfi", "-i", "testsrc=duration=0.2:size=64x48:rate=25"]
    ffmpeg(*source, *options, "-c:v", "libx264", "-crf", "1", "-pix_fmt", pixels, tmp_path / "a.mp4")
    seen = ffmpeg("-i", tmp_path / "a.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    seen = np.frombuffer(seen, np.uint8).reshape(-1, 48, 64, 3).astype(int)
    film = Reader(tmp_path / "a.mp4")
    assert np.abs(np.stack(list(film)) - seen).mean() < 2
    # test pictures have hard coloured edges, which half resolution softens
    assert np.abs(np.stack([codec.to_rgb(planes) for planes in film.planes()]) - seen).mean() < 8
    bars = np.s_[:, 4:12, 3:60]  # plain colours
    assert np.median(np.abs(np.stack([codec.to_rgb(planes) for planes in film.planes()]) - seen)[bars]) <= 2


@FFMPEG
def test_large_films_that_say_nothing_are_high_definition(tmp_path):
    ffmpeg(
        "-f", "lavfi", "-i", "color=c=0xdc1e28:size=1280x720:rate=25:duration=0.1", "-vf",
        "scale=out_color_matrix=bt709", "-c:v", "mpeg4", "-q:v", "2", tmp_path / "a.avi",
    )  # fmt: skip
    assert (
        np.abs(next(iter(Reader(tmp_path / "a.avi"))).reshape(-1, 3).mean(0) - (0xDC, 0x1E, 0x28)).max() < 5
    )  # 20 by BT.601


def test_pictures_shown_for_unequal_times_come_at_a_constant_rate(tmp_path):
    times = [0, 1, 2, 5, 6, 6.4, 7, 8, 12]  # in frames of 25 per second
    with av.open(str(tmp_path / "a.mkv"), "w") as film:
        stream = film.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = round(40 * time), Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    film = Reader(tmp_path / "a.mkv")
    assert film.fps == 25
    assert [number(frame) for frame in film][:13] == [0, 1, 2, 2, 2, 3, 5, 6, 7, 7, 7, 7, 8]


@FFMPEG
@pytest.mark.parametrize("offset", [0, 20_000])
def test_a_broadcast_that_was_joined_to_another_goes_on(tmp_path, offset):
    """Its clock and the size of its pictures are others then."""
    for name, size, start in (("a", (96, 64), 0), ("b", (192, 128), offset)):
        film = write(tmp_path / f"{name}.mp4", 40, size=size)
        ffmpeg("-i", film, "-c", "copy", "-output_ts_offset", start, tmp_path / f"{name}.ts")
    (tmp_path / "both.ts").write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    film = Reader(tmp_path / "both.ts")
    level = lambda frame: float(frame[2:14, 2:22].mean())  # noqa: E731
    expected = [18.5 + 4 * i for i in (*range(40), *range(40))]  # codec, scaler and converter round down
    for _ in range(2):
        frames = [frame for frame, _ in zip(film, range(200), strict=False)]
        np.testing.assert_allclose([level(frame) for frame in frames], expected, atol=1.9)
        assert {frame.shape for frame in frames} == {(64, 96, 3)}
    for planes, wanted in ((film.planes(50), expected[50:]), (film.backwards(45), expected[44::-1])):
        np.testing.assert_allclose([level(codec.to_rgb(each)) for each in planes], wanted, atol=1.9)


@FFMPEG
def test_a_broadcast_that_was_joined_is_not_searched(tmp_path, monkeypatch):
    """Its clock says every time twice; that of one that was not is asked."""
    ffmpeg("-i", write(tmp_path / "a.mp4", 40), "-c", "copy", tmp_path / "a.ts")
    (tmp_path / "both.ts").write_bytes(2 * (tmp_path / "a.ts").read_bytes())
    asked = []
    monkeypatch.setattr("edgetalk.reader._sought", lambda film, stream, time: asked.append(time))
    for name, count in (("both.ts", 80), ("a.ts", 40)):
        film = Reader(tmp_path / name)
        whole = list(film.planes())
        assert not asked and len(whole) == count
        np.testing.assert_array_equal(np.stack(list(film.planes(20))), whole[20:])
    assert asked == [film.begins + Fraction(20, 25)]


@FFMPEG
def test_a_broadcast_that_was_joined_is_not_truncated_where_its_clock_ends_early(tmp_path, monkeypatch):
    ffmpeg("-i", write(tmp_path / "a.mp4", 40), "-c", "copy", tmp_path / "a.ts")
    (tmp_path / "both.ts").write_bytes(2 * (tmp_path / "a.ts").read_bytes())
    monkeypatch.setattr("edgetalk.reader._promised", lambda stream, begins: Fraction(16, 5))  # of all the pictures
    assert len(list(Reader(tmp_path / "both.ts"))) == 80
    with pytest.raises(InputError, match="a.ts is truncated"):
        list(Reader(tmp_path / "a.ts"))


@FFMPEG
def test_a_broadcast_may_go_on_with_an_earlier_clock(tmp_path):
    for name, start in (("a", 20_000), ("b", 0)):
        ffmpeg("-i", write(tmp_path / "a.mp4", 40), "-c", "copy", "-output_ts_offset", start, tmp_path / f"{name}.ts")
    (tmp_path / "both.ts").write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    assert [number(frame) for frame in Reader(tmp_path / "both.ts")] == [*range(40), *range(40)]


@pytest.mark.parametrize(
    "other",
    [
        {"width": 192, "height": 128},
        {"pix_fmt": "yuv444p"},
        {"colorspace": 5},  # BT.601
        {"color_range": 2},  # full
    ],
)
def test_what_comes_later_in_another_form_is_brought_to_that_of_the_first(tmp_path, other):
    """A plain colour is the same in all pictures of a broadcast, and so is the size."""
    forms = {"width": 96, "height": 64, "pix_fmt": "yuv420p", "colorspace": 1, "color_range": 1}
    for form in (forms, forms | other):
        with av.open(str(tmp_path / "part.ts"), "w", format="mpegts") as film:
            stream = film.add_stream("libx264", rate=25, options={"crf": "1"})
            for name, value in form.items():
                setattr(stream if name in ("width", "height", "pix_fmt") else stream.codec_context, name, value)
            for i in range(30):  # more than a second: less would be an overlap
                red = np.full((form["height"], form["width"], 3), (200, 60, 40), np.uint8)
                frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(
                    format=form["pix_fmt"], dst_colorspace=form["colorspace"], dst_color_range=form["color_range"]
                )
                frame.pts, frame.time_base = i, Fraction(1, 25)
                film.mux(stream.encode(frame))
            film.mux(stream.encode(None))
        with (tmp_path / "a.ts").open("ab") as whole:
            whole.write((tmp_path / "part.ts").read_bytes())
    film = Reader(tmp_path / "a.ts")
    planes = list(film.planes())
    assert len(planes) == 60 and {each.shape for each in planes} == {(96, 96)}
    for picture in (*film, *map(codec.to_rgb, planes)):
        assert np.abs(picture.reshape(-1, 3).mean(0) - (200, 60, 40)).max() < 5


def test_a_picture_whose_time_steps_back_sets_no_clock(tmp_path, monkeypatch):
    """As where films were joined that overlap by a picture: sound and pictures stay together."""
    film = Reader(write(tmp_path / "a.mp4", 9))
    times = [0, 1, 2, 3, 3, 2, 4, 5, 6]
    shown = lambda frame: Fraction(times[round(frame.time * 25)], 25)  # noqa: E731
    monkeypatch.setattr("edgetalk.reader._time", shown)
    numbers = [number(frame) for frame in film]
    assert len(numbers) == 7 and numbers[:3] == [0, 1, 2] and numbers[4:] == [6, 7, 8]


def test_a_picture_before_the_first_one_takes_its_place(tmp_path, monkeypatch):
    """As after a broken start; it may be the last, and is shown."""
    film = Reader(write(tmp_path / "a.mp4", 2))
    monkeypatch.setattr("edgetalk.reader._time", lambda frame: -frame.time * 3)
    assert [number(frame) for frame in film] == [1]


@pytest.mark.parametrize(
    ("suffix", "times", "expected"),
    [
        ("ts", [0, 1, 2, 127, 128], [0, 1, *[2] * 125, 3, 4]),  # five seconds of it were lost
        ("ts", [0, 1, 2, 1252, 1253], [0, 1, 2, 3, 4]),  # fifty: a clock that was set
        ("mp4", [0, 1, 2, 1252, 1253], [0, 1, *[2] * 1250, 3, 4]),  # which that of a file is not
        ("ts", [0, 1, 2, 700, 701, 1400, 1402], [0, 1, 2, 3, 4, 5, 5, 6]),  # twice
        ("ts", [0, 1, 2, 700, 701, 702, 200, 201], range(8)),  # and back, but not as far as to the first clock
        # A second less is an overlap, by the latest of all pictures before.
        ("mp4", [*range(31), 6, 4, 5, 6], [*range(30), 31, 32, 33, 34]),
    ],
)
def test_where_pictures_are_missing_and_where_the_clock_was_set(tmp_path, monkeypatch, suffix, times, expected):
    """`times` are in pictures; those of a broadcast that are missing are waited for up to ten seconds."""
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p", options={"crf": "4"})
        for i in range(len(times)):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    film = Reader(path)
    begins = film.begins
    shown = lambda frame: begins + Fraction(times[round((frame.pts * frame.time_base - begins) * 25)], 25)  # noqa: E731
    monkeypatch.setattr("edgetalk.reader._time", shown)
    assert [number(frame) for frame in film] == list(expected)


def test_a_picture_is_a_film_of_one(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), picture(3)[..., ::-1])
    film = Reader(tmp_path / "a.png")
    frames = list(film)
    assert len(frames) == 1
    np.testing.assert_array_equal(frames[0], picture(3))


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_any_part_in_any_direction(tmp_path, suffix, monkeypatch):
    film = Reader(write(tmp_path / f"a.{suffix}", 40, NTSC))
    whole = list(film.planes())
    for start in (1, 17, 39):
        part = list(film.planes(start))
        assert len(part) == 40 - start
        np.testing.assert_array_equal(np.stack(part), whole[start:])
    monkeypatch.setattr("edgetalk.reader.MEMORY", 1)  # then eight at once
    np.testing.assert_array_equal(np.stack(list(film.backwards(37))), whole[36::-1])


@FFMPEG
def test_files_that_cannot_be_searched(tmp_path):
    write(tmp_path / "a.mp4", 30)
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "a.h264")
    film = Reader(tmp_path / "a.h264")
    assert [number(frame) for frame in film] == list(range(30))
    np.testing.assert_array_equal(np.stack(list(film.planes(20))), list(film.planes())[20:])


@FFMPEG
@pytest.mark.parametrize(
    ("name", "source", "options"),
    [
        ("a.mpg", "rgbtestsrc", ["-c:v", "mpeg2video", "-bf", "2"]),  # where a search gives no last picture,
        ("a.mpg", "mandelbrot", ["-c:v", "mpeg2video", "-g", "1"]),  # or one too many
        ("a.mjpeg", "mandelbrot", []),
    ],
)
def test_the_end_of_files_that_cannot_be_searched_surely(tmp_path, name, source, options):
    ffmpeg("-f", "lavfi", "-i", f"{source}=size=64x64:rate=25", "-frames:v", 60, *options, tmp_path / name)
    film = Reader(tmp_path / name)
    whole = list(film.planes())
    for start in (40, 58, 59):
        np.testing.assert_array_equal(np.stack(list(film.planes(start))), whole[start:])
    np.testing.assert_array_equal(np.stack(list(film.backwards(60))), whole[::-1])


def test_pixels_that_are_not_square(tmp_path):
    film = Reader(write(tmp_path / "a.mp4", 3, pixel_aspect=Fraction(16, 15)))
    assert film.pixel_aspect == Fraction(16, 15)


def test_crops_and_blends_of_planes_agree_with_those_of_rgb():
    y, x = np.mgrid[:120, :160] / 120
    frame = np.stack([127 + 100 * np.sin(5 * x + 3 * y), 255 * y, 190 - 100 * x], -1).astype(np.uint8)
    planes, rng = codec.of_rgb(frame), np.random.default_rng(4)
    for scale, angle in ((1.7, 0.1), (0.6, -0.2), (0.25, 0.05)):
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.c_[turn, (48, 48) - turn @ (85.3, 61.7)]
        cut = codec.crop(planes, matrix, 96)
        assert np.abs(cut[8:-8, 8:-8].astype(int) - align(frame, matrix, 96)[8:-8, 8:-8]).max() <= 6
        painted = np.clip(cut + rng.normal(0, 40, 3), 0, 255).astype(np.uint8)
        done, mask = planes.copy(), feather(96, 0.2)
        codec.blend(done, *change(painted, mask, cut), matrix)
        expected = paste(frame, painted, matrix, mask, cut)
        error = np.abs(codec.to_rgb(done)[4:-4, 4:-4].astype(int) - expected[4:-4, 4:-4])
        assert error.mean() < 2 and error.max() <= 20  # colours at half resolution
        same = planes.copy()
        codec.blend(same, *change(cut, mask, cut), matrix)
        np.testing.assert_array_equal(same, planes)
    assert codec.crop(planes, np.array([[1.0, 0, 900], [0, 1, 0]]), 96) is None


@pytest.mark.parametrize(
    ("reduced", "angle"), [(0.1, 0.0), (0.1, 0.3), (0.4, 0.2), (0.7, 0.0), (1.0, 0.4), (1.9, 0.1), (4.0, 0.0)]
)
def test_a_crop_is_the_middle_of_a_larger_one(reduced, angle):
    """Its outermost pixels are made of what lies around it too, in brightness and in colours."""
    rng, size, more = np.random.default_rng(5), 24, 8
    planes = rng.integers(16, 236, (720, 480)).astype(np.uint8)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / reduced
    for _ in range(8):
        matrix = np.c_[turn, (size - 1) / 2 - turn @ (240 + rng.uniform(0, 8, 2))]
        larger = codec.crop(planes, matrix + [[0, 0, more]] * 2, size + 2 * more)
        different = codec.crop(planes, matrix, size) != larger[more:-more, more:-more]
        assert different.mean() < 0.005  # OpenCV rounds places to 1/32 of a pixel


def test_colours_lie_beside_the_left_pixel_and_between_two_rows():
    """As H.264 puts them where a film says nothing: a ramp of colour is where it was in the crop."""
    planes = np.full((180, 160), 128, np.uint8)
    i, j = np.mgrid[:60, :80]
    matrix = np.array([[1.0, 0, -40], [0, 1, -30]])
    v, u = np.mgrid[30:78, 40:88]
    for colour, wanted in ((2 * j, u), (2 * i, v - 0.5)):
        codec.split(planes)[1][:] = 60 + colour
        rgb = codec.crop(planes, matrix, 48).astype(float)
        cb = (rgb[..., 2] - 255 * (128 - 16) / 219) / 255 / 1.8556 * 224 + 128  # ITU-R BT.709, item 3
        assert np.abs(np.clip(cb - 60 - wanted, -2, 2)[:, cb[0] < 180].mean()) < 0.15


def test_a_picture_made_small_is_the_mean_of_many_rows():
    """Rows that repeat every 32: one alone of them says little of the whole."""
    planes = np.full((576 * 3 // 2, 512), 128, np.uint8)
    planes[:576] = (16 + 7 * (np.arange(576) % 32))[:, None]
    grey = 255 * (7 * 15.5) / 219
    assert np.abs(codec.small(planes, (32, 18)).astype(float) - grey).max() < 15


@pytest.mark.parametrize("scale", [0.4, 0.9, 1.8])
def test_what_of_a_crop_shows_nothing_changes_nothing(scale):
    """A share of next to nothing in the corners has the whole crop looked at: the frame is the same."""
    rng = np.random.default_rng(3)
    planes = rng.integers(16, 236, (180, 160)).astype(np.uint8)
    matrix = np.array([[scale, 0.1 * scale, 48 - 75.3 * scale], [-0.1 * scale, scale, 48 - 57.8 * scale]])
    for rows, columns in ((slice(30, 66), slice(28, 70)), (slice(0, 40), slice(60, 96)), (slice(2, 94), slice(1, 95))):
        share = np.zeros((96, 96), np.float32)
        share[rows, columns] = 1.0  # its edges are as hard as can be
        colours = share[..., None] * np.float32([250, 30, 120])
        done = []
        for corners in (0, 1e-7):
            whole = share.copy()
            whole[::95, ::95] += corners
            done.append(planes.copy())
            codec.blend(done[-1], colours, whole, matrix)
        alike = 120 if 2 * scale > 2 else 180  # colours that become fewer are averaged, in blocks that begin elsewhere
        assert (done[0][:120] != planes[:120]).any()
        assert np.abs(done[0].astype(int) - done[1])[:alike].max() <= 1


@pytest.mark.parametrize("light", [30, -30])
def test_light_alone_is_added_to_the_frame(light):
    """Where nothing is taken of the frame's own, as where a crop differs by next to nothing."""
    planes = np.full((180, 160), 128, np.uint8)
    colours = np.zeros((96, 96, 3), np.float32)
    colours[20:70, 30:80] = light
    codec.blend(planes, colours, np.zeros((96, 96), np.float32), np.array([[1.0, 0, -20], [0, 1, -10]]))
    luma, *others = codec.split(planes)
    wanted = np.full((120, 160), 128.0)
    wanted[30:80, 50:100] += light * 219 / 255
    np.testing.assert_allclose(luma, wanted, atol=0.6)
    assert all((colour == 128).all() for colour in others)


@FFMPEG
def test_bad_files_are_told_in_one_line(tmp_path):
    write(tmp_path / "whole.mp4", 200)
    ffmpeg("-i", tmp_path / "whole.mp4", "-c", "copy", "-movflags", "-faststart", tmp_path / "late.mp4")
    ffmpeg("-i", tmp_path / "whole.mp4", "-c", "copy", tmp_path / "cut.mkv")
    shutil.copy(tmp_path / "whole.mp4", tmp_path / "cut.mp4")
    for name in ("late.mp4", "cut.mp4", "cut.mkv"):
        cut(tmp_path / name, 0.7)
    (tmp_path / "text.mp4").write_text("no film at all")
    (tmp_path / "empty.mp4").write_bytes(b"")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "sound.wav")
    ffmpeg("-i", tmp_path / "whole.mp4", "-frames:v", "1", tmp_path / "cover.png")
    ffmpeg("-i", tmp_path / "sound.wav", "-i", tmp_path / "cover.png", "-map", "0", "-map", "1", tmp_path / "song.mp3")
    for name, words in {
        "late.mp4": "is no film that FFmpeg can read",
        "cut.mp4": "is truncated: its header promises more pictures than it holds",
        "cut.mkv": "is truncated: its header promises more pictures than it holds",
        "text.mp4": "is no film that FFmpeg can read",
        "empty.mp4": r"is empty \(0 bytes\)",
        "sound.wav": "has no picture stream",
        "song.mp3": "has no picture stream",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            list(Reader(tmp_path / name))
        assert "\n" not in str(caught.value) and name in str(caught.value)
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "none.mp4")


@FFMPEG
@pytest.mark.parametrize("late", [0.3, 1])
def test_pictures_that_begin_after_the_sound_are_not_missed(tmp_path, late):
    """Matroska tells when the last one ends."""
    write(tmp_path / "a.mp4", 40)
    sound = ["-f", "lavfi", "-i", "sine=d=3", "-map", "0:v", "-map", "1:a"]
    ffmpeg("-itsoffset", late, "-i", tmp_path / "a.mp4", *sound, "-c:v", "copy", tmp_path / "a.mkv")
    film = Reader(tmp_path / "a.mkv")
    assert (film.length, [number(frame) for frame in film]) == (40, list(range(40)))


@FFMPEG
def test_a_film_that_misses_its_last_half_second_is_truncated(tmp_path):
    write(tmp_path / "a.mp4", 100)
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "a.mkv")
    with av.open(str(tmp_path / "a.mkv")) as film:
        (stream,) = film.streams.video
        ends = [packet.pos + packet.size for packet in film.demux(stream) if packet.size and packet.pts is not None]
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: ends[87]])
    with pytest.raises(InputError, match="a.mkv is truncated"):
        list(Reader(tmp_path / "a.mkv"))


@pytest.mark.parametrize(
    ("damaged", "message"), [((0, 1), None), ((7,), "a.mov is damaged at 0.24 s"), ((0, 7), "at 0.24 s")]
)
def test_what_cannot_be_decoded_is_skipped_at_the_beginning_alone(tmp_path, damaged, message):
    """As where a broadcast is cut off between two key frames; later it is told where."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("png", rate=25, width=96, height=64, pix_fmt="rgb24")
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets = stream.encode(frame)
            for packet in packets:
                if i in damaged:
                    memoryview(packet)[:8] = bytes(8)
            film.mux(packets)
        film.mux(stream.encode(None))
    if message is None:
        assert [number(frame) for frame in Reader(path)] == list(range(2, 12))
    else:
        with pytest.raises(InputError, match=message):
            list(Reader(path))


@pytest.mark.parametrize(
    ("nominal", "mean", "rate"),
    [
        (25, 25, 25),
        (30, Fraction(2997, 100), 30),
        (36, 25, 36),
        (38, 25, 25),  # more than half as many again: the rate of a clock
        (1000, Fraction(30000, 1001), Fraction(30000, 1001)),
        (90000, None, 25),
        (None, Fraction(123456789, 4938271), Fraction(25)),  # a mean that was rounded
        (None, None, 25),
        (Fraction(1, 2), Fraction(1, 2), 25),
    ],
)
def test_the_rate_is_the_nominal_one_where_it_is_one_of_pictures(nominal, mean, rate):
    assert _rate(SimpleNamespace(guessed_rate=nominal, average_rate=mean)) == rate


@pytest.mark.parametrize(
    ("duration", "text", "seconds"),
    [
        (90090, "", Fraction(1001, 1000)),
        (None, "01:02:03.500000000", Fraction("3723.5")),
        (None, "00:00:08.008000000", Fraction("8.008")),
        (None, "", 0),
        (None, "8 s", 0),
    ],
)
def test_the_length_is_that_of_the_stream_or_of_its_matroska_tag(duration, text, seconds):
    stream = SimpleNamespace(duration=duration, time_base=Fraction(1, 90000), metadata={"DURATION": text})
    assert _promised(stream) == seconds


def unknown(path, count):
    """Rename the codec of the first `count` picture streams of an mp4 to one that nobody knows."""
    data = path.read_bytes()
    at = data.index(b"moov")
    path.write_bytes(data[:at] + data[at:].replace(b"avc1", b"zzzz", count))


def test_of_several_picture_streams_the_first_is_read_that_can_be_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as film:
        streams = [film.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p") for _ in range(2)]
        for stream, n in zip(streams, (2, 7), strict=True):
            film.mux([*stream.encode(av.VideoFrame.from_ndarray(picture(n), format="rgb24")), *stream.encode(None)])
    assert [number(frame) for frame in Reader(path)] == [2]
    unknown(path, 1)
    assert [number(frame) for frame in Reader(path)] == [7]
    unknown(path, 2)
    opened, really = [], av.open
    monkeypatch.setattr(av, "open", lambda path: opened.append(really(path)) or opened[-1])
    with pytest.raises(InputError, match="a.mp4 has pictures that this FFmpeg cannot decode, .*; convert it"):
        Reader(path)
    with pytest.raises(AssertionError, match="not open"):
        opened[0].seek(0)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="a.mp4 is a pipe, .*; write the film to a file"):
        Reader(tmp_path / "a.mp4")


@FFMPEG
@pytest.mark.parametrize("suffix", ["gif", "mp4", "mkv"])
def test_a_film_whose_last_picture_stays_long_is_whole(tmp_path, suffix):
    path, source = tmp_path / f"a.{suffix}", ("-f", "lavfi", "-i", "testsrc=duration=5:size=96x64:rate=25")
    if suffix == "gif":
        ffmpeg(*source, "-final_delay", "200", path)
    else:
        ffmpeg(*source, "-c:v", "mpeg4", tmp_path / "short.mp4")
        with av.open(tmp_path / "short.mp4") as given, av.open(path, "w") as film:
            (pictures,) = given.streams.video
            stream = film.add_stream_from_template(pictures)
            packets = [packet for packet in given.demux(pictures) if packet.size]
            packets[-1].duration = int(2 / pictures.time_base)
            for packet in packets:
                packet.stream = stream
                film.mux(packet)
    film = Reader(path)
    assert film.fps == 25 and len(list(film)) == film.length == 124 + 50


@pytest.mark.parametrize(("duration", "times"), [(None, 1), (0, 1), (10, 1), (60, 2), (120, 3)])
def test_the_last_picture_is_shown_for_its_duration_and_at_least_once(tmp_path, monkeypatch, duration, times):
    """In milliseconds here, of pictures of 40; some files do not say."""
    film = Reader(write(tmp_path / "a.mp4", 2))
    first, last = (SimpleNamespace(n=n, duration=duration, time_base=Fraction(1, 1000)) for n in (0, 1))
    monkeypatch.setattr(film, "_indexed", lambda start: iter([(0, first), (2, last)]))
    assert [shown.n for shown in film._constant(0)] == [0, 0, *[1] * times]


@FFMPEG
def test_high_dynamic_range_is_warned_of(tmp_path):
    source = ["-f", "lavfi", "-i", "testsrc=duration=0.1:size=64x48:rate=25"]
    tags = ["-color_trc", "arib-std-b67", "-colorspace", "bt2020nc", "-color_primaries", "bt2020"]
    ffmpeg(*source, "-c:v", "libx264", "-pix_fmt", "yuv420p10le", *tags, tmp_path / "a.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it may be the sound that is asked for
        film, other = Reader(tmp_path / "a.mp4"), Reader(tmp_path / "a.mp4")
    for pictures in (lambda: iter(film), other.planes):
        with pytest.warns(UserWarning, match=r"high dynamic range \(HLG\)") as told:
            next(pictures())
        assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert len(list(film)) == 3 or len(list(film)) == 2
