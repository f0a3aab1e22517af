"""From traced rays to what a camera records: visible, near-infrared and thermal images, and what sensors do
to them.

    H x W    pixels, or rays before they are shrunk
    light    albedo times illumination, about 0..1, before the sensor; a `traced` scene is a render.Traced
    night    bool: whether the picture is taken at night
"""

import numpy as np

from data_prep.world import exact
from data_prep.world.places import DARK, sunlight
from data_prep.world.render import GROUND, SKY, WALL, shrink

SPECTRA = ("rgb", "nir", "tir")
GAMMA = 27  # of 32: the power of the light that a sensor records


def expose(traced, parts, cam, spectrum, when, seed, size):
    """uint8 (H, W, 3) of one spectrum by day, dusk or night; `seed` starts the noise."""
    light = SPECTRUM[spectrum](traced, parts, cam, when == "night")
    return develop(shrink(light), cam, spectrum, when, seed)


def visible(traced, parts, cam, night):
    """Albedo in the sun and under the sky, through haze, in (H, W, 3)."""
    light = shade(traced, sunlight(cam), cam["sun share"] / 100)
    front = [part.material.colour for part in parts]
    pattern = [part.material.second for part in parts]
    colour = surface(traced, cam, front, pattern, colour_behind)
    picture = colour / np.float32(255) * (light * traced.folds)[..., None]
    return hazed(picture, traced.depth, cam)


def near_infrared(traced, parts, cam, night):
    """Albedo of another kind, unrelated to the colour, in (H, W, 3), three times the same; by night a lamp at
    the camera lights it."""
    light = lamp(traced) if night else shade(traced, sunlight(cam), cam["sun share"] / 100)
    front = [(part.material.nir,) for part in parts]
    pattern = [(part.material.nir_second,) for part in parts]
    albedo = surface(traced, cam, front, pattern, nir_behind)
    return (albedo / np.float32(100) * (light * traced.folds)[..., None]).repeat(3, -1)


def thermal(traced, parts, cam, night):
    """Warmth in (H, W, 3), three times the same: seen alike by day and night, a little less where a surface
    turns away. No cloth shows a pattern or folds."""
    front = [(part.material.heat,) for part in parts]
    warmth = surface(traced, cam, front, front, heat_behind)
    facing = 0.86 + 0.14 * np.abs(traced.normal[..., 1])
    return (warmth / np.float32(100) * facing[..., None]).repeat(3, -1)


SPECTRUM = {"rgb": visible, "nir": near_infrared, "tir": thermal}


def surface(traced, cam, front, pattern, behind):
    """What the surface is that each ray meets, (H, W, channels): an entry of `front` or, in the pattern of
    cloth, of `pattern` (a row per part), or what `behind` says of the background."""
    front = np.array(front, np.float32)
    pattern = np.array(pattern, np.float32)
    slot = np.maximum(traced.slot, 0)
    picture = np.where(traced.pattern[..., None], pattern[slot], front[slot])
    for kind in (GROUND, WALL, SKY):
        mask = traced.slot == kind
        if mask.any():
            picture[mask] = behind(kind, cam, traced.point[mask])
    return picture


def nir_behind(kind, cam, point):
    """Albedo of ground, wall and sky in per cent."""
    return np.float32([45])


def heat_behind(kind, cam, point):
    """Warmth in per cent: the sky is cold."""
    return np.float32([14 if kind == SKY else 24])


def colour_behind(kind, cam, point):
    """Colours (n, 3), 0..255, of the background at points (n, 3): tiles, asphalt or grass; panels, bricks,
    windows or a hedge; sky."""
    if kind == SKY:
        return np.broadcast_to(np.float32([186, 206, 228]), point.shape)
    name = "ground" if kind == GROUND else "wall"
    base = np.float32([cam[f"{name} grey"] + cam[f"{name} {k}"] for k in range(3)])
    return TEXTURES[cam[f"{name} style"]](base, point, cam["period"] / 100)


