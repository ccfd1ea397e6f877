"""Who an announcer is: face, hair, clothes and background as a few numbers, without any picture asset.

`CAST` holds the six announcers; `random_identity` makes as many others as are wanted; `dressed` changes everything
that is not the face; `swapped` puts one identity's face on another's picture. All are pure functions of their
arguments. Colours are RGB triples in 0–1, lengths are in units of about half a head's height.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Identity:
    """Everything that tells one announcer from another; see FACE_FIELDS for what counts as the face."""

    name: str
    sex: str
    """"f" or "m": build, neck, clothes and make-up."""
    skin: Colour
    hair: Colour
    iris: Colour
    lip: Colour
    top: Colour
    """Colour of the clothes."""
    accent: Colour
    """Colour of tie, seam and lights in the background."""
    background: Colour
    style: str
    """Hair: long, bob, bun, short, fade or swept."""
    face_w: float = 1.0
    jaw_w: float = 1.0
    chin: float = 0.0
    eye_s: float = 1.0
    nose_w: float = 1.0
    mouth_w: float = 1.0
    lip_t: float = 1.0
    brow_t: float = 1.0
    brow_y: float = 0.0
    eye_dx: float = 0.0
    beard: float = 0.0
    freckles: int = 0
    age: float = 0.2
    lash: float = 0.3
    glasses: bool = False
    earrings: bool = False
    necklace: bool = False
    pinstripe: bool = False
    skin_seed: int = 0
    """Where freckles lie and how the skin's tone wanders."""
    backdrop_seed: int = 0
    """Where the lights in the background stand."""


FACE_FIELDS = (
    "skin",
    "iris",
    "lip",
    "face_w",
    "jaw_w",
    "chin",
    "eye_s",
    "nose_w",
    "mouth_w",
    "lip_t",
    "brow_t",
    "brow_y",
    "eye_dx",
    "beard",
    "freckles",
    "age",
    "skin_seed",
)
"""The fields that make the face; hair, build, clothes, jewellery, glasses and background are the rest."""


def colour(text: str) -> Colour:
    """`"f0c3a4"` -> RGB in 0–1."""
    return int(text[:2], 16) / 255, int(text[2:4], 16) / 255, int(text[4:], 16) / 255


def mix(a, b, t: float) -> np.ndarray:
    """Colour between a (t = 0) and b (t = 1)."""
    return np.asarray(a) * (1 - t) + np.asarray(b) * t


CAST: dict[str, Identity] = {
    identity.name: identity
    for identity in (
        Identity(
            "ada",
            "f",
            colour("f0c3a4"),
            colour("3a2218"),
            colour("5b7f4e"),
            colour("c0525a"),
            colour("7a1f3d"),
            colour("f3e3d3"),
            colour("274b63"),
            "long",
            face_w=0.96,
            jaw_w=0.88,
            chin=-0.02,
            eye_s=1.1,
            nose_w=0.92,
            lip_t=1.12,
            brow_t=0.85,
            lash=1.0,
            earrings=True,
            skin_seed=1,
            backdrop_seed=1,
        ),
        Identity(
            "bea",
            "f",
            colour("8a5638"),
            colour("17110f"),
            colour("3b2313"),
            colour("8e3b45"),
            colour("e0a526"),
            colour("fff3da"),
            colour("1f5b57"),
            "bun",
            jaw_w=0.92,
            eye_s=1.08,
            nose_w=1.12,
            mouth_w=1.08,
            lip_t=1.3,
            brow_t=0.95,
            brow_y=0.02,
            lash=1.0,
            earrings=True,
            necklace=True,
            skin_seed=2,
            backdrop_seed=2,
        ),
        Identity(
            "cleo",
            "f",
            colour("f6d5c1"),
            colour("b5622c"),
            colour("4b86a8"),
            colour("c8606a"),
            colour("2f5d50"),
            colour("f1efe6"),
            colour("6b4a5e"),
            "bob",
            face_w=0.98,
            jaw_w=0.9,
            chin=0.02,
            eye_s=1.12,
            nose_w=0.88,
            mouth_w=0.95,
            brow_t=0.75,
            brow_y=0.01,
            freckles=50,
            lash=0.9,
            skin_seed=3,
            backdrop_seed=3,
        ),
        Identity(
            "dan",
            "m",
            colour("e3b08c"),
            colour("2a211c"),
            colour("5a4632"),
            colour("b0655c"),
            colour("23304a"),
            colour("b3263a"),
            colour("3d5a80"),
            "short",
            face_w=1.03,
            jaw_w=1.08,
            chin=0.05,
            eye_s=0.94,
            nose_w=1.05,
            mouth_w=1.02,
            lip_t=0.8,
            brow_t=1.35,
            brow_y=-0.03,
            beard=0.3,
            pinstripe=True,
            skin_seed=4,
            backdrop_seed=4,
        ),
        Identity(
            "eli",
            "m",
            colour("5f3b28"),
            colour("0f0c0b"),
            colour("2d1b10"),
            colour("7a4440"),
            colour("4a4f57"),
            colour("e9b44c"),
            colour("7a4b2a"),
            "fade",
            face_w=1.02,
            jaw_w=1.1,
            chin=0.04,
            eye_s=0.95,
            nose_w=1.2,
            mouth_w=1.08,
            lip_t=1.15,
            brow_t=1.3,
            brow_y=-0.02,
            beard=0.75,
            skin_seed=5,
            backdrop_seed=5,
        ),
        Identity(
            "finn",
            "m",
            colour("f2cbb2"),
            colour("c9b28a"),
            colour("4f7396"),
            colour("c27870"),
            colour("5b4a3a"),
            colour("2e6f95"),
            colour("4a6b52"),
            "swept",
            jaw_w=1.03,
            chin=0.07,
            eye_s=0.96,
            nose_w=0.98,
            lip_t=0.85,
            brow_t=1.1,
            brow_y=-0.02,
            glasses=True,
            age=0.5,
            pinstripe=True,
            skin_seed=6,
            backdrop_seed=6,
        ),
    )
}

