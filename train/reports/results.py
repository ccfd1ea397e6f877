"""Write docs/results.md: `python -m edgetalk.train.reports.results docs/results -o docs/results.md`.

The folder holds what the commands wrote, under these names:

    announcers-6.json, calm.json, announcers-wild.json, announcers-any.json    edgetalk score amnet … -o FILE
    ablations.json, ablations.jpg    python -m edgetalk.train.amnet.ablations
    cross.jpg, decoupling.jpg, decoupling.json, mouths.jpg, variants.jpg    python -m edgetalk.train.amnet.sheets
    wavsyncswap.json, wavsyncswap.jpg, wavsyncswap-frames.jpg    edgetalk score wavsyncswap … -o FOLDER

What is not there is named as not made yet, with its command. The paper's figures stand beside ours; they are of other
data, so only the order of rows can be compared. Typed by hand are the paper's numbers, which stand below, and what the
header of a checkpoint that was trained in stretches tells of them (`history`); all others come from the JSON files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.train import program
from edgetalk.train.networks.landmarks import load as load_judge
from edgetalk.train.scores.report import JUDGE

from . import wavsyncswap as results_wavsyncswap
from .markdown import made_by, missing, number, table

Report = Mapping[str, Any]

SCORE = "edgetalk score amnet --checkpoint FILE --data {} -o docs/results/{}.json"
ABLATIONS = "python -m edgetalk.train.amnet.ablations --data DIR --images 60000 --width 0.5 --seeds 2 -o docs/results"
SHEETS = "python -m edgetalk.train.amnet.sheets --checkpoint FILE --data DIR -o docs/results"

DATA = {
    "announcers-6": ("the six announcers, heads that turn by up to 28°", ""),
    "calm": ("the same six, heads that turn as at a desk, up to 16°", " --set calm --frames 3000"),
    "wild": ("40 people, each in three outfits, surroundings and lights", " --set wild --size 128"),
    "any": (
        "600 people; training sees 546 of them, the test the other 54 and every tenth of those",
        " --set any --size 128",
    ),
}
"""The sets that are scored: who is in them, and what else than their name is told to draw them."""

MEASURES = {
    "SSIM, PSNR": "likeness of a frame to the true one; 1, and 100 dB (swaps: 60), where they are equal",
    "mouth PSNR, mouth SSIM": "the same of a square about the mouth, 1.7 times as wide as it; what an engine's gate "
    "calls so is of a closer box, and for swaps of where every crop has the mouth",
    "LPIPS, FID": "the usual distances by AlexNet's and by Inception's features",
    "judge Fréchet": "FID's formula on the features of our landmark judge: comparable within this page alone",
    "DR": "share of frames in which dlib's frontal detector finds a face",
    "ALE": "mean distance of 106 landmarks from the true ones, in pixels of a 256 frame",
    "APE, ABE": "mean error of yaw, pitch and roll in radians; of the two eyes, 0 open to 1 closed",
    "lip r, gap r": "correlation of how far the lips are open with the truth: 1 is perfect, 0 means that they ignore "
    "the sound; lip r is over all of a person's frames, gap r over those of a clip, in the mean of clips",
    "gap amplitude": "how far the lips move, as a share of the true movement (`gap_ratio`)",
    "LMD, LMD-m": "mean distance of all landmarks, and of the mouth's, in pixels of a 256 frame",
    "LSE-D, LSE-C": "SyncNet's distance between lips and sound at the best shift, and by how much the median of all "
    "shifts is farther",
    "offset ±1": "share of clips most in sync as they are, or with the sound moved by one frame",
    "ID-Retrieve": "share of clips in which a judge finds the portrait's person among all test persons; as a share of "
    "what it finds in true swaps it is `retrieval_share`",
    "nearest=target": "share of frames in which that judge still finds the person of the film",
    "CPBD, sharpness": "share of edges without visible blur; strength of fine detail and noise, as a share of "
    "the truth's",
}
"""What the columns mean."""
DEVIATIONS = (
    "Not as in the paper: AMNet's adversarial loss is least squares, the learning rate falls linearly over the second "
    "half, a share of the source pictures is the person's most neutral frame, weights are averaged, sound is "
    "augmented. All but the ablated rows also had mouths and eyes weigh more, rare faces more often, and no "
    "discriminator for most of their pictures: `training` in their JSON files tells the settings."
)
"""What the paper's training does not have."""

