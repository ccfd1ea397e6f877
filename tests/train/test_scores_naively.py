"""A whole report beside one that plain loops, scikit-image, scipy and numpy make of the same frames.

The network, the judge and the measures of others are stand-ins that are quick and move with every input, so that no
column can be mixed up with another, nor a frame with its neighbour.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import structural_similarity

from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec
from edgetalk.train.amnet import scores
from edgetalk.train.amnet.data import Footage
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.landmarks import Measured

SIDE = 40
CLIPS = ((0, 0, 6), (1, 0, 6), (1, 0, 26), (0, 0, 24), (1, 1, 5), (0, 1, 22), (2, 1, 21), (2, 0, 9))
"""Person, voice and frames of each clip; the first two are for training."""
TRAINED = 12


def painted(person, mel, pose, blink):
    """What the stand-in for a network draws, uint8 (SIDE, SIDE, 3)."""
    y, x, c = np.mgrid[:SIDE, :SIDE, :3]
    wave = np.sin((c + 1) * x / 5 + y / 9 + person + 3 * mel.mean() + 2 * blink[0])
    return (
        np.clip(128 + 50 * (0.4 + y / 8) * wave + 90 * pose[0] + 20 * blink[1] * (y > SIDE / 2), 0, 255)
        .round()
        .astype(np.uint8)
    )


class Painter:
    """Stands for Puppets."""

    def __init__(self, network, footage, size, sources=None):
        self.footage = footage

    def draw(self, person, mel, pose, blink):
        drive = zip(*(values.numpy() for values in (person, mel, pose, blink)), strict=True)
        return torch.from_numpy(np.stack([painted(*d) for d in drive])).permute(0, 3, 1, 2)


class Pixels:
    """A judge that takes pixels for what it reads."""

    def measure(self, pictures):
        shown = pictures.flatten(1)
        green = pictures[:, 1].flatten(1)
        landmarks = (0.5 + 0.5 * green[:, :212]).unflatten(1, (106, 2))
        return Measured(landmarks, shown[:, 700:703], shown[:, 900:902]), shown[:, 300:1500:300]

    def __call__(self, pictures):
        return self.measure(pictures)[0]


def read(picture):
    """The same, of one picture as it is seen: landmarks (106, 2), pose, blink, features."""
    values = picture.astype(np.float64) / 127.5 - 1
    planes = np.concatenate([values[:, :, c].ravel() for c in range(3)])
    landmarks = np.array([[0.5 + 0.5 * values[i // SIDE, i % SIDE, 1] for i in (2 * k, 2 * k + 1)] for k in range(106)])
    return landmarks, planes[700:703], planes[900:902], planes[[300, 600, 900, 1200]]


def apart(a, b, points=range(106)):
    return np.mean([256 * np.hypot(*(a[k] - b[k])) for k in points])


def lips(landmarks):
    return abs(landmarks[104][1] - landmarks[100][1])


def likeness(a, b, landmarks):
    """SSIM and PSNR everywhere and around the mouth."""
    exact = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    whole, each = structural_similarity(a, b, channel_axis=2, full=True, **exact)
    mouth = landmarks[86:106] * SIDE
    low, high = mouth.min(0), mouth.max(0)
    half = 0.85 * max(high - low)
    middle = np.clip((low + high) / 2, 8, SIDE - 8)
    inside = [
        (y, x)
        for y in range(SIDE)
        for x in range(SIDE)
        if abs(x + 0.5 - middle[0]) <= half and abs(y + 0.5 - middle[1]) <= half
    ]
    error = ((a.astype(float) - b) ** 2).mean(2)
    known = [each[y, x].mean() for y, x in inside if 5 <= y < SIDE - 5 and 5 <= x < SIDE - 5]
    return {
        "ssim": whole,
        "psnr": 10 * np.log10(255**2 / error.mean()),
        "mouth_ssim": np.mean(known),
        "mouth_psnr": 10 * np.log10(255**2 / np.mean([error[y, x] for y, x in inside])),
    }


def distance(a, b):
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(cov[0] @ cov[1]).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * root)


@pytest.fixture(scope="module")
def footage():
    rng = np.random.default_rng(4)
    spec, sizes = AudioSpec(), [frames for *_, frames in CLIPS]
    number = np.repeat(np.arange(len(CLIPS)), sizes)
    person, voice = (np.array([clip[i] for clip in CLIPS])[number] for i in (0, 1))
    nth = np.concatenate([np.arange(n) for n in sizes])
    count, long = len(number), 4 * max(sizes)
    level = np.cumsum(rng.normal(0, 0.25, 1 + len(CLIPS) * long))
    mel = np.sin(level)[:, None] + rng.normal(0, 0.1, (len(level), spec.features))
    pose, blink = rng.normal(0, 0.15, (count, 3)), rng.random((count, 2))
    landmarks = rng.uniform(0.3, 0.7, (count, 106, 2))
    corner = rng.uniform((0.1, 0.6), (0.7, 0.9), (count, 2))[
        :, None
    ]  # of the mouth, at the picture's edge now and then
    landmarks[:, 86:] = corner + rng.uniform((0, 0), (0.2, 0.1), (count, 20, 2))
    landmarks[:, 104, 1] = landmarks[:, 100, 1] + rng.choice([0.002, 0.02, 0.06], count)
    made = Footage(
        name="painted",
        device=torch.device("cpu"),
        spec=spec,
        frames=torch.zeros(count, SIDE, SIDE, 3, dtype=torch.uint8),
        person=torch.from_numpy(person),
        persons=("ada", "bea", "dan"),
        landmarks=torch.from_numpy(landmarks).float(),
        pose=torch.from_numpy(pose).float(),
        blink=torch.from_numpy(blink).float(),
        mel=torch.from_numpy(mel[None]).half(),
        first=torch.from_numpy(1 + number * long),
        count=torch.full((count,), long),
        start=torch.from_numpy(4 * nth - 8),
        train=torch.arange(TRAINED),
        test=torch.arange(TRAINED, count),
        voice=torch.from_numpy(voice),
        voices=("a", "b"),
    )
    for i in range(count):  # the truth: much like what is drawn
        drive = made.windows(torch.tensor([i]))[0].numpy(), made.pose[i].numpy(), made.blink[i].numpy()
        noise = rng.normal(0, 12 + 10 * person[i], (SIDE, SIDE, 3)) * np.linspace(0.5, 1.5, SIDE)[:, None, None]
        made.frames[i] = torch.from_numpy(np.clip(painted(person[i], *drive) + noise, 0, 255).astype(np.uint8))
    return made


@pytest.fixture(scope="module")
def report(footage):
    extras = scores.Extras(
        lpips=lambda a, b: (a - b).abs().mean((1, 2, 3)),
        inception=lambda pictures: pictures[:, :, 7, 7].float(),
        detector=lambda picture: bool(picture[:, :, 0].mean() > 125),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "Puppets", Painter)
        return scores.score(AMNet(), footage, Pixels(), extras=extras, known=["ada", "dan"])


@pytest.fixture(scope="module")
def frames(footage):
    """Everything that is measured on each held-out frame, by plain code: a dictionary each."""
    rows = footage.test.tolist()
    rng, other = np.random.default_rng(0), {}
    for who in (0, 1, 2):
        own = [row for row in rows if footage.person[row] == who]
        order = rng.permutation(own).tolist()
        other |= dict(zip(order, [order[-1], *order[:-1]], strict=True)) if order else {}
    found = []
    for row in rows:
        who, voice = int(footage.person[row]), int(footage.voice[row])
        pose, blink, landmarks = (t[row].numpy() for t in (footage.pose, footage.blink, footage.landmarks))
        heard, another = (footage.windows(torch.tensor([i]))[0].numpy() for i in (row, other[row]))
        made, true = painted(who, heard, pose, blink), footage.frames[row].numpy()
        seen, truly = read(made), read(true)
        mute = read(painted(who, another, pose, blink))[0]
        values = likeness(made, true, landmarks) | {"person": who, "voice": voice}
        values |= {
            "lpips": np.abs(made / 127.5 - true / 127.5).mean(),
            "ale_px": apart(seen[0], landmarks),
            "ape_rad": np.mean([abs(seen[1][i] - pose[i]) for i in range(3)]),
            "abe": np.mean([abs(seen[2][i] - blink[i]) for i in range(2)]),
            "judge_ale_px": apart(truly[0], landmarks),
            "judge_ape_rad": np.mean([abs(truly[1][i] - pose[i]) for i in range(3)]),
            "judge_abe": np.mean([abs(truly[2][i] - blink[i]) for i in range(2)]),
            "detection": float(made[:, :, 0].mean() > 125),
            "truth_detection": float(true[:, :, 0].mean() > 125),
        }
        lip = {"truth": lips(landmarks), "seen": lips(seen[0]), "judge": lips(truly[0]), "mute": lips(mute)}
        clouds = {"judge": (seen[3], truly[3]), "fid": (made[7, 7].astype(float), true[7, 7].astype(float))}
        found.append((values, lip, clouds))
    return found


def figures_of(frames):
    """A row of the report, of some frames."""
    names = [name for name in frames[0][0] if name not in ("person", "voice")]
    row = {name: np.mean([values[name] for values, *_ in frames]) for name in names}
    lip = {name: np.array([of[name] for _, of, _ in frames]) for name in frames[0][1]}
    for name, curve in (("lip_r", "seen"), ("lip_r_shuffled", "mute"), ("lip_r_judge", "judge")):
        row[name] = np.corrcoef(lip[curve], lip["truth"])[0, 1] if len(frames) >= 20 else np.nan
    closed = [i for i, opening in enumerate(lip["truth"]) if 256 * opening < 1]
    if closed:
        row["closed_px"] = np.mean([256 * lip["seen"][i] for i in closed])
        row["judge_closed_px"] = np.mean([256 * lip["judge"][i] for i in closed])
    for name, cloud, least in (("judge_frechet", "judge", 8), ("fid", "fid", 4)):
        if len(frames) >= least:
            row[name] = distance(*(np.array([clouds[cloud][i] for *_, clouds in frames]) for i in (0, 1)))
    return row | {"frames": len(frames)}


def averaged(rows):
    """Each figure's mean over rows, of those that have one."""
    mean = {}
    for name in {name for row in rows for name in row}:
        values = [row[name] for row in rows if name in row and not np.isnan(row[name])]
        mean[name] = sum(values) / len(values) if values else np.nan
    return mean | {"frames": sum(row["frames"] for row in rows)}


