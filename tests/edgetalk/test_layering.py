"""The runtime stays light: which packages it loads, and when."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edgetalk

HEAVY = {"torch", "onnx", "onnxruntime", "onnxsim", "nncf", "librosa", "numba", "scipy", "skimage", "matplotlib",
         "tensorrt", "tensorrt_rtx", "cuda", "pycuda"}  # fmt: skip
OURS = {"edgetalk.train", "edgetalk.export", "edgetalk.engines"}


def loaded_after(code: str, *arguments: object) -> set[str]:
    """Modules, and the packages that they belong to, that a fresh process has loaded after `code`."""
    script = f"import sys\n{code}\nprint(*sys.modules, file=open(sys.argv[1], 'w'))"
    report = arguments[0]
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True, timeout=120)
    modules = Path(str(report)).read_text().split()
    return {".".join(name.split(".")[:n]) for name in modules for n in (1, 2)}


def test_import_loads_nothing_but_ourselves(tmp_path):
    loaded = loaded_after("import edgetalk", tmp_path / "modules")
    assert {name for name in loaded if name.startswith("edgetalk.")} == {"edgetalk.errors"}
    assert not loaded & (HEAVY | OURS | {"numpy", "openvino", "cv2", "av", "soundfile", "soxr", "safetensors"})


def test_the_command_line_loads_no_command_before_it_is_called(tmp_path):
    loaded = loaded_after("from edgetalk.cli import main; main(['--help']); main(['--version'])", tmp_path / "modules")
    assert not loaded & (HEAVY | OURS | {"numpy", "openvino", "cv2", "av"})
    assert "edgetalk.session" not in loaded


def test_a_whole_talk_stays_in_the_runtime(zoo, tmp_path):
    engine = zoo.set("int8", tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.float32), 16000)
    code = (
        "from edgetalk.cli import main\n"
        "assert main(['talk', sys.argv[2], '--audio', sys.argv[3], '-o', sys.argv[4]]) == 0"
    )
    loaded = loaded_after(code, tmp_path / "modules", engine, tmp_path / "a.wav", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").stat().st_size
    assert {"edgetalk.session", "openvino", "av"} <= loaded
    assert not loaded & (HEAVY | OURS)


def test_a_step_needs_neither_opencv_nor_media(zoo, tmp_path):
    code = "import edgetalk; s = edgetalk.Session(sys.argv[2]); list(s.stream([__import__('numpy').zeros(9000, 'f4')]))"
    loaded = loaded_after(code, tmp_path / "modules", zoo.root / "int8/amnet.xml")
    assert "openvino" in loaded
    assert not loaded & (HEAVY | OURS | {"cv2", "av", "soundfile", "soxr"})


def test_a_film_is_read_and_written_without_the_engines(tmp_path):
    loaded = loaded_after("import edgetalk.reader, edgetalk.writer", tmp_path / "modules")
    assert not {name for name in loaded if name.startswith(("edgetalk.backends", "edgetalk.metadata"))}


@pytest.mark.parametrize("package", ["edgetalk.export", "edgetalk.engines"])
def test_nobody_is_told_that_onnx_runtime_runs(tmp_path, package):
    """It would report to Microsoft, and keep a database and a number of the device in the home's cache."""
    quiet = {
        name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")
    }
    code = f"import {package}, onnxruntime"
    subprocess.run([sys.executable, "-c", code], env=quiet | {"HOME": str(tmp_path)}, check=True, timeout=120)
    assert not list(tmp_path.rglob("*onnxruntime*"))


@pytest.mark.parametrize("path", sorted(Path(edgetalk.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_imports_what_the_runtime_must_not(path):
    """Also inside functions; TensorRT and CUDA are named by the backend that runs them."""
    forbidden = (HEAVY | OURS) - (
        {"tensorrt", "tensorrt_rtx", "cuda", "pycuda"} if path.parent.name == "backends" else set()
    )
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
        for name in names:
            parts = name.split(".")
            assert not {parts[0], ".".join(parts[:2])} & forbidden, f"{path.name}:{node.lineno} imports {name}"


def test_the_public_names_are_what_is_documented():
    assert edgetalk.__all__ == sorted(edgetalk.__all__)
    assert set(edgetalk.__all__) <= set(dir(edgetalk))
    for name in edgetalk.__all__:
        assert getattr(edgetalk, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Sesion'"):
        edgetalk.Sesion  # noqa: B018