# The paper's own figures ("Real-Time Audio-Guided Multi-Face Reenactment", Tables I to IV).
PAPER_1 = {
    "APB2Face": (11.862, 0.799, 0.0195, 98.8, 1.429, 0.0195, 0.0413),
    "AMNet": (11.206, 0.805, 0.0187, 99.1, 1.382, 0.0187, 0.0405),
}
PAPER_2 = {
    "Wav2Pix": (214.280, 0.537, 0.0826),
    "MakeItTalk": (33.640, 0.657, 0.0387),
    "APB2Face": (13.375, 0.734, 0.0225),
    "AMNet": (13.256, 0.765, 0.0211),
}
PAPER_3 = {
    "content": (15.556, 0.735, 0.0242),
    "content-geometry": (14.172, 0.786, 0.0203),
    "content-adversarial": (12.528, 0.749, 0.0215),
    "all": (11.206, 0.805, 0.0187),
}
PAPER_4 = {"adain": (11.515, 0.792, 0.0196), "k3": (11.206, 0.805, 0.0187)}
LABELS = {
    "content": "L_C",
    "content-geometry": "L_C + L_G",
    "content-adversarial": "L_C + L_Adv",
    "all": "L_C + L_G + L_Adv, GC k = 1",
    "adain": "AdaIN",
    "k3": "GC k = 3",
    "eq8": "Eq. 8 with spectral normalisation",
}
ABLATED = {
    "judge_frechet": ("judge Fréchet ↓", 3),
    "ssim": ("SSIM ↑", 4),
    "psnr": ("PSNR ↑", 2),
    "lip_r": ("lip r ↑", 3),
    "ale_px": ("ALE px ↓", 3),
}
"""Columns of the ablations, with the decimals shown."""


def data_sets() -> str:
    """What the names behind --data mean."""
    rows = [
        [f"`{name}`", told, f"`edgetalk data announcers -o {name}{options} --codec raw`"]
        for name, (told, options) in DATA.items()
    ]
    return table(["`--data`", "who is in it", "drawn by"], rows)


def training_of(report: Report) -> str:
    """One sentence on what was trained: variant, size, images seen and what with, hours where the record has them."""
    training = report["training"]
    stretches = training.get("history") or [training]  # a checkpoint may come from several runs in a row
    seen = sum(run.get("images_seen", 0) for run in stretches) or training.get("images")
    begun = (
        f" from {training['start']}, as it then was, on" if training.get("start") and "history" not in training else ""
    )
    hours = f", {training['hours']:.2f} hours" if "hours" in training else ""
    shown = "{0}×{0}".format
    return (
        f"Variant {report['variant']}, {shown(report['size'])}, {seen:,} images seen{begun}{hours}; checkpoint "
        f"{report['checkpoint'][:12]}; {report['frames']:,} held-out frames of {report['data']}, compared at "
        f"{shown(report['compared_at'])}."
    )


def judge_of(record: Report) -> str:
    """What the landmark judge is worth, of the record in its file."""
    clean, harmed = (record[f"error_on_{kind}_frames"] for kind in ("true", "degraded"))
    columns = {
        "landmarks_px": ("landmarks px", 2),
        "mouth_px": ("mouth px", 2),
        "opening_px": ("lip opening px", 2),
        "opening_r": ("lip opening r", 4),
        "pose_rad": ("pose rad", 4),
        "blink": ("blink", 4),
    }
    rows = [
        [name, *(number(errors[column], digits) for column, (_, digits) in columns.items())]
        for name, errors in {"true frames": clean, "blurred, noised, recoloured": harmed}.items()
    ]
    return "\n\n".join(
        [
            "ALE, APE, ABE and lip r are measured by a small landmark network of our own, trained on drawn frames "
            f"({record['images']:,} pictures, {record['seconds']:.0f} s on {record['device']}). Its own error on "
            f"{clean['frames']:,} held-out true frames, in pixels of a 256 frame; the errors below contain it:",
            table(["", *(label for label, _ in columns.values())], rows),
            made_by(
                "python -m edgetalk.train.experts.landmarks --data DIR --seconds 75 "
                "-o train/checkpoints/landmarks.safetensors"
            ),
        ]
    )


def absent(report: Report, columns: Sequence[str]) -> str:
    """What of a table's columns was not computed, and what it needs."""
    lacking = {name: why for name, why in report["not_computed"].items() if name in columns}
    names = {"detection": "DR", "judge_frechet": "judge Fréchet"}
    return "".join(f"\n\n{names.get(name, name.upper())} not computed: {why}." for name, why in lacking.items())


