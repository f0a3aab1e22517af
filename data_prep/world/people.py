"""Who a person is (constant), what an image adds (varies), and the body that both imply.

Lengths are integer millimetres, angles integer degrees, colours integers from 0 to 255, albedos and warmth
per cent: the hash of these numbers is the fingerprint of a world.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from data_prep.world import exact
from data_prep.world.render import BOX, CAPSULE, ELLIPSOID, PLAIN, PRINT, STRIPED, Material, Part
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
    """How men and women differ: half widths in metres, mean height in millimetres, per cent with short
    hair."""

    shoulders: float
    hips: float
    height: int
    short_hair: int


SHAPES = {"man": Shape(0.20, 0.155, 1740, 85), "woman": Shape(0.158, 0.180, 1640, 30)}
BULK = {"t-shirt": 1.0, "shirt": 1.0, "jacket": 1.15, "coat": 1.2}  # of the arms
SKIN = ((244, 212, 184), (226, 184, 148), (196, 146, 108), (142, 98, 68), (92, 62, 46))
HAIR = {
    "black": (24, 20, 18),
    "brown": (84, 54, 32),
    "blonde": (206, 172, 104),
    "grey": (150, 148, 146),
    "red": (150, 70, 36),
}
STYLES = {"plain": PLAIN, "striped": STRIPED, "checked": 2, "dotted": 3}
EVEN = dict.fromkeys(COLOURS, 10)
WARDROBES = {  # weights of garments and of their colours
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
CARRIED = {"nothing": 36, "phone": 16, "handbag": 16, "box": 16, "umbrella": 16}
HIDING = {"nothing": 82, "post": 10, "bin": 8}
TOLD = (
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
    for attempt in range(1000):
        person = draw_identity(seed, (who, attempt), wardrobe)
        if (bucket_of(person) == bucket) and not (bucket == "pretraining" and wears_held_out(person)):
            return person
    raise AssertionError(f"no attribute tuple of the bucket {bucket} for {who}")


def draw_identity(seed, key, wardrobe):
    uppers, lowers, colours = WARDROBES[wardrobe]
    draw = lambda name, options: pick(seed, options, name, *key)  # noqa: E731
    noun = draw("noun", tuple(SHAPES))
    shape = SHAPES[noun]
    return {
        "noun": noun,
        "height": near(seed, shape.height, 55, "height", *key),
        "build": near(seed, 100, 8, "build", *key),
        "skin": draw("skin", range(len(SKIN))),
        "hair": draw("hair", {"black": 35, "brown": 30, "blonde": 15, "grey": 12, "red": 8}),
        "hair length": draw("hair length", {"short": shape.short_hair, "long": 100 - shape.short_hair}),
        "upper": draw("upper", uppers),
        "upper colour": draw("upper colour", colours),
        "pattern": draw("pattern", {"plain": 60, "striped": 16, "checked": 12, "dotted": 12}),
        "pattern colour": draw("pattern colour", tuple(COLOURS)),
        "lower": draw("lower", lowers),
        "lower colour": draw("lower colour", colours),
        "shoes": draw("shoes", {"black": 35, "white": 25, "brown": 20, "red": 10, "blue": 10}),
        "backpack": draw("backpack", {"": 65, **dict.fromkeys(COLOURS, 3)}),
        "hat": draw("hat", {"": 75, **dict.fromkeys(COLOURS, 2)}),
        "print": draw("print", {"": 80, "yes": 20}),
        **{
            f"hue {part} {k}": between(seed, -14, 14, "hue", part, k, *key)
            for part in ("upper", "lower")
            for k in range(3)
        },
        **{
            f"nir {part}": between(seed, 1, 9, "nir", part, *key) * 10
            for part in ("upper", "pattern", "lower", "bag")
        },
        **{f"warmth {part}": between(seed, 2, 6, "warmth", part, *key) * 10 for part in ("upper", "lower")},
    }


def bucket_of(person):
    """Which side of the wall between pretraining and evaluation somebody stands on."""
    return side_of(person[name] for name in TOLD)


def side_of(told):
    """The same of a tuple of what words can tell: one in four is kept for evaluation."""
    text = "/".join(map(str, told))
    return "evaluation" if hashlib.blake2b(text.encode()).digest()[0] % 4 == 0 else "pretraining"


def is_held_out(colour, garment):
    """Whether this pair of words is kept from pretraining, to see whether words combine."""
    return hashlib.blake2b(f"{colour} {garment}".encode()).digest()[1] % HELD_OUT_SHARE == 0


def wears_held_out(person):
    pairs = ((person["upper colour"], person["upper"]), (person["lower colour"], person["lower"]))
    return any(is_held_out(*pair) for pair in pairs)


def instance(seed, key, camera):
    """What belongs to one image of the person, before this camera. `key` names person and image."""
    draw = lambda low, high, name: between(seed, low, high, name, *key)  # noqa: E731
    return {
        "heading": near(seed, camera["heading"], camera["spread"], "turn", *key) % 360,
        "phase": draw(0, 359, "phase"),
        "moving": pick(seed, {"walking": 78, "standing": 22}, "moving", *key),
        "carried": pick(seed, CARRIED, "carried", *key),
        "carried colour": pick(seed, tuple(COLOURS), "carried colour", *key),
        "hiding": pick(seed, HIDING, "hiding", *key),
        "hiding place": draw(-17, 17, "hiding place") * 10,
        "shift x": draw(-60, 60, "shift x"),
        "shift z": draw(-50, 50, "shift z"),
        "zoom": draw(90, 110, "zoom"),
        "passers": pick(seed, {"0": 100 - camera["crowd"], "1": camera["crowd"]}, "passers", *key),
        "noise": draw(0, 2**31 - 1, "noise"),
    }


def body(person, image):
    """The parts of a person, in metres, facing +y, feet at the origin."""
    h, w = person["height"] / 1690, person["build"] / 100
    shoulders, hips = SHAPES[person["noun"]][:2]
    cloth = garment(person, "upper", STYLES[person["pattern"]])
    if person["print"] and person["pattern"] == "plain":
        cloth = cloth._replace(style=PRINT)
    limb = cloth._replace(style=PLAIN if cloth.style == PRINT else cloth.style)
    skin = Material(SKIN[person["skin"]], nir=72, heat=92)
    parts = [
        *head(person, skin),
        Part(CAPSULE, (0, 0, 0.98), (0, 0, 1.33), (shoulders * w, 0.115 * w), cloth, "upper torso"),
        Part(
            ELLIPSOID,
            (0, 0, 0.78),
            (0, 0, 1.06),
            (hips * w, 0.12 * w),
            garment(person, "lower"),
            "lower hips",
        ),
    ]
    if person["upper"] in ("jacket", "coat"):
        bottom = 0.52 if person["upper"] == "coat" else 0.83
        parts.append(
            Part(
                CAPSULE, (0, 0, bottom), (0, 0, 1.15), ((shoulders + 0.006) * w, 0.135 * w), limb, "upper hem"
            )
        )
    if person["lower"] == "skirt":
        parts.append(
            Part(
                CAPSULE,
                (0, 0, 0.56),
                (0, 0, 0.92),
                (0.19 * w, 0.15 * w),
                garment(person, "lower"),
                "lower skirt",
            )
        )
    swing = 0.0 if image["moving"] == "standing" else float(exact.sine(np.radians(image["phase"])))
    lift = 0.0 if image["moving"] == "standing" else float(exact.cosine(np.radians(image["phase"])))
    for side, sign in (("left", -1), ("right", 1)):
        parts += arm(side, sign, -0.16 * sign * swing, w, limb, skin, person, image)
        parts += leg(side, sign, 0.24 * sign * swing, 0.10 * max(0.0, sign * lift), w, skin, person)
    return [scaled(part, h) for part in parts + luggage(person, image)]


def garment(person, part, style=PLAIN):
    """Cloth of one part: its named colour, a little off (captions never tell), and what only the other
    spectra see."""
    hue = (c + person[f"hue {part} {k}"] for k, c in enumerate(COLOURS[person[f"{part} colour"]]))
    colour = tuple(int(np.clip(c, 0, 255)) for c in hue)
    second = COLOURS[person["pattern colour"]]
    return Material(
        colour, second, style, person[f"nir {part}"], person["nir pattern"], person[f"warmth {part}"]
    )


def head(person, skin):
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
        parts.append(Part(ELLIPSOID, (0, 0.06, 1.645), (0, 0.06, 1.675), (0.10, 0.13), felt, "head hat"))
    return parts


def arm(side, sign, forward, w, cloth, skin, person, image):
    wide, bulk = SHAPES[person["noun"]].shoulders + 0.02, BULK[person["upper"]] * w
    out = sign * (wide + 0.035) * w
    shoulder, elbow = (sign * wide * w, 0, 1.34), (out, forward * 0.6, 1.07)
    hand = (out, forward + 0.06, 0.83)
    if sign > 0 and image["carried"] in ("phone", "umbrella"):
        hand = (0.18, 0.26, 1.22)
    if image["carried"] == "box":
        elbow, hand = (out, 0.02, 1.07), (sign * 0.17, 0.27, 1.02)
    sleeve = skin if person["upper"] == "t-shirt" else cloth
    low, high = (hand[0], hand[1], hand[2] - 0.09), (hand[0], hand[1], hand[2] + 0.05)
    return [
        Part(CAPSULE, shoulder, elbow, (0.056 * bulk, 0.056 * bulk), cloth, f"upper {side} arm"),
        Part(CAPSULE, elbow, hand, (0.044 * bulk, 0.044 * bulk), sleeve, f"upper {side} forearm"),
        Part(ELLIPSOID, low, high, (0.035, 0.045), skin, f"upper {side} hand"),
    ]


def leg(side, sign, forward, lift, w, skin, person):
    cloth = garment(person, "lower")
    thigh = skin if person["lower"] == "skirt" else cloth
    shin = cloth if person["lower"] == "trousers" else skin
    hip, knee = (sign * 0.09 * w, 0, 0.86), (sign * 0.095 * w, forward * 0.6 + 0.02, 0.48)
    foot = (sign * 0.095 * w, forward, 0.09 + lift)
    heel, toe = (foot[0], foot[1] - 0.09, foot[2] - 0.03), (foot[0], foot[1] + 0.19, foot[2] - 0.03)
    return [
        Part(CAPSULE, hip, knee, (0.083 * w, 0.083 * w), thigh, f"lower {side} thigh"),
        Part(CAPSULE, knee, foot, (0.058 * w, 0.058 * w), shin, f"lower {side} shin"),
        Part(
            ELLIPSOID,
            heel,
            toe,
            (0.05, 0.058),
            Material(COLOURS[person["shoes"]], nir=34, heat=44),
            f"foot {side} shoe",
        ),
    ]


def luggage(person, image):
    """The backpack shows from behind only; what is carried changes from image to image."""
    parts, stuff = [], Material(COLOURS[image["carried colour"]], nir=60, heat=18)
    if person["backpack"]:
        cloth = Material(COLOURS[person["backpack"]], nir=person["nir bag"], heat=22)
        parts.append(Part(BOX, (0, -0.21, 0.98), (0, -0.21, 1.36), (0.15, 0.085), cloth, "backpack"))
    if image["carried"] == "phone":
        parts.append(
            Part(
                BOX,
                (0.18, 0.31, 1.19),
                (0.18, 0.31, 1.34),
                (0.04, 0.012),
                Material((30, 30, 34), heat=55),
                "carried",
            )
        )
    if image["carried"] == "handbag":
        parts.append(Part(BOX, (0.31, 0.05, 0.52), (0.31, 0.05, 0.78), (0.06, 0.15), stuff, "carried"))
    if image["carried"] == "box":
        parts.append(Part(BOX, (0, 0.33, 0.92), (0, 0.33, 1.2), (0.21, 0.13), stuff, "carried"))
    if image["carried"] == "umbrella":
        parts.append(
            Part(
                CAPSULE,
                (0.18, 0.27, 1.1),
                (0.12, 0.18, 1.84),
                (0.012, 0.012),
                Material((60, 60, 60), heat=18),
                "carried",
            )
        )
        parts.append(Part(ELLIPSOID, (0.10, 0.14, 1.70), (0.10, 0.14, 1.94), (0.46, 0.46), stuff, "carried"))
    return parts


def scaled(part, h):
    start, end = tuple(c * h for c in part.start), tuple(c * h for c in part.end)
    return part._replace(start=start, end=end, radii=tuple(r * h for r in part.radii))
