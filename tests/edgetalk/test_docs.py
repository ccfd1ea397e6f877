"""What the README and docs/ name is there: commands and their options, modules, files, headings."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgetalk
from edgetalk import bundled, cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
PYTHON = re.compile(r"(?<![\w/.-])edgetalk\.(?!h\b)((?:\w+\.)*\w+)\b(?![-/*])")
FOLDERS = {"edgetalk.train": "train", "edgetalk.export": "export", "edgetalk.engines": "engines"}


def said(page: Path) -> list[str]:
    """The lines of a page's code blocks, those that go on behind a backslash as one, and its code between words."""
    text = page.read_text()
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    return blocks.splitlines() + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def commands(page: Path) -> Iterator[str]:
    """Every edgetalk command of a page, without what is said about it beside it."""
    for line in said(page):
        for part in re.split(r"&&|[|;]", line):
            command = re.split(r"\s{2,}(?!\s*-)|\s#\s", part.strip())[0]
            if re.match(r"edgetalk [a-z]", command):
                yield command.removeprefix("edgetalk ")


def options(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """The options that a command line may have behind the `words` that choose among its parts; of all if none does."""
    known = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            chosen = [part for name, part in action.choices.items() if name in words] or action.choices.values()
            known |= set().union(*(options(part, words) for part in chosen))
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_are_there(page):
    found = list(commands(page))
    assert found or page.stem in ("structure",)
    for command in found:
        name, *words = command.split()
        assert name in cli.COMMANDS, command
        parser = argparse.ArgumentParser()
        importlib.import_module(cli.COMMANDS[name].module).configure(parser)
        named = {word.partition("=")[0].rstrip("…,") for word in words if re.match(r"--?[a-z]", word)}
        assert named <= options(parser, words), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_and_files_are_there(page):
    for line in said(page):
        for module in re.findall(r"python -m ((?:edgetalk|bench)[\w.]*)", line):
            if module.endswith((".", "NAME")):  # edgetalk.train.…
                continue
            path = module
            for name, folder in FOLDERS.items():
                path = re.sub(rf"^{name}(?=\.|$)", folder, path)
            path = path.replace(".", "/")
            assert any((ROOT / f"{path}{end}").is_file() for end in (".py", "/__main__.py")), module
        for path in re.findall(r"^(?:edgetalk|train|export|engines|bench|tests|docs|examples)/[\w./-]+\w$", line):
            assert (ROOT / path).exists() or "NAME" in path, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_bundled_models_and_faces_are_there(page):
    """Sessions that an example opens by bare names, and with faces that are called as the bundled ones."""
    for engine, face in re.findall(r'Session\("([\w-]+)"(?:, avatar="([^"]+)")?', page.read_text()):
        bundled.find_engine(engine)
        if face:
            bundled.find_avatar(face)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_of_python_are_there(page):
    for line in said(page):
        for path in PYTHON.findall(line.partition("python -m ")[0]):
            found = edgetalk
            for name in path.split("."):
                if not hasattr(found, name):  # a module that nobody has imported yet
                    importlib.import_module(f"{found.__name__}.{name}")
                found = getattr(found, name)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in headings(there), target
