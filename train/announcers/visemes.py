"""What the mouth does for a sound: 22 mouth shapes, and which of them each phone of flite or espeak-ng asks for.

A shape is seven numbers: jaw (0 shut … 1 wide open), spread (−1 round … +1 spread), upper lip raised, lower lip
tucked under the teeth (f, v), lips pressed together (m, b, p), tongue raised, lips pushed forward.
"""

from __future__ import annotations

import numpy as np

AXES = ("jaw", "spread", "raise", "tuck", "press", "tongue", "protrude")

SHAPES: dict[str, np.ndarray] = {
    name: np.array(shape, np.float64)
    for name, shape in {
        "sil": (0.0, 0, 0, 0, 0.15, 0, 0),
        "mbp": (0.0, 0, 0, 0, 1, 0, 0),
        "fv": (0.12, 0.1, 0.25, 1, 0, 0, 0),
        "th": (0.22, 0.1, 0.1, 0, 0, 1, 0),
        "tdn": (0.2, 0.2, 0.15, 0, 0, 0.7, 0),
        "l": (0.3, 0.1, 0.1, 0, 0, 0.9, 0),
        "kg": (0.28, 0.1, 0.1, 0, 0, 0.2, 0),
        "sz": (0.1, 0.45, 0.3, 0, 0, 0.1, 0),
        "sh": (0.16, -0.55, 0.35, 0, 0, 0.1, 0.7),
        "r": (0.2, -0.45, 0.1, 0, 0, 0.2, 0.5),
        "w": (0.14, -1, 0, 0, 0, 0, 1),
        "aa": (1, 0.1, 0.2, 0, 0, 0, 0),
        "ae": (0.8, 0.5, 0.3, 0, 0, 0.1, 0),
        "ah": (0.55, 0.05, 0.1, 0, 0, 0.1, 0),
        "ao": (0.72, -0.6, 0.1, 0, 0, 0, 0.4),
        "ow": (0.5, -0.85, 0, 0, 0, 0, 0.8),
        "uw": (0.24, -1, 0, 0, 0, 0, 1),
        "eh": (0.52, 0.4, 0.2, 0, 0, 0.1, 0),
        "ih": (0.32, 0.5, 0.2, 0, 0, 0.1, 0),
        "iy": (0.22, 0.9, 0.3, 0, 0, 0.1, 0),
        "er": (0.36, -0.35, 0.1, 0, 0, 0.2, 0.4),
        "h": (0.35, 0.05, 0.1, 0, 0, 0, 0),
    }.items()
}

_ARPABET = {
    "sil": "pau ssil brth h#",
    "mbp": "m b p em",
    "fv": "f v",
    "th": "th dh",
    "tdn": "t d n dx en nx",
    "l": "l el",
    "kg": "k g ng",
    "sz": "s z",
    "sh": "sh zh ch jh",
    "r": "r",
    "w": "w",
    "aa": "aa ay aw",
    "ae": "ae",
    "ah": "ah ax",
    "ao": "ao oy",
    "ow": "ow",
    "uw": "uw uh",
    "eh": "eh ey",
    "ih": "ih",
    "iy": "iy y",
    "er": "er axr",
    "h": "hh hv",
}
ARPABET: dict[str, str] = {phone: viseme for viseme, phones in _ARPABET.items() for phone in phones.split()}

_IPA = {
    "mbp": "m b p",
    "fv": "f v",
    "th": "θ ð",
    "tdn": "t d n ɾ ʔ",
    "l": "l ɫ",
    "kg": "k ɡ g ŋ x",
    "sz": "s z",
    "sh": "ʃ ʒ tʃ dʒ",
    "r": "r ɹ",
    "w": "w ʍ",
    "aa": "ɑ a aɪ aʊ",
    "ae": "æ",
    "ah": "ʌ ə ɐ",
    "ao": "ɔ ɔɪ ɒ",
    "ow": "oʊ o əʊ",
    "uw": "uː ʊ u ʉ",
    "eh": "e ɛ eɪ",
    "ih": "ɪ ᵻ",
    "iy": "i j ʲ",
    "er": "ɜ ɚ",
    "h": "h",
}
IPA: dict[str, str] = {phone: viseme for viseme, phones in _IPA.items() for phone in phones.split()}


def from_arpabet(phone: str) -> str:
    """flite's phone -> viseme name; what is not a phone is silence."""
    return ARPABET.get(phone, "sil")


def from_ipa(phone: str) -> str:
    """espeak-ng's phoneme -> viseme name by its longest known beginning (`ɑːɹ` -> `ɑ`); else silence."""
    phone = phone.strip("ˈˌ'")
    for length in (len(phone), 2, 1):
        if phone[:length] in IPA:
            return IPA[phone[:length]]
    return "sil"
