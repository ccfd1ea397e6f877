"""Measure an engine on this machine: milliseconds per stage, memory, load time, real-time factor.

Each stage is measured alone, then all of them overlapped as `talk` runs them. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from edgetalk import benchmark
from edgetalk.errors import InputError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", help="amnet.xml, amnet.plan or amnet.onnx; a bare name is a bundled model")
    parser.add_argument("--avatar", metavar="FILE", help="a prepared face (default: the one beside the engine)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech (default: 10)")
    parser.add_argument("--device", default="auto", help="CPU, GPU, cuda:0 … (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="for programs: one object on stdout")


def run(args: argparse.Namespace) -> None:
    if not 1 <= args.seconds <= 3600:
        raise InputError(f"seconds: got {args.seconds:g}, expected 1 to 3600")
    report = benchmark.run(args.engine, args.avatar, args.seconds, args.device, args.threads)
    if args.json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    print(f"{report.engine}, {report.precision}, {report.size[0]}x{report.size[1]}, on {report.device}")
    print(benchmark.table(report.stages))
    print(
        f"loaded in {report.load_ms:.0f} ms, first frame {report.first_frame_ms:.0f} ms later; "
        f"memory {report.rss_mb:.0f} MB, at its peak {report.peak_rss_mb:.0f} MB\n"
        f"{report.frames} frames for {report.sound_s:.1f} s of speech in {report.wall_s:.2f} s: "
        f"real-time factor {report.real_time_factor:.2f}"
    )
