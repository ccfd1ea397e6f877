"""The extras of pyproject.toml name the right packages for x86-64 and for a Jetson, and their wheels are there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

requirements = pytest.importorskip("packaging.requirements", reason="packaging is not installed")

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
X86, JETSON_6, JETSON_7 = ("x86_64", "3.12"), ("aarch64", "3.10"), ("aarch64", "3.12")
ALL = [("x86_64", "3.10"), X86, JETSON_6, JETSON_7]
PLATFORMS = [
    "manylinux2014_aarch64",
    *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 36)),
]  # JetPack 6: glibc 2.35


def lists():
    """The lists of requirements by extra, "" for those that everybody gets; Python 3.10 has nothing that reads TOML."""
    text = PROJECT.read_text()
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    found = re.findall(r"^(\w+) = \[(.*?)\](?=\s*(?:#.*)?$)", extras, re.MULTILINE | re.DOTALL)
    core = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    return {name: re.findall(r'"([^"]+)"', part) for name, part in [("", core[1]), *found]}


def chosen(machine, python, *extras):
    """What pip installs of ourselves on a machine with Linux: specifiers by the name of the package."""
    environment = {"platform_machine": machine, "python_version": python, "python_full_version": f"{python}.1",
                   "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}  # fmt: skip
    found = {}
    for line in (line for extra in ("", *extras) for line in lists()[extra]):
        wanted = requirements.Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(environment):
            found[wanted.name] = wanted.specifier & found.get(wanted.name, wanted.specifier)
    return found


def test_all_extras_are_read():
    tomllib = pytest.importorskip("tomllib", reason="came with Python 3.11")
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert lists() == {"": project["dependencies"], **project["optional-dependencies"]}


@pytest.mark.parametrize("at", ALL, ids=" ".join)
def test_what_each_extra_brings(at):
    machine, python = at
    core = set(chosen(*at))
    assert not core & {"tensorrt", "tensorrt-rtx", "cuda-bindings", "pycuda"}
    assert ("openvino" in core) == (machine == "x86_64")
    assert "openvino" in chosen(*at, "openvino")
    assert set(chosen(*at, "pycuda")) - core == {"pycuda"}
    assert set(chosen(*at, "rtx")) - core == {"tensorrt-rtx", "cuda-bindings"}
    tensorrt = {"cuda-bindings"} if machine == "aarch64" else {"tensorrt", "cuda-bindings"}  # JetPack brings it
    assert set(chosen(*at, "tensorrt")) - core == tensorrt


def test_versions_that_fit_the_board():
    fit = chosen(*JETSON_6, "tensorrt", "rtx")["cuda-bindings"]
    assert [v in fit for v in ("12.5.0", "12.6.2", "12.9.1", "13.0.0")] == [False, True, True, False]
    for at in (X86, JETSON_7):
        assert "13.0.0" in chosen(*at, "tensorrt")["cuda-bindings"]
    versions = chosen(*X86, "tensorrt", "rtx")
    assert [v in versions["tensorrt"] for v in ("8.6.1", "10.3.0", "11.4.0")] == [False, True, True]
    assert [v in versions["tensorrt-rtx"] for v in ("1.6", "1.7.1.116")] == [False, True]


def resolved(python, folder, *wanted):
    """Versions that pip would install on a board, by name, and what it said; nothing is installed."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--retries", "0",
               "--only-binary=:all:", "--target", folder / "none", "--report", report, "--implementation", "cp",
               "--python-version", python, *(word for name in PLATFORMS for word in ("--platform", name)),
               *wanted]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    parts = [part["metadata"] for part in json.loads(report.read_text())["install"]] if not done.returncode else []
    return {re.sub("[-_.]+", "-", part["name"].lower()): part["version"] for part in parts}, done.stderr


@pytest.mark.skipif("EDGETALK_INDEX" not in os.environ, reason="asks pip's index, which CI does: EDGETALK_INDEX=1")
@pytest.mark.parametrize("at", [JETSON_6, JETSON_7], ids=" ".join)
def test_wheels_for_aarch64_resolve(at, tmp_path):
    """What the extras `tensorrt`, `build` and `rtx` ask for; `openvino` is resolved where CI emulates aarch64."""
    probe, told = resolved(at[1], tmp_path, "safetensors")
    if not probe:
        pytest.skip(f"pip reaches no index with wheels for aarch64: {told.strip().splitlines()[-1]}")
    wanted = chosen(*at, "tensorrt", "build", "rtx")
    # `tensorrt-rtx` is a source archive that names wheels; of these the libraries, 90 MB for any Python, are left out.
    wanted["tensorrt_rtx_cu13_bindings"] = wanted.pop("tensorrt-rtx")
    versions, told = resolved(at[1], tmp_path, *(f"{name}{specifier}" for name, specifier in wanted.items()))
    assert {name.replace("_", "-") for name in wanted} <= set(versions), told
    assert all(versions[name.replace("_", "-")] in specifier for name, specifier in wanted.items())


def test_the_jetson_page_installs_what_its_tests_need():
    """Where it is not editable the checkout's edgetalk/ hides the installed one, and has no edgetalk.engines."""
    installs = re.findall(r'pip install (-e )?"\.\[([\w,]+)\]"', (PROJECT.parent / "docs/jetson.md").read_text())
    assert installs and all(editable for editable, _ in installs)
    for at in (JETSON_6, JETSON_7):
        assert {"cuda-bindings", "onnx", "onnxruntime", "openvino"} <= set(chosen(*at, *installs[0][1].split(",")))
