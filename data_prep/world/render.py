"""Analytic ray casting: ellipsoids, capsules and boxes before a ground and a wall, one image at a time, in
numpy.

    H x W    rays: SUPERSAMPLING times the pixels of the image along each axis
    metres   x to the right, y away from the camera, z up
    a ray    eye + t * (u A + v B + F) with u, v in -1..1, so that t measures depth along the view

Every primitive is a unit shape in a frame of its own, into which the rays are carried; t keeps its meaning
there. Only the rays in the rectangle that a primitive can cover are computed, for speed.
"""

from typing import NamedTuple

import numpy as np

from data_prep.world.exact import apply, cosine, cross, dot, length, sine

ELLIPSOID, CAPSULE, BOX = range(3)
PLAIN, STRIPED, CHECKED, DOTTED, PRINT, SMOOTH = range(6)  # the last: neither pattern nor folds
GROUND = -1  # slots of what is no part: parts count from 0
WALL = -2
SKY = -3
FAR = np.float32(1e6)  # metres: the depth of a ray that meets nothing
SUPERSAMPLING = 2  # rays per pixel along each axis


class Material(NamedTuple):
    """What a surface is to each spectrum."""

    colour: tuple  # red, green, blue, 0..255
    second: tuple = (0, 0, 0)  # the colour of its pattern
    style: int = SMOOTH
    nir: int = 50  # near-infrared albedo in per cent
    nir_second: int = 50  # that of its pattern
    heat: int = 30  # warmth in per cent


class Part(NamedTuple):
    """A primitive, in metres. A capsule's axis runs from start to end; of an ellipsoid or box they are the
    ends of the long axis."""

    kind: int  # a key of SHAPES
    start: tuple  # (x, y, z)
    end: tuple
    radii: tuple  # half widths across the axis: to the sides, to the front
    material: Material
    name: str = ""  # begins with the region of the mask to which it belongs


class View(NamedTuple):
    """The camera: its position, and the vectors A, B, F that span its rays. All in metres."""

    eye: np.ndarray  # (3,)
    across: np.ndarray  # (3,) A: half the image's width at depth 1
    up: np.ndarray  # (3,) B: half its height there
    forward: np.ndarray  # (3,) F: of unit length
    wall: float  # y of the wall


class Traced(NamedTuple):
    """What each ray meets."""

    depth: np.ndarray  # (H, W) metres along the view
    slot: np.ndarray  # (H, W) number of the part, or GROUND, WALL, SKY
    normal: np.ndarray  # (H, W, 3) outward, of unit length; 0 for the sky
    pattern: np.ndarray  # (H, W) bool: where the second colour shows
    folds: np.ndarray  # (H, W) a factor for the folds of cloth
    point: np.ndarray  # (H, W, 3) the point in the world, for ground and wall


class Frame(NamedTuple):
    """A part's own frame, in which it is a unit shape."""

    centre: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3) unit vectors as rows: side, front, long axis
    scale: np.ndarray  # (3,) metres per unit along each
    half: float  # a capsule's half length between the centres of its caps, in units of that scale


def frame_of(part, turn):
    """The frame of a part after a turn (3, 3) about the vertical."""
    start = apply(turn, np.array(part.start))
    end = apply(turn, np.array(part.end))
    long = length(end - start)
    along = (end - start) / long if long > 1e-9 else np.array([0.0, 0, 1])
    reference = apply(turn, np.array([0.0, 1, 0]))  # to the front, where the long axis leaves that free
    if abs(dot(along, reference)) > 0.9:
        reference = np.array([0.0, 0, 1])
    across = cross(reference, along)
    across /= length(across)
    mean = sum(part.radii) / 2  # of a capsule's caps along its axis
    scale = np.array([*part.radii, mean if part.kind == CAPSULE else max(long / 2, 1e-4)])
    return Frame((start + end) / 2, np.stack([across, cross(along, across), along]), scale, long / 2 / mean)


