"""What `python -m edgetalk.train.NAME` does with an error, Ctrl-C or SIGTERM: as `edgetalk`, a line and a status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edgetalk.errors import EdgetalkError
from edgetalk.signals import Ended, ended_by_signals


def run(main: Callable[[], object]) -> None:
    """Call `main`; end the program with one line on stderr where it is told to, or raises EdgetalkError or OSError.

    The status is 1 after an error, 130 after Ctrl-C, 143 and 129 after SIGTERM and SIGHUP.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec else main.__module__
    try:
        with ended_by_signals():
            main()
    except (EdgetalkError, OSError) as error:
        sys.exit(f"python -m {name}: {' '.join(str(error).split())}")
    except Ended as ended:
        print(f"python -m {name}: ended by {ended.signal.name}", file=sys.stderr)
        sys.exit(128 + ended.signal)
    except KeyboardInterrupt:
        print(f"python -m {name}: interrupted", file=sys.stderr)
        sys.exit(130)
