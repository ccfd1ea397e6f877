"""The bundled models do what they are told, measured on its frames by the landmark judge, which never saw them made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgetalk
from edgetalk import audio, bundled, motion
from edgetalk.avatar import load_avatar
from edgetalk.backends import preflight
from edgetalk.train.networks.landmarks import inner_opening, load
from edgetalk.train.scores.report import JUDGE

STILL, OPEN = np.zeros(3, np.float32), np.zeros(2, np.float32)


@pytest.fixture(scope="module", params=["amnet", "amnet-lite"])
def model(request):
    if not (bundled.MODELS / f"{request.param}.xml").is_file():
        pytest.skip(f"this copy carries no bundled model edgetalk/models/{request.param}.xml")
    return request.param


@pytest.fixture(scope="module")
def face(model):
    with edgetalk.Session(model) as opened:
        yield opened


@pytest.fixture(scope="module")
def judge():
    return load(JUDGE)[0]


def measure(judge, frames):
    pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return judge(pictures)


def silence(face):
    spec = face.metadata.audio
    return np.full((spec.window, spec.features), -4, np.float32)


def steps(face, poses, blinks):
    return [face.step(silence(face), p, b) for p, b in zip(poses, blinks, strict=True)]


@pytest.mark.parametrize(("axis", "reach"), [(0, 0.3), (1, 0.15), (2, 0.1)])
def test_pose_alone_turns_the_head(face, judge, axis, reach):
    poses = np.zeros((5, 3), np.float32)
    poses[:, axis] = np.linspace(-reach, reach, 5)
    seen = measure(judge, steps(face, poses, [OPEN] * 5))
    np.testing.assert_allclose(seen.pose[:, axis].numpy(), poses[:, axis], atol=0.25 * reach + 0.03)
    others = [k for k in range(3) if k != axis]
    assert np.abs(seen.pose[:, others].numpy()).max() < 0.1


def test_blink_alone_closes_the_eyes(face, judge):
    blinks = np.linspace(0, 1, 5, dtype=np.float32)[:, None].repeat(2, 1)
    seen = measure(judge, steps(face, [STILL] * 5, blinks))
    assert (seen.blink[-1] - seen.blink[0]).min() > 0.5
    assert seen.pose.abs().max() < 0.1


def test_silence_closes_the_mouth_and_speech_opens_it(face, judge):
    pcm = audio.read(bundled.SENTENCE)[: 3 * 8000]  # in its first second and a half the mouth is wide open once
    spoken = inner_opening(measure(judge, [f.copy() for f in face.talk(pcm, motion=motion.Still())]).landmarks)
    quiet = inner_opening(measure(judge, steps(face, [STILL], [OPEN])).landmarks)
    assert 256 * quiet.item() < 3.0  # pixels
    assert spoken.quantile(0.9) > 2 * quiet.item() and 256 * spoken.max() > 6.0


def test_every_announcer_is_bundled_and_known(model, face):
    assert len(face.metadata.persons) == 6
    for name in face.metadata.persons:
        with edgetalk.Session(model, avatar=name) as other:
            assert other.avatar.name == name
            assert other.step(silence(other), STILL, OPEN).shape == (256, 256, 3)


def test_every_bundled_file_says_under_what_licence_it_is():
    files = [path for path in bundled.MODELS.iterdir() if path.suffix in (".avatar", ".onnx", ".xml")]
    assert files
    for path in files:
        told = load_avatar(path).licence if path.suffix == ".avatar" else dict(preflight(path))["metadata"]
        assert "Apache-2.0" in told, path.name
