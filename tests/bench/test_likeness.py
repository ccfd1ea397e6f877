"""The count behind the figure of docs/faces.md, against a plain loop over pairs."""

import numpy as np

from bench.likeness import right


def test_pairs_are_counted_as_a_plain_loop_counts_them():
    rng = np.random.default_rng(0)
    portraits = rng.normal(size=(9, 6)).astype(np.float32)
    pictures = (0.5 * portraits + rng.normal(size=(9, 6))).astype(np.float32)
    wanted = 0
    for i in range(9):
        for j in range(9):
            if i != j and np.dot(portraits[i], pictures[i]) > np.dot(portraits[i], pictures[j]):
                wanted += 1
    assert 36 < wanted < 72 and right(portraits, pictures) == wanted
    assert right(np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32)) == 20
