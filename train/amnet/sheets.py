"""Contact sheets: `python -m edgetalk.train.amnet.sheets --checkpoint FILE --data DIR -o DIR` (or `--engine FILE`).

    cross.jpg       every person driven by every person's sound, pose and blink (the paper's Fig. 3)
    decoupling.jpg  yaw, pitch, roll, both eyes and each eye swept alone (Fig. 5); what moved, in decoupling.json
    mouths.jpg      silence, closed lips and open mouths, the true frame above the generated one
    variants.jpg    held-out frames by several checkpoints (Fig. 4), with --variants

A sheet needs nothing but a callable `render(source, mel, pose, blink) -> frame`, so a checkpoint and an engine in a
Session are shown by the same code.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetalk.mel import silence
from edgetalk.metadata import AudioSpec
from edgetalk.picture import write_picture
from edgetalk.train import program
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.landmarks import LandmarkNet, inner_opening
from edgetalk.train.scores.measures import GROUPS, MOUTH

from .data import Footage, pick_device

Picture = NDArray[np.uint8]
"""(S, S, 3) RGB."""
Array = NDArray[np.float32]
Render = Callable[[Picture, Array, Array, Array], Picture]
"""render(source, mel (T, F), pose (3,), blink (2,)) -> frame."""

LIMITS = {"yaw": 0.35, "pitch": 0.2, "roll": 0.14}
"""How far the pose is swept either way, in radians: within what the data sets show."""
STEPS = 9
OUTPUTS = ("yaw", "pitch", "roll", "blink_left", "blink_right", "opening")
"""What the judge reads off a picture: degrees, degrees, degrees, 0–1, 0–1, pixels of a 256 frame."""
BLANK: Picture = np.full((1, 1, 3), 24, np.uint8)


class Drive(NamedTuple):
    """A held-out frame: whom it shows, that person's neutral picture, and what drives it."""

    person: str
    source: Picture
    frame: Picture
    mel: Array
    pose: Array
    blink: Array
    landmarks: Array


def render_of_network(network: AMNet) -> Render:
    """The callable of a network, on the network's device, in float32."""
    import torch

    from edgetalk.train.networks.amnet import as_bytes, from_bytes

    where = next(network.parameters()).device
    appearances: dict[bytes, torch.Tensor] = {}  # by source: it is prepared once

    @torch.inference_mode()
    def render(source: Picture, mel: Array, pose: Array, blink: Array) -> Picture:
        key = source.tobytes()
        if key not in appearances:
            picture = torch.from_numpy(np.ascontiguousarray(source)).to(where).permute(2, 0, 1)[None]
            appearances[key] = network.reenactor.source(from_bytes(picture))
        drive = (torch.from_numpy(np.asarray(x, np.float32)).to(where)[None] for x in (mel, pose, blink))
        made = as_bytes(network.reenactor.step(appearances[key], network.fuser(*drive)))
        return made[0].permute(1, 2, 0).cpu().numpy()

    return render


def render_of_checkpoint(path: str | Path, device: str = "auto") -> tuple[Render, int, AudioSpec]:
    """The callable of a checkpoint, the size of its pictures, and its audio front end."""
    from edgetalk.train.networks.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return render_of_network(checkpoint.network.to(pick_device(device))), checkpoint.size, checkpoint.audio


def render_of_engine(path: str | Path) -> tuple[Render, int, AudioSpec]:
    """The callable of an engine (a Session per source), the size of its pictures, and its audio front end."""
    from edgetalk import Session
    from edgetalk.errors import ModelError

    sessions: dict[bytes, Session] = {}

    def render(source: Picture, mel: Array, pose: Array, blink: Array) -> Picture:
        key = source.tobytes()
        if key not in sessions:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a sheet may show faces that the network does not know
                sessions[key] = Session(path, source=source)
        return sessions[key].step(mel, pose, blink).copy()

    with Session(path) as session:
        spec = session.metadata.audio
        if spec is None:
            raise ModelError(f"{path} says nothing about its sound; export it again")
        frame = session.step(np.tile(silence(spec), (spec.window, 1)), np.zeros(3, np.float32), np.zeros(2, np.float32))
    return render, len(frame), spec


def drives(footage: Footage, count: int = 6) -> list[Drive]:
    """One held-out frame with an open mouth for each of `count` persons, those never trained on first."""
    found = []
    test = footage.held_out()
    trained = set(footage.trained)
    for number in sorted(footage.person[test].unique().tolist(), key=lambda n: (n in trained, n))[:count]:
        own = test[footage.person[test] == number]
        opening = inner_opening(footage.landmarks[own])
        found.append(drive(footage, int(own[opening.argsort()[int(0.85 * len(own))]])))
    return found


