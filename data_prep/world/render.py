"""Analytic ray casting: ellipsoids, capsules and boxes before a ground and a wall, one image at a time, in
numpy.

    H x W rays; metres; x to the right, y away from the camera, z up; a ray is eye + t * (u A + v B + F) with
    u, v in -1..1, so that t measures depth along the view

Every primitive is a unit shape in a frame of its own, into which the rays are carried; t keeps its meaning
there. Only the rays in the rectangle that a primitive can cover are looked at, which is what makes it fast.
"""

from typing import NamedTuple

import numpy as np

from data_prep.world.exact import apply, cosine, cross, dot, length, sine

ELLIPSOID, CAPSULE, BOX = range(3)
PLAIN, STRIPED, CHECKED, DOTTED, PRINT, SMOOTH = range(6)  # the last: neither pattern nor folds
GROUND, WALL, SKY = -1, -2, -3
FAR = np.float32(1e6)
SUPERSAMPLING = 2


class Material(NamedTuple):
    """What a surface is to each spectrum: visible colours 0..255, near-infrared albedo and warmth in per
    cent."""

    colour: tuple
    second: tuple = (0, 0, 0)
    style: int = SMOOTH
    nir: int = 50
    nir_second: int = 50
    heat: int = 30


class Part(NamedTuple):
    """A primitive. A capsule's axis runs from start to end; of an ellipsoid or box they are the ends of the
    long axis. `radii` are across it, to the sides and to the front."""

    kind: int
    start: tuple
    end: tuple
    radii: tuple
    material: Material
    name: str = ""


class View(NamedTuple):
    """The camera: position, and the vectors A, B, F that span its rays; `wall` is the distance of the wall in
    y."""

    eye: np.ndarray
    across: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    wall: float


class Traced(NamedTuple):
    """What each ray meets: depth, which part (or GROUND, WALL, SKY), the outward normal, where the second
    colour shows, a factor for the folds of cloth, and the point in the world (for ground and wall)."""

    depth: np.ndarray  # (H, W)
    slot: np.ndarray  # (H, W)
    normal: np.ndarray  # (H, W, 3)
    pattern: np.ndarray  # (H, W) bool
    folds: np.ndarray  # (H, W)
    point: np.ndarray  # (H, W, 3)


class Frame(NamedTuple):
    """A part's own frame: its centre, its axes as rows, their scales, and a capsule's half length in that
    scale."""

    centre: np.ndarray
    axes: np.ndarray
    scale: np.ndarray
    half: float


def frame_of(part, turn):
    """The frame of a part after a turn (3, 3) about the vertical."""
    start, end = apply(turn, np.array(part.start)), apply(turn, np.array(part.end))
    long = length(end - start)
    along = (end - start) / long if long > 1e-9 else np.array([0.0, 0, 1])
    reference = apply(turn, np.array([0.0, 1, 0]))
    if abs(dot(along, reference)) > 0.9:
        reference = np.array([0.0, 0, 1])
    across = cross(reference, along)
    across /= length(across)
    mean = sum(part.radii) / 2
    scale = np.array([*part.radii, mean if part.kind == CAPSULE else max(long / 2, 1e-4)])
    return Frame((start + end) / 2, np.stack([across, cross(along, across), along]), scale, long / 2 / mean)