def turn_by(degrees):
    """The rotation (3, 3) about z."""
    c = cosine(np.radians(degrees))
    s = sine(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def trace(parts, frames, view, height, width):
    """Traced rays of a scene, SUPERSAMPLING times `height` x `width` pixels."""
    rows = height * SUPERSAMPLING
    columns = width * SUPERSAMPLING
    # rays pass through the middles of their cells; v is 1 at the top
    v = (1 - (np.arange(rows, dtype=np.float32) + 0.5) / rows * 2)[:, None]
    u = (np.arange(columns, dtype=np.float32) + 0.5) / columns * 2 - 1
    depth, slot, point = backdrop(view, u, v)
    normal = np.zeros((rows, columns, 3), np.float32)
    normal[slot == GROUND] = (0, 0, 1)
    normal[slot == WALL] = (0, -1, 0)
    windows = [window(part, frame, view, rows, columns) for part, frame in zip(parts, frames)]
    for k, (part, frame, place) in enumerate(zip(parts, frames, windows)):
        if place is not None:
            o, d = local_rays(frame, view, u[place[1]], v[place[0]])
            t = SHAPES[part.kind](o, d, frame.half)
            near = depth[place]  # a view: what is written to it stands in `depth`
            closer = t < near
            np.copyto(near, t, where=closer)
            np.copyto(slot[place], k, where=closer)
    pattern = np.zeros((rows, columns), bool)
    folds = np.ones((rows, columns), np.float32)
    traced = Traced(depth, slot, normal, pattern, folds, point)
    # only now is it known which part each ray sees
    for k, (part, frame, place) in enumerate(zip(parts, frames, windows)):
        if place is not None:
            dress(traced, k, place, part, frame, view, u, v)
    return traced


def backdrop(view, u, v):
    """Depth (H, W), slot (H, W) and point (H, W, 3) of ground, wall and sky behind everything."""
    x, y, z = (view.across[k] * u + view.up[k] * v + view.forward[k] for k in range(3))
    # the plane z = 0, for rays that go down
    ground = np.where(z < -1e-4, -view.eye[2] / np.minimum(z, -1e-4), FAR)
    wall = (view.wall - view.eye[1]) / np.maximum(y, 1e-4)  # the plane y = view.wall
    depth = np.minimum(ground, wall).astype(np.float32)
    point = np.stack([view.eye[k] + depth * way for k, way in enumerate((x, y, z))], -1).astype(np.float32)
    # the wall is 4.2 metres high
    slot = np.where(ground < wall, GROUND, np.where(point[..., 2] > 4.2, SKY, WALL))
    return depth, slot, point


def window(part, frame, view, rows, columns):
    """Slices (rows, columns) of the rays that can meet a part, or None: the projection of its bounding box,
    one ray wider on each side."""
    across, up, forward = (a / length(a) for a in (view.across, view.up, view.forward))
    reach = [extent(part.kind, frame, axis) for axis in (across, up, forward)]
    offset = frame.centre - view.eye
    depth = dot(offset, forward)
    near = depth - reach[2]
    if near <= 0.05:  # metres: it reaches behind the eye
        return None
    edges = []
    for axis, span, r, count, sign in (
        (up, view.up, reach[1], rows, -1),  # rows count downwards
        (across, view.across, reach[0], columns, 1),
    ):
        scale = length(span)
        middle = dot(offset, axis)
        corners = []  # u or v of the box's edges, at its nearest and at its farthest depth
        for side in (-r, r):
            corners += [(middle + side) / near / scale, (middle + side) / (depth + reach[2]) / scale]
        low, high = sorted((sign * min(corners), sign * max(corners)))
        edges.append((max(int((low + 1) / 2 * count) - 1, 0), min(int((high + 1) / 2 * count) + 2, count)))
    (top, bottom), (left, right) = edges
    return (slice(top, bottom), slice(left, right)) if bottom > top and right > left else None


def extent(kind, frame, axis):
    """How far a part reaches from its centre along a unit axis, in metres."""
    shares = np.abs(apply(frame.axes, axis))  # of each of the part's axes along this one
    if kind == BOX:
        return dot(shares, frame.scale)
    if kind == CAPSULE:
        return shares[2] * frame.half * frame.scale[2] + length(shares * frame.scale)
    return length(shares * frame.scale)


def local_rays(frame, view, u, v):
    """Origin (3,) and directions (three arrays x, y, z of h x w) of rays in the unit frame of a part."""
    into = frame.axes / frame.scale[:, None]
    o = apply(into, view.eye - frame.centre)
    a, b, f = (apply(into, way) for way in (view.across, view.up, view.forward))
    # v varies by row (h, 1), u by column (w,)
    return o, [np.float32(a[k]) * u + (np.float32(b[k]) * v + np.float32(f[k])) for k in range(3)]


def hit_sphere(o, d, _):
    """Depth at which rays enter the unit sphere; FAR where they miss it."""
    x, y, z = d
    return first_root(x * x + y * y + z * z, o[0] * x + o[1] * y + o[2] * z, dot(o, o) - 1)


def hit_capsule(o, d, half):
    """Depth of the unit cylinder along z between -half and half, closed by half spheres. A ray that begins
    above or below may meet a cap without meeting the side."""
    x, y, z = d
    flat = x * x + y * y
    ahead = o[0] * x + o[1] * y
    side = first_root(flat, ahead, o[0] ** 2 + o[1] ** 2 - 1)
    met = side < FAR
    height = o[2] + side * z
    end = half * np.sign(np.where(met, height, -z))  # z of the centre of the cap that may be met
    top = o[2] - end
    cap = first_root(flat + z * z, ahead + top * z, o[0] ** 2 + o[1] ** 2 - 1 + top * top)
    return np.where(met & (np.abs(height) <= half), side, cap)


def hit_box(o, d, _):
    """Depth at which rays enter the cube from -1 to 1."""
    enter = np.float32(-FAR)
    leave = FAR
    for k in range(3):  # a ray is in the cube while it is between the two planes of every axis
        inverse = 1 / np.where(np.abs(d[k]) < 1e-7, np.float32(1e-7), d[k])
        one = (-1 - o[k]) * inverse
        two = (1 - o[k]) * inverse
        enter = np.maximum(enter, np.minimum(one, two))
        leave = np.minimum(leave, np.maximum(one, two))
    return np.where((leave >= enter) & (enter > 0), enter, FAR)


SHAPES = {ELLIPSOID: hit_sphere, CAPSULE: hit_capsule, BOX: hit_box}


def first_root(a, b, c):
    """The smaller root of a t^2 + 2 b t + c, FAR where there is none in front."""
    under = b * b - a * np.float32(c)  # a quarter of the discriminant
    t = (-b - np.sqrt(np.maximum(under, 0))) / np.maximum(a, np.float32(1e-12))
    return np.where((under > 0) & (t > 0), t, FAR).astype(np.float32)


def dress(traced, k, place, part, frame, view, u, v):
    """Write the normals, pattern and folds of part `k` into `traced`, where it is seen; `place` is its
    window."""
    r, c = np.nonzero(traced.slot[place] == k)  # (n,) each, in the window
    if not len(r):
        return
    o, d = local_rays(frame, view, u[place[1]], v[place[0]])
    t = traced.depth[place][r, c]
    q = np.stack([o[k] + t * d[k][r, c] for k in range(3)], 1).astype(np.float32)  # (n, 3) on the unit shape
    # normals are carried back by the inverse transpose: divided by the scale where points are multiplied
    n = (unit_normal(part.kind, q, frame.half) / frame.scale.astype(np.float32)).astype(np.float32)
    axes = frame.axes.astype(np.float32)
    outward = n[:, :1] * axes[0] + n[:, 1:2] * axes[1] + n[:, 2:] * axes[2]
    traced.normal[place][r, c] = outward / np.maximum(length(outward), 1e-9)[:, None]
    local = q * frame.scale.astype(np.float32)  # (n, 3) metres from the part's centre, along its axes
    traced.pattern[place][r, c] = PATTERNS[part.material.style](local)
    if part.material.style != SMOOTH:
        # two waves of about 17 and 10 cm, the first bent: brighter and darker by 8 % at most
        traced.folds[place][r, c] = (
            1 + 0.05 * sine(38 * local[:, 2] + 2.5 * sine(17 * local[:, 0])) + 0.03 * sine(61 * local[:, 0])
        )


def unit_normal(kind, q, half):
    """Outward normals (n, 3) of the unit shapes at q (n, 3)."""
    if kind == BOX:
        largest = np.abs(q).argmax(1)  # the axis of the face
        return np.eye(3, dtype=np.float32)[largest] * np.sign(q[np.arange(len(q)), largest])[:, None]
    if kind == CAPSULE:  # away from the nearest point of the axis
        return q - np.stack([np.zeros(len(q)), np.zeros(len(q)), np.clip(q[:, 2], -half, half)], 1)
    return q


def stripes(local):
    """45 mm wide, across the long axis. Like all patterns: points (n, 3) in metres -> (n,) bool."""
    return local[:, 2] * 1000 // 45 % 2 > 0


def checks(local):
    return stripes(local) != ((local[:, 0] * 1000 + 2000) // 45 % 2 > 0)


def dots(local):
    """One every 62 mm, of a radius of 16 mm."""
    off = local[:, ::2] * 1000 / 62 % 1 - 0.5
    return off[:, 0] ** 2 + off[:, 1] ** 2 < 0.07  # in squares of the distance between dots


def chest_print(local):
    """An ellipse on the front, 17 cm wide and 15 cm high."""
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
    """The mean over the rays of each pixel: (H, W, ...) -> (H / SUPERSAMPLING, W / SUPERSAMPLING, ...)."""
    n = SUPERSAMPLING
    rows = picture.shape[0] // n
    columns = picture.shape[1] // n
    cells = picture.reshape(rows, n, columns, n, *picture.shape[2:])
    return sum(cells[:, i, :, j] for i in range(n) for j in range(n)) / np.float32(n * n)


def seen_slots(traced):
    """Which part is seen next to the centre of each pixel, (H, W)."""
    n = SUPERSAMPLING
    return traced.slot[n // 2 :: n, n // 2 :: n]
