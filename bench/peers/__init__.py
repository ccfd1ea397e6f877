"""The rivals of AMNet's Table II as networks of their published size, for their speed alone: random weights, no use.

Each file has a network written from its paper and its published shapes, the inputs of one frame, and the count of
parameters that the table gives. Left out: their front ends, what they draw between their networks, and training.
"""

from __future__ import annotations

from . import apb2face, makeittalk, wav2pix

PEERS = {"Wav2Pix": wav2pix, "MakeItTalk": makeittalk, "APB2Face": apb2face}
"""Each with `network()`, `inputs(generator)`, `counted(network)` and its size in pixels as SIZE."""
