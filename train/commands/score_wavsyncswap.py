"""Score WavSyncSwap on unseen people, sentences and voice, beside truth, unchanged target and the cascade.

Prints Tables 1 and 2 and what is asked for; -o FOLDER keeps wavsyncswap.json and two sheets of pictures there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgetalk.errors import InputError
from edgetalk.train.scores import perceptual

ROWS = {"truth": "truth", "target": "target unchanged", "wav2lip": "Wav2Lip", "simswap": "SimSwap",
        "cascade": "Wav2Lip → SimSwap", "reverse": "SimSwap → Wav2Lip", "ours": "WavSyncSwap (ours)",
        "shuffled": "ours, shuffled sound"}  # fmt: skip
"""Rows of every table, in order."""
TABLES = {
    "Table 1": {"lse_d_b": "LSE-D ↓", "lse_c_b": "LSE-C ↑", "lmd": "LMD px ↓", "lmd_m": "LMD-m px ↓"},
    "Table 2": {"fid": "FID ↓", "cpbd": "CPBD ↑", "retrieval_b": "ID-Retrieve ↑"},
    "beyond the paper": {"psnr": "PSNR ↑", "ssim": "SSIM ↑", "colour": "colour error ↓",
                   "nearest_target_b": "nearest=target ↓", "gap_r": "gap r ↑", "gap_ratio": "gap amplitude",
                   "offset_within_1_b": "offset ±1 ↑", "sharp": "sharpness"},
}  # fmt: skip
"""Columns of the tables by their key in the report."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="written by: edgetalk train wavsyncswap")
    parser.add_argument("--experts", type=Path, required=True, help="folder of the experts that judge")
    parser.add_argument("--data", type=Path, required=True, help="made by: python -m edgetalk.train.swap draw")
    parser.add_argument("--speech", type=Path, help="the sentences that drawn ones were drawn from")
    parser.add_argument("--identity", type=Path, help="extractor (default: identity-a.safetensors of the experts)")
    parser.add_argument("--wav2lip", type=Path, metavar="FILE", help="written by: edgetalk train wav2lip")
    parser.add_argument("--simswap", type=Path, metavar="FILE", help="written by: edgetalk train simswap")
    parser.add_argument("--limit", type=int, metavar="N", help="score N clips instead of all")
    parser.add_argument("--both", action="store_true", help="also by the experts that were trained against")
    parser.add_argument("--face-models", type=Path, metavar="FOLDER",
                        help="networks that find faces, for LMD of filmed people (default: the user's)")  # fmt: skip
    parser.add_argument("--fid", type=Path, metavar="FILE", help="Inception's weights, for FID")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, metavar="FOLDER", help="for the JSON and the sheets"
    )


def run(args: argparse.Namespace) -> None:
    import torch

    from edgetalk.train.scores.report import command, plain, write_json
    from edgetalk.train.swap.scores import report

    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit: got {args.limit}, expected at least 1 clip")
    args.out.mkdir(parents=True, exist_ok=True)
    missing, inception = {}, None
    try:
        inception = perceptual.inception(args.fid, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    except perceptual.Unavailable as reason:
        missing["fid"] = str(reason)
    made = report(args.checkpoint, args.experts, args.data, args.speech, args.out, wav2lip=args.wav2lip,
                  simswap=args.simswap, identity=args.identity, limit=args.limit, inception=inception,
                  both=args.both, face_models=args.face_models)  # fmt: skip
    missing |= made.pop("left_out")
    made = {"family": "wavsyncswap", "command": command(), "not_computed": missing, **made}
    write_json(args.out / "wavsyncswap.json", made)
    print(json.dumps(plain(made), indent=1) if args.json else "\n\n".join(tables(made)))


def tables(report: dict[str, Any]) -> list[str]:
    """Return the report for a screen: three tables for each protocol, then what is asked for."""
    out = []
    for protocol, scores in report["scores"].items():
        for title, columns in TABLES.items():
            named = {key: label for key, label in columns.items() if any(key in scores[row] for row in scores)}
            lines = [f"{title}, protocol {protocol}".ljust(32) + "".join(label.rjust(17) for label in named.values())]
            for row, label in ROWS.items():
                if row in scores:
                    cells = (f"{scores[row][k]:.4g}" if k in scores[row] else "–" for k in named)
                    lines.append(label.ljust(32) + "".join(cell.rjust(17) for cell in cells))
            out.append("\n".join(lines))
    asked = [f"{name}: {v['got']} (asked: {v['asked']}) {'reached' if v['reached'] else 'NOT reached'}"
             for name, v in report.get("verdict", {}).items()]  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for name, reason in report["not_computed"].items():
        reasons.setdefault(reason, []).append(name)
    missing = [f"{', '.join(names)}: not computed: {reason}" for reason, names in reasons.items()]
    return [*out, "\n".join([*asked, *missing, f"{report['clips']} clips, {report['seconds']} s"])]
