"""One utterance of libespeak-ng with its phonemes: a small program of its own, so that none depends on those before.

    python espeak.py VOICE RATE PITCH < text

writes one line of JSON, {"rate": Hz, "phones": [[seconds, "IPA"], …]}, and then the sound as 16-bit mono. The library
keeps its state between utterances and does not start twice in one process: with a process for each, the same text
gives the same bytes. Exit status 3 and one line on stderr if the library, its data or the voice is missing.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import sys

LIBRARY = "libespeak-ng.so.1"


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):  # espeak_EVENT of speak_lib.h
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", _EventId),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_PHONEME_EVENT, _SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA = 7, 2, 3
_RATE_PARAMETER, _PITCH_PARAMETER, _UTF8 = 1, 3, 1


def say(text: bytes, voice: str, words_per_minute: int, pitch: int) -> tuple[int, list[tuple[float, str]], bytes]:
    """Sample rate, (start in seconds, IPA) of each phoneme, and the sound; RuntimeError says what is missing."""
    try:
        library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or LIBRARY)
    except OSError:
        raise RuntimeError(
            f"libespeak-ng: not installed, expected {LIBRARY}; install the package libespeak-ng1 or use a flite voice"
        ) from None
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IN_IPA)
    if rate <= 0:
        raise RuntimeError(
            f"libespeak-ng: starting it gave {rate}, expected a sample rate; install the package espeak-ng-data"
        )
    sound: list[bytes] = []
    phones: list[tuple[float, str]] = []

    def receive(wave, count, events):
        if wave and count > 0:
            sound.append(ctypes.string_at(wave, 2 * count))
        i = 0
        while events[i].type:
            if events[i].type == _PHONEME_EVENT:
                phones.append((events[i].milliseconds / 1e3, events[i].id.string.decode("utf8", "replace")))
            i += 1
        return 0

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()):
        raise RuntimeError(
            f"libespeak-ng: no voice {voice}, expected in espeak-ng-data; install the package espeak-ng-data"
        )
    library.espeak_SetParameter(_RATE_PARAMETER, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH_PARAMETER, pitch, 0)
    library.espeak_Synth(text + b"\0", len(text) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    return rate, phones, b"".join(sound)


if __name__ == "__main__":
    try:
        made = say(sys.stdin.buffer.read(), sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    sys.stdout.buffer.write(json.dumps({"rate": made[0], "phones": made[1]}).encode() + b"\n" + made[2])