def table_1(report: Report | None, name: str = "announcers-6") -> str:
    """Table I: per person, mean, and all frames together."""
    if report is None:
        return missing("Table I", SCORE.format(name, name))
    head = ["", "FID ↓", "judge Fréchet ↓", "SSIM ↑", "LPIPS ↓", "DR % ↑", "ALE px ↓", "APE rad ↓", "ABE ↓"]

    def row(label: str, figures: Mapping[str, Any]) -> list[str]:
        detected = figures.get("detection")
        return [
            label,
            number(figures.get("fid")),
            number(figures.get("judge_frechet"), 4),
            number(figures["ssim"]),
            number(figures.get("lpips"), 4),
            number(None if detected is None else 100 * detected, 1),
            number(figures["ale_px"]),
            number(figures["ape_rad"], 4),
            number(figures["abe"], 4),
        ]

    rows = [row(f"ours, {name}", figures) for name, figures in report["persons"].items()]
    mean = report["mean"]
    judged = {"ale_px": mean["judge_ale_px"], "ape_rad": mean["judge_ape_rad"], "abe": mean["judge_abe"]}
    rows.append(row("**ours, mean**", mean))
    rows.append(row("ours, all frames together", report["all"]))
    rows.append(row("true frames, same measures", {"ssim": 1.0, "detection": mean.get("truth_detection"), **judged}))
    for peer, (fid, ssim, lpips, detected, *errors) in PAPER_1.items():
        rows.append(
            [f"{peer}, paper's own figure, AnnVI", number(fid), "–", number(ssim), number(lpips, 4)]
            + [number(detected, 1), number(errors[0]), number(errors[1], 4), number(errors[2], 4)]
        )
    parts = [training_of(report), table(head, rows) + absent(report, ("lpips", "fid", "judge_frechet", "detection"))]
    if any(distance in report["all"] and distance not in mean for distance in ("fid", "judge_frechet")):
        parts.append(
            "One person has too few frames for a distance of clouds of their own; all frames together have one."
        )
    parts.append(
        "There is no third part of the data: it was by test frames, too, that one stretch of the training was "
        "preferred to another."
    )
    parts.append(
        "APB2Face was not trained on our data: its row is the paper's. The paper's landmark, pose and blink errors "
        "are of another detector and other units, ours are defined in `train/scores`."
    )
    return "\n\n".join([*parts, made_by(report["command"])])


def lips(report: Report | None, name: str = "announcers-6") -> str:
    """Lip correlation per person and voice, shuffled sound, mouths, stillness."""
    if report is None:
        return missing("Lips", SCORE.format(name, name))
    head = ["", "lip r ↑", "judge on true frames", "shuffled sound", "mouth PSNR ↑", "mouth SSIM ↑", "PSNR ↑", "frames"]
    rows = []
    named = {**report["persons"], "**mean of persons**": report["mean"]}
    for voice, figures in report["voices"].items():
        named[f"voice {voice}" + (", held out" if figures["held_out"] else "")] = figures
    for label, f in named.items():
        rows.append(
            [label, number(f["lip_r"]), number(f["lip_r_judge"]), number(f["lip_r_shuffled"])]
            + [number(f["mouth_psnr"], 2), number(f["mouth_ssim"]), number(f["psnr"], 2), str(f["frames"])]
        )
    parts = [table(head, rows)]
    parts.append(
        f"A lip r of fewer than {report['correlated']} frames is not counted: a voice's is the mean over the persons "
        "who have one."
        if "correlated" in report
        else "A voice's lip r is the mean over its persons, and this record counts each, however few the frames: of "
        "few it says little. Scored anew it would leave out those of fewer than 20."
    )
    mean, still = report["mean"], []
    if report["jitter"]:
        quiet, speaking = report["jitter"]["silent"], report["jitter"]["speaking"]
        still.append(
            f"Still head in a silent room (noise at −60 dBFS): a pixel changes by {number(quiet['pixels'])} of 255 "
            f"from frame to frame, landmarks move {number(quiet['landmarks_px'])} px of 256, lips are "
            f"{number(quiet['opening_px'], 2)} px open. Still head that speaks: brows, nose and eyes move "
            f"{number(speaking['landmarks_px'])} px."
        )
    if mean.get("closed_px") is not None:
        still.append(
            f"Where the true lips are closed the generated ones are {mean['closed_px']:.2f} px open (the judge sees "
            f"{mean['judge_closed_px']:.2f} px on the true frames)."
        )
    if still:
        parts.append(" ".join(still))
    return "\n\n".join([*parts, made_by(report["command"])])


