"""Vehicles: what a car is, what an image adds, and its parts, in metres, front towards +y."""

import numpy as np

from data_prep.world.people import COLOURS, side_of
from data_prep.world.render import BOX, CAPSULE, ELLIPSOID, PLAIN, STRIPED, Material, Part
from data_prep.world.streams import between, near, pick

# length, width, height of the body, of the cabin; where the cabin begins and ends; per cent of a metre
TYPES = {
    "sedan": (440, 175, 80, 58, -150, 70),
    "hatchback": (390, 170, 82, 64, -175, 70),
    "suv": (450, 186, 98, 78, -205, 75),
    "van": (490, 190, 105, 105, -235, 160),
    "pickup": (520, 188, 95, 74, -80, 105),
    "taxi": (450, 176, 82, 60, -155, 70),
}
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
    draw = lambda name, options: pick(seed, options, name, *key)  # noqa: E731
    return {
        "noun": draw("type", tuple(TYPES)),
        "colour": draw(
            "body colour",
            {
                "white": 20,
                "black": 18,
                "grey": 18,
                "blue": 12,
                "red": 12,
                "green": 6,
                "yellow": 6,
                "brown": 4,
                "orange": 4,
            },
        ),
        "size": near(seed, 100, 3, "size", *key),
        "roof": draw("roof", {"": 55, "rack": 25, "box": 20}),
        "roof colour": draw("roof colour", tuple(COLOURS)),
        "stripe": draw("stripe", {"": 65, **dict.fromkeys(("white", "black", "red", "yellow", "blue"), 7)}),
        "wheels": draw("wheels", ("bright", "dark", "spoked")),
        "spoiler": draw("spoiler", {"": 75, "yes": 25}),
        "sticker": draw("sticker", {"": 70, **dict.fromkeys(("white", "yellow", "red"), 10)}),
        **{f"hue {k}": between(seed, -16, 16, "hue", k, *key) for k in range(3)},
        "nir": between(seed, 1, 9, "nir", *key) * 10,
        "nir trim": between(seed, 1, 9, "nir trim", *key) * 10,
    }


def instance(seed, key, camera):
    """What belongs to one image: the engine may be hot or cold, lights on or off."""
    draw = lambda low, high, name: between(seed, low, high, name, *key)  # noqa: E731
    return {
        "heading": near(seed, camera["heading"], camera["spread"] + 25, "turn", *key) % 360,
        "engine": pick(seed, {"hot": 70, "cold": 30}, "engine", *key),
        "lights": pick(seed, {"on": 45, "off": 55}, "lights", *key),
        "hiding": pick(seed, {"nothing": 85, "post": 15}, "hiding", *key),
        "hiding place": draw(-60, 60, "hiding place") * 10,
        "shift x": draw(-160, 160, "shift x"),
        "shift z": draw(-120, 120, "shift z"),
        "zoom": draw(92, 112, "zoom"),
        "passers": "0",
        "noise": draw(0, 2**31 - 1, "noise"),
    }


def body(car, image):
    """The parts of a vehicle."""
    length, width, height, cabin, back, front = (x / 100 * car["size"] / 100 for x in TYPES[car["noun"]])
    hue = (c + car[f"hue {k}"] for k, c in enumerate(COLOURS[car["colour"]]))
    colour = tuple(int(np.clip(c, 0, 255)) for c in hue)
    hot = image["engine"] == "hot"
    paint = Material(colour, nir=car["nir"], heat=34 if hot else 26)
    trim = Material(COLOURS[car["stripe"]], nir=car["nir trim"], heat=28) if car["stripe"] else None
    y, floor, half = length / 2, 0.28, width / 2
    middle = floor + (height - floor) / 2
    parts = [
        Part(BOX, (0, -y, middle), (0, y, middle), (half, (height - floor) / 2), paint, "body side"),
        Part(
            CAPSULE,
            (0, -y + 0.25, height - 0.08),
            (0, y - 0.3, height - 0.12),
            (half * 0.97, 0.14),
            paint,
            "body bonnet",
        ),
        *greenhouse(back, front, height, cabin, half, paint),
        Part(
            BOX,
            (0, y - 0.06, middle - 0.08),
            (0, y + 0.03, middle - 0.08),
            (half * 0.55, 0.07),
            Material((24, 24, 26), heat=70 if hot else 26),
            "grille",
        ),
        Part(
            BOX,
            (0, y - 0.9, height + 0.01),
            (0, y - 0.15, height + 0.01),
            (half * 0.72, 0.03),
            paint._replace(heat=96 if hot else 26),
            "body engine",
        ),
    ]
    parts += wheels(car, y, half, hot) + lamps(image, y, half, middle)
    if trim:
        for side in (-1, 1):
            parts.append(
                Part(
                    BOX,
                    (side * half, -y * 0.9, middle),
                    (side * half, y * 0.9, middle),
                    (0.02, 0.06),
                    trim,
                    "stripe",
                )
            )
    return parts + extras(car, y, half, height, cabin, back, front, paint)


