"""What the networks of the swap family hear; data, training and export read it here.

Without torch, which drawing does not load. No checkpoint tells it.
"""

from edgetalk.metadata import AudioSpec

WAVSYNCSWAP = AudioSpec(window=16, offset=-6.4)
"""200 ms about the frame's middle."""
SYNCNET = AudioSpec(window=16, offset=0.0)
"""The 200 ms that begin with the first of five frames."""
