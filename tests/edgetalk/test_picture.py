"""Pictures out of files: RGB, whole, and nothing else."""

import io
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from edgetalk import InputError
from edgetalk.picture import read_picture, write_picture


def test_pictures_are_read_as_rgb(tmp_path):
    colour = np.zeros((70, 70, 3), np.uint8)
    colour[:, :, 0] = 200
    cv2.imwrite(str(tmp_path / "bild ä.png"), cv2.cvtColor(colour, cv2.COLOR_RGB2BGR))
    np.testing.assert_array_equal(read_picture(tmp_path / "bild ä.png"), colour)
    cv2.imwrite(str(tmp_path / "grey.png"), colour[:, :, 0])
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png"), np.repeat(colour[:, :, :1], 3, 2))
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((70, 70, 4), 51400, np.uint16))
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), 200)


@pytest.mark.parametrize(
    "suffix, damage",
    [(s, d) for s in (".png", ".jpg", ".webp") for d in ("text", "empty", "cut", "spoilt")] + [(".bmp", "cut")],
)
def test_files_that_are_no_picture_are_refused(tmp_path, capfd, suffix, damage):
    path = tmp_path / f"face{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (80, 80, 3)).astype(np.uint8))
    data = path.read_bytes()
    path.write_bytes(
        {
            "text": b"not a picture",
            "empty": b"",
            "cut": data[: len(data) // 2],
            "spoilt": data[:20] + bytes(len(data) - 20),
        }[damage]
    )
    with pytest.raises(InputError, match=f"face{suffix} is (empty|no whole picture)"):
        read_picture(path)
    assert capfd.readouterr().err == ""  # nothing beside the one line of the error


def test_two_threads_leave_opencv_as_loud_as_it_was(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    real, count = cv2.imdecode, itertools.count()
    second_in, first_out = threading.Event(), threading.Event()

    def decode(*given):
        if next(count) == 0:
            second_in.wait(0.5)
        else:
            second_in.set()
            first_out.wait(0.5)
        return real(*given)

    def read(_):
        read_picture(tmp_path / "a.png")
        first_out.set()

    monkeypatch.setattr(cv2, "imdecode", decode)
    logging = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # of OpenCV 4, of OpenCV 5
    before = logging.setLogLevel(3)
    try:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(read, range(2)))
        assert logging.getLogLevel() == 3
    finally:
        logging.setLogLevel(before)


def test_what_follows_a_picture_does_not_spoil_it(tmp_path):
    """Phones put a short film behind a JPEG, whose bytes may be those of the start of a scan, FF DA."""
    picture = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    small, whole = (cv2.imencode(".jpg", each)[1].tobytes() for each in (picture[:16, :16], picture))
    thumbnail = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small  # a JPEG in a segment of its own
    data = whole[:2] + thumbnail + whole[2:]
    (tmp_path / "face.jpg").write_bytes(data + b"ftypmp42" + b"\xff\xda" * 3)
    assert read_picture(tmp_path / "face.jpg").shape == (80, 96, 3)
    (tmp_path / "face.jpg").write_bytes(data[:-100])  # the thumbnail's end is not the picture's
    with pytest.raises(InputError, match="no whole picture"):
        read_picture(tmp_path / "face.jpg")


def test_arrays_that_are_no_picture_are_refused():
    with pytest.raises(InputError, match=r"picture: got float32 \(64, 64, 3\), expected uint8 \(H, W, 3\)"):
        read_picture(np.zeros((64, 64, 3), np.float32))
    for other in (np.zeros((64, 64, 3), np.uint8).tolist(), io.BytesIO(), b"face.png"):
        with pytest.raises(InputError, match=f"picture: got {type(other).__name__}, expected a file, or numpy's uint8"):
            read_picture(other)
    with pytest.raises(InputError, match=r"picture: got \(0, 5, 3\), which is empty, expected rows and columns"):
        read_picture(np.zeros((0, 5, 3), np.uint8))


@pytest.mark.parametrize("name", ["a.jpg", "A.JPG", "a.jpeg", "A.PNG"])
def test_pictures_are_written_by_their_suffix(tmp_path, name):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    write_picture(tmp_path / name, picture)
    bgr = picture[..., ::-1]
    _, coded = (
        cv2.imencode(".png", bgr) if name == "A.PNG" else cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    )
    assert (tmp_path / name).read_bytes() == coded.tobytes()
