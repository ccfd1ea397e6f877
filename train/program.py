"""What `python -m edgetalk.train.NAME` does with an error or Ctrl-C: what `edgetalk` does, one line and a status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edgetalk.errors import EdgetalkError


def run(main: Callable[[], object]) -> None:
    """Call `main`; end the program with one line on stderr where it is told to, or raises EdgetalkError or OSError.

    The status is 1 after an error and 130 after Ctrl-C.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec else main.__module__
    try:
        main()
    except (EdgetalkError, OSError) as error:
        sys.exit(f"python -m {name}: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print(f"python -m {name}: interrupted", file=sys.stderr)
        sys.exit(130)