def table_2(report: Report | None) -> str:
    """Table II, quality columns, on the set `wild`."""
    if report is None:
        return missing("Table II", SCORE.format("wild", "announcers-wild"))
    mean = report["mean"]
    whole = report["all"]  # a person has too few frames for a distance of clouds
    ours = [number(whole.get("fid")), number(whole.get("judge_frechet")), number(mean["ssim"])]
    rows = [["**ours**, wild", *ours, number(mean.get("lpips"), 4)]]
    rows += [
        [f"{name}, paper's own figure, Youtubers", number(fid), "–", number(ssim), number(lpips, 4)]
        for name, (fid, ssim, lpips) in PAPER_2.items()
    ]
    head = ["", "FID ↓", "judge Fréchet ↓", "SSIM ↑", "LPIPS ↓"]
    shown = table(head, rows) + absent(report, ("lpips", "fid", "judge_frechet"))
    told = (
        f"Beyond the paper's columns: lip r {number(mean['lip_r'])} (shuffled sound {number(mean['lip_r_shuffled'])}), "
        f"landmarks {number(mean['ale_px'], 2)} px of 256 (the judge on true frames {number(mean['judge_ale_px'], 2)})."
    )
    return "\n\n".join([training_of(report), shown, told, made_by(report["command"])])


def any_face(report: Report | None) -> str:
    """Identities that the network was trained on beside identities that it has never seen."""
    if report is None:
        return missing("amnet-any", SCORE.format("any", "announcers-any"))
    groups = {"trained identities": report.get("known"), "identities never seen": report.get("unknown")}
    head = ["", "ALE px ↓", "judge on true frames", "SSIM ↑", "PSNR ↑", "lip r ↑", "frames"]
    rows = [
        [name, number(g["ale_px"]), number(g["judge_ale_px"]), number(g["ssim"]), number(g["psnr"], 2)]
        + [number(g["lip_r"]), str(g["frames"])]
        for name, g in groups.items()
        if g
    ]
    parts = [training_of(report), table(head, rows)]
    if all(groups.values()):
        ratio = report["unknown"]["ale_px"] / report["known"]["ale_px"]
        parts.append(
            f"Landmark error on faces never seen: {ratio:.2f} times that on trained ones. Nobody's source picture is "
            "of the clips that are scored."
        )
    return "\n\n".join([*parts, made_by(report["command"])])


def seeds_of(reports: Sequence[Report]) -> dict[str, dict[str, list[float]]]:
    """Figures by row and column, one per seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for report in reports:
        columns = found.setdefault(report["row"], {})
        for column in ABLATED:
            value = report["all" if column == "judge_frechet" else "mean"].get(column)
            if value is not None:
                columns.setdefault(column, []).append(value)
    return found


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation over the seeds; nan for one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def compared(values: Sequence[float], reference: Sequence[float], digits: int) -> str:
    """`mean ± deviation (difference to the reference)`, "none" for a difference that may be chance.

    What is told is larger than the larger deviation, and a t-test of two samples tells them apart at 95 %. It pairs no
    seeds: they make different networks of each row, and of two pairs one degree of freedom would be left.
    """
    from scipy import stats

    mean, spread = float(np.mean(values)), deviation(values)
    text = f"{mean:.{digits}f} ± {number(spread, digits)}"
    if values is reference:
        return text
    difference = mean - float(np.mean(reference))
    n, m = len(values), len(reference)
    freedom = n + m - 2
    if not freedom:
        return f"{text} ({difference:+.{digits}f}, one seed)"
    variance = (n * np.var(values) + m * np.var(reference)) / freedom
    chance = stats.t.ppf(0.975, freedom) * math.sqrt(variance * (1 / n + 1 / m))
    bound = max(chance, *(d for d in (spread, deviation(reference)) if math.isfinite(d)))
    return f"{text} ({'none' if abs(difference) <= bound else f'{difference:+.{digits}f}'})"


def ablation(report: Report | None, names: Sequence[str], paper: Mapping[str, tuple[float, float, float]]) -> str:
    """A table of ablated rows, each compared with "all", beside the paper's figures."""
    if report is None:
        return missing("Ablations", ABLATIONS)
    found = seeds_of(report["rows"])
    if "all" not in found:
        return missing('Row "all" of the ablations', ABLATIONS)
    rows = []
    for name in names:
        columns = found.get(name)
        theirs = paper.get(name)
        told = "–" if theirs is None else " / ".join(f"{value:g}" for value in theirs)
        if columns is None:
            rows.append([LABELS[name], *["not made yet"] * len(ABLATED), told])
            continue
        cells = [
            compared(columns[c], found["all"][c], d) if c in columns and c in found["all"] else "–"
            for c, (_, d) in ABLATED.items()
        ]
        rows.append([LABELS[name], *cells, told])
    head = ["", *(label for label, _ in ABLATED.values())]
    if paper:
        head.append("paper: FID / SSIM / LPIPS")
    else:
        rows = [row[:-1] for row in rows]
    config = report["rows"][0]["config"]
    counts = [len(values) for columns in found.values() for values in columns.values()]
    seeds = f"{max(counts)} seeds" + (", one where no deviation stands" if min(counts) == 1 < max(counts) else "")
    width = config.get("width", 1.0)
    channels = "all channels" if width == 1 else f"{width:g} of the channels in Reenactor and discriminator"
    note = (
        f"{config['size']}×{config['size']}, {channels}, {config['images']:,} images per row, batch {config['batch']}, "
        f"{seeds}: mean ± deviation (difference to the full model; none where it is within the deviation, or a t-test "
        "at 95 % does not tell the two apart, which chance alone passes once in twenty)."
    )
    if any("digest" not in row for row in report["rows"]):  # recorded before the seed was also the sound's
        note += (
            " Seeds vary how a network begins and what order it sees; all rows heard the same versions of the sound."
        )
    correlations = [float(np.mean(columns["lip_r"])) for columns in found.values() if "lip_r" in columns]
    if (best := max(correlations, default=None)) is not None and best < 0.2:
        note += (
            f" **The lips of no row follow the sound yet** (lip r {best:.2f} at best), for which so few images do not "
            "suffice: what is compared is pictures, pose and eyes."
        )
    return "\n\n".join([note, table(head, rows), made_by(report["command"])])


