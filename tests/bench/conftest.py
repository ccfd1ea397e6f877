"""bench/ is no installed package: its modules are found from the root of the checkout, for these tests alone."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def root():
    folder = str(Path(__file__).parents[2])
    sys.path.append(folder)
    yield Path(folder)
    sys.path.remove(folder)
