"""Who a person is (constant), what an image adds (varies), and the body that both imply.

Lengths are integer millimetres, angles integer degrees, colours integers from 0 to 255: the hash of these
numbers is the fingerprint of the world.
"""

import numpy as np

from data_prep.world.render import BOX, CAPSULE, ELLIPSOID
from data_prep.world.streams import between, near, pick

COLOURS = {
    "black": (28, 28, 32), "white": (232, 232, 228), "grey": (128, 128, 132), "red": (188, 36, 40),
    "orange": (226, 118, 32), "yellow": (228, 200, 52), "green": (48, 130, 62), "blue": (42, 78, 172),
    "navy": (26, 36, 84), "purple": (112, 56, 140), "pink": (228, 140, 168), "brown": (104, 68, 42),
}  # fmt: skip
SKIN = ((244, 212, 184), (226, 184, 148), (196, 146, 108), (142, 98, 68), (92, 62, 46))
HAIR = {"black": (24, 20, 18), "brown": (84, 54, 32), "blonde": (206, 172, 104), "grey": (150, 148, 146),
        "red": (150, 70, 36)}  # fmt: skip
UPPERS = {"t-shirt": 30, "shirt": 25, "jacket": 25, "coat": 20}
LOWERS = {"trousers": 60, "shorts": 20, "skirt": 20}
PATTERNS = {"plain": 60, "striped": 16, "checked": 12, "dotted": 12}
CARRIED = {"nothing": 40, "phone": 15, "handbag": 15, "box": 15, "umbrella": 15}
HIDING = {"nothing": 85, "post": 15}


def identity(seed, pid):
    """What stays the same in all images of one person."""
    draw = lambda name, options: pick(seed, options, name, pid)  # noqa: E731
    return {
        "noun": draw("noun", ("man", "woman")),
        "height": near(seed, 1690, 70, "height", pid),
        "build": near(seed, 100, 8, "build", pid),
        "skin": draw("skin", range(len(SKIN))),
        "hair": draw("hair", {"black": 35, "brown": 30, "blonde": 15, "grey": 12, "red": 8}),
        "hair length": draw("hair length", {"short": 60, "long": 40}),
        "upper": draw("upper", UPPERS),
        "upper colour": draw("upper colour", tuple(COLOURS)),
        "pattern": draw("pattern", PATTERNS),
        "pattern colour": draw("pattern colour", tuple(COLOURS)),
        "lower": draw("lower", LOWERS),
        "lower colour": draw("lower colour", tuple(COLOURS)),
        "shoes": draw("shoes", {"black": 35, "white": 25, "brown": 20, "red": 10, "blue": 10}),
        "backpack": draw("backpack", {"": 65, **dict.fromkeys(COLOURS, 3)}),
        "hat": draw("hat", {"": 75, **dict.fromkeys(COLOURS, 2)}),
        "print": draw("print", {"": 80, "yes": 20}),
        **{
            f"hue {part} {k}": between(seed, -14, 14, "hue", part, k, pid)
            for part in ("upper", "lower")
            for k in range(3)
        },
    }


def instance(seed, pid, index):
    """What belongs to one image of the person."""
    return {
        "heading": between(seed, 0, 359, "heading", pid, index),
        "phase": between(seed, 0, 359, "phase", pid, index),
        "carried": pick(seed, CARRIED, "carried", pid, index),
        "carried colour": pick(seed, tuple(COLOURS), "carried colour", pid, index),
        "hiding": pick(seed, HIDING, "hiding", pid, index),
        "hiding place": between(seed, -160, 160, "hiding place", pid, index),
        "shift x": between(seed, -60, 60, "shift x", pid, index),
        "shift z": between(seed, -50, 50, "shift z", pid, index),
        "zoom": between(seed, 92, 110, "zoom", pid, index),
    }


SLOTS = {  # the same primitives for every person, so that a batch is one tensor; radius 0 stands for "not there"
    "head": ELLIPSOID, "hair": ELLIPSOID, "long hair": ELLIPSOID, "hat": ELLIPSOID, "brim": ELLIPSOID, "neck": CAPSULE,
    "torso": CAPSULE, "hips": ELLIPSOID, "hem": CAPSULE,
    "left upper arm": CAPSULE, "right upper arm": CAPSULE, "left forearm": CAPSULE, "right forearm": CAPSULE,
    "left hand": ELLIPSOID, "right hand": ELLIPSOID,
    "left thigh": CAPSULE, "right thigh": CAPSULE, "left shin": CAPSULE, "right shin": CAPSULE,
    "left shoe": ELLIPSOID, "right shoe": ELLIPSOID, "skirt": CAPSULE,
    "backpack": BOX, "carried": BOX, "canopy": ELLIPSOID, "stick": CAPSULE,
}  # fmt: skip
STYLES = {"plain": 0, "striped": 1, "checked": 2, "dotted": 3, "print": 4}