def _leak(shares: Mapping[str, Mapping[str, float]]) -> float:
    """The mean of what leaks into other outputs, but from one eye into the other."""
    own, eyes = {name: name for name in shares} | {"speech": "opening"}, {"blink_left", "blink_right"}
    cells = ((name, key, share) for name, row in shares.items() for key, share in row.items())
    return float(np.mean([share for name, key, share in cells if key != own[name] and {name, key} != eyes]))


def decoupled(report: Report | None) -> str:
    """Fig. 5 as numbers."""
    if report is None:
        return missing("Decoupling", SHEETS)
    outputs = list(next(iter(report["response"].values())))
    heads = {"yaw": "yaw °", "pitch": "pitch °", "roll": "roll °", "opening": "lips px"}
    rows = [[name, *(number(v, 2) for v in row.values())] for name, row in report["response"].items()]
    groups = list(next(iter(report["groups"].values())))
    ways = [[name, *(number(v, 2) for v in row.values())] for name, row in report["groups"].items()]
    eyes = [[name, *(number(v, 2) for v in row.values())] for name, row in report["closing"].items()]
    errors = ", ".join(
        f"{k} {v['mean']:.2f}° (largest {v['largest']:.2f}°)" for k, v in report["pose_error_deg"].items()
    )
    return "\n\n".join(
        [
            "Each input is swept alone, the others are neutral and the sound is silence; the range of what the judge "
            f"reads off the pictures, mean of {report['sources']} sources:",
            table(["swept", *(heads.get(name, name.replace("_", " ")) for name in outputs)], rows),
            f"Mean leak into outputs that should stay (share of their response to their own input): "
            f"**{report['decoupling']:.3f}**; {_leak(report['leak']):.3f} without that from eye to eye, which is told "
            f"below. Difference between the pose asked for and the pose seen: {errors}.",
            "How far each eye closes where one alone is asked to, as a share of where both are, read off the pictures: "
            "the judge, who has seen few winks, takes both eyes for alike.",
            table(["asked", "left eye", "right eye"], eyes),
            "Mean way of each landmark group, in pixels of a 256 frame:",
            table(["swept", *groups], ways),
            made_by(report["command"]),
        ]
    )


