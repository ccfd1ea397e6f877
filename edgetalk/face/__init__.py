"""Finding and following faces, and files that keep what was seen.

`find` looks at a still, `Tracker` follows one face through a film (tracker.py) by what single frames show (look.py);
smooth.py steadies that over time, cuts.py tells where it starts anew. blazeface.py and facemesh.py are the two
networks, models.py is where their files lie. track.py: a `Face`, and the track file of a film, with which nothing else
of this is needed.
"""

from .track import Face, Track, read_track, track_beside, track_of, write_track
from .tracker import Tracker, find

__all__ = [
    "Face",
    "Track",
    "Tracker",
    "find",
    "read_track",
    "track_beside",
    "track_of",
    "write_track",
]
