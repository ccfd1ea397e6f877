"""Tensors into a safetensors file, for every checkpoint and state; what they are called is up to who writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from edgetalk.files import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors, contiguous and on the CPU, and a header of texts; the file appears whole or not at all.

    Raises OSError where it cannot be written, as on a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as part:
        try:
            save_file(dict(tensors), part, dict(header))
        except SafetensorError as error:  # the system's errors come as its own
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
