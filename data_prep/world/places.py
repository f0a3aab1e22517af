"""Domains and their cameras: where they stand, what they see behind a person, and the light that falls there.

Angles are in degrees, distances in centimetres, gains and sizes in per cent, greys from 0 to 255. All are
whole numbers, for the fingerprint; what is computed from them is in metres.
"""

from typing import NamedTuple

import numpy as np

from data_prep.world import exact, people
from data_prep.world.render import BOX, CAPSULE, Material, Part, View
from data_prep.world.streams import between, near, pick


class Domain(NamedTuple):
    """A set of cameras with a manner of its own. Ranges are (low, high), from which each camera has one
    value."""

    cameras: int
    wardrobe: str = "mixed"  # of the people who live there
    pitch: tuple = (4, 26)  # how far the camera looks down
    exposure: tuple = (78, 116)
    tint: tuple = (100, 100, 100)  # gains of red, green and blue, which all its cameras share
    cast: int = 10  # how far a camera's gains may be from them
    saturation: tuple = ()  # of the colours; all of it where nothing is said
    night: tuple = ()  # exposure and grain, where its nights are not those of DARK
    wall: tuple = ("panels", "bricks", "windows")
    ground: tuple = ("tiles", "asphalt")
    grey: tuple = (95, 190)  # of the wall
    haze: int = 0
    grain: tuple = (8, 30)  # standard deviation, in tenths of a grey
    blur: tuple = (0, 80)  # standard deviation, in hundredths of a pixel
    detail: int = 100  # of the resolution: less is a sensor of fewer pixels
    crowd: int = 25  # per cent of images with somebody behind
    distance: tuple = (550, 1000)  # from the camera to the person


DOMAINS = {
    # seen in lifelong orders; A and D are also the two large sets of people. Cameras of one domain differ in
    # their colours (cast, saturation), as those of the public sets do
    "A": Domain(
        6, "summer", ground=("tiles",), exposure=(58, 122), cast=28, saturation=(42, 100), detail=75, crowd=30
    ),
    # blue, seen from low down, crowded
    "B": Domain(
        12,
        "mixed",
        pitch=(0, 14),
        exposure=(45, 120),
        tint=(86, 99, 118),
        cast=30,
        saturation=(25, 90),
        crowd=45,
        blur=(20, 100),
        wall=("windows", "bricks", "hedge", "panels"),
    ),
    # green and hazy, with hedges and grass
    "C": Domain(
        8,
        "autumn",
        wall=("hedge", "bricks"),
        ground=("grass", "asphalt"),
        tint=(95, 112, 88),
        cast=26,
        exposure=(50, 110),
        haze=14,
        saturation=(52, 108),
        detail=85,
    ),
    # warm, seen from high up
    "D": Domain(
        15,
        "office",
        exposure=(45, 130),
        tint=(114, 100, 88),
        cast=28,
        saturation=(55, 120),
        pitch=(8, 34),
        crowd=40,
        wall=("windows", "panels"),
    ),
    # bright and coarse
    "E": Domain(
        10,
        "winter",
        wall=("panels",),
        ground=("tiles",),
        tint=(110, 90, 106),
        cast=28,
        exposure=(70, 145),
        saturation=(40, 95),
        grey=(120, 215),
        detail=60,
        pitch=(10, 30),
    ),
    # unseen: tested on, never trained on
    "F": Domain(4, "autumn", wall=("bricks",), ground=("asphalt",), pitch=(2, 10), crowd=5),
    "G": Domain(10, "summer", wall=("hedge", "windows"), cast=14, exposure=(70, 130)),
    "H": Domain(2, "mixed", detail=60, blur=(30, 120), cast=16),
    "I": Domain(2, "winter", detail=55, pitch=(24, 40), haze=20, ground=("asphalt",)),
    # dark, grainy, coarse and crowded
    "J": Domain(
        8,
        "office",
        detail=45,
        grain=(25, 50),
        exposure=(50, 80),
        crowd=60,
        wall=("panels",),
        ground=("tiles",),
    ),
    "K": Domain(5, "office", detail=70, crowd=55, wall=("windows",), ground=("tiles",), grey=(140, 225)),
    "L": Domain(2, "mixed", cast=22, haze=25, exposure=(80, 135)),
    # sentences: colours as they are, so that words fit them
    "T": Domain(
        12,
        "mixed",
        cast=6,
        exposure=(88, 112),
        grain=(8, 18),
        blur=(0, 50),
        crowd=10,
        wall=("panels", "bricks", "windows", "hedge"),
        ground=("tiles", "asphalt", "grass"),
    ),
    # three spectra by night and day; at night next to nothing of the visible image is left
    "N": Domain(
        4,
        "mixed",
        wall=("windows", "bricks"),
        ground=("asphalt",),
        pitch=(2, 14),
        grain=(4, 14),
        blur=(0, 50),
        crowd=10,
        night=(3, 90),
    ),
    # roads
    "V": Domain(
        8,
        wall=("windows", "hedge"),
        ground=("asphalt",),
        pitch=(6, 24),
        distance=(900, 1500),
        crowd=0,
        night=(3, 90),
    ),
    # where pretraining takes place: photographs, not surveillance
    "P": Domain(
        60,
        "mixed",
        pitch=(0, 24),
        exposure=(84, 114),
        cast=8,
        grain=(6, 18),
        blur=(0, 50),
        crowd=15,
        wall=("panels", "bricks", "windows", "hedge"),
        ground=("tiles", "asphalt", "grass"),
    ),
}
SEEN = tuple("ABCDE")
UNSEEN = tuple("FGHIJKL")
DARK = {  # what is left of the visible image: exposure in per cent, and grain
    "dusk": (38, 40),
    "night": (7, 62),
}
CLUTTER = {  # ranges of a box that stands about: where and how large (centimetres), and its colour
    "x": (-150, 150),
    "y": (70, 170),  # behind the person
    "w": (8, 40),  # half width
    "h": (25, 110),
    "grey": (50, 190),
    "hue": (0, 359),
}
METAL = Material((90, 92, 96), nir=45, heat=24)


