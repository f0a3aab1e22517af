"""Vehicles: what a car is, what an image adds, and its parts, in metres, front towards +y."""

from typing import NamedTuple

import numpy as np

from data_prep.world.people import COLOURS, side_of
from data_prep.world.render import BOX, CAPSULE, ELLIPSOID, PLAIN, STRIPED, Material, Part
from data_prep.world.streams import between, near, pick

# centimetres: length, width and height of the body, height of the cabin on it, and where the cabin begins and
# ends (y, from the middle of the car)
TYPES = {
    "sedan": (440, 175, 80, 58, -150, 70),
    "hatchback": (390, 170, 82, 64, -175, 70),
    "suv": (450, 186, 98, 78, -205, 75),
    "van": (490, 190, 105, 105, -235, 160),
    "pickup": (520, 188, 95, 74, -80, 105),
    "taxi": (450, 176, 82, 60, -155, 70),
}
# weights of colours; "" is no stripe
PAINTS = {
    "white": 20,
    "black": 18,
    "grey": 18,
    "blue": 12,
    "red": 12,
    "green": 6,
    "yellow": 6,
    "brown": 4,
    "orange": 4,
}
STRIPES = {"": 65, "white": 7, "black": 7, "red": 7, "yellow": 7, "blue": 7}
GLASS = Material((48, 58, 68), nir=20, heat=26)


def identity(seed, who, bucket="evaluation"):
    """What stays the same in all images of one vehicle. Those of the bucket "evaluation" and of "pretraining"
    share no tuple of the attributes that words can tell."""
    cars = (draw_identity(seed, (who, attempt)) for attempt in range(1000))
    return next(car for car in cars if side_of(told(car)) == bucket)


def told(car):
    """What words can tell of a vehicle."""
    roof = f"{car['roof colour']} box" if car["roof"] == "box" else car["roof"]
    return (car["noun"], car["colour"], roof, car["stripe"], car["wheels"], car["spoiler"])


def draw_identity(seed, key):
    """One vehicle of any bucket; `key` names it."""

    def draw(name, options):
        return pick(seed, options, name, *key)

    return {
        "noun": draw("type", tuple(TYPES)),
        "colour": draw("body colour", PAINTS),
        "size": near(seed, 100, 3, "size", *key),  # per cent of its type's lengths
        "roof": draw("roof", {"": 55, "rack": 25, "box": 20}),
        "roof colour": draw("roof colour", tuple(COLOURS)),
        "stripe": draw("stripe", STRIPES),
        "wheels": draw("wheels", ("bright", "dark", "spoked")),
        "spoiler": draw("spoiler", {"": 75, "yes": 25}),
        "sticker": draw("sticker", {"": 70, "white": 10, "yellow": 10, "red": 10}),
        # off the named colour, of 255: no word tells
        **{f"hue {k}": between(seed, -16, 16, "hue", k, *key) for k in range(3)},
        "nir": between(seed, 1, 9, "nir", *key) * 10,  # albedo in per cent, unrelated to the colour
        "nir trim": between(seed, 1, 9, "nir trim", *key) * 10,
    }


def instance(seed, key, camera):
    """What belongs to one image: the engine may be hot or cold, lights on or off. `key` names vehicle and
    image."""

    def draw(low, high, name):
        return between(seed, low, high, name, *key)

    return {
        # degrees about the vertical; 25 more than people turn
        "heading": near(seed, camera["heading"], camera["spread"] + 25, "turn", *key) % 360,
        "engine": pick(seed, {"hot": 70, "cold": 30}, "engine", *key),
        "lights": pick(seed, {"on": 45, "off": 55}, "lights", *key),
        "hiding": pick(seed, {"nothing": 85, "post": 15}, "hiding", *key),
        "hiding place": draw(-60, 60, "hiding place") * 10,  # millimetres to the side
        "shift x": draw(-160, 160, "shift x"),  # millimetres off the middle of the view
        "shift z": draw(-120, 120, "shift z"),
        "zoom": draw(92, 112, "zoom"),  # per cent
        "passers": "0",  # how many people behind
        "noise": draw(0, 2**31 - 1, "noise"),  # seed of the grain
    }