def turn_by(degrees):
    c, s = cosine(np.radians(degrees)), sine(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def trace(parts, frames, view, height, width):
    """Traced rays of a scene at SUPERSAMPLING times the size."""
    rows, columns = height * SUPERSAMPLING, width * SUPERSAMPLING
    v = (1 - (np.arange(rows, dtype=np.float32) + 0.5) / rows * 2)[:, None]
    u = (np.arange(columns, dtype=np.float32) + 0.5) / columns * 2 - 1
    depth, slot, point = backdrop(view, u, v)
    normal = np.zeros((rows, columns, 3), np.float32)
    normal[slot == GROUND], normal[slot == WALL] = (0, 0, 1), (0, -1, 0)
    windows = [window(part, frame, view, rows, columns) for part, frame in zip(parts, frames)]
    for k, (part, frame, place) in enumerate(zip(parts, frames, windows)):
        if place is not None:
            o, d = local_rays(frame, view, u[place[1]], v[place[0]])
            t = SHAPES[part.kind](o, d, frame.half)
            near = depth[place]
            closer = t < near
            np.copyto(near, t, where=closer)
            np.copyto(slot[place], k, where=closer)
    pattern, folds = np.zeros((rows, columns), bool), np.ones((rows, columns), np.float32)
    for k, (part, frame, place) in enumerate(zip(parts, frames, windows)):
        if place is not None:
            dress(
                part,
                frame,
                view,
                u[place[1]],
                v[place[0]],
                depth[place],
                slot[place] == k,
                normal[place],
                pattern[place],
                folds[place],
            )
    return Traced(depth, slot, normal, pattern, folds, point)


def backdrop(view, u, v):
    """Ground, wall and sky behind everything."""
    x, y, z = (view.across[k] * u + view.up[k] * v + view.forward[k] for k in range(3))
    ground = np.where(z < -1e-4, -view.eye[2] / np.minimum(z, -1e-4), FAR)
    wall = (view.wall - view.eye[1]) / np.maximum(y, 1e-4)
    depth = np.minimum(ground, wall).astype(np.float32)
    point = np.stack([view.eye[k] + depth * way for k, way in enumerate((x, y, z))], -1).astype(np.float32)
    slot = np.where(ground < wall, GROUND, np.where(point[..., 2] > 4.2, SKY, WALL))
    return depth, slot, point


def window(part, frame, view, rows, columns):
    """The slice of rays that can meet a part, or None: its extent along the image axes, seen from its nearest
    depth."""
    across, up, forward = (a / length(a) for a in (view.across, view.up, view.forward))
    reach = [extent(part.kind, frame, axis) for axis in (across, up, forward)]
    offset = frame.centre - view.eye
    depth = dot(offset, forward)
    near = depth - reach[2]
    if near <= 0.05:
        return None
    edges = []
    for axis, span, r, count, sign in (
        (up, view.up, reach[1], rows, -1),
        (across, view.across, reach[0], columns, 1),
    ):
        scale = length(span)
        middle, corners = dot(offset, axis), []
        for side in (-r, r):
            corners += [(middle + side) / near / scale, (middle + side) / (depth + reach[2]) / scale]
        low, high = sorted((sign * min(corners), sign * max(corners)))
        edges.append((max(int((low + 1) / 2 * count) - 1, 0), min(int((high + 1) / 2 * count) + 2, count)))
    (top, bottom), (left, right) = edges
    return (slice(top, bottom), slice(left, right)) if bottom > top and right > left else None


def extent(kind, frame, axis):
    """How far a part reaches from its centre along a unit axis."""
    shares = np.abs(apply(frame.axes, axis))
    if kind == BOX:
        return dot(shares, frame.scale)
    if kind == CAPSULE:
        return shares[2] * frame.half * frame.scale[2] + length(shares * frame.scale)
    return length(shares * frame.scale)


def local_rays(frame, view, u, v):
    """Origin (3,) and directions (three arrays) in the unit frame of a part."""
    into = frame.axes / frame.scale[:, None]
    o = apply(into, view.eye - frame.centre)
    a, b, f = (apply(into, way) for way in (view.across, view.up, view.forward))
    return o, [np.float32(a[k]) * u + (np.float32(b[k]) * v + np.float32(f[k])) for k in range(3)]


def hit_sphere(o, d, _):
    """Depth at which rays enter the unit sphere; FAR where they miss it."""
    x, y, z = d
    return first_root(x * x + y * y + z * z, o[0] * x + o[1] * y + o[2] * z, dot(o, o) - 1)


def hit_capsule(o, d, half):
    """Depth of the unit cylinder along z between -half and half, closed by half spheres. A ray that begins
    above or below may meet a cap without meeting the side."""
    x, y, z = d
    flat, ahead = x * x + y * y, o[0] * x + o[1] * y
    side = first_root(flat, ahead, o[0] ** 2 + o[1] ** 2 - 1)
    met = side < FAR
    height = o[2] + side * z
    end = half * np.sign(np.where(met, height, -z))
    top = o[2] - end
    cap = first_root(flat + z * z, ahead + top * z, o[0] ** 2 + o[1] ** 2 - 1 + top * top)
    return np.where(met & (np.abs(height) <= half), side, cap)


def hit_box(o, d, _):
    """Depth at which rays enter the cube from -1 to 1."""
    enter, leave = np.float32(-FAR), FAR
    for k in range(3):
        inverse = 1 / np.where(np.abs(d[k]) < 1e-7, np.float32(1e-7), d[k])
        one, two = (-1 - o[k]) * inverse, (1 - o[k]) * inverse
        enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
    return np.where((leave >= enter) & (enter > 0), enter, FAR)


SHAPES = {ELLIPSOID: hit_sphere, CAPSULE: hit_capsule, BOX: hit_box}


def first_root(a, b, c):
    """The smaller root of a t^2 + 2 b t + c, FAR where there is none in front."""
    under = b * b - a * np.float32(c)
    t = (-b - np.sqrt(np.maximum(under, 0))) / np.maximum(a, np.float32(1e-12))
    return np.where((under > 0) & (t > 0), t, FAR).astype(np.float32)


def dress(part, frame, view, u, v, depth, mine, normal, pattern, folds):
    """Write normals, pattern and folds of a part where it is seen (`mine`); the arrays are views of the
    picture's."""
    r, c = np.nonzero(mine)
    if not len(r):
        return
    o, d = local_rays(frame, view, u, v)
    t = depth[r, c]
    q = np.stack([o[k] + t * d[k][r, c] for k in range(3)], 1).astype(np.float32)
    n = (unit_normal(part.kind, q, frame.half) / frame.scale.astype(np.float32)).astype(np.float32)
    axes = frame.axes.astype(np.float32)
    outward = n[:, :1] * axes[0] + n[:, 1:2] * axes[1] + n[:, 2:] * axes[2]
    normal[r, c] = outward / np.maximum(length(outward), 1e-9)[:, None]
    local = q * frame.scale.astype(np.float32)
    pattern[r, c] = PATTERNS[part.material.style](local)
    if part.material.style != SMOOTH:
        folds[r, c] = (
            1 + 0.05 * sine(38 * local[:, 2] + 2.5 * sine(17 * local[:, 0])) + 0.03 * sine(61 * local[:, 0])
        )


def unit_normal(kind, q, half):
    """Outward normals of the unit shapes at q (n, 3)."""
    if kind == BOX:
        largest = np.abs(q).argmax(1)
        return np.eye(3, dtype=np.float32)[largest] * np.sign(q[np.arange(len(q)), largest])[:, None]
    if kind == CAPSULE:
        return q - np.stack([np.zeros(len(q)), np.zeros(len(q)), np.clip(q[:, 2], -half, half)], 1)
    return q


def stripes(local):
    return local[:, 2] * 1000 // 45 % 2 > 0


def checks(local):
    return stripes(local) != ((local[:, 0] * 1000 + 2000) // 45 % 2 > 0)


def dots(local):
    off = local[:, ::2] * 1000 / 62 % 1 - 0.5
    return off[:, 0] ** 2 + off[:, 1] ** 2 < 0.07


def chest_print(local):
    return ((local[:, 0] / 0.085) ** 2 + ((local[:, 2] - 0.08) / 0.075) ** 2 < 1) & (local[:, 1] > 0)


def nothing(local):
    return np.zeros(len(local), bool)


PATTERNS = {
    PLAIN: nothing,
    STRIPED: stripes,
    CHECKED: checks,
    DOTTED: dots,
    PRINT: chest_print,
    SMOOTH: nothing,
}


def shrink(picture):
    """The mean over SUPERSAMPLING x SUPERSAMPLING rays: (H, W, ...) of the asked size."""
    n = SUPERSAMPLING
    rows, columns = picture.shape[0] // n, picture.shape[1] // n
    cells = picture.reshape(rows, n, columns, n, *picture.shape[2:])
    return sum(cells[:, i, :, j] for i in range(n) for j in range(n)) / np.float32(n * n)


def seen_slots(traced):
    """Which part is seen next to the centre of each pixel, (H, W)."""
    n = SUPERSAMPLING
    return traced.slot[n // 2 :: n, n // 2 :: n]
