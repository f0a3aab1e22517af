"""Batched analytic ray casting: ellipsoids, capsules and boxes before a ground and a wall.

    B images, P primitives, R rays; metres; x to the right, y away from the camera, z up.

Every primitive is a unit shape in a frame of its own (rotation, then a scale per axis), so that one routine
shades them all: a ray is carried into the frame, where distances along it keep their meaning.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

ELLIPSOID, CAPSULE, BOX = range(3)
FAR = 1e6
SUPERSAMPLING = 2


class Scene(NamedTuple):
    """B images as tensors. `kinds` is a list of P: the same for all images of a batch."""

    kinds: list
    centre: torch.Tensor  # (B, P, 3)
    frame: torch.Tensor  # (B, P, 3, 3), columns are the axes
    scale: torch.Tensor  # (B, P, 3); 0 where a primitive is absent
    half: torch.Tensor  # (B, P), a capsule's half length in units of its scale
    colour: torch.Tensor  # (B, P, 3) in 0..1
    second: torch.Tensor  # (B, P, 3)
    style: torch.Tensor  # (B, P): plain, striped, checked, dotted, print
    eye: torch.Tensor  # (B, 3)
    axes: torch.Tensor  # (B, 3, 3), rows: right, up, forward, the first two scaled to the edge of the image
    sun: torch.Tensor  # (B, 3), of unit length
    place: torch.Tensor  # (B, 9): wall distance, wall colour, ground colour, two periods


class Picture(NamedTuple):
    colour: torch.Tensor  # (B, H, W, 3) in 0..1
    slot: torch.Tensor  # (B, H, W), the primitive seen at the centre of a pixel; -1 is background


NOTHING = ((0, 0, 0), (0, 0, 0), (0, 0), (0, 0, 0), (0, 0, 0), 0)


def primitives(parts, slots, heading=0):
    """{slot: (start, end, radii, colour, second, style)} of one image -> its rows of a Scene, in slot order,
    turned about the vertical by `heading` degrees."""
    rows = [parts.get(slot, NOTHING) for slot in slots]
    start, end, radii, colour, second, style = (
        torch.tensor(column, dtype=torch.float32) for column in zip(*rows)
    )
    kinds = torch.tensor(list(slots.values()))
    length = (end - start).norm(dim=1) / 2
    along = F.normalize(end - start + torch.tensor([0, 0, 1e-9]), dim=1)
    reference = torch.tensor([0.0, 1, 0]).where(along[:, 1:2].abs() < 0.9, torch.tensor([0.0, 0, 1]))
    across = F.normalize(torch.linalg.cross(reference, along), dim=1)
    frame = torch.stack([across, torch.linalg.cross(along, across), along], dim=2)
    mean = radii.mean(1)
    scale = torch.cat([radii, torch.where(kinds == CAPSULE, mean, length)[:, None]], 1)
    c, s = math.cos(math.radians(heading)), math.sin(math.radians(heading))
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    centre = (start + end) / 2 @ turn.T
    return centre, turn @ frame, scale, length / mean.clamp(min=1e-6), colour / 255, second / 255, style


def render(scene, height, width):
    """The picture of every image in the batch, anti-aliased by SUPERSAMPLING rays a side."""
    n = SUPERSAMPLING
    rays = cast_rays(scene, height * n, width * n)
    depth, slot = nearest(scene, rays)
    colour = background(scene, rays, depth)
    colour = torch.where((slot >= 0)[..., None], foreground(scene, rays, depth, slot), colour)
    colour = colour.view(-1, height, n, width, n, 3).mean((2, 4))
    return Picture(colour, slot.view(-1, height, n, width, n)[:, :, n // 2, :, n // 2])


def cast_rays(scene, rows, columns):
    """Directions (B, R, 3) through the pixel centres, row by row from the top left."""
    v = 1 - (torch.arange(rows) + 0.5) / rows * 2
    u = (torch.arange(columns) + 0.5) / columns * 2 - 1
    grid = torch.stack([u.repeat(rows), v.repeat_interleave(columns), torch.ones(rows * columns)], 1)
    return F.normalize(grid @ scene.axes, dim=2)


def nearest(scene, rays):
    """Distance (B, R) to the first primitive on each ray, and which it is (-1: none)."""
    depth = torch.full(rays.shape[:2], FAR)
    slot = torch.full(rays.shape[:2], -1)
    for p, kind in enumerate(scene.kinds):
        present = (scene.scale[:, p] > 0).all(1).nonzero()[:, 0]
        if len(present):
            origin, direction = local_ray(scene, rays, present, p)
            hit = SHAPES[kind](origin, direction, scene.half[present, p, None])
            closer = hit < depth[present]
            depth[present] = torch.where(closer, hit, depth[present])
            slot[present] = torch.where(closer, p, slot[present])
    return depth, slot


def local_ray(scene, rays, b, p):
    """Origins (b, 1, 3) and directions (b, R, 3) in the unit frame of primitive p."""
    to_local = (scene.frame[b, p] / scale_columns(scene.scale[b, p])).transpose(1, 2)  # rows: axes over scale
    origin = (to_local @ (scene.eye[b] - scene.centre[b, p])[..., None]).transpose(1, 2)
    return origin, rays[b] @ to_local.transpose(1, 2)


def scale_columns(scale):
    return scale[:, None, :]


def hit_sphere(o, d, _):
    """Distance to the unit sphere; FAR where the ray misses it."""
    return first_root((d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1)


def hit_capsule(o, d, half):
    """Distance to the unit cylinder along z between -half and half, closed by half spheres. A ray that begins above
    or below the cylinder may meet a cap without meeting its side."""
    side = first_root(
        (d[..., :2] ** 2).sum(-1), (o[..., :2] * d[..., :2]).sum(-1), (o[..., :2] ** 2).sum(-1) - 1
    )
    z = o[..., 2] + side * d[..., 2]
    end = half * torch.where(side < FAR, z, -d[..., 2]).sign()
    centre = o - torch.stack([torch.zeros_like(end), torch.zeros_like(end), end], -1)
    cap = first_root((d * d).sum(-1), (centre * d).sum(-1), (centre * centre).sum(-1) - 1)
    return torch.where((side < FAR) & (z.abs() <= half), side, cap)


def hit_box(o, d, _):
    """Distance to the cube from -1 to 1."""
    inverse = 1 / torch.where(d.abs() < 1e-9, 1e-9, d)
    one, two = (-1 - o) * inverse, (1 - o) * inverse
    enter, leave = torch.minimum(one, two).amax(-1), torch.maximum(one, two).amin(-1)
    return torch.where((leave >= enter) & (enter > 0), enter, FAR)


SHAPES = {ELLIPSOID: hit_sphere, CAPSULE: hit_capsule, BOX: hit_box}


def first_root(a, b, c):
    """The smaller root of a t^2 + 2 b t + c, FAR where there is none in front."""
    a = a.clamp(min=1e-12)
    under = b * b - a * c
    t = (-b - under.clamp(min=0).sqrt()) / a
    return torch.where((under > 0) & (t > 0), t, FAR)


def foreground(scene, rays, depth, slot):
    """Colour (B, R, 3) of the primitive seen on each ray: pattern times light."""
    b, p = torch.arange(len(rays))[:, None], slot.clamp(min=0)
    frame, scale = scene.frame[b, p], scene.scale[b, p].clamp(min=1e-6)
    point = scene.eye[:, None] + depth.clamp(max=1e3)[..., None] * rays - scene.centre[b, p]
    local = (frame.transpose(-1, -2) @ point[..., None])[..., 0]
    kind = torch.tensor(scene.kinds)[p][..., None]
    normal = (frame @ (unit_normal(local / scale, kind, scene.half[b, p]) / scale)[..., None])[..., 0]
    colour = dressed(local, scene.colour[b, p], scene.second[b, p], scene.style[b, p])
    return colour * light(F.normalize(normal, dim=-1), scene.sun)[..., None]


def unit_normal(q, kind, half):
    """Outward normals of the unit shapes at q (..., 3)."""
    axis = q[..., 2].clamp(-half, half) * (kind[..., 0] == CAPSULE)
    round_ = q - F.pad(axis[..., None], (2, 0))
    largest = F.one_hot(q.abs().argmax(-1), 3) * q.sign()
    return torch.where(kind == BOX, largest, round_)


def dressed(local, colour, second, style):
    """The pattern of a garment in its own coordinates: metres across and along the limb."""
    along = (local[..., 2] * 1000).div(45, rounding_mode="floor") % 2
    across = (local[..., 0] * 1000 + 2000).div(45, rounding_mode="floor") % 2
    cell = (local[..., ::2] * 1000 / 55) % 1 - 0.5
    dot = (cell**2).sum(-1) < 0.07
    chest = ((local[..., 0] / 0.085) ** 2 + ((local[..., 2] - 0.08) / 0.075) ** 2 < 1) & (local[..., 1] > 0)
    on = torch.where(
        style == 1, along > 0, torch.where(style == 2, along != across, style == 3) & ((style != 3) | dot)
    )
    return torch.where((on | ((style == 4) & chest))[..., None] & (style > 0)[..., None], second, colour)


def light(normal, sun):
    """Sun, sky and what the ground sends back."""
    return 0.42 + 0.46 * (normal @ sun[..., None])[..., 0].clamp(min=0) + 0.12 * normal[..., 2]


def background(scene, rays, _):
    """A tiled ground with the shadow of whoever stands on it, and a wall of panels behind."""
    wall, ground, periods = scene.place[:, None, 1:4], scene.place[:, None, 4:7], scene.place[:, None, 7:]
    to_ground = torch.where(rays[..., 2] < -1e-4, -scene.eye[:, None, 2] / rays[..., 2].clamp(max=-1e-4), FAR)
    to_wall = (scene.place[:, None, 0] - scene.eye[:, None, 1]) / rays[..., 1].clamp(min=1e-4)
    point = scene.eye[:, None] + torch.minimum(to_ground, to_wall)[..., None] * rays
    cell = (point / periods[..., :1]).floor()
    speck = ((cell * torch.tensor([12.9898, 78.233, 37.719])).sum(-1).sin() * 43758.5453) % 1
    panel = ((point[..., 2] / periods[..., 1]) % 1 < 0.06) | (
        (point[..., 0] / periods[..., 1] / 1.7) % 1 < 0.04
    )
    shadow = 1 - 0.5 * torch.exp(-((point[..., 0] / 0.4) ** 2) - (point[..., 1] / 0.32) ** 2)
    floor = ground * (0.88 + 0.12 * speck[..., None]) * shadow[..., None]
    behind = wall * (0.94 + 0.06 * speck[..., None]) * (1 - 0.28 * panel[..., None].float())
    return torch.where((to_ground < to_wall)[..., None], floor, behind)
