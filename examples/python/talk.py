"""A wav file becomes frames on stdout, raw RGB one after the other, for FFmpeg to encode: as examples/c/talk.c.

    python talk.py amnet.xml speech.wav |
      ffmpeg -f rawvideo -pix_fmt rgb24 -s 256x256 -r 25 -i - -i speech.wav -pix_fmt yuv420p talk.mp4

`edgetalk talk` does both, with any sound file.
"""

import io
import sys
from pathlib import Path

import soundfile

import edgetalk
from edgetalk.errors import one_line

CHUNK = 640  # samples, 40 ms, as a microphone would give them


def main() -> int:
    if len(sys.argv) < 3:
        print("usage: talk.py ENGINE SPEECH.wav [SEED [THREADS]] > FRAMES", file=sys.stderr)
        return 1
    try:
        pcm, rate = soundfile.read(io.BytesIO(Path(sys.argv[2]).read_bytes()), dtype="float32")
    except OSError as error:
        print(f"talk: {one_line(error)}", file=sys.stderr)
        return 1
    except soundfile.SoundFileError:
        pcm, rate = None, 0
    if rate != 16000 or pcm.ndim != 1:
        print(
            "talk: expected a wav file, mono at 16 kHz; make one: ffmpeg -i SOUND -ac 1 -ar 16000 speech.wav",
            file=sys.stderr,
        )
        return 1
    try:
        seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
        threads = int(sys.argv[4]) if len(sys.argv) > 4 else None
    except ValueError:
        print(f"talk: got {' '.join(sys.argv[3:])}, expected whole numbers as SEED and THREADS", file=sys.stderr)
        return 1
    try:
        with edgetalk.Session(sys.argv[1], threads=threads) as session:
            print(f"{session.size} at {session.fps} frames per second on {session.device}", file=sys.stderr)
            chunks = (pcm[at : at + CHUNK] for at in range(0, len(pcm), CHUNK))
            for frame in session.stream(chunks, motion="idle", seed=seed):
                sys.stdout.buffer.write(frame)
    except (edgetalk.EdgetalkError, OSError) as error:
        print(f"talk: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
