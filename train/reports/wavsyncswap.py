"""The WavSyncSwap part of docs/results.md, from wavsyncswap.json and the sheets that `edgetalk score` writes.

Tables 1 and 2 of the paper with its own figures, the measures against the exact truth of the swap, Figs. 2 and 3.
Leaves out Table 3, speed, which docs/performance.md has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetalk.train.commands.score_wavsyncswap import ROWS, TABLES
from edgetalk.train.swap.judging import good_enough

from .markdown import made_by, missing, number, table

COMMAND = (
    "edgetalk score wavsyncswap --checkpoint RUN/wavsyncswap.safetensors --experts RUN/experts --data RUN/data "
    "--speech speech.npz --wav2lip FILE --simswap FILE -o docs/results"
)
# The paper's own figures (Bao et al. 2023, Tables 1 and 2), by the columns of TABLES.
PAPER = {
    "Table 1": {
        "ground truth": (7.19, 7.74, None, None),
        "Wav2Lip": (6.02, 8.65, 2.648, 2.721),
        "Wav2Lip → SimSwap": (8.14, 6.02, 3.361, 3.114),
        "WavSyncSwap": (5.88, 9.09, 3.161, 2.984),
    },
    "Table 2": {
        "ground truth": (None, 0.427, None),
        "Wav2Lip": (53.9, 0.353, None),
        "Wav2Lip → SimSwap": (74.8, 0.340, 1.0),
        "WavSyncSwap": (49.9, 0.470, 0.857),
    },
}
PROTOCOLS = {
    "paper": "the target's own sound, the current frame as reference",
    "new": "the sound of another sentence, the clip's first frame as reference",
}
EXPERTS = {"auc": "identity AUC", "top1_one_still": "identity top-1", "window_accuracy": "sync windows",
           "unheard_voice_window_accuracy": "windows, unheard voice", "offset_within_1": "offset ±1",
           "unheard_voice_offset_within_1": "offset ±1, unheard voice"}  # fmt: skip
"""Held-out scores of the experts that the page shows."""
DIGITS = {"psnr": 2, "colour": 2, "lmd": 2, "lmd_m": 2, "fid": 1}


def _budget(report: Mapping[str, Any]) -> str:
    rows = []
    for family, told in report["budgets"].items():
        training = told.get("training", {})
        size = [f"{training.get('width', 1):g}", f"{told['parameters'] / 1e6:.1f} M"]
        seen = [f"{told.get('images', 0):,}", number(told.get("seconds", 0) / 60, 0), f"{told.get('clips', 0)}"]
        rows.append([family, *size, *seen])
    experts = []
    for name, told in report["experts"].items():
        scores = told.get("scores") or {}
        experts.append([name, *(number(scores.get(key)) for key in EXPERTS)])
    parts = [
        "What was trained, and how long:",
        table(["", "width factor", "parameters", "pictures", "minutes", "clips"], rows),
        "The experts on people and sentences that they have not seen; those named b judge, those named a were trained "
        "against:",
        table(["", *EXPERTS.values()], experts),
        *(f"**{name} is below its floor: nothing was trained against it.**" for name in _refused(report)),
    ]
    return "\n\n".join(parts)


def _refused(report: Mapping[str, Any]) -> list[str]:
    """Return the experts to train against that were not good enough for it."""
    kinds = {name: name.rpartition("-")[0] for name in report["experts"] if name.endswith("-a")}
    return [name for name, kind in kinds.items() if not good_enough(kind, report["experts"][name].get("scores") or {})]


def _tables(report: Mapping[str, Any], title: str) -> str:
    columns, parts = TABLES[title], []
    for protocol, told in PROTOCOLS.items():
        scores = report["scores"][protocol]
        rows = [[ROWS[row], *(number(scores[row].get(key), DIGITS.get(key, 3)) for key in columns)]
                for row in ROWS if row in scores]  # fmt: skip
        if protocol == "paper":
            rows += [[f"{name}, paper's own figure, HDTF", *(number(value) for value in values)]
                     for name, values in PAPER.get(title, {}).items()]  # fmt: skip
        parts += [f"Protocol `{protocol}`: {told}.", table(["", *columns.values()], rows)]
    return "\n\n".join(parts)


def _asked(report: Mapping[str, Any]) -> str:
    rows = [[name, number(v["got"]), number(v["asked"], 2), number(report["verdict_gpu"][name]["asked"], 2),
             "yes" if v["reached"] else "**no**"] for name, v in report["verdict"].items()]  # fmt: skip
    return table(["protocol `new`", "got", "asked, two cores", "asked, GPU", "reached on two cores"], rows)


def sections(folder: Path, link: str) -> dict[str, str]:
    """Return the sections of the page by title; pictures are linked as `link`/NAME."""

    def figure(name: str, told: str) -> str:
        return f"![{told}]({link}/{name})" if (folder / name).exists() else missing(told, COMMAND)

    path = folder / "wavsyncswap.json"
    if not path.exists():
        return {"WavSyncSwap": missing("Tables 1 and 2 of WavSyncSwap", COMMAND)}
    report = json.loads(path.read_text())
    not_computed = [f"{name.upper()} not computed: {reason}." for name, reason in report["not_computed"].items()]
    made = made_by(report["command"])
    return {
        "WavSyncSwap": f"{report['clips']} drawn test clips of two seconds: unseen people on both sides, unseen "
        "sentences, an unseen voice, crops as a tracker gives them. The source's face is known from one still. Where "
        "the truth is drawn, too, it is the same motion under the source's face. **The paper's figures are of filmed "
        "faces, full width and long training; only the order of rows can be compared.** LSE-D and LSE-C are by our own "
        "expert, whose vectors have unit length, so its distances are smaller than SyncNet's.\n\n" + _budget(report),
        "WavSyncSwap, Table 1: lip-sync": _tables(report, "Table 1") + "\n\n" + made,
        "WavSyncSwap, Table 2: pictures and identity": "\n\n".join([_tables(report, "Table 2"), *not_computed, made]),
        "WavSyncSwap against the exact swap": "Gap r is with the drawn mouth's opening, gap amplitude a share of "
        "what the landmark judge reads off the truth. Offset ±1 is the share of clips that the sync judge finds most "
        "in sync as they are, or with the sound moved by one frame. Sharpness is the mean magnitude of the Laplacian "
        "within the face, as a share of the truth's: noise adds to it, and more than 1 is no merit. Colour error is "
        "how far the face's mean colour is off, of 255; identity is by the judge. All rows are held against the swap; "
        "Wav2Lip swaps nothing, so its pictures can be no nearer to it than the unchanged target is.\n\n"
        + "\n\n".join([_tables(report, "beyond the paper"), _asked(report), made]),
        "WavSyncSwap, Fig. 2: one frame by each method": figure(
            "wavsyncswap.jpg", "Source, target, truth, Wav2Lip (W), SimSwap (S), cascades, ours; the target's own sound"
        ),
        "WavSyncSwap, Fig. 3: frames of one clip": figure(
            "wavsyncswap-frames.jpg", "Frames of one clip with a new sentence, by each method"
        ),
    }
