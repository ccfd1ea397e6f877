"""Measure an engine on this machine: milliseconds per stage, memory, load time, real-time factor.

Each stage is measured alone, then all of them overlapped as `talk` runs them. With --sessions or --find-sessions it
measures live faces instead, as many at a time, each fed with sound in real time. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json

from edgetalk import benchmark, crowd, timing
from edgetalk.errors import InputError, counted
from edgetalk.session import Session

from .options import add_avatar, add_device, add_engine


def configure(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    add_avatar(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech (default: 10)")
    live = parser.add_mutually_exclusive_group()
    live.add_argument("--sessions", type=int, metavar="N", help="hold N live faces on one engine")
    live.add_argument("--find-sessions", action="store_true", help="how many live faces miss no frame in --seconds")
    parser.add_argument("--streams", type=int, metavar="N", help="steps of live faces side by side (default: 1)")
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="for programs: one object on stdout")


def run(args: argparse.Namespace) -> None:
    if not 1 <= args.seconds <= 3600:
        raise InputError(f"seconds: got {args.seconds:g}, expected 1 to 3600")
    if args.sessions is not None or args.find_sessions:
        _live(args)
        return
    if args.streams is not None:
        raise InputError(
            f"streams: got {args.streams}, which is of live faces; give --sessions or --find-sessions, or leave it out"
        )
    report = benchmark.run(args.engine, args.avatar, args.seconds, args.device, args.threads)
    if args.json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    print(f"{report.engine}, {report.precision}, {report.size[0]}x{report.size[1]}, on {report.device}")
    print(timing.table(report.stages))
    print(
        f"delivered as a film at {report.delivered:.2f} times the rate of the step alone; "
        f"loaded in {report.load_ms:.0f} ms, first frame {report.first_frame_ms:.0f} ms later; "
        f"a live stream's first frame comes {report.stream_ms:.0f} ms after its sound; "
        f"memory {report.rss_mb:.0f} MB, at its peak {report.peak_rss_mb:.0f} MB\n"
        f"{report.frames} frames for {report.sound_s:.1f} s of speech in {report.wall_s:.2f} s: "
        f"real-time factor {report.real_time_factor:.2f}"
    )


def _live(args: argparse.Namespace) -> None:
    if args.sessions is not None and args.sessions < 1:
        raise InputError(f"sessions: got {args.sessions}, expected at least 1")
    streams = 1 if args.streams is None else args.streams
    open_session = functools.partial(
        Session, args.engine, avatar=args.avatar, device=args.device, threads=args.threads, streams=streams
    )
    if args.find_sessions:
        tried = crowd.most(args.seconds, open_session)
    else:
        tried = [crowd.measure(args.sessions, args.seconds, open_session)]
    if args.json:
        print(json.dumps([dataclasses.asdict(each) for each in tried], indent=2))
        return
    print(*tried, sep="\n")
    if args.find_sessions:
        held = tried[-1].sessions if not tried[-1].missed else 0
        print(f"{counted(held, 'live face')} without a missed frame in {args.seconds:g} s")
