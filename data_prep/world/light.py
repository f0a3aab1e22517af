"""From traced rays to what a camera records: visible, near-infrared and thermal images, and what sensors do
to them.

H x W pixels (or rays, before they are shrunk)
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
    colour = surface(traced, parts, cam, lambda m: m.colour, lambda m: m.second, colour_behind)
    picture = colour / np.float32(255) * (light * traced.folds)[..., None]
    return hazed(picture, traced.depth, cam)


def near_infrared(traced, parts, cam, night):
    """Every material has an albedo of its own here, unrelated to its colour; by night a lamp at the camera
    lights it."""
    light = lamp(traced) if night else shade(traced, sunlight(cam), cam["sun share"] / 100)
    albedo = surface(
        traced, parts, cam, lambda m: (m.nir,), lambda m: (m.nir_second,), lambda *_: np.float32([45])
    )
    return (albedo / np.float32(100) * (light * traced.folds)[..., None]).repeat(3, -1)


def thermal(traced, parts, cam, night):
    """Warmth, seen alike by day and night, a little less where a surface turns away."""
    warmth = surface(
        traced,
        parts,
        cam,
        lambda m: (m.heat,),
        lambda m: (m.heat,),
        lambda slot, _: np.float32([14 if slot == SKY else 24]),
    )
    facing = 0.86 + 0.14 * np.abs(traced.normal[..., 1])
    return (warmth / np.float32(100) * facing[..., None]).repeat(3, -1)


SPECTRUM = {"rgb": visible, "nir": near_infrared, "tir": thermal}


def surface(traced, parts, cam, first, second, behind):
    """One value per ray: what `first` or, in the pattern, `second` says of the material, or `behind` of the
    background."""
    materials = [part.material for part in parts]
    one, two = (np.array([told(m) for m in materials], np.float32) for told in (first, second))
    slot = np.maximum(traced.slot, 0)
    picture = np.where(traced.pattern[..., None], two[slot], one[slot])
    for kind in (GROUND, WALL, SKY):
        mask = traced.slot == kind
        if mask.any():
            picture[mask] = behind(kind, (cam, traced.point[mask]))
    return picture


def colour_behind(kind, what):
    """Colours (n, 3) of the background at points (n, 3): tiles, asphalt or grass; panels, bricks, windows or
    a hedge; sky."""
    cam, point = what
    if kind == SKY:
        return np.broadcast_to(np.float32([186, 206, 228]), point.shape)
    name, style = ("ground", cam["ground style"]) if kind == GROUND else ("wall", cam["wall style"])
    base = np.float32([cam[f"{name} grey"] + cam[f"{name} {k}"] for k in range(3)])
    return TEXTURES[style](base, point, cam["period"] / 100)


def tiles(base, point, period):
    edge = ((point[:, :2] / period) % 1 < 0.05).any(1)
    return base * (0.86 + 0.14 * exact.scrambled(np.floor(point / period)) - 0.15 * edge)[:, None]


def asphalt(base, point, _):
    return base * 0.72 * (0.9 + 0.2 * exact.scrambled(np.floor(point * 60)))[:, None]


def grass(base, point, _):
    blades = 0.75 + 0.5 * exact.scrambled(np.floor(point * 45))
    return np.float32([0.55, 0.95, 0.42]) * (base.sum() / 3) * blades[:, None]


def panels(base, point, period):
    joint = ((point[:, 2] / (period + 0.6)) % 1 < 0.05) | ((point[:, 0] / (period + 1.0)) % 1 < 0.04)
    return base * (1 - 0.25 * joint)[:, None]


def bricks(base, point, _):
    row = np.floor(point[:, 2] / 0.11)
    along = point[:, 0] / 0.26 + 0.5 * (row % 2)
    mortar = ((point[:, 2] / 0.11) % 1 < 0.12) | (along % 1 < 0.06)
    one = exact.scrambled(np.stack([np.floor(along), row, row * 0], 1))
    return np.where(
        mortar[:, None], base * 1.12, base * np.float32([1.05, 0.82, 0.74]) * (0.85 + 0.25 * one)[:, None]
    )


def windows(base, point, period):
    column, row = (point[:, 0] / (period + 0.9)) % 1, (point[:, 2] / 1.5) % 1
    glass = (column > 0.2) & (column < 0.8) & (row > 0.3) & (row < 0.85)
    one = exact.scrambled(
        np.floor(np.stack([point[:, 0] / (period + 0.9), point[:, 2] / 1.5, point[:, 2] * 0], 1))
    )
    return np.where(glass[:, None], np.float32([70, 86, 104]) * (0.7 + 0.9 * one)[:, None], base)


def hedge(base, point, _):
    leaves = 0.6 + 0.6 * exact.scrambled(np.floor(point * 24)) * (
        0.6 + 0.4 * exact.scrambled(np.floor(point * 7))
    )
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
    """Sun, sky and what the ground sends back; and the soft shadow that a person throws on the ground."""
    facing = exact.dot(traced.normal, sun)
    light = 0.9 - share + share * 1.15 * np.clip(facing, 0, None) + 0.12 * traced.normal[..., 2]
    x, y = traced.point[..., 0], traced.point[..., 1]
    flat = np.sqrt(sun[0] * sun[0] + sun[1] * sun[1])
    away, length = sun[:2] / max(flat, 1e-6), 0.35 + 0.5 * flat / sun[2]
    along, across = -(x * away[0] + y * away[1]) - length * 0.7, x * away[1] - y * away[0]
    thrown = exact.exponential(np.maximum(-((along / length) ** 2) - (across / 0.28) ** 2, -50))
    below = exact.exponential(np.maximum(-(x * x + y * y) / 0.1, -50))
    cast = 0.42 * thrown + 0.3 * below
    return np.where(traced.slot == GROUND, light * (1 - np.minimum(cast, 0.6)), light).astype(np.float32)


def lamp(traced):
    """A lamp beside the lens: what faces it and is near is bright."""
    facing = np.clip(-traced.normal[..., 1], 0.15, None)
    return (1.1 * facing * np.clip(9 / np.maximum(traced.depth, 1), 0.35, 1.1)).astype(np.float32)


def hazed(picture, depth, cam):
    if not cam["haze"]:
        return picture
    way = np.minimum(np.maximum(depth - cam["distance"] / 200, 0) * cam["haze"] / 400, 50)
    through = exact.exponential(-way).astype(np.float32)[..., None]
    return picture * through + np.float32([0.74, 0.77, 0.8]) * (1 - through)


def develop(picture, cam, spectrum, when, seed):
    """Gain, cast, detail, blur and grain of the sensor: (H, W, 3) in 0..1 -> uint8; `seed` starts the
    grain."""
    gain, grain, blur = np.float32([1, 1, 1]), cam["grain"], cam["blur"]
    if spectrum == "rgb":
        gain = np.float32([cam[f"cast {k}"] for k in range(3)]) * cam["exposure"] / 1e4
        if when in DARK:
            exposure, grain = cam.get(when, DARK[when])
            gain = gain * exposure / 100
        picture = saturated(picture, cam.get("saturation", 100) / 100)
    picture = exact.root_power(np.clip(picture * gain, 0, 1).astype(np.float32), GAMMA)
    detail = cam["detail"] * (60 if spectrum == "tir" else 100) // 100
    picture = blurred(coarse(picture, detail), blur / 100 + 0.5 * (spectrum == "tir"))
    noise = exact.noise(seed, picture.shape[:2] + (3 if spectrum == "rgb" else 1,))
    return np.clip(np.rint(picture * 255 + noise * (grain / 10)), 0, 255).astype(np.uint8)


def saturated(picture, share):
    """With `share` of the colour that it had."""
    if share == 1:
        return picture
    grey = (picture[..., :1] + picture[..., 1:2] + picture[..., 2:]) / np.float32(3)
    return (grey + np.float32(share) * (picture - grey)).astype(np.float32)


def coarse(picture, detail):
    """What a sensor with `detail` per cent of the lines would see, on the full grid."""
    if detail >= 100:
        return picture
    rows, columns = picture.shape[:2]
    less = exact.resized(
        exact.resized(picture, max(columns * detail // 100, 1), 1), max(rows * detail // 100, 1), 0
    )
    return exact.resized(exact.resized(less, columns, 1), rows, 0)


def blurred(picture, sigma):
    """Gaussian blur with `sigma` pixels."""
    if sigma < 0.2:
        return picture
    kernel = exact.exponential(-(np.arange(-3.0, 4) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        pad = [(3, 3) if k == axis else (0, 0) for k in range(3)]
        padded, length = np.pad(picture, pad, mode="edge"), picture.shape[axis]
        picture = sum(kernel[k] * np.take(padded, range(k, k + length), axis) for k in range(7))
    return picture
