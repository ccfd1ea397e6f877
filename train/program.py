"""What `python -m edgetalk.train.NAME` does with an error: what `edgetalk` does, one line and exit status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edgetalk.errors import EdgetalkError


def run(main: Callable[[], object]) -> None:
    """Call `main`; end the program with status 1 and one line on stderr where it raises EdgetalkError or OSError."""
    try:
        main()
    except (EdgetalkError, OSError) as error:
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        name = spec.name if spec else main.__module__
        sys.exit(f"python -m {name}: {' '.join(str(error).split())}")
