"""Errors as one sentence, and the commands in them: a shell takes the names for what they are."""

from __future__ import annotations

import errno
import importlib
import shlex
import subprocess

import pytest

from edgetalk import avatar
from edgetalk.backends import open_engine, plan
from edgetalk.errors import ModelError, one_line, word
from edgetalk.metadata import Metadata


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such engine; build it", "amnet.xml"),
            "amnet.xml: No such engine; build it",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"caf\xe9", None, "b"), "caf\udce9: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError("cannot listen at ::1"), "cannot listen at ::1"),
        (ModelError("two\n lines"), "two lines"),
    ],
)
def test_what_python_says_of_files_is_told_with_the_name_first(error, sentence):
    assert one_line(error) == sentence


@pytest.mark.parametrize("name", ["amnet.onnx", "my face.onnx", "it's.onnx", "a;b.onnx", "$HOME.onnx", "ü\n.onnx", ""])
def test_a_shell_takes_a_word_for_one(name):
    told = subprocess.run(["sh", "-c", f"printf '%s|' {word(name)}"], capture_output=True, text=True, check=True)
    assert told.stdout == f"{name}|"
    assert (word(name) == name) == (name == "amnet.onnx")  # what needs no quotes has none


@pytest.mark.parametrize(
    ("name", "opened"),
    [("my face.avatar", avatar.load_avatar), ("my amnet.xml", open_engine), ("my amnet.plan", plan.read)],
)
def test_the_command_for_a_damaged_file_names_it(tmp_path, name, opened):
    path = tmp_path / name
    path.write_bytes(b"damaged")
    with pytest.raises(ModelError) as told:
        opened(path)
    assert shlex.split(str(told.value).rpartition("edgetalk ")[2])[-2:] == ["-o", name]


def test_what_a_plan_says_of_itself_is_no_command(tmp_path):
    read = Metadata("amnet", precision="fp16; reboot", engine={"compute_capability": ["8.7"], "hardware": "$(reboot)"})
    told = plan.Plan(tmp_path / "my amnet.plan", "TensorRT-RTX", "1.2", "", read).rebuild(capability="9.0 `reboot`")
    assert shlex.split(told) == [
        *("edgetalk", "build", "my amnet.onnx", "-o", "my amnet.plan", "--precision", "fp16; reboot"),
        *("--compute-capability", "8.7,9.0 `reboot`", "--hardware", "$(reboot)"),
    ]


def test_training_names_folders_that_can_be_pasted(tmp_path):
    dataset = importlib.import_module("edgetalk.train.amnet.dataset")
    with pytest.raises(FileNotFoundError) as told:
        dataset.load(tmp_path / "my set")
    assert shlex.split(str(told.value).split("`")[1]) == [*"edgetalk data announcers -o".split(), f"{tmp_path}/my set"]
