"""Who a person is (constant), what an image adds (varies), and the body that both imply.

Lengths are integer millimetres, angles integer degrees, colours integers from 0 to 255, albedos and warmth
per cent: the hash of these numbers is the fingerprint of a world.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from data_prep.world import exact
from data_prep.world.render import (
    BOX,
    CAPSULE,
    CHECKED,
    DOTTED,
    ELLIPSOID,
    PLAIN,
    PRINT,
    STRIPED,
    Material,
    Part,
)
from data_prep.world.streams import between, near, pick

COLOURS = {
    "black": (28, 28, 32),
    "white": (232, 232, 228),
    "grey": (128, 128, 132),
    "red": (188, 36, 40),
    "orange": (226, 118, 32),
    "yellow": (228, 200, 52),
    "green": (48, 130, 62),
    "blue": (42, 78, 172),
    "navy": (26, 36, 84),
    "purple": (112, 56, 140),
    "pink": (228, 140, 168),
    "brown": (104, 68, 42),
}


class Shape(NamedTuple):
    """How men and women differ."""

    shoulders: float  # half width in metres
    hips: float  # half width in metres
    height: int  # mean, in millimetres
    short_hair: int  # per cent who have it


SHAPES = {"man": Shape(0.20, 0.155, 1740, 85), "woman": Shape(0.158, 0.180, 1640, 30)}
BULK = {"t-shirt": 1.0, "shirt": 1.0, "jacket": 1.15, "coat": 1.2}  # factor on the radii of the arms
SKIN = ((244, 212, 184), (226, 184, 148), (196, 146, 108), (142, 98, 68), (92, 62, 46))
HAIR = {
    "black": (24, 20, 18),
    "brown": (84, 54, 32),
    "blonde": (206, 172, 104),
    "grey": (150, 148, 146),
    "red": (150, 70, 36),
}
STYLES = {"plain": PLAIN, "striped": STRIPED, "checked": CHECKED, "dotted": DOTTED}
EVEN = dict.fromkeys(COLOURS, 10)
WARDROBES = {  # weights of upper garments, of lower garments, and of the colours of both
    "mixed": (
        {"t-shirt": 30, "shirt": 25, "jacket": 25, "coat": 20},
        {"trousers": 60, "shorts": 20, "skirt": 20},
        EVEN,
    ),
    "summer": (
        {"t-shirt": 55, "shirt": 30, "jacket": 12, "coat": 3},
        {"trousers": 40, "shorts": 35, "skirt": 25},
        EVEN | {"white": 18, "yellow": 14, "pink": 14, "navy": 6},
    ),
    "autumn": (
        {"t-shirt": 10, "shirt": 30, "jacket": 40, "coat": 20},
        {"trousers": 80, "shorts": 4, "skirt": 16},
        EVEN | {"brown": 18, "orange": 14, "green": 14, "pink": 5},
    ),
    "winter": (
        {"t-shirt": 3, "shirt": 12, "jacket": 40, "coat": 45},
        {"trousers": 88, "shorts": 2, "skirt": 10},
        EVEN | {"black": 20, "grey": 16, "navy": 16, "yellow": 5},
    ),
    "office": (
        {"t-shirt": 8, "shirt": 52, "jacket": 30, "coat": 10},
        {"trousers": 72, "shorts": 3, "skirt": 25},
        EVEN | {"white": 20, "navy": 18, "grey": 16, "orange": 4},
    ),
}
# weights of what changes from image to image
CARRIED = {"nothing": 36, "phone": 16, "handbag": 16, "box": 16, "umbrella": 16}
HIDING = {"nothing": 82, "post": 10, "bin": 8}
TOLD = (  # attributes that words can tell
    "noun",
    "hair",
    "hair length",
    "upper",
    "upper colour",
    "pattern",
    "lower",
    "lower colour",
    "shoes",
    "backpack",
    "hat",
)
HELD_OUT_SHARE = 7  # one in seven pairs of a colour and a garment is never shown in pretraining


def identity(seed, who, wardrobe="mixed", bucket="evaluation"):
    """What stays the same in all images of one person. People of the bucket "evaluation" and of "pretraining"
    share no tuple of the attributes that words can tell; in "pretraining" no held-out pair of colour and
    garment occurs."""
    for attempt in range(1000):  # rejection sampling: one in four attempts is of the bucket "evaluation"
        told = draw_told(seed, (who, attempt), wardrobe)
        forbidden = bucket == "pretraining" and wears_held_out(told)
        if bucket_of(told) == bucket and not forbidden:
            return completed(seed, (who, attempt), told)
    raise AssertionError(f"no attribute tuple of the bucket {bucket} for {who}")


def draw_identity(seed, key, wardrobe):
    """One person of any bucket; `key` names them."""
    return completed(seed, key, draw_told(seed, key, wardrobe))


def draw_told(seed, key, wardrobe):
    """The attributes TOLD of one person."""

    def draw(name, options):
        return pick(seed, options, name, *key)

    uppers, lowers, colours = WARDROBES[wardrobe]
    noun = draw("noun", tuple(SHAPES))
    short = SHAPES[noun].short_hair  # per cent
    return {
        "noun": noun,
        "hair": draw("hair", {"black": 35, "brown": 30, "blonde": 15, "grey": 12, "red": 8}),
        "hair length": draw("hair length", {"short": short, "long": 100 - short}),
        "upper": draw("upper", uppers),
        "upper colour": draw("upper colour", colours),
        "pattern": draw("pattern", {"plain": 60, "striped": 16, "checked": 12, "dotted": 12}),
        "lower": draw("lower", lowers),
        "lower colour": draw("lower colour", colours),
        "shoes": draw("shoes", {"black": 35, "white": 25, "brown": 20, "red": 10, "blue": 10}),
        "backpack": draw("backpack", {"": 65, **dict.fromkeys(COLOURS, 3)}),  # its colour, or "" for none
        "hat": draw("hat", {"": 75, **dict.fromkeys(COLOURS, 2)}),
    }


def completed(seed, key, told):
    """A whole person: the attributes TOLD, and what words never tell."""
    shape = SHAPES[told["noun"]]
    person = {
        **told,
        "height": near(seed, shape.height, 55, "height", *key),  # millimetres
        "build": near(seed, 100, 8, "build", *key),  # per cent of the mean's widths
        "skin": pick(seed, range(len(SKIN)), "skin", *key),
        "pattern colour": pick(seed, tuple(COLOURS), "pattern colour", *key),
        "print": pick(seed, {"": 80, "yes": 20}, "print", *key),
    }
    # how far off the named colour (of 255), near-infrared albedo and warmth (per cent)
    for part in ("upper", "lower"):
        for k in range(3):
            person[f"hue {part} {k}"] = between(seed, -14, 14, "hue", part, k, *key)
    for part in ("upper", "pattern", "lower", "bag"):
        person[f"nir {part}"] = between(seed, 1, 9, "nir", part, *key) * 10
    for part in ("upper", "lower"):
        person[f"warmth {part}"] = between(seed, 2, 6, "warmth", part, *key) * 10
    return person


def bucket_of(person):
    """Which side of the wall between pretraining and evaluation somebody stands on."""
    return side_of(person[name] for name in TOLD)


def side_of(told):
    """The same of an iterable of what words can tell: one tuple in four is kept for evaluation."""
    text = "/".join(map(str, told))
    return "evaluation" if hashlib.blake2b(text.encode()).digest()[0] % 4 == 0 else "pretraining"


def is_held_out(colour, garment):
    """Whether this pair of words is kept from pretraining, to see whether words combine."""
    return hashlib.blake2b(f"{colour} {garment}".encode()).digest()[1] % HELD_OUT_SHARE == 0


def wears_held_out(person):
    """Whether one of the two garments has a colour that pretraining must not see on it."""
    pairs = ((person["upper colour"], person["upper"]), (person["lower colour"], person["lower"]))
    return any(is_held_out(*pair) for pair in pairs)


def instance(seed, key, camera):
    """What belongs to one image of the person, before this camera. `key` names person and image."""

    def draw(low, high, name):
        return between(seed, low, high, name, *key)

    return {
        # degrees about the vertical: most people walk along the same path
        "heading": near(seed, camera["heading"], camera["spread"], "turn", *key) % 360,
        "phase": draw(0, 359, "phase"),  # degrees of the step
        "moving": pick(seed, {"walking": 78, "standing": 22}, "moving", *key),
        "carried": pick(seed, CARRIED, "carried", *key),
        "carried colour": pick(seed, tuple(COLOURS), "carried colour", *key),
        "hiding": pick(seed, HIDING, "hiding", *key),
        "hiding place": draw(-17, 17, "hiding place") * 10,  # millimetres to the side
        "shift x": draw(-60, 60, "shift x"),  # millimetres off the middle of the view
        "shift z": draw(-50, 50, "shift z"),
        "zoom": draw(90, 110, "zoom"),  # per cent
        # how many people behind
        "passers": pick(seed, {"0": 100 - camera["crowd"], "1": camera["crowd"]}, "passers", *key),
        "noise": draw(0, 2**31 - 1, "noise"),  # seed of the grain
    }


def body(person, image):
    """The parts of a person, in metres, facing +y, feet at the origin."""
    h = person["height"] / 1690  # the numbers below are those of somebody 1.69 m tall
    w = person["build"] / 100
    cloth = garment(person, "upper", STYLES[person["pattern"]])
    if person["print"] and person["pattern"] == "plain":
        cloth = cloth._replace(style=PRINT)
    # a print is on the chest alone
    limb = cloth._replace(style=PLAIN if cloth.style == PRINT else cloth.style)
    skin = Material(SKIN[person["skin"]], nir=72, heat=92)
    parts = [*head(person, skin), *torso(person, w, cloth, limb)]
    swing = 0.0  # of arms and legs, from -1 to 1
    lift = 0.0  # of the feet
    if image["moving"] != "standing":
        swing = float(exact.sine(np.radians(image["phase"])))
        lift = float(exact.cosine(np.radians(image["phase"])))
    for side, sign in (("left", -1), ("right", 1)):
        # arms swing against the legs; the foot that moves forward is lifted by 10 cm at most
        parts += arm(side, sign, -0.16 * sign * swing, w, limb, skin, person, image)
        parts += leg(side, sign, 0.24 * sign * swing, 0.10 * max(0.0, sign * lift), w, skin, person)
    return [scaled(part, h) for part in parts + luggage(person, image)]


def torso(person, w, cloth, limb):
    """Chest and hips, the hem of a jacket or coat, and a skirt."""
    shoulders, hips = SHAPES[person["noun"]][:2]
    lower = garment(person, "lower")
    parts = [
        Part(CAPSULE, (0, 0, 0.98), (0, 0, 1.33), (shoulders * w, 0.115 * w), cloth, "upper torso"),
        Part(ELLIPSOID, (0, 0, 0.78), (0, 0, 1.06), (hips * w, 0.12 * w), lower, "lower hips"),
    ]
    if person["upper"] in ("jacket", "coat"):
        bottom = (0, 0, 0.52 if person["upper"] == "coat" else 0.83)
        radii = ((shoulders + 0.006) * w, 0.135 * w)
        parts.append(Part(CAPSULE, bottom, (0, 0, 1.15), radii, limb, "upper hem"))
    if person["lower"] == "skirt":
        radii = (0.19 * w, 0.15 * w)
        parts.append(Part(CAPSULE, (0, 0, 0.56), (0, 0, 0.92), radii, lower, "lower skirt"))
    return parts


def garment(person, part, style=PLAIN):
    """The Material of "upper" or "lower": its named colour, a little off (captions never tell), and what only
    the other spectra see."""
    hue = (c + person[f"hue {part} {k}"] for k, c in enumerate(COLOURS[person[f"{part} colour"]]))
    colour = tuple(int(np.clip(c, 0, 255)) for c in hue)
    second = COLOURS[person["pattern colour"]]
    nir = person[f"nir {part}"]
    return Material(colour, second, style, nir, person["nir pattern"], person[f"warmth {part}"])


def head(person, skin):
    """Face, hair, neck and hat."""
    hair = Material(HAIR[person["hair"]], nir=40, heat=62)
    parts = [
        Part(ELLIPSOID, (0, 0.01, 1.47), (0, 0.01, 1.69), (0.083, 0.097), skin, "head face"),
        Part(ELLIPSOID, (0, -0.02, 1.52), (0, -0.02, 1.72), (0.089, 0.099), hair, "head hair"),
        Part(CAPSULE, (0, 0, 1.36), (0, 0, 1.48), (0.055, 0.055), skin, "head neck"),
    ]
    if person["hair length"] == "long":
        parts.append(Part(ELLIPSOID, (0, -0.075, 1.27), (0, -0.06, 1.66), (0.088, 0.055), hair, "head hair"))
    if person["hat"]:
        felt = Material(COLOURS[person["hat"]], nir=55, heat=48)
        parts.append(Part(ELLIPSOID, (0, 0, 1.60), (0, 0, 1.76), (0.095, 0.108), felt, "head hat"))
        # the peak
        parts.append(Part(ELLIPSOID, (0, 0.06, 1.645), (0, 0.06, 1.675), (0.10, 0.13), felt, "head hat"))
    return parts


def arm(side, sign, forward, w, cloth, skin, person, image):
    """Arm, forearm and hand; `forward` is how far the hand swings to the front, in metres."""
    wide = SHAPES[person["noun"]].shoulders + 0.02
    bulk = BULK[person["upper"]] * w
    out = sign * (wide + 0.035) * w
    shoulder = (sign * wide * w, 0, 1.34)
    elbow = (out, forward * 0.6, 1.07)
    hand = (out, forward + 0.06, 0.83)
    if sign > 0 and image["carried"] in ("phone", "umbrella"):  # held before the chest, in the right hand
        hand = (0.18, 0.26, 1.22)
    if image["carried"] == "box":  # in both hands
        elbow = (out, 0.02, 1.07)
        hand = (sign * 0.17, 0.27, 1.02)
    sleeve = skin if person["upper"] == "t-shirt" else cloth
    low = (hand[0], hand[1], hand[2] - 0.09)
    high = (hand[0], hand[1], hand[2] + 0.05)
    return [
        Part(CAPSULE, shoulder, elbow, (0.056 * bulk, 0.056 * bulk), cloth, f"upper {side} arm"),
        Part(CAPSULE, elbow, hand, (0.044 * bulk, 0.044 * bulk), sleeve, f"upper {side} forearm"),
        Part(ELLIPSOID, low, high, (0.035, 0.045), skin, f"upper {side} hand"),
    ]


def leg(side, sign, forward, lift, w, skin, person):
    """Thigh, shin and shoe; the foot is `forward` and `lift` metres from where it stands."""
    cloth = garment(person, "lower")
    thigh = skin if person["lower"] == "skirt" else cloth
    shin = cloth if person["lower"] == "trousers" else skin
    hip = (sign * 0.09 * w, 0, 0.86)
    knee = (sign * 0.095 * w, forward * 0.6 + 0.02, 0.48)
    foot = (sign * 0.095 * w, forward, 0.09 + lift)
    heel = (foot[0], foot[1] - 0.09, foot[2] - 0.03)
    toe = (foot[0], foot[1] + 0.19, foot[2] - 0.03)
    leather = Material(COLOURS[person["shoes"]], nir=34, heat=44)
    return [
        Part(CAPSULE, hip, knee, (0.083 * w, 0.083 * w), thigh, f"lower {side} thigh"),
        Part(CAPSULE, knee, foot, (0.058 * w, 0.058 * w), shin, f"lower {side} shin"),
        Part(ELLIPSOID, heel, toe, (0.05, 0.058), leather, f"foot {side} shoe"),
    ]


def luggage(person, image):
    """The backpack, which shows from behind only, and what is carried, which changes from image to image."""
    stuff = Material(COLOURS[image["carried colour"]], nir=60, heat=18)
    parts = []
    if person["backpack"]:
        cloth = Material(COLOURS[person["backpack"]], nir=person["nir bag"], heat=22)
        parts.append(Part(BOX, (0, -0.21, 0.98), (0, -0.21, 1.36), (0.15, 0.085), cloth, "backpack"))
    if image["carried"] == "phone":
        case = Material((30, 30, 34), heat=55)
        parts.append(Part(BOX, (0.18, 0.31, 1.19), (0.18, 0.31, 1.34), (0.04, 0.012), case, "carried"))
    if image["carried"] == "handbag":
        parts.append(Part(BOX, (0.31, 0.05, 0.52), (0.31, 0.05, 0.78), (0.06, 0.15), stuff, "carried"))
    if image["carried"] == "box":
        parts.append(Part(BOX, (0, 0.33, 0.92), (0, 0.33, 1.2), (0.21, 0.13), stuff, "carried"))
    if image["carried"] == "umbrella":
        stick = Material((60, 60, 60), heat=18)
        parts.append(Part(CAPSULE, (0.18, 0.27, 1.1), (0.12, 0.18, 1.84), (0.012, 0.012), stick, "carried"))
        parts.append(Part(ELLIPSOID, (0.10, 0.14, 1.70), (0.10, 0.14, 1.94), (0.46, 0.46), stuff, "carried"))
    return parts


def scaled(part, h):
    """The part of somebody `h` times as tall."""
    start = tuple(c * h for c in part.start)
    end = tuple(c * h for c in part.end)
    return part._replace(start=start, end=end, radii=tuple(r * h for r in part.radii))