def drive(footage: Footage, row: int) -> Drive:
    """What frame `row` of the footage is driven by."""
    import torch

    index = torch.tensor([row], device=footage.device)
    person = int(footage.person[row])
    source, frame = (footage.frames[i].cpu().numpy() for i in (int(footage.neutral[person]), row))
    signals = (footage.windows(index), footage.pose[index], footage.blink[index], footage.landmarks[index])
    return Drive(footage.persons[person], source, frame, *(s[0].cpu().numpy() for s in signals))


def tiled(cells: Sequence[Sequence[Picture]], side: int, labels: Sequence[str] = (), margin: int = 110) -> Picture:
    """A sheet of rows of pictures, each `side` wide and high; labels stand in a margin to the left of the rows."""
    import cv2

    gap, margin = 4, margin if labels else 0
    rows = []
    for number, row in enumerate(cells):
        line = np.full((side + gap, margin + len(row) * (side + gap), 3), 24, np.uint8)
        if labels:
            cv2.putText(line, labels[number], (6, side // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235,) * 3, 1, cv2.LINE_AA)
        for i, cell in enumerate(row):
            shrink = cv2.INTER_AREA if len(cell) > side else cv2.INTER_CUBIC
            left = margin + i * (side + gap)
            line[:side, left : left + side] = cv2.resize(cell, (side, side), interpolation=shrink)
        rows.append(line)
    return np.concatenate(rows)


def cross_driving(render: Render, examples: Sequence[Drive], side: int = 192) -> Picture:
    """Fig. 3: sources down the left, driving frames along the top, framed in red where a person drives itself."""
    rows: list[list[Picture]] = [[BLANK, *(d.frame for d in examples)]]
    for source in examples:
        row = [source.source]
        for d in examples:
            made = render(source.source, d.mel, d.pose, d.blink).copy()
            if d is source:
                edge = max(2, len(made) // 64)
                for band in (made[:edge], made[-edge:], made[:, :edge], made[:, -edge:]):
                    band[:] = (220, 30, 30)
            row.append(made)
        rows.append(row)
    return tiled(rows, side)


def sweeps(steps: int = STEPS) -> dict[str, tuple[Array, Array]]:
    """Poses (steps, 3) and blinks (steps, 2) in which one input alone changes."""
    found = {}
    for axis, (name, limit) in enumerate(LIMITS.items()):
        pose = np.zeros((steps, 3), np.float32)
        pose[:, axis] = np.linspace(-limit, limit, steps)
        found[name] = pose, np.zeros((steps, 2), np.float32)
    for name, eyes in (("blink", (1, 1)), ("blink_left", (1, 0)), ("blink_right", (0, 1))):
        blink = np.linspace(0, 1, steps, dtype=np.float32)[:, None] * np.array(eyes, np.float32)
        found[name] = np.zeros((steps, 3), np.float32), blink
    return found


def decoupling_sheet(render: Render, source: Picture, spec: AudioSpec, side: int = 160) -> Picture:
    """Fig. 5: a row each for yaw, pitch, roll, both eyes and each eye, swept alone in silence."""
    mel = np.tile(silence(spec), (spec.window, 1))
    rows = sweeps()
    cells = [[render(source, mel, p, b) for p, b in zip(*row, strict=True)] for row in rows.values()]
    return tiled(cells, side, list(rows))


def readings(judge: LandmarkNet, frames: Sequence[Picture]) -> tuple[Array, Array]:
    """What the judge sees: OUTPUTS (N, 6) and landmarks (N, 106, 2) in pixels of a 256 frame."""
    import torch

    from edgetalk.train.networks.amnet import from_bytes

    device = judge.mean.device
    pictures = from_bytes(torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2))
    with torch.inference_mode():
        seen = judge(pictures)
    pose = torch.rad2deg(seen.pose)
    outputs = torch.cat([pose, seen.blink, 256 * inner_opening(seen.landmarks)[:, None]], 1)
    return outputs.cpu().numpy(), 256 * seen.landmarks.cpu().numpy()


def closing(render: Render, source: Picture, landmarks: Array, spec: AudioSpec) -> NDArray[np.float64]:
    """How far each eye closes where one alone is asked to: (2, 2), left and right asked by left and right seen.

    1 is as far as where both are asked to. It is read off the pictures around the eyes of the neutral `landmarks`,
    (106, 2) in fractions of the picture, and not by the judge, who has seen few winks and takes both eyes for alike.
    """
    mel, still = np.tile(silence(spec), (spec.window, 1)), np.zeros(3, np.float32)
    lids = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float32)
    neutral, *alone, both = (render(source, mel, still, blink).astype(np.float64) for blink in lids)
    eyes, margin = landmarks[GROUPS["eyes"]] * len(neutral), len(neutral) / 40
    beyond = eyes[:, 0] > eyes[:, 0].mean()
    shares = np.zeros((2, 2))
    for seen, eye in enumerate((eyes[beyond], eyes[~beyond])):  # the subject's left eye is on the right
        left, top, right, bottom = np.r_[eye.min(0) - margin, eye.max(0) + margin].clip(0).astype(int)
        part = np.s_[top:bottom, left:right]
        way = both[part] - neutral[part]
        for asked, picture in enumerate(alone):
            shares[asked, seen] = ((picture[part] - neutral[part]) * way).sum() / max((way**2).sum(), 1e-6)
    return shares


def decoupling(render: Render, judge: LandmarkNet, examples: Sequence[Drive], speech: Array, spec: AudioSpec) -> dict:
    """Sweep each input alone, for every source, and measure what answers.

    `speech` (N, T, F) are consecutive mel windows, the sweep of the sound. Returns, each the mean over the sources:
    `response` of each output (range; degrees, 0–1, pixels) to each input, `leak`: the same as a share of the output's
    response to its own input, `decoupling`: the mean of all leaks (0: every output hears its own input alone),
    `groups`: mean way of each landmark group in pixels of 256, `closing`: what the function of that name returns,
    `pose_error_deg`: mean and largest difference between the pose asked for and the one that is seen, per axis.
    """
    mel = np.tile(silence(spec), (spec.window, 1))
    rows = {name: row for name, row in sweeps().items() if name != "blink"}
    inputs = [*rows, "speech"]
    response = np.zeros((len(examples), len(inputs), len(OUTPUTS)))
    groups = np.zeros((len(examples), len(inputs), len(GROUPS)))
    errors: dict[str, list[Array]] = {name: [] for name in LIMITS}
    shares = []
    still = np.zeros(3, np.float32), np.zeros(2, np.float32)
    for i, example in enumerate(examples):
        neutral = readings(judge, [render(example.source, mel, *still)])[1][0]
        shares.append(closing(render, example.source, neutral / 256, spec))
        for j, name in enumerate(inputs):
            if name == "speech":
                frames = [render(example.source, window, *still) for window in speech]
            else:
                frames = [render(example.source, mel, p, b) for p, b in zip(*rows[name], strict=True)]
            outputs, landmarks = readings(judge, frames)
            response[i, j] = np.ptp(outputs, axis=0)
            way = np.linalg.norm(landmarks - neutral, axis=-1)
            groups[i, j] = [way[:, points].mean() for points in GROUPS.values()]
            if name in LIMITS:
                axis = list(LIMITS).index(name)
                errors[name].append(np.abs(outputs[:, axis] - np.rad2deg(rows[name][0][:, axis])))
    mean = response.mean(0)
    leak = mean / np.maximum(np.diag(mean), 1e-6)  # column j by the response to input j, which is its own
    off = leak[~np.eye(len(leak), dtype=bool)]
    table = {name: dict(zip(OUTPUTS, row, strict=True)) for name, row in zip(inputs, mean.tolist(), strict=True)}
    share = {name: dict(zip(OUTPUTS, row, strict=True)) for name, row in zip(inputs, leak.tolist(), strict=True)}
    ways = groups.mean(0).tolist()
    closed = np.mean(shares, axis=0).tolist()
    return {
        "sources": len(examples),
        "response": table,
        "leak": share,
        "decoupling": float(off.mean()),
        "groups": {name: dict(zip(GROUPS, row, strict=True)) for name, row in zip(inputs, ways, strict=True)},
        "closing": {
            name: dict(zip(("left", "right"), row, strict=True))
            for name, row in zip(("blink_left", "blink_right"), closed, strict=True)
        },
        "pose_error_deg": {
            name: {"mean": float(np.mean(e)), "largest": float(np.max(e))} for name, e in errors.items()
        },
    }


def mouth_crop(picture: Picture, landmarks: Array) -> Picture:
    """The mouth with its surroundings, a square of twice its width."""
    size = len(picture)
    mouth = landmarks[MOUTH] * size
    half = max(4, round(float(np.ptp(mouth[:, 0]))))
    x, y = (round(float(v)) for v in (mouth.min(0) + mouth.max(0)) / 2)
    x, y = (min(max(v, half), size - half) for v in (x, y))
    return picture[y - half : y + half, x - half : x + half]


def mouths(render: Render, footage: Footage, spec: AudioSpec, side: int = 128) -> Picture:
    """Per person two rows, true and generated: digital silence, then three closed and three open mouths of a clip."""
    import torch

    quiet = np.tile(silence(spec), (spec.window, 1))
    rows, labels = [], []
    for example in drives(footage):
        number = footage.persons.index(example.person)
        test = footage.held_out()
        own = test[footage.person[test] == number]
        clip = footage.longest_clip(own)
        middle = clip[len(clip) // 8 : len(clip) - len(clip) // 8]
        order = inner_opening(footage.landmarks[middle]).argsort()
        picked = torch.cat([order[: max(3, len(order) // 8)][:: max(1, len(order) // 24)][:3], order[-3:]])
        neutral = drive(footage, int(footage.neutral[number]))
        true = [mouth_crop(neutral.frame, neutral.landmarks)]
        made = [mouth_crop(render(example.source, quiet, neutral.pose, neutral.blink), neutral.landmarks)]
        for row in middle[picked].tolist():
            d = drive(footage, row)
            true.append(mouth_crop(d.frame, d.landmarks))
            made.append(mouth_crop(render(d.source, d.mel, d.pose, d.blink), d.landmarks))
        rows += [true, made]
        labels += [f"{example.person} true", "generated"]
    return tiled(rows, side, labels)


def variants(
    renders: Mapping[str, Render],
    examples: Sequence[Drive],
    side: int = 160,
    heard: Mapping[str, Sequence[Array]] | None = None,
) -> Picture:
    """Fig. 4: sources, true frames, and the frames of each of the named callables.

    `heard` has the mel windows (T, F) of the examples by the names of those that hear them otherwise.
    """
    rows = [[d.source for d in examples], [d.frame for d in examples]]
    for name, render in renders.items():
        mels = (heard or {}).get(name) or [d.mel for d in examples]
        rows.append([render(d.source, mel, d.pose, d.blink) for d, mel in zip(examples, mels, strict=True)])
    return tiled(rows, side, ["source", "true", *renders])


def named(text: str) -> tuple[str, Path]:
    """Return name and path of NAME=FILE; ArgumentTypeError where it is none."""
    name, given, path = text.partition("=")
    if not (name and given and path):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=FILE")
    return name, Path(path)


def speech_of(footage: Footage, count: int = 25) -> Array:
    """Consecutive mel windows (count, T, F) of a held-out clip, from its middle."""
    test = footage.held_out()
    spoken = test[footage.voice[test] != footage.voices.index("silence")] if "silence" in footage.voices else test
    clip = footage.longest_clip(spoken)
    begin = max(0, len(clip) // 2 - count // 2)
    return footage.windows(clip[begin : begin + count]).cpu().numpy()


def main(arguments: list[str] | None = None) -> None:
    from edgetalk.train.networks.landmarks import load
    from edgetalk.train.scores.report import JUDGE, command, write_json

    parser = program.parser("edgetalk.train.amnet.sheets", __doc__)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="written by: edgetalk train amnet")
    model.add_argument("--engine", help="written by: edgetalk build, or the name of a bundled one")
    parser.add_argument("--data", type=Path, required=True, help="folder of: edgetalk data announcers, or filmed")
    parser.add_argument("--judge", type=Path, default=JUDGE, help="landmark judge (default: the bundled one)")
    parser.add_argument(
        "--variants", nargs="*", type=named, default=[], metavar="NAME=FILE", help="checkpoints of variants.jpg"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto; for checkpoints")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, help="folder for the sheets")
    args = parser.parse_args(arguments)
    if args.checkpoint:
        render, size, spec = render_of_checkpoint(args.checkpoint, args.device)
    else:
        render, size, spec = render_of_engine(args.engine)
    others = {name: render_of_checkpoint(path, args.device) for name, path in args.variants}
    if len(others) < len(args.variants):
        parser.error("--variants: got a name twice, expected another one for each file")
    for name, (_, own, _) in others.items():
        if own != size:
            parser.error(f"--variants: got {name} of {own}×{own}, expected {size}×{size}")
    judge, record = load(args.judge, pick_device(args.device))
    footage = Footage.load(args.data, size=size, device=args.device, spec=spec)
    examples = drives(footage)
    write_picture(args.out / "cross.jpg", cross_driving(render, examples))
    write_picture(args.out / "decoupling.jpg", decoupling_sheet(render, examples[0].source, spec))
    write_picture(args.out / "mouths.jpg", mouths(render, footage, spec))
    if others:
        heard: dict[str, list[Array]] = {}
        for name, (_, _, own) in others.items():
            if own != spec:
                again = Footage.load(args.data, device=args.device, spec=own, pictures=False)
                heard[name] = [d.mel for d in drives(again)]
        shown = {name: draw for name, (draw, _, _) in others.items()}
        write_picture(args.out / "variants.jpg", variants(shown, examples, heard=heard))
    found = decoupling(render, judge, examples, speech_of(footage), spec)
    write_json(args.out / "decoupling.json", {"command": command(), "judge": record, **found})
    print(f"{args.out}: decoupling {found['decoupling']:.3f}; pose error {found['pose_error_deg']}")


if __name__ == "__main__":
    program.run(main)