# Textures: a colour (3,), points (n, 3) in metres and a period in metres -> colours (n, 3). What varies from
# tile to tile or from blade to blade is a hash of its place.


def tiles(base, point, period):
    """Squares with dark joints, of the size of the period."""
    edge = ((point[:, :2] / period) % 1 < 0.05).any(1)
    return base * (0.86 + 0.14 * exact.scrambled(np.floor(point / period)) - 0.15 * edge)[:, None]


def asphalt(base, point, _):
    """Grains of about 17 mm."""
    return base * 0.72 * (0.9 + 0.2 * exact.scrambled(np.floor(point * 60)))[:, None]


def grass(base, point, _):
    """Green, in tufts of about 22 mm."""
    blades = 0.75 + 0.5 * exact.scrambled(np.floor(point * 45))
    return np.float32([0.55, 0.95, 0.42]) * (base.sum() / 3) * blades[:, None]


def panels(base, point, period):
    """Smooth plates with joints; 60 cm and 1 m are added to the period: height and width."""
    joint = ((point[:, 2] / (period + 0.6)) % 1 < 0.05) | ((point[:, 0] / (period + 1.0)) % 1 < 0.04)
    return base * (1 - 0.25 * joint)[:, None]


def bricks(base, point, _):
    """Rows of 11 cm, bricks of 26 cm, every other row shifted by half a brick."""
    row = np.floor(point[:, 2] / 0.11)
    along = point[:, 0] / 0.26 + 0.5 * (row % 2)
    mortar = ((point[:, 2] / 0.11) % 1 < 0.12) | (along % 1 < 0.06)
    one = exact.scrambled(np.stack([np.floor(along), row, row * 0], 1))
    brick = base * np.float32([1.05, 0.82, 0.74]) * (0.85 + 0.25 * one)[:, None]
    return np.where(mortar[:, None], base * 1.12, brick)


def windows(base, point, period):
    """Panes in a wall, one every 1.5 m in height and every period + 90 cm in width; some reflect more
    light."""
    column = (point[:, 0] / (period + 0.9)) % 1
    row = (point[:, 2] / 1.5) % 1
    glass = (column > 0.2) & (column < 0.8) & (row > 0.3) & (row < 0.85)
    pane = np.stack([point[:, 0] / (period + 0.9), point[:, 2] / 1.5, point[:, 2] * 0], 1)
    one = exact.scrambled(np.floor(pane))
    return np.where(glass[:, None], np.float32([70, 86, 104]) * (0.7 + 0.9 * one)[:, None], base)


def hedge(base, point, _):
    """Leaves of about 4 cm in tufts of about 14 cm."""
    tufts = 0.6 + 0.4 * exact.scrambled(np.floor(point * 7))
    leaves = 0.6 + 0.6 * exact.scrambled(np.floor(point * 24)) * tufts
    return np.float32([0.42, 0.72, 0.36]) * (base.sum() / 3) * leaves[:, None]


TEXTURES = {
    "tiles": tiles,
    "asphalt": asphalt,
    "grass": grass,
    "panels": panels,
    "bricks": bricks,
    "windows": windows,
    "hedge": hedge,
}


def shade(traced, sun, share):
    """Illumination (H, W), float32: sun, sky and what the ground sends back; and the soft shadow that a
    person throws on the ground. `sun` (3,) is its direction, `share` its part of the light."""
    facing = exact.dot(traced.normal, sun)  # cosine of the angle between surface and sun
    light = 0.9 - share + share * 1.15 * np.clip(facing, 0, None) + 0.12 * traced.normal[..., 2]
    x = traced.point[..., 0]
    y = traced.point[..., 1]
    flat = np.sqrt(sun[0] * sun[0] + sun[1] * sun[1])
    towards = sun[:2] / max(flat, 1e-6)  # the sun, along the ground
    length = 0.35 + 0.5 * flat / sun[2]  # metres; a low sun throws long shadows
    # the place of a point in the shadow, in metres: along it from its middle, and across it
    along = -(x * towards[0] + y * towards[1]) - length * 0.7
    across = x * towards[1] - y * towards[0]
    thrown = exact.exponential(np.maximum(-((along / length) ** 2) - (across / 0.28) ** 2, -50))
    below = exact.exponential(np.maximum(-(x * x + y * y) / 0.1, -50))  # around the feet
    cast = 0.42 * thrown + 0.3 * below
    return np.where(traced.slot == GROUND, light * (1 - np.minimum(cast, 0.6)), light).astype(np.float32)