class Sizes(NamedTuple):
    """A vehicle's measures in metres. It stands on z = 0, its middle at x = y = 0."""

    y: float  # half the length: the front is here
    half: float  # half the width
    height: float  # of the body without the cabin
    cabin: float  # height of the cabin
    back: float  # y where the cabin begins
    front: float  # and where it ends


FLOOR = 0.28  # metres from the ground to the body


def sizes(car):
    """The Sizes of a vehicle."""
    length, width, height, cabin, back, front = (x / 100 * car["size"] / 100 for x in TYPES[car["noun"]])
    return Sizes(length / 2, width / 2, height, cabin, back, front)


def along(kind, x, ends, z, radii, material, name):
    """A part whose axis runs along the vehicle, from `ends`[0] to `ends`[1] in y."""
    return Part(kind, (x, ends[0], z), (x, ends[1], z), radii, material, name)


def body(car, image):
    """The parts of a vehicle."""
    size = sizes(car)
    hue = (c + car[f"hue {k}"] for k, c in enumerate(COLOURS[car["colour"]]))
    colour = tuple(int(np.clip(c, 0, 255)) for c in hue)
    hot = image["engine"] == "hot"
    paint = Material(colour, nir=car["nir"], heat=34 if hot else 26)
    return [
        *shell(size, paint, hot),
        *wheels(car, size, hot),
        *lamps(image, size),
        *stripe(car, size),
        *extras(car, size, paint),
    ]


def middle_of(size):
    """z of the middle of the body."""
    return FLOOR + (size.height - FLOOR) / 2


def shell(size, paint, hot):
    """Sides, bonnet, cabin, grille, and the engine's lid, which is what tells a hot engine."""
    y, half, height = size[:3]
    middle = middle_of(size)
    grille = Material((24, 24, 26), heat=70 if hot else 26)
    engine = paint._replace(heat=96 if hot else 26)
    low = middle - 0.08
    return [
        along(BOX, 0, (-y, y), middle, (half, (height - FLOOR) / 2), paint, "body side"),
        Part(
            CAPSULE,
            (0, -y + 0.25, height - 0.08),
            (0, y - 0.3, height - 0.12),
            (half * 0.97, 0.14),
            paint,
            "body bonnet",
        ),
        *greenhouse(size, paint),
        along(BOX, 0, (y - 0.06, y + 0.03), low, (half * 0.55, 0.07), grille, "grille"),
        along(BOX, 0, (y - 0.9, y - 0.15), height + 0.01, (half * 0.72, 0.03), engine, "body engine"),
    ]


def greenhouse(size, paint):
    """Glass between slanted windows, the roof on it, and three pillars on each side."""
    _, half, height, cabin, back, front = size
    top = height + cabin * 0.86
    slant = cabin * 0.75  # of the windscreen, in y; the rear window slants by half of it
    low = height + cabin * 0.43
    high = height + cabin * 0.9
    ends = (back + slant * 0.5, front - slant)
    parts = [
        along(BOX, 0, ends, low, (half * 0.84, cabin * 0.45), GLASS, "glass"),
        Part(BOX, (0, front, height), (0, front - slant, top), (half * 0.8, 0.05), GLASS, "glass"),
        Part(BOX, (0, back, height), (0, back + slant * 0.5, top), (half * 0.8, 0.05), GLASS, "glass"),
        along(BOX, 0, ends, high, (half * 0.8, 0.05), paint, "body roof"),
    ]
    for side in (-1, 1):
        for y in (ends[0], (back + front - slant) / 2, ends[1]):
            start = (side * half * 0.84, y, height)
            end = (side * half * 0.82, y, top)
            parts.append(Part(BOX, start, end, (0.04, 0.05), paint, "body pillar"))
    return parts


