"""Table 3 of WavSyncSwap as whole pipelines: a film, a sound and a portrait in, the dubbed film out.

    python -m bench.dubs                 measure, and write the table into docs/performance.md
    python -m bench.dubs --seconds 10 --repeats 20    as the paper did: hours, most of them PyTorch's
    python -m bench.dubs --page          write the table from what was measured before

Every clip is told and kept; the same command goes on where it was stopped.

The cascade (Wav2Lip at 96, then SimSwap at 224) and WavSyncSwap at 96 go through the same `edgetalk.dub`: decode,
crop, repaint, colours, paste, encode; where the face is, is known from a track file. In one column the networks are
PyTorch eager, in another our engines in int8; in the last WavSyncSwap speaks from an avatar of the film, prepared
before: it decodes the film, steps, and pastes each crop where the avatar says, with the same colours and mask as the
others. All take turns, a clip each, and the seconds that one second of film took count, their mean and deviation.
Weights are random, of the published sizes; opening and preparing are left out.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from edgetalk import benchmark
from edgetalk.backends import Arrays, TensorSpec
from edgetalk.dubbing import dub
from edgetalk.export.exporter import to_onnx
from edgetalk.export.graph import Graph
from edgetalk.face import read_track
from edgetalk.files import sha256
from edgetalk.metadata import Metadata
from edgetalk.motion import Still
from edgetalk.overlap import Job, cores, overlap
from edgetalk.painter import Painter
from edgetalk.pasting import Pasting
from edgetalk.planes import blend
from edgetalk.reader import Reader
from edgetalk.render import side_by_side
from edgetalk.session import Session
from edgetalk.train import program
from edgetalk.windows import sound_windows
from edgetalk.writer import Writer

from .machine import Others, processor
from .page import ROOT, add_options, put, write_json

RESULTS = ROOT / "docs" / "results" / "dubs.json"
PIPELINES = {"Wav2Lip 96 → SimSwap 224": ("wav2lip", "simswap"), "WavSyncSwap 96": ("wavsyncswap",)}
COLUMNS = {"eager": "PyTorch eager", "int8": "our engines, int8", "avatar": "from an avatar, int8"}
FPS = 25  # of the drawn film
CALIBRATED = 6  # frames; speed does not depend on the ranges that they give
PAPER = {"Wav2Lip 96 → SimSwap 224": "0.2005 ± 0.0239", "WavSyncSwap 96": "0.1024 ± 0.0168"}


class Eager:
    """A whole network in PyTorch; implements edgetalk.backends.Backend."""

    def __init__(self, graph: Graph, metadata: Metadata) -> None:
        self._module, self._order = graph.module.eval(), list(graph.inputs)
        example = {name: tensor.numpy() for name, tensor in graph.inputs.items()}
        self.metadata = metadata.to_json()
        self.inputs = {name: TensorSpec(array.dtype, array.shape) for name, array in example.items()}
        self.outputs = {name: TensorSpec(array.dtype, array.shape) for name, array in self.run(example).items()}

    def run(self, feeds: Arrays) -> Arrays:
        with torch.inference_mode():
            return {
                "frame": self._module(*(torch.from_numpy(np.ascontiguousarray(feeds[n])) for n in self._order)).numpy()
            }

    def twin(self) -> Eager:
        return self

    def close(self) -> None:
        pass


def checkpoints(folder: Path) -> None:
    """Write checkpoints of the published sizes with random weights."""
    from edgetalk.train.networks import arcface, store
    from edgetalk.train.networks.simswap import SimSwap
    from edgetalk.train.networks.wav2lip import Wav2Lip
    from edgetalk.train.networks.wavsyncswap import Config, WavSyncSwap

    torch.manual_seed(0)
    for name, network in (("wav2lip", Wav2Lip()), ("simswap", SimSwap())):
        torch.save(network.state_dict(), folder / f"{name}.pth")
    config = Config()
    store.save(folder / "wavsyncswap.safetensors", "wavsyncswap", WavSyncSwap(config), config)
    own = arcface.Config(identity=config.identity)
    store.save(folder / "identity.safetensors", "arcface", arcface.ArcFace(own), own)


def calibrated(step: Path) -> Path:
    return step.with_suffix(".calibration.npz")


def calibration(step: Path) -> Path:
    """Write what an int8 build of a network is calibrated with, of the scene in its folder: crops, and random sounds.

    Identities are random, too.
    """
    folder, rng = step.parent, np.random.default_rng(1)
    with Painter(step) as painter:
        pictures = zip(
            Reader(folder / "target.mp4").planes(), read_track(folder / "target.track.npz").faces, strict=True
        )
        crops = [painter.crop(planes, painter.matrix(face.points)) for planes, face in pictures if face is not None]
        target = np.stack([cut for cut in crops if cut is not None][:CALIBRATED])
        identity = rng.normal(size=(len(target), 512)).astype(np.float32)
        given = {
            "target": target,
            "reference": target[::-1],
            "identity": identity / np.linalg.norm(identity, axis=1, keepdims=True),
            "mel": rng.uniform(-4, 4, (len(target), 16, 80)).astype(np.float32),
        }
        given = {name: given[name] for name in painter.takes}
    np.savez(calibrated(step), **given)
    return calibrated(step)


def engines(folder: Path) -> dict[str, Eager]:
    """Export and build every network in int8, beside each other and the scene; return them in PyTorch by file name."""
    import importlib

    from edgetalk.engines import build

    if not (folder / "identity.safetensors").exists():
        checkpoints(folder)
    eager = {}
    for family in ("wav2lip", "simswap", "wavsyncswap"):
        suffix = ".safetensors" if family == "wavsyncswap" else ".pth"
        path = folder / f"{family}{suffix}"
        step, engine = folder / f"{family}.onnx", folder / f"{family}.xml"
        if not (engine.exists() and calibrated(step).exists()):  # an older bench kept engines in bf16
            to_onnx(path, step, family=family)
            # Random weights make no picture that int8 would have to keep: SimSwap's would not pass.
            build(step, engine, precision="int8", calibration=calibration(step), hold=False)
        module = importlib.import_module(f"edgetalk.export.{family}")
        export = module.prepare(path, whole=True, size=None, batch=1)
        eager[f"{family}.xml"] = Eager(export.graphs[0], export.metadata)
    return eager


def scene(folder: Path, seconds: float) -> None:
    """Draw the film to dub, and its track."""
    from edgetalk.train.swap.scene import write_scene

    write_scene(folder, seconds=seconds)


def speak(session: Session, film: Path, pcm: Any, out: Path) -> float:
    """Let an avatar of `film` say `pcm` into that film, its crops put back; return the seconds for one second of film.

    The stations are those of `dub`, but that the network's steps need no crops, so that pasting has its own.
    """
    shot, spec = session.avatar.film, session.audio
    assert shot is not None and shot.jaws is not None
    jaws = shot.jaws
    reader, place = Reader(film), Pasting(session.metadata.family, session.size[0], swaps=True)
    given = zip(sound_windows(pcm, spec, reader.fps), reader.planes(), strict=False)  # until film or sound ends

    def step(one: Session, numbered: tuple[int, tuple[Any, Any]]) -> tuple[Any, Any, int]:
        number, (mel, planes) = numbered
        return planes, one.frame(number, mel, Still(), reader.fps).copy(), one.shown

    def paste(made: tuple[Any, Any, int]) -> Any:
        planes, painted, shown = made
        matrix = shot.matrices[shown].astype(float)
        blend(planes, *place.layers(painted, shot.target[shown], matrix, jaws[shown]), matrix)
        return planes

    began = time.perf_counter()
    with contextlib.ExitStack() as opened:
        writer = opened.enter_context(Writer(out, reader.size, reader.fps, pcm))
        sessions = [session, *(opened.enter_context(session.twin()) for _ in range(session.streams - 1))]
        stepping = Job("step", [partial(step, one) for one in sessions], [])
        pasting = Job("paste", [paste] * session.streams, [])
        made = overlap(enumerate(given), stepping, pasting, Job("encode", [writer.write_planes], []))
        frames = sum(1 for _ in opened.enter_context(contextlib.closing(made)))
    return (time.perf_counter() - began) * float(reader.fps) / frames


def clips(
    folder: Path, seconds: float, threads: int, eager: dict[str, Eager]
) -> dict[tuple[str, str], Callable[[], float]]:
    """Return what takes turns, by pipeline and column: each makes a whole film and returns its real-time factor."""
    from edgetalk.film_avatar import make_film_avatar

    torch.set_num_threads(threads)
    pcm, out = benchmark.sentence(seconds), folder / "out.mp4"
    film, rng = folder / "target.mp4", np.random.default_rng(0)
    made: dict[tuple[str, str], Callable[[], float]] = {}
    for name, families in PIPELINES.items():
        paths = [folder / f"{family}.xml" for family in families]
        width = eager[paths[-1].name].inputs["identity"].shape[1]
        identity = rng.normal(size=(1, width)).astype(np.float32)
        identity /= np.linalg.norm(identity)

        def ours(paths: list[Path] = paths, identity: Any = identity, **options: Any) -> float:
            return 1 / float(dub(paths, film, pcm, out, identity=identity, threads=threads, **options).rate / FPS)

        def in_torch(ours: Callable[..., float] = ours) -> float:
            with mock.patch("edgetalk.model.open_engine", lambda path, **_: eager[Path(path).name]):
                return ours(streams=1)  # PyTorch's threads work on one frame

        made[name, "eager"], made[name, "int8"] = in_torch, ours
    avatar = make_film_avatar(
        folder / "wavsyncswap.xml", film, folder / "portrait.png", seconds=seconds, pictures=False
    )
    session = Session(folder / "wavsyncswap.xml", avatar=avatar, threads=threads, streams=side_by_side(threads))

    made["WavSyncSwap 96", "avatar"] = lambda: speak(session, film, pcm, out)
    return made


def measure(seconds: float, repeats: int, threads: int, out: Path = RESULTS, prepared: Path | None = None) -> None:
    """Measure all pipelines in turns; write the figures, with the machine that they are of, to `out`.

    What was measured lies in OUT.turns.part until all is there, and is not measured again by a run that asks for the
    same of the same engines; `prepared` is a folder where engines and the film are kept.
    """
    part = out.with_name(out.name + ".turns.part")
    with tempfile.TemporaryDirectory(prefix="edgetalk-") as temporary:
        folder = prepared or Path(temporary)
        film = folder / "target.mp4"
        if not film.exists() or Reader(film).length != round(seconds * FPS):  # of a run that asked for another one
            scene(folder, seconds)
        runs = clips(folder, seconds, threads, engines(folder))
        made = {file.name: sha256(file) for file in sorted((*folder.glob("*.xml"), *folder.glob("*.bin")))}
        asked = {"device": processor(), "threads": threads, "seconds": seconds, "engines": made}
        kept = json.loads(part.read_text()) if part.exists() else {}
        if any(kept.get(key) != value for key, value in asked.items()):
            kept = asked | {"others": 0.0, "rows": {}}
        turns = [(turn, *key) for turn in range(repeats) for key in runs]
        for turn, name, column in turns:
            taken = kept["rows"].setdefault(name, {}).setdefault(column, [])
            if len(taken) > turn:
                continue
            others = Others()
            taken.append(runs[name, column]())
            kept["others"] = max(kept["others"], others.share())
            write_json(part, kept)
            print(f"{turn + 1}/{repeats} {name}, {COLUMNS[column]}: {taken[-1]:.3f}", file=sys.stderr, flush=True)
    rows = {
        name: {column: mean_and_deviation(taken[:repeats]) for column, taken in row.items()}
        for name, row in kept["rows"].items()
    }
    told = asked | {"date": time.strftime("%Y-%m-%d"), "repeats": repeats, "others": round(kept["others"], 2)}
    write_json(out, told | {"rows": rows})
    part.unlink()


def mean_and_deviation(taken: list[float]) -> list[float]:
    return [round(float(np.mean(taken)), 5), round(float(np.std(taken, ddof=1)), 5) if len(taken) > 1 else 0.0]


def markdown(result: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        f"| whole pipeline, RTF | paper (V100) | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, row in result["rows"].items():
        cells = [f"{row[c][0]:.3f} ± {row[c][1]:.3f}" if c in row else "" for c in COLUMNS]
        lines.append(f"| {name} | {PAPER[name]} | {' | '.join(cells)} |")
    cascade, ours = (result["rows"][name] for name in PIPELINES)
    gains = [f"{cascade[c][0] / ours[c][0]:.2f} ×" if c in cascade else "" for c in COLUMNS]
    lines.append(f"| WavSyncSwap against the cascade | 1.96 × | {' | '.join(gains)} |")
    lines += [
        "",
        f"{result['device']}, {result['threads']} threads, {result['date']}: mean ± deviation of {result['repeats']} "
        f"clips of {result['seconds']:g} s, 512×512, in turns; other programs took {result['others']:.0%} of the "
        "processor. RTF: seconds for one second of film; the paper's is of an unnamed part of its pipeline, on a GPU.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.dubs", __doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each clip (default: 2; the paper: 10)")
    parser.add_argument("--repeats", type=int, default=5, help="clips of each (default: 5; the paper: 20)")
    parser.add_argument("--threads", type=int, default=cores(), help="default: every core")
    add_options(parser, RESULTS)
    args = parser.parse_args(arguments)
    if not args.page:
        measure(args.seconds, args.repeats, args.threads, args.out, args.prepared)
    put(markdown(json.loads(args.out.read_text())), "bench.dubs", args.write)


if __name__ == "__main__":
    program.run(main)
