"""The OpenVINO backend on real files: same numbers as numpy, reused buffers, explicit precision, one line per error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper

from edgetalk import BackendError, InputError, ModelError
from edgetalk.backends import open_engine, preflight
from edgetalk.bundled import MODELS
from edgetalk.overlap import cores


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


def test_a_graph_in_half_precision_is_fed_halves(tmp_path):
    """Other networks than ours may take them; ours take floats, which halves of an avatar are widened to."""
    halves = np.arange(8, dtype=np.float16).reshape(1, 8) / 7
    given, made = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, [1, 8]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [given], [made])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "half.onnx")
    backend = open_engine(tmp_path / "half.onnx")
    np.testing.assert_array_equal(backend.run({"x": halves})["y"], -halves)


def _compiled(backend) -> int:
    return id(backend._network.compiled)


def _arithmetic(backend) -> str:
    return backend._request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").to_string()


@pytest.mark.parametrize("precision, arithmetic", [("f32", "f32"), ("bf16", "bf16"), ("int8", "bf16")])
def test_precision_follows_the_metadata(zoo, feeds, precision, arithmetic):
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        arithmetic = "f32"
    backend = open_engine(zoo.root / precision / "amnet.xml")
    assert _arithmetic(backend) == arithmetic
    told = f"int8, the rest in {arithmetic}" if precision == "int8" else arithmetic
    assert f", {told}" in backend.device
    exact = open_engine(zoo.root / precision / "amnet.xml", precision="f32")
    assert _arithmetic(exact) == "f32"
    difference = backend.run(feeds)["frame"].astype(int) - exact.run(feeds)["frame"]
    assert np.abs(difference).mean() < 1.5


def test_a_cpu_without_bf16_runs_in_f32_and_says_so(zoo):
    """OpenVINO itself is told to use no more than AVX2."""
    code = (
        "import sys; from edgetalk.backends import open_engine, preflight;"
        "b = open_engine(sys.argv[1]); print(b.device);"
        "print(b._request.get_compiled_model().get_property('INFERENCE_PRECISION_HINT').to_string());"
        "print(dict(preflight(sys.argv[1]))['engine'])"
    )
    environment = {**os.environ, "OV_CPU_MAX_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", code, str(zoo.root / "int8/amnet.xml")]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert ", int8, the rest in f32 (this CPU has no bf16); chosen" in lines[0]
    assert lines[1] == "f32"
    assert " on the CPU, int8, the rest in f32 (this CPU has no bf16)" in lines[2]


def test_the_device_is_told_with_the_reason(zoo):
    assert "chosen because" in open_engine(zoo.root / "f32/amnet.xml").device
    named = open_engine(zoo.root / "f32/amnet.xml", device="cpu").device
    assert named.startswith("CPU (") and "chosen" not in named


def test_threads_and_precision_are_checked(zoo):
    backend = open_engine(zoo.root / "f32/amnet.xml", threads=1)
    assert backend._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 1
    for wrong in ({"threads": 0}, {"threads": "2"}, {"threads": 1.5}, {"streams": None}, {"device": None}):
        ((name, value),) = wrong.items()
        with pytest.raises(InputError, match=f"{name}: got {value!r}, expected"):
            open_engine(zoo.root / "f32/amnet.xml", **wrong)
    with pytest.raises(InputError, match="precision: got 'int4', expected one of f32"):
        open_engine(zoo.root / "f32/amnet.xml", precision="int4")


def test_compiled_networks_are_kept_where_the_environment_says(zoo, feeds, tmp_path, monkeypatch):
    want = open_engine(zoo.root / "f32/amnet.xml").run(feeds)["frame"]
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path))
    backend = None
    for _ in range(2):
        if backend is not None:
            backend.close()  # or the second would be the first's twin
        backend = open_engine(zoo.root / "f32/amnet.xml")
        np.testing.assert_array_equal(backend.run(feeds)["frame"], want)
        assert backend.metadata
    assert [path.name for path in tmp_path.iterdir()] == ["openvino"]  # face models may lie beside it
    assert list(tmp_path.glob("openvino/*.blob"))
    assert backend._request.get_compiled_model().get_property("LOADED_FROM_CACHE")


def test_backends_of_a_file_share_the_network_and_nothing_else(zoo, feeds, tmp_path):
    path = zoo.set("f32", tmp_path / "model")
    first, second = (open_engine(path, threads=2, streams=2) for _ in range(2))
    assert _compiled(first) == _compiled(second)
    assert _compiled(open_engine(path, threads=2)) != _compiled(first)
    assert _compiled(open_engine(path, threads=2, precision="bf16", streams=2)) != _compiled(first)
    turned = feeds | {"pose": feeds["pose"] + 0.5}
    want = {id(f): open_engine(path, threads=1).run(f)["frame"].copy() for f in (feeds, turned)}
    assert not np.array_equal(want[id(feeds)], want[id(turned)])

    def many(backend, mine):
        return [np.abs(backend.run(mine)["frame"].astype(int) - want[id(mine)]).max() for _ in range(50)]

    with ThreadPoolExecutor(2) as pool:
        runs = pool.submit(many, first, feeds), pool.submit(many, second, turned)
    assert max(runs[0].result() + runs[1].result()) <= 1
    first.close()
    assert second.run(feeds) is not None  # who goes leaves the network to the others
    with pytest.raises(InputError, match="streams: got 0, expected a whole number, at least 1"):
        open_engine(path, streams=0)


def test_a_rebuilt_file_is_another_network(zoo, tmp_path):
    """Of new layers, or of the same ones with new weights, which lie in a file of their own."""
    path = zoo.set("f32", tmp_path / "model")
    old = open_engine(path)
    path.write_bytes(path.read_bytes() + b"\n")
    new = open_engine(path)
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes())
    trained = open_engine(path)
    assert len({_compiled(each) for each in (old, new, trained)}) == 3


def damage(zoo, folder, what):
    """Return the path of an engine with this damage."""
    xml, model = zoo.set("f32", folder), zoo.set("onnx", folder).with_name("amnet.onnx")
    weights = xml.with_suffix(".bin")
    text, whole, data = xml.read_bytes(), model.read_bytes(), weights.read_bytes()
    if what == "xml cut":
        xml.write_bytes(text[: len(text) // 2])
    elif what == "xml text":
        xml.write_text("hello, I am no engine")
    elif what == "xml other":
        xml.write_text("<html></html>")
    elif what == "xml spoilt":
        xml.write_bytes(text.replace(b'type="Convolution', b'type="Konvolution').replace(b"<layers>", b"<layers"))
    elif what == "xml empty":
        xml.write_bytes(b"")
    elif what == "bin missing":
        weights.unlink()
    elif what == "bin cut":
        weights.write_bytes(data[: len(data) // 2])
    elif what == "bin empty":
        weights.write_bytes(b"")
    elif what == "onnx cut":
        model.write_bytes(whole[: len(whole) // 2])
    elif what == "onnx cut at the end":
        model.write_bytes(whole[:-3])
    elif what == "onnx of a field beyond all files":
        model.write_bytes(whole + b"\x0a" + b"\xff" * 8 + b"\x7f")  # 2**63 - 1 bytes
    elif what == "onnx of a field beyond all numbers":
        model.write_bytes(whole + b"\x0a" + b"\xff" * 9 + b"\x7f")
    elif what == "onnx text":
        model.write_text("hello, I am no engine")
    elif what == "onnx empty":
        model.write_bytes(b"")
    elif what == "onnx zeros":
        model.write_bytes(bytes(1000))
    return xml if what.startswith(("xml", "bin")) else model


DAMAGES = {
    "xml cut": "amnet.xml is truncated at .* bytes; copy it and amnet.bin again",
    "xml text": "amnet.xml is no OpenVINO model; build one with: edgetalk build",
    "xml other": "amnet.xml is no OpenVINO model",
    "xml spoilt": "amnet.xml cannot be read: .*; copy it and amnet.bin again",
    "xml empty": "amnet.xml is empty",
    "bin missing": "amnet.xml has no amnet.bin beside it; copy both",
    "bin cut": "amnet.xml cannot be read: Incorrect weights in bin file",
    "bin empty": "amnet.xml cannot be read: Incorrect weights in bin file",
    "onnx cut": "amnet.onnx is truncated at .* bytes; copy it again",
    "onnx cut at the end": "amnet.onnx is truncated at .* bytes; copy it again",
    "onnx of a field beyond all files": "amnet.onnx is truncated at .* bytes; copy it again",
    "onnx of a field beyond all numbers": "amnet.onnx is truncated at .* bytes; copy it again",
    "onnx text": "amnet.onnx is no ONNX model",
    "onnx empty": "amnet.onnx is empty",
    "onnx zeros": "amnet.onnx is no ONNX model",
}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("look", [open_engine, preflight])
def test_damaged_files_are_refused_in_one_line(zoo, tmp_path, capfd, what, look):
    engine = damage(zoo, tmp_path, what)
    with pytest.raises(ModelError, match=DAMAGES[what]) as caught:
        look(engine)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_suffix_may_be_in_capitals(zoo, tmp_path):
    shutil.copy(zoo.root / "onnx/amnet.onnx", tmp_path / "AMNET.ONNX")
    assert "mel" in open_engine(tmp_path / "AMNET.ONNX").inputs


def test_other_paths_are_refused(zoo, tmp_path):
    with pytest.raises(
        ModelError, match="amnet.trt is no engine that edgetalk knows by its suffix; expected one of .xml"
    ):
        open_engine(tmp_path / "amnet.trt")
    with pytest.raises(FileNotFoundError, match="No such engine.*nothing.xml"):
        open_engine(tmp_path / "nothing.xml")
    (tmp_path / "folder.xml").mkdir()
    with pytest.raises(ModelError, match="folder.xml is a folder"):
        open_engine(tmp_path / "folder.xml")


def test_a_named_device_that_is_missing_is_an_error(zoo):
    import openvino

    missing = next(name for name in ("GPU", "NPU", "FPGA") if name not in openvino.Core().available_devices)
    with pytest.raises(BackendError, match=f'device "{missing}" is missing: OpenVINO sees .*CPU'):
        open_engine(zoo.root / "f32/amnet.xml", device=missing)


def test_a_device_that_tells_nothing_of_itself_is_one_line(zoo, monkeypatch):
    def fail(*_):
        raise RuntimeError("Exception from src/core.cpp:1:\nthe driver is gone.")

    monkeypatch.setattr("edgetalk.backends.openvino.arithmetic_of", fail)
    with pytest.raises(BackendError, match="^amnet.xml does not run on CPU: the driver is gone$"):
        open_engine(zoo.root / "f32/amnet.xml", threads=1)


def test_without_the_package_the_pip_line_is_told(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # what Python does for a package that is not there
    with pytest.raises(BackendError, match=r'amnet.xml needs OpenVINO .*: pip install "edgetalk\[openvino\]"'):
        open_engine(zoo.root / "f32/amnet.xml")


REPORTS = """
import sys
sys.addaudithook(lambda event, _: event in ("os.fork", "socket.getaddrinfo") and print(event))
from edgetalk.commands import doctor
from edgetalk.backends import open_engine
from edgetalk.engines.openvino import version
doctor._devices(), version(), open_engine(sys.argv[1])"""


def test_nobody_is_told_that_openvino_runs(zoo, tmp_path):
    """Its Python package would tell Google Analytics from a forked process, and keep a number of ours in the home."""
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS", "TF_BUILD")}
    command = [sys.executable, "-c", REPORTS, zoo.root / "f32/amnet.xml"]
    environment = quiet | {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert not {file.name for file in tmp_path.iterdir()} & {"intel", "Intel Corporation"}


INTERRUPTED = """
import signal, sys
from edgetalk.backends import open_engine
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
engines = [open_engine(file) for file in sys.argv[1:]]
for engine in engines:
    engine.close()