def lamp(traced):
    """Illumination (H, W), float32, of a lamp beside the lens: what faces it and is near is bright."""
    facing = np.clip(-traced.normal[..., 1], 0.15, None)
    # the same up to about 8 metres, then inverse to the distance
    return (1.1 * facing * np.clip(9 / np.maximum(traced.depth, 1), 0.35, 1.1)).astype(np.float32)


def hazed(picture, depth, cam):
    """The light of the haze over that of the picture, more with the depth."""
    if not cam["haze"]:
        return picture
    # haze begins half way to the person
    way = np.minimum(np.maximum(depth - cam["distance"] / 200, 0) * cam["haze"] / 400, 50)
    through = exact.exponential(-way).astype(np.float32)[..., None]  # (H, W, 1): what comes through
    return picture * through + np.float32([0.74, 0.77, 0.8]) * (1 - through)


def develop(picture, cam, spectrum, when, seed):
    """Gain, cast, detail, blur and grain of the sensor: light (H, W, 3) -> uint8 (H, W, 3); `seed` starts the
    grain."""
    gain = np.float32([1, 1, 1])
    grain = cam["grain"]
    if spectrum == "rgb":
        # per cent of per cent
        gain = np.float32([cam[f"cast {k}"] for k in range(3)]) * cam["exposure"] / 1e4
        if when in DARK:
            exposure, grain = cam.get(when, DARK[when])  # a camera may have nights of its own
            gain = gain * exposure / 100
        picture = saturated(picture, cam.get("saturation", 100) / 100)
    picture = exact.root_power(np.clip(picture * gain, 0, 1).astype(np.float32), GAMMA)
    detail = cam["detail"]
    sigma = cam["blur"] / 100
    if spectrum == "tir":  # thermal sensors have fewer pixels, and lenses that are less sharp
        detail = detail * 60 // 100
        sigma = sigma + 0.5
    picture = blurred(coarse(picture, detail), sigma)
    channels = 3 if spectrum == "rgb" else 1
    noise = exact.noise(seed, (*picture.shape[:2], channels))
    return np.clip(np.rint(picture * 255 + noise * (grain / 10)), 0, 255).astype(np.uint8)


def saturated(picture, share):
    """(H, W, 3) with `share` of the colour that it had; 0 is grey."""
    if share == 1:
        return picture
    grey = (picture[..., :1] + picture[..., 1:2] + picture[..., 2:]) / np.float32(3)
    return (grey + np.float32(share) * (picture - grey)).astype(np.float32)


def coarse(picture, detail):
    """What a sensor with `detail` per cent of the lines would see, on the full grid."""
    if detail >= 100:
        return picture
    rows, columns = picture.shape[:2]
    less = exact.resized(picture, max(columns * detail // 100, 1), 1)
    less = exact.resized(less, max(rows * detail // 100, 1), 0)
    return exact.resized(exact.resized(less, columns, 1), rows, 0)


def blurred(picture, sigma):
    """Gaussian blur with `sigma` pixels, cut off three pixels from the middle."""
    if sigma < 0.2:  # would change next to nothing
        return picture
    kernel = exact.exponential(-(np.arange(-3.0, 4) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (3, 3)
        padded = np.pad(picture, pad, mode="edge")
        length = picture.shape[axis]
        picture = sum(kernel[k] * np.take(padded, range(k, k + length), axis) for k in range(7))
    return picture