def document(folder: Path, link: str) -> str:
    """The page, from the files in `folder`; pictures are linked as `link`/NAME."""

    def read(name: str, holds: str = "persons") -> Report | None:
        path = folder / f"{name}.json"
        if not path.exists():
            return None
        try:
            report: Report = json.loads(path.read_text())
            report[holds]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no report or damaged; write it anew by the command in {link}.md") from None
        return report

    def figure(name: str, told: str, command: str) -> str:
        return f"![{told}]({link}/{name})" if (folder / name).exists() else missing(told, command)

    scored = ("announcers-6", "calm", "announcers-wild", "announcers-any")
    reports = {name: read(name) for name in scored}
    score, ablations, decoupling = reports["announcers-6"], read("ablations", "rows"), read("decoupling", "response")
    sections = {
        "": "Every table and figure of the AMNet paper has its counterpart here, made from our own drawn data by the "
        "command below it. **The paper's figures are of other data (AnnVI, Youtubers: real announcers) and other "
        "measuring tools; they stand beside ours for orientation and are not comparable with them.** Nothing here "
        "was measured on real faces. This page is written by `python -m edgetalk.train.reports.results docs/results -o "
        "docs/results.md`.",
        "The data sets": "`--data NAME` is the folder that the command in the row NAME makes. "
        "DIR is a set in full (`edgetalk data announcers -o DIR`), and in WavSyncSwap's part what "
        "[its page](wavsyncswap.md) draws.\n\n" + data_sets(),
        "The measures": table(["", "what it says"], [list(row) for row in MEASURES.items()]) + "\n\n" + DEVIATIONS,
        "The landmark judge": judge_of(score["judge"] if score else load_judge(JUDGE)[1]),
        "Table I: quality per person": "Heads that turn by up to 28°, twice as far as announcers do: what the inputs "
        "can ask for. Each person is shown from the picture that its avatar is made of.\n\n" + table_1(score),
        "Lips": lips(score),
        "Table I with calm heads": "The same six with the small head turns of an announcer at a desk "
        "(the set `calm`), which is nearer to AnnVI and what `idle` motion asks for.\n\n"
        + table_1(reports["calm"], "calm"),
        "Lips with calm heads": lips(reports["calm"], "calm"),
        "Table II: people in many clothes, surroundings and lights": table_2(reports["announcers-wild"])
        + "\n\n"
        + figure("wild/cross.jpg", "Each driven by each", SHEETS + "/wild"),
        "Faces never seen": any_face(reports["announcers-any"])
        + "\n\n"
        + figure("any/cross.jpg", "Persons never trained on, each driven by each", SHEETS + "/any"),
        "Table III: loss terms": ablation(
            ablations, ["content", "content-geometry", "content-adversarial", "all"], PAPER_3
        ),
        "Table IV: Geometric Controller": "In the rows GC no normalisation stands between a cell and its predicted "
        "convolution; AdaIN normalises the cell's output first. GC k = 1 is the released arrangement and the full "
        "model of Table III: one network, one row. The paper's row GC is its k = 3 by the text.\n\n"
        + ablation(ablations, ["adain", "all", "k3"], PAPER_4),
        "Adversarial loss": "Least squares (our default) against the paper's Eq. 8.\n\n"
        + ablation(ablations, ["all", "eq8"], {}),
        "Fig. 3: cross-driving": figure("cross.jpg", "Every person driven by every person", SHEETS),
        "Fig. 4: variants": figure("variants.jpg", "Held-out frames by several checkpoints", SHEETS + " --variants …")
        + "\n\n"
        + figure("ablations.jpg", "Held-out frames by the ablated rows, 64×64", ABLATIONS),
        "Fig. 5: decoupling": figure("decoupling.jpg", "Yaw, pitch, roll, both eyes and each eye swept alone", SHEETS)
        + "\n\n"
        + decoupled(decoupling),
        "Mouths": "Silence, closed lips and open mouths of held-out clips, the true frame above the generated one.\n\n"
        + figure("mouths.jpg", "Mouths, true and generated", SHEETS),
    }
    sections |= results_wavsyncswap.sections(folder, link)
    parts = ["# Results"]
    for title, body in sections.items():
        if body:
            parts += ([f"## {title}"] if title else []) + [body]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("edgetalk.train.reports.results", __doc__)
    parser.add_argument("folder", type=Path, help="folder with the JSON files and sheets")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, help="the page, a .md file beside the folder"
    )
    args = parser.parse_args(arguments)
    if not any(args.folder.glob("*.json")):  # a mistyped folder, and a page of nothing would take the page's place
        raise InputError(f"{args.folder} has no report, expected JSON files of edgetalk score; name docs/results")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as part:
        part.write_text(document(args.folder, args.folder.name))


if __name__ == "__main__":
    program.run(main)