STYLES = {"f": ("long", "bob", "bun"), "m": ("short", "fade", "swept")}
HAIR_COLOURS = tuple(
    colour(c) for c in ("15100e", "2a1c14", "4a3020", "6b4526", "8c5a2c", "b5622c", "c9a66b", "9a9a98")
)
IRIS_COLOURS = tuple(colour(c) for c in ("3b2313", "5a4632", "5b7f4e", "4b86a8", "6f7f8a"))


def _hsv(rng, saturation, value) -> Colour:
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))


def random_identity(seed: int) -> Identity:
    """A new announcer; the same seed gives the same one on every machine."""
    rng = np.random.default_rng([seed, 77])

    def uniform(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    sex = "fm"[rng.integers(2)]
    tone = rng.beta(1.1, 1.3)  # 0 light … 1 dark
    light, middle, dark = (np.array(colour(c)) for c in ("f8d9c4", "c68a5e", "4a2c1d"))
    skin = mix(light, middle, 2 * tone) if tone < 0.5 else mix(middle, dark, 2 * tone - 1)
    skin = np.clip(skin * (1 + rng.normal(0, 0.02, 3)), 0, 1)
    lip = np.clip(skin * ([0.90, 0.64, 0.62] if sex == "m" else [0.9, 0.42, 0.48]), 0, 1)
    return Identity(
        name=f"r{seed}",
        sex=sex,
        skin=tuple(skin.tolist()),
        hair=HAIR_COLOURS[rng.integers(3 if tone > 0.6 else len(HAIR_COLOURS))],
        iris=IRIS_COLOURS[rng.integers(2 if tone > 0.6 else len(IRIS_COLOURS))],
        lip=tuple(lip.tolist()),
        top=_hsv(rng, (0.15, 0.7), (0.2, 0.75)),
        accent=_hsv(rng, (0.3, 0.8), (0.4, 0.95)),
        background=_hsv(rng, (0.25, 0.6), (0.25, 0.5)),
        style=STYLES[sex][rng.integers(3)],
        face_w=uniform(0.92, 1.08),
        jaw_w=uniform(0.84, 0.96) if sex == "f" else uniform(0.98, 1.14),
        chin=uniform(-0.02, 0.08),
        eye_s=uniform(0.9, 1.12),
        nose_w=uniform(0.83, 1.27),
        mouth_w=uniform(0.88, 1.12),
        lip_t=uniform(0.75, 1.35),
        brow_t=uniform(0.7, 1.4),
        brow_y=uniform(-0.03, 0.03),
        eye_dx=uniform(-0.015, 0.02),
        beard=float(sex == "m" and rng.random() < 0.5) * uniform(0.2, 0.9),
        freckles=int(rng.random() < 0.2) * 45,
        age=uniform(0.05, 0.8),
        lash=1.0 if sex == "f" else 0.3,
        glasses=bool(rng.random() < 0.2),
        earrings=bool(sex == "f" and rng.random() < 0.5),
        necklace=bool(sex == "f" and rng.random() < 0.4),
        pinstripe=bool(sex == "m" and rng.random() < 0.4),
        skin_seed=seed,
        backdrop_seed=seed,
    )


def dressed(identity: Identity, seed: int) -> Identity:
    """The same face with other hair, clothes, jewellery, glasses and background."""
    rng = np.random.default_rng([seed, 78])
    female = identity.sex == "f"
    return replace(
        identity,
        name=f"{identity.name}-{seed}",
        hair=HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))],
        top=_hsv(rng, (0.15, 0.7), (0.2, 0.75)),
        accent=_hsv(rng, (0.3, 0.8), (0.4, 0.95)),
        background=_hsv(rng, (0.1, 0.7), (0.2, 0.7)),
        style=STYLES[identity.sex][rng.integers(3)],
        glasses=bool(rng.random() < 0.2),
        earrings=bool(female and rng.random() < 0.5),
        necklace=bool(female and rng.random() < 0.4),
        pinstripe=bool(not female and rng.random() < 0.4),
        backdrop_seed=int(rng.integers(1 << 31)),
    )


def swapped(source: Identity, target: Identity) -> Identity:
    """`source`'s face on `target`: drawn with target's motion it is the true picture of the identity swap."""
    face = {name: getattr(source, name) for name in FACE_FIELDS}
    return replace(target, name=f"{source.name}-on-{target.name}", **face)
