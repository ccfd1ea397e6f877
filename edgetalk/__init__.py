"""Audio-driven talking faces in real time, offline."""

__version__ = "0.1.0"
