"""The OpenVINO backend on real files: same numbers as numpy, reused buffers, explicit precision, one line per error."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgetalk import BackendError, InputError, ModelError
from edgetalk.backends import cores, open_engine, preflight


@pytest.fixture
def feeds(zoo, controls):
    mel, pose, blink = controls
    appearance = zoo.reference.appearance(zoo.face())
    return {"appearance": appearance, "mel": mel[None], "pose": pose[None], "blink": blink[None]}


@pytest.mark.parametrize("name", ["onnx/amnet.onnx", "dynamic/amnet.onnx", "f32/amnet.xml"])
def test_run_equals_the_numpy_reference(zoo, feeds, name):
    backend = open_engine(zoo.root / name, threads=1)
    results = backend.run(feeds)
    frame, landmarks = zoo.reference.step(*(feeds[key][0] if key != "appearance" else feeds[key] for key in feeds))
    assert np.abs(results["frame"][0].astype(int) - frame).max() <= 1
    np.testing.assert_allclose(results["landmarks"][0], landmarks, atol=1e-5)
    assert backend.inputs["appearance"] == (np.float32, (1, 8, 8, 8))
    assert backend.outputs["frame"] == (np.uint8, (1, 32, 32, 3))
    assert set(backend.inputs) == {"appearance", "mel", "pose", "blink"}
    backend.close()


def test_source_engine_equals_the_numpy_reference(zoo):
    backend = open_engine(zoo.root / "f32/amnet-source.xml")
    picture = zoo.face()
    results = backend.run({"source": picture[None]})
    np.testing.assert_allclose(results["appearance"], zoo.reference.appearance(picture), atol=1e-5)


def test_results_are_the_same_arrays_every_time_and_survive_closing(zoo, feeds):
    backend = open_engine(zoo.root / "f32/amnet.xml")
    first = backend.run(feeds)["frame"]
    before = first.copy()
    second = backend.run({"pose": feeds["pose"] + 1})["frame"]
    assert second is first and not np.array_equal(first, before)
    backend.run({"pose": feeds["pose"]})  # all the rest keeps what it was fed
    np.testing.assert_array_equal(first, before)
    backend.close()
    backend.close()
    np.testing.assert_array_equal(first, before)
    with pytest.raises(BackendError, match="amnet.xml is closed"):
        backend.run(feeds)


def test_what_does_not_fit_the_graph_is_refused(zoo, feeds):
    backend = open_engine(zoo.root / "f32/amnet.xml")
    for wrong in ({"sound": feeds["mel"]}, {"mel": np.zeros((1, 3, 80), np.float32)}, {"mel": np.array(["a"])}):
        with pytest.raises(InputError, match="amnet.xml takes"):
            backend.run(wrong)


FORKED = """
import os, signal, sys
from edgetalk import BackendError
from edgetalk.backends import open_engine
file, streams = sys.argv[1], int(sys.argv[2])
backend = open_engine(file, streams=streams)
before = backend.run({})["frame"].copy()
child = os.fork()
if child:
    ended = os.waitpid(child, 0)[1]
    assert (backend.run({})["frame"] == before).all()
    sys.exit(ended)
signal.alarm(30)
try:
    backend.run({})
except BackendError as error:
    print(error, flush=True)
own = open_engine(file, streams=streams)
assert (own.run({})["frame"] == before).all()
own.close()
if streams == 1:
    backend.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("streams", [1, 2])
def test_a_forked_process_opens_its_own_and_ends(zoo, streams):
    """No thread survives a fork: to run or to free the network of the other process would wait for its threads."""
    command = [sys.executable, "-c", FORKED, zoo.root / "f32/amnet.xml", str(streams)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    line = "amnet.xml was opened before this process was forked; open it in each process\n"
    assert (told.returncode, told.stdout, told.stderr) == (0, line, "")


def test_a_cache_that_cannot_be_is_told_by_the_name_of_its_variable(zoo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(
        BackendError, match=r"^EDGETALK_CACHE: got .*file/cache, which cannot be made a folder \(Not a dir"
    ):
        open_engine(zoo.root / "f32/amnet.xml")
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "a/b"))
    open_engine(zoo.root / "f32/amnet.xml").close()
    assert list((tmp_path / "a/b").iterdir())


def test_shapes_that_stay_open_are_refused(zoo, tmp_path):
    import onnx

    model = onnx.load(zoo.root / "onnx/amnet.onnx")
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "T"
    onnx.save(model, tmp_path / "amnet.onnx")
    with pytest.raises(ModelError, match="mel has shape .*only the batch may be dynamic"):
        open_engine(tmp_path / "amnet.onnx")


def test_preflight_tells_inputs_and_precision(zoo):
    lines = "\n".join(preflight(zoo.root / "f32/amnet.xml"))
    assert "OpenVINO" in lines and "f32" in lines
    assert "mel float32 (1, 32, 80)" in lines and "frame uint8 (1, 32, 32, 3)" in lines


def test_processors_are_counted_where_the_system_tells_no_more(monkeypatch):
    here = len(os.sched_getaffinity(0))
    assert cores() == here
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