def camera(seed, domain, camid):
    """One camera of a domain, in integers."""
    d = DOMAINS[domain]

    def draw(low, high, name):
        return between(seed, low, high, name, domain, camid)

    def choose(options, name):
        return pick(seed, options, name, domain, camid)

    cam = {
        "heading": draw(0, 359, "camera heading"),  # of the people who pass
        "spread": draw(35, 60, "camera spread"),  # how far theirs vary
        "pitch": draw(*d.pitch, "camera pitch"),
        "distance": draw(*d.distance, "camera distance"),
        "sun": draw(0, 359, "sun heading"),
        "sun height": draw(30, 65, "sun height"),
        "sun share": draw(25, 60, "sun share"),  # of the light; the sky gives the rest
        "wall": draw(180, 600, "wall distance"),  # from the person
        "wall style": choose(d.wall, "wall style"),
        "ground style": choose(d.ground, "ground style"),
        "exposure": draw(*d.exposure, "exposure"),
        "blur": draw(*d.blur, "blur"),
        "grain": draw(*d.grain, "grain"),
        "detail": min(100, near(seed, d.detail, 4, "detail", domain, camid)),
        "haze": max(0, near(seed, d.haze, 4, "haze", domain, camid)) if d.haze else 0,
        "crowd": d.crowd,
        "wall grey": draw(*d.grey, "wall grey"),
        "ground grey": draw(95, 165, "ground grey"),
        "period": draw(15, 60, "period"),  # of tiles, panels and windows
    }
    for k in range(3):
        cam[f"cast {k}"] = draw(d.tint[k] - d.cast, d.tint[k] + d.cast, f"cast {k}")
    if d.night:
        cam["night"] = list(d.night)
    if d.saturation:
        cam["saturation"] = draw(*d.saturation, "saturation")
    for k in range(3):  # off the grey
        cam[f"wall {k}"] = draw(-28, 28, f"wall colour {k}")
    for k in range(3):
        cam[f"ground {k}"] = draw(-16, 16, f"ground colour {k}")
    for n in range(3):
        for key, (low, high) in CLUTTER.items():
            cam[f"clutter {n} {key}"] = draw(low, high, f"clutter {n} {key}")
    return cam