def check(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-3, abs=5e-5, nan_ok=True), name


def test_each_persons_row_is_that_of_plain_code(report, frames):
    for number, name in enumerate(("ada", "bea", "dan")):
        check(report["persons"][name], figures_of([f for f in frames if f[0]["person"] == number]))


def test_means_are_over_persons_and_all_frames_stand_apart(report, frames):
    rows = [figures_of([f for f in frames if f[0]["person"] == number]) for number in range(3)]
    check(report["mean"], averaged(rows))
    check(report["known"], averaged(rows[::2]))  # by what is told, not by the set's training frames
    check(report["unknown"], rows[1])
    check(report["all"], figures_of(frames))
    assert report["mean"]["frames"] == report["frames"] == len(frames) and report["not_computed"] == {}


def test_a_voices_row_is_the_mean_over_those_who_said_enough_with_it(report, frames):
    for number, name in enumerate(("a", "b")):
        groups = [[f for f in frames if f[0]["voice"] == number and f[0]["person"] == person] for person in (0, 1, 2)]
        found = dict(report["voices"][name])
        assert found.pop("held_out") == (name == "b")
        check(found, averaged([figures_of(group) for group in groups if group]))
    few = [f for f in frames if f[0]["voice"] == 1 and f[0]["person"] == 1]
    assert len(few) == 5 and np.isfinite(report["voices"]["b"]["lip_r"])