def body(person, image):
    """{slot: (start, end, radii, colour, second colour, style)} in metres, facing +y, feet at the origin.

    A capsule runs from start to end; of an ellipsoid or box they give the long axis. `radii` is across it.
    """
    h, w = person["height"] / 1690, person["build"] / 100 * person["height"] / 1690
    swing, lift = np.sin(np.radians(image["phase"])), np.cos(np.radians(image["phase"]))
    skin, hair = SKIN[person["skin"]], HAIR[person["hair"]]
    top, low = shade(person, "upper"), shade(person, "lower")
    second, shoe = COLOURS[person["pattern colour"]], COLOURS[person["shoes"]]
    style = STYLES["print" if person["print"] and person["pattern"] == "plain" else person["pattern"]]
    cloth = (top, second, style)
    limb = (top, second, 0 if style == STYLES["print"] else style)
    sleeve = limb if person["upper"] != "t-shirt" else (skin, skin, 0)
    leg = (low, low, 0) if person["lower"] == "trousers" else (skin, skin, 0)
    thigh = (skin, skin, 0) if person["lower"] == "skirt" else (low, low, 0)
    parts = {
        "head": ((0, 0.01, 1.47), (0, 0.01, 1.69), (0.083, 0.097), skin),
        "hair": ((0, -0.02, 1.52), (0, -0.02, 1.72), (0.089, 0.099), hair),
        "neck": ((0, 0, 1.36), (0, 0, 1.48), (0.055, 0.055), skin),
        "torso": ((0, 0, 0.98), (0, 0, 1.33), (0.185 * w, 0.115 * w), *cloth),
        "hips": ((0, 0, 0.78), (0, 0, 1.06), (0.165 * w, 0.12 * w), low),
    }
    if person["hair length"] == "long":
        parts["long hair"] = ((0, -0.075, 1.27), (0, -0.06, 1.66), (0.088, 0.055), hair)
    if person["hat"]:
        parts["hat"] = ((0, 0, 1.60), (0, 0, 1.76), (0.095, 0.108), COLOURS[person["hat"]])
        parts["brim"] = ((0, 0.06, 1.645), (0, 0.06, 1.675), (0.10, 0.13), COLOURS[person["hat"]])
    if person["upper"] in ("jacket", "coat"):
        bottom = 0.62 if person["upper"] == "coat" else 0.86
        parts["hem"] = ((0, 0, bottom), (0, 0, 1.15), (0.19 * w, 0.135 * w), *limb)
    if person["lower"] == "skirt":
        parts["skirt"] = ((0, 0, 0.58), (0, 0, 0.92), (0.19 * w, 0.15 * w), low)
    for side, sign in (("left", -1), ("right", 1)):
        step = sign * swing
        parts |= arm(side, sign, -0.16 * step, w, limb, sleeve, skin, image["carried"])
        parts |= leg_and_shoe(side, sign, 0.24 * step, 0.10 * max(0, sign * lift), w, thigh, leg, shoe)
    parts |= luggage(person, image)
    return {slot: scaled(part, h) for slot, part in parts.items()}


def shade(person, part):
    """The garment's exact hue: its named colour, a little off. Captions never tell."""
    return tuple(
        np.clip(c + person[f"hue {part} {k}"], 0, 255)
        for k, c in enumerate(COLOURS[person[f"{part} colour"]])
    )


def arm(side, sign, forward, w, cloth, sleeve, skin, carried):
    shoulder, elbow = (sign * 0.215 * w, 0, 1.34), (sign * 0.25 * w, forward * 0.6, 1.07)
    hand = (sign * 0.25 * w, forward + 0.06, 0.83)
    if sign > 0 and carried in ("phone", "umbrella"):
        hand = (0.18, 0.26, 1.22)
    if carried == "box":
        elbow, hand = (sign * 0.25 * w, 0.02, 1.07), (sign * 0.17, 0.27, 1.02)
    return {
        f"{side} upper arm": (shoulder, elbow, (0.056 * w, 0.056 * w), *cloth),
        f"{side} forearm": (elbow, hand, (0.044 * w, 0.044 * w), *sleeve),
        f"{side} hand": (
            (hand[0], hand[1], hand[2] - 0.09),
            (hand[0], hand[1], hand[2] + 0.05),
            (0.035, 0.045),
            skin,
        ),
    }


def leg_and_shoe(side, sign, forward, lift, w, thigh, leg, shoe):
    hip, knee = (sign * 0.09 * w, 0, 0.86), (sign * 0.095 * w, forward * 0.6 + 0.02, 0.48)
    foot = (sign * 0.095 * w, forward, 0.09 + lift)
    return {
        f"{side} thigh": (hip, knee, (0.083 * w, 0.083 * w), *thigh),
        f"{side} shin": (knee, foot, (0.058 * w, 0.058 * w), *leg),
        f"{side} shoe": ((foot[0], foot[1] - 0.09, foot[2] - 0.03), (foot[0], foot[1] + 0.19, foot[2] - 0.03),
                         (0.05, 0.058), shoe),
    }  # fmt: skip


def luggage(person, image):
    """The backpack shows from behind only; what is carried changes from image to image."""
    parts, colour = {}, COLOURS[image["carried colour"]]
    if person["backpack"]:
        parts["backpack"] = ((0, -0.21, 0.98), (0, -0.21, 1.36), (0.15, 0.085), COLOURS[person["backpack"]])
    if image["carried"] == "phone":
        parts["carried"] = ((0.18, 0.31, 1.19), (0.18, 0.31, 1.34), (0.04, 0.012), (30, 30, 34))
    if image["carried"] == "handbag":
        parts["carried"] = ((0.31, 0.05, 0.52), (0.31, 0.05, 0.78), (0.06, 0.15), colour)
    if image["carried"] == "box":
        parts["carried"] = ((0, 0.33, 0.92), (0, 0.33, 1.2), (0.21, 0.13), colour)
    if image["carried"] == "umbrella":
        parts["stick"] = ((0.18, 0.27, 1.1), (0.12, 0.18, 2.0), (0.012, 0.012), (60, 60, 60))
        parts["canopy"] = ((0.10, 0.14, 1.86), (0.10, 0.14, 2.1), (0.52, 0.52), colour)
    return parts


def scaled(part, h):
    start, end, radii, colour, *pattern = part
    second, style = pattern or (colour, 0)
    return (
        tuple(c * h for c in start),
        tuple(c * h for c in end),
        tuple(r * h for r in radii),
        colour,
        second,
        style,
    )