def furniture(cam, image):
    """What stands about before this camera, and what hides part of a person: parts in the world's frame."""
    parts = []
    for n in range(3):
        x, y, w, h = (cam[f"clutter {n} {key}"] / 100 for key in "xywh")
        thing = Material(tinted(cam[f"clutter {n} grey"], cam[f"clutter {n} hue"]), nir=40, heat=22)
        parts.append(Part(BOX, (x, y, 0), (x, y, h), (w, w), thing, "clutter"))
    x = image["hiding place"] / 1000
    # what hides stands nearer to the camera than the person at y = 0
    if image["hiding"] == "post":
        parts.append(Part(CAPSULE, (x, -0.7, 0), (x, -0.7, 2.6), (0.055, 0.055), METAL, "hiding"))
    if image["hiding"] == "bin":
        tin = Material((52, 84, 62), heat=20)
        # a bin is wider than a post, so it may stand farther to the side
        parts.append(Part(BOX, (x * 1.6, -0.6, 0), (x * 1.6, -0.6, 0.62), (0.2, 0.2), tin, "hiding"))
    return parts


def tinted(grey, hue):
    """A muted colour (red, green, blue) of this lightness: each up to 30 off the grey."""
    waves = (exact.cosine(np.radians(hue + shift)) for shift in (0, 120, 240))
    return tuple(int(np.clip(grey + 30 * wave, 0, 255)) for wave in waves)


def passers_by(seed, image, key):
    """The parts of somebody behind, who belongs to no data set; none for most images. `key` names the
    image."""
    if image["passers"] == "0":
        return []

    def draw(low, high, name):
        return between(seed, low, high, f"passing {name}", *key)

    person = draw_passer(seed, ("passer", *key), key[0].partition(":")[0])
    side = pick(seed, (-1, 1), "passing side", *key)
    x = side * draw(450, 900, "x") / 1000  # metres: to the left or to the right of the person
    y = draw(700, 1600, "y") / 1000
    phase = draw(0, 359, "phase")
    pose = {"phase": phase, "moving": "walking", "carried": "nothing", "carried colour": "black"}
    return [
        part._replace(start=move(part.start, x, y), end=move(part.end, x, y), name="passer-by")
        for part in people.body(person, pose)
    ]


def draw_passer(seed, key, domain):
    """Somebody behind. In pretraining (domain P) they wear nothing that is kept from it, like everybody
    there."""
    if domain == "P":
        return people.identity(seed, key, "mixed", "pretraining")
    return people.draw_identity(seed, key, "mixed")


def move(point, x, y):
    """A point moved along the ground."""
    return point[0] + x, point[1] + y, point[2]


def view(cam, image, width_share=0.5, target=0.88, field=2.0):
    """The View of one image, at somebody's middle (`target` metres above the ground): `field` metres fit its
    height, `width_share` of that its width."""
    pitch = np.radians(cam["pitch"])
    distance = cam["distance"] / 100
    centre = np.array([image["shift x"] / 1000, 0, target + image["shift z"] / 1000])
    sine = exact.sine(pitch)
    cosine = exact.cosine(pitch)
    forward = np.array([0, cosine, -sine])
    edge = field / 2 / distance / (image["zoom"] / 100)  # half the image's height at depth 1
    across = np.array([edge * width_share, 0, 0])
    up = np.array([0, sine, cosine]) * edge
    return View(centre - distance * forward, across, up, forward, cam["wall"] / 100)


def sunlight(cam):
    """Direction (3,) to the sun, of unit length; it never stands behind what the camera looks at."""
    heading = np.radians(cam["sun"])
    height = np.radians(cam["sun height"])
    flat = exact.cosine(height)
    ahead = abs(exact.sine(heading))  # so that y is negative: on the camera's side
    return np.array([exact.cosine(heading) * flat, -ahead * flat, exact.sine(height)], np.float32)