def greenhouse(back, front, height, cabin, half, paint):
    """Glass between slanted windows, and the roof on it."""
    top, slant = height + cabin * 0.86, cabin * 0.75
    low, high = height + cabin * 0.43, height + cabin * 0.9
    return [
        Part(
            BOX,
            (0, back + slant * 0.5, low),
            (0, front - slant, low),
            (half * 0.84, cabin * 0.45),
            GLASS,
            "glass",
        ),
        Part(BOX, (0, front, height), (0, front - slant, top), (half * 0.8, 0.05), GLASS, "glass"),
        Part(BOX, (0, back, height), (0, back + slant * 0.5, top), (half * 0.8, 0.05), GLASS, "glass"),
        Part(
            BOX,
            (0, back + slant * 0.5, high),
            (0, front - slant, high),
            (half * 0.8, 0.05),
            paint,
            "body roof",
        ),
        *(
            Part(
                BOX,
                (side * half * 0.84, y, height),
                (side * half * 0.82, y, top),
                (0.04, 0.05),
                paint,
                "body pillar",
            )
            for side in (-1, 1)
            for y in (back + slant * 0.5, (back + front - slant) / 2, front - slant)
        ),
    ]


def wheels(car, y, half, hot):
    """Four discs with hubs."""
    hub = {"bright": (190, 192, 196), "dark": (70, 70, 74), "spoked": (140, 142, 146)}[car["wheels"]]
    style = STRIPED if car["wheels"] == "spoked" else PLAIN
    parts = []
    for side in (-1, 1):
        for place in (-y * 0.62, y * 0.62):
            tyre = Material((22, 22, 24), nir=15, heat=60 if hot else 28)
            outer, inner = side * (half - 0.1), side * (half + 0.03)
            parts.append(
                Part(ELLIPSOID, (outer, place, 0.33), (inner, place, 0.33), (0.33, 0.33), tyre, "wheel")
            )
            rim = Material(hub, (40, 40, 44), style, 65, 20, 34)
            parts.append(
                Part(
                    ELLIPSOID,
                    (outer, place, 0.33),
                    (side * (half + 0.06), place, 0.33),
                    (0.17, 0.17),
                    rim,
                    "wheel",
                )
            )
    return parts


def lamps(image, y, half, middle):
    """Headlights that are on are white to every spectrum but the thermal one, where they are warm."""
    on = image["lights"] == "on"
    front = Material((255, 250, 225) if on else (170, 172, 175), nir=100 if on else 60, heat=75 if on else 30)
    rear = Material((210, 30, 30) if on else (120, 20, 24), nir=70 if on else 30, heat=45 if on else 28)
    parts = []
    for side in (-1, 1):
        x = side * half * 0.72
        parts.append(
            Part(
                ELLIPSOID,
                (x, y - 0.05, middle + 0.12),
                (x, y + 0.05, middle + 0.12),
                (0.16, 0.09),
                front,
                "lamp",
            )
        )
        parts.append(
            Part(
                ELLIPSOID,
                (x, -y - 0.05, middle + 0.14),
                (x, -y + 0.05, middle + 0.14),
                (0.12, 0.1),
                rear,
                "lamp",
            )
        )
    return parts


def extras(car, y, half, height, cabin, back, front, paint):
    """What tells one white sedan from another."""
    parts, top = [], height + cabin * 0.95
    if car["roof"] == "rack":
        for side in (-1, 1):
            x = side * half * 0.6
            parts.append(
                Part(
                    CAPSULE,
                    (x, back + 0.3, top + 0.06),
                    (x, front - 0.5, top + 0.06),
                    (0.03, 0.03),
                    Material((40, 40, 42)),
                    "roof",
                )
            )
    if car["roof"] == "box":
        box = Material(COLOURS[car["roof colour"]], nir=car["nir trim"], heat=22)
        parts.append(
            Part(
                BOX,
                (0, back + 0.3, top + 0.14),
                (0, front - 0.6, top + 0.14),
                (half * 0.5, 0.12),
                box,
                "roof",
            )
        )
    if car["noun"] == "taxi":
        parts.append(
            Part(
                BOX,
                (-0.25, front - 0.8, top + 0.1),
                (0.25, front - 0.8, top + 0.1),
                (0.09, 0.09),
                Material((250, 220, 90), heat=40),
                "sign",
            )
        )
    if car["spoiler"]:
        parts.append(
            Part(
                BOX,
                (0, -y - 0.05, height + 0.12),
                (0, -y + 0.15, height + 0.12),
                (half * 0.8, 0.03),
                paint,
                "spoiler",
            )
        )
    if car["sticker"]:
        note = Material(COLOURS[car["sticker"]], nir=car["nir trim"], heat=26)
        parts.append(
            Part(BOX, (half, -0.5, height * 0.7), (half, 0.1, height * 0.7), (0.02, 0.12), note, "sticker")
        )
    return parts