def wheels(car, size, hot):
    """Four discs of a radius of 33 cm, with hubs of 17 cm."""
    hub = {"bright": (190, 192, 196), "dark": (70, 70, 74), "spoked": (140, 142, 146)}[car["wheels"]]
    style = STRIPED if car["wheels"] == "spoked" else PLAIN
    tyre = Material((22, 22, 24), nir=15, heat=60 if hot else 28)  # warm after driving
    rim = Material(hub, (40, 40, 44), style, 65, 20, 34)
    y, half = size[:2]
    parts = []
    for side in (-1, 1):
        for place in (-y * 0.62, y * 0.62):
            inner = (side * (half - 0.1), place, 0.33)
            outer = (side * (half + 0.03), place, 0.33)
            cap = (side * (half + 0.06), place, 0.33)  # the hub stands out by 3 cm
            parts.append(Part(ELLIPSOID, inner, outer, (0.33, 0.33), tyre, "wheel"))
            parts.append(Part(ELLIPSOID, inner, cap, (0.17, 0.17), rim, "wheel"))
    return parts


HEADLIGHTS = {
    "on": Material((255, 250, 225), nir=100, heat=75),
    "off": Material((170, 172, 175), nir=60, heat=30),
}
TAILLIGHTS = {
    "on": Material((210, 30, 30), nir=70, heat=45),
    "off": Material((120, 20, 24), nir=30, heat=28),
}


def lamps(image, size):
    """Headlights that are on are white to every spectrum but the thermal one, where they are warm."""
    front = HEADLIGHTS[image["lights"]]
    rear = TAILLIGHTS[image["lights"]]
    y, half = size[:2]
    middle = middle_of(size)
    parts = []
    for side in (-1, 1):
        x = side * half * 0.72
        parts.append(along(ELLIPSOID, x, (y - 0.05, y + 0.05), middle + 0.12, (0.16, 0.09), front, "lamp"))
        parts.append(along(ELLIPSOID, x, (-y - 0.05, -y + 0.05), middle + 0.14, (0.12, 0.1), rear, "lamp"))
    return parts


def stripe(car, size):
    """A stripe on each side, if the vehicle has one."""
    if not car["stripe"]:
        return []
    trim = Material(COLOURS[car["stripe"]], nir=car["nir trim"], heat=28)
    ends = (-size.y * 0.9, size.y * 0.9)
    middle = middle_of(size)
    return [along(BOX, side * size.half, ends, middle, (0.02, 0.06), trim, "stripe") for side in (-1, 1)]


def extras(car, size, paint):
    """What tells one white sedan from another: rack, box, sign, spoiler, sticker."""
    y, half, height, cabin, back, front = size
    top = height + cabin * 0.95  # of the roof
    parts = []
    if car["roof"] == "rack":
        steel = Material((40, 40, 42))
        for side in (-1, 1):
            x = side * half * 0.6
            ends = (back + 0.3, front - 0.5)
            parts.append(along(CAPSULE, x, ends, top + 0.06, (0.03, 0.03), steel, "roof"))
    if car["roof"] == "box":
        box = Material(COLOURS[car["roof colour"]], nir=car["nir trim"], heat=22)
        ends = (back + 0.3, front - 0.6)
        parts.append(along(BOX, 0, ends, top + 0.14, (half * 0.5, 0.12), box, "roof"))
    if car["noun"] == "taxi":
        glow = Material((250, 220, 90), heat=40)
        left = (-0.25, front - 0.8, top + 0.1)  # its axis runs across the vehicle
        right = (0.25, front - 0.8, top + 0.1)
        parts.append(Part(BOX, left, right, (0.09, 0.09), glow, "sign"))
    if car["spoiler"]:
        ends = (-y - 0.05, -y + 0.15)
        parts.append(along(BOX, 0, ends, height + 0.12, (half * 0.8, 0.03), paint, "spoiler"))
    if car["sticker"]:  # on the right alone
        note = Material(COLOURS[car["sticker"]], nir=car["nir trim"], heat=26)
        parts.append(along(BOX, half, (-0.5, 0.1), height * 0.7, (0.02, 0.12), note, "sticker"))
    return parts