del engines, engine
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_engines_were_closed_is_ctrl_c(zoo):
    """OpenVINO frees the stack that it gave the thread for signals, and leaves the thread its address."""
    command = [sys.executable, "-c", INTERRUPTED, MODELS / "amnet.xml", MODELS / "amnet-lite.xml"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout, told.stderr) == (0, "interrupted\n", "")


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
try:
    open_engine(file, streams=streams)
except BackendError as error:
    print(error, flush=True)
if streams == 1:
    backend.close()
"""


FORKED_LATER = """
import os, signal, sys
from edgetalk import BackendError
from edgetalk.backends import open_engine
def frame():
    backend = open_engine(sys.argv[1])
    made = backend.run({})["frame"].copy()
    backend.close()
    return made
before = frame()
child = os.fork()
if child:
    ended = os.waitpid(child, 0)[1]
    assert (frame() == before).all()
    sys.exit(ended)
signal.alarm(30)
try:
    frame()
except BackendError as error:
    print(error, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_after_engines_were_closed_is_told_and_ends(zoo):
    """Threads of a closed engine end by and by: OpenVINO would wait for them there, or abort as it lets them go."""
    command = [sys.executable, "-c", FORKED_LATER, zoo.root / "f32/amnet.xml"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stderr, told.stdout.count("\n")) == (0, "", 1)
    assert "cannot be opened in a process that was forked after engines were open" in told.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("streams", [1, 2])
def test_a_forked_process_is_told_and_ends(zoo, streams):
    """No thread survives a fork: to run or to free the network of the other process would wait for its threads."""
    command = [sys.executable, "-c", FORKED, zoo.root / "f32/amnet.xml", str(streams)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = told.stdout.splitlines()
    assert (told.returncode, told.stderr, len(lines)) == (0, "", 2)
    assert lines[0].startswith("amnet.xml was opened before this process was forked; ")
    assert lines[1].startswith("amnet.xml cannot be opened in a process that was forked while engines were open")


def test_a_cache_that_cannot_be_is_told_by_the_name_of_its_variable(zoo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(
        BackendError, match=r"^EDGETALK_CACHE: got .*file/cache, which cannot be made a folder \(Not a dir"
    ):
        open_engine(zoo.root / "f32/amnet.xml")
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "a/b"))
    open_engine(zoo.root / "f32/amnet.xml").close()
    assert list((tmp_path / "a/b/openvino").iterdir())


@pytest.mark.parametrize("of", ["blob", "folder", "models"])
def test_a_cache_of_somebody_else_is_done_without(zoo, tmp_path, without_rights, of):
    """Whose files another user may neither read nor remove: OpenVINO itself fails, or ends the process."""
    code = (
        "import sys, warnings\n"
        "from edgetalk.backends import open_engine\n"
        "with warnings.catch_warnings(record=True) as came:\n"
        "    warnings.simplefilter('always')\n"
        "    backend = open_engine(sys.argv[1])\n"
        "print(len(backend.outputs), *(str(warning.message) for warning in came), sep='\\n')\n"
    )
    cache = tmp_path / "openvino"

    def opened() -> list[str]:
        command = [sys.executable, "-c", code, str(zoo.root / "f32/amnet.xml")]
        environment = os.environ | {"EDGETALK_CACHE": str(tmp_path)}
        told = subprocess.run(command, env=environment, preexec_fn=without_rights, capture_output=True, text=True)
        assert (told.returncode, told.stderr) == (0, "")
        return told.stdout.splitlines()

    assert opened() == ["2"]
    (blob,) = cache.glob("*.blob")
    if of == "models":
        shutil.rmtree(cache)
        tmp_path.chmod(0o555)
    else:
        blob.chmod(0)
        cache.chmod(0o555 if of == "blob" else 0)
    try:
        number, told = opened()
    finally:
        (tmp_path if of == "models" else cache).chmod(0o755)
    assert number == "2" and told.startswith(f"EDGETALK_CACHE: {cache} could not be used (")
    assert told.endswith("Permission denied); name a folder of your own, or unset it")
    assert blob.exists() or of == "models"


def test_shapes_that_stay_open_are_refused(zoo, tmp_path):
    import onnx

    model = onnx.load(zoo.root / "onnx/amnet.onnx")
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "T"
    onnx.save(model, tmp_path / "amnet.onnx")
    with pytest.raises(ModelError, match="mel of amnet.onnx has shape .*only the batch may be dynamic"):
        open_engine(tmp_path / "amnet.onnx")


def test_preflight_tells_inputs_and_precision(zoo):
    told = dict(preflight(zoo.root / "f32/amnet.xml"))
    assert "OpenVINO" in told["engine"] and "f32" in told["engine"]
    assert "mel float32 (1, 32, 80)" in told["inputs"] and "frame uint8 (1, 32, 32, 3)" in told["outputs"]


def test_processors_are_counted_where_the_system_tells_no_more(monkeypatch):
    here = len(os.sched_getaffinity(0))
    assert cores() == here
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