def test_stillness_is_that_of_plain_code(report, footage):
    spec = footage.spec
    noise = np.random.default_rng(0).normal(0, 0.001, 2 * spec.sample_rate).astype(np.float32)
    quiet = windows(log_mel(noise, spec), 50, spec, Fraction(25))
    found = {"silent": [], "speaking": []}
    for person, clip in enumerate((3, 2, 6)):  # their longest ones
        begin = sum(frames for *_, frames in CLIPS[:clip])
        said = footage.windows(torch.arange(begin, begin + CLIPS[clip][2])).numpy()
        for name, mels, points in (("silent", quiet, range(106)), ("speaking", said, range(33, 86))):
            shown = [painted(person, mel, np.zeros(3), np.zeros(2)) for mel in mels]
            marks = [read(picture)[0] for picture in shown]
            pairs = range(1, len(shown))
            row = {
                "pixels": np.mean([np.abs(shown[i].astype(float) - shown[i - 1]).mean() for i in pairs]),
                "landmarks_px": np.mean([apart(marks[i], marks[i - 1], points) for i in pairs]),
            }
            if name == "silent":
                row["opening_px"] = np.mean([256 * lips(m) for m in marks])
            found[name].append(row)
    assert set(report["jitter"]) == set(found)
    for name, rows in found.items():
        check(report["jitter"][name], {key: np.mean([row[key] for row in rows]) for key in rows[0]})
