"""Files of arrays that several threads read at once."""

import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgetalk.npz import read_npz


def test_threads_read_whole_files_as_whole(tmp_path):
    """Where a collection lets another thread in, Python 3.11 gives up the header that it parses: "damaged"."""
    arrays = {f"a{k}": np.full((3, 2), k) for k in range(30)}
    np.savez(tmp_path / "a.npz", **arrays)
    before, interval = gc.get_threshold(), sys.getswitchinterval()

    def let_in(*_):
        time.sleep(0)

    gc.callbacks.append(let_in)
    gc.set_threshold(1)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda _: read_npz(tmp_path / "a.npz", "a.npz is damaged"), range(200)))
    finally:
        gc.callbacks.remove(let_in)
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)
    assert all(np.array_equal(one["a29"], arrays["a29"]) and len(one) == 30 for one in read)
