"""The data flow of a stage: its parts, what each reads, and the shapes of one forward pass, drawn from top to
bottom. Edges are read off the graph that autograd records; none is drawn by hand.

    B images of the recorded pass
"""

import dataclasses
from collections import Counter
from typing import NamedTuple

import torch
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Patch
from torch import nn

from reid_core.data import Loader, still
from reid_core.samplers import BatchIndex, generator

ROWS = 8  # images of the recorded pass
KINDS = {
    "input": ("0.93", "-"),
    "frozen": ("white", "--"),
    "trained": ("#d6eaf8", "-"),
    "loss": ("#fdebc8", "-"),
}
WIDTH = 2.3  # inches of a box
LINE = 0.19  # inches of a line in it
GAP = 0.3  # between boxes beside each other
BETWEEN = 0.45  # and below each other
GUTTER = 0.6  # room for arrows at either side


class Part(NamedTuple):
    """One box: an input, a module that ran, or a term of the loss."""

    name: str
    kind: str  # a key of KINDS
    gives: tuple  # lines of text: shapes, in which B stands for the batch, or the weight of a term
    reads: tuple  # names of the parts that it reads


def record(method, stage, seed=0):
    """The parts of a stage in the order in which they run, from the losses of ROWS training images."""
    method.eval()
    stage.prepare()
    batch = first_batch(method, stage, seed)
    before = [(p, p.requires_grad) for p in method.parameters()]
    method.requires_grad_(True)  # frozen parts must appear in the graph, too
    trained = set()
    for group in stage.groups:
        trained.update(map(id, group.parameters()))
    ran = Ran()
    hooks = []
    for name, part in parts_of(method):
        hook = ran.hook(name, kind_of(part, trained))
        hooks.append(part.register_forward_hook(hook, with_kwargs=True))
    given = inputs_of(method, batch)
    for name, tensor in given.items():
        ran.add(name, "input", (), tensor.requires_grad_())
    for name, term in stage.losses(batch).terms.items():
        ran.parts[name] = Part(name, "loss", (f"weight {stage.weights[name]:g}",), ran.sources(term))
    for undo in hooks:
        undo.remove()
    for parameter, asked in before:
        parameter.requires_grad_(asked)
    for tensor in given.values():  # the method's own buffers among them
        tensor.requires_grad_(False)
    return ran.that_matter()


def first_batch(method, stage, seed):
    """A batch of the first images of the stage, ROWS of each part that its sampler zips, with the cached
    features of frozen towers."""
    device = next(method.parameters()).device
    loader = Loader.of_stage(method.data, method.size, stage, seed=seed, device=device)
    batch = loader.batch(few(loader.plan(0)[0]), generator(seed, "flow"))
    cached = {}
    with torch.no_grad():
        for name, one in stage.cache.items():
            cached[name] = one.compute(unaugmented(method, batch, one.view))
    return dataclasses.replace(batch, cached=cached)


def few(chosen):
    """The first ROWS of each part of a BatchIndex."""
    picked = []
    start = 0
    for size in chosen.sizes or (len(chosen.index),):
        picked += range(start, start + min(ROWS, size))
        start += size
    captions = None if chosen.captions is None else chosen.captions[picked]
    sizes = tuple(min(ROWS, size) for size in chosen.sizes)
    return BatchIndex(chosen.index[picked], captions, sizes)


def unaugmented(method, batch, view):
    """The same images without augmentation; without images where the cache needs none."""
    if view is None:
        return dataclasses.replace(batch, views=[])
    store = method.data.store("train", method.size, view.filter)
    return dataclasses.replace(batch, views=[still(view, store, batch.index.cpu().numpy(), batch.present)])


def inputs_of(method, batch):
    """{name: tensor} of what the losses may read: views, cached features, and the method's own buffers."""
    given = {}
    for k, view in enumerate(batch.views):
        given[f"view {k + 1}" if k else "images"] = view
    for name, value in batch.cached.items():
        given[f"{name}, cached"] = value
    for name, value in method.named_buffers(recurse=False):
        if value.is_floating_point():  # others, such as labels, have no gradient to follow
            given[name] = value
    return given


def parts_of(method):
    """(name, module) of the parts that a method is built from; lists and dictionaries of modules count as
    their items."""
    for name, child in method.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            for key, one in child.named_children():
                yield f"{name} {key}", one
        else:
            yield name, child


def kind_of(part, trained):
    """A module is trained if any of its parameters is; `trained` holds their ids."""
    if any(id(p) in trained for p in part.parameters()):
        return "trained"
    return "frozen"


class Ran:
    """The parts that ran so far, and which node of the autograd graph belongs to which part."""

    def __init__(self):
        self.parts = {}  # name -> Part, in the order in which they ran
        self.owners = {}  # node of the graph -> name
        self.nodes = []  # held, so that no address of a node is used again

    def hook(self, name, kind):
        """The forward hook that notes a part."""

        def ran(module, inputs, named, output):
            reads = []
            for tensor in tensors((inputs, named)):
                reads += self.sources(tensor)
            self.add(name, kind, reads, output)

        return ran

    def add(self, name, kind, reads, output):
        """Note that a part ran. One that runs again keeps its box, and what it newly reads is added."""
        known = self.parts.get(name) or Part(name, kind, shapes(output), ())
        fresh = [one for one in reads if one != name]
        every = dict.fromkeys([*known.reads, *fresh])  # each once, in this order
        self.parts[name] = Part(name, kind, known.gives, tuple(every))
        for tensor in tensors(output):
            node = node_of(tensor)
            self.nodes.append(node)
            self.owners[node] = name

    def that_matter(self):
        """All parts except inputs that no part read."""
        read = set()
        for part in self.parts.values():
            read.update(part.reads)
        return [part for part in self.parts.values() if part.kind != "input" or part.name in read]

    def sources(self, tensor):
        """Names of the parts that a tensor comes from: the nearest on every path back through the graph."""
        found = set()
        seen = set()
        waiting = [node_of(tensor)]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self.owners:
                found.add(self.owners[node])
            else:
                waiting += [before for before, _ in node.next_functions]
        return tuple(sorted(found, key=list(self.parts).index))


def node_of(tensor):
    """The node of the graph that made a tensor; for a leaf, the node that would gather its gradient."""
    if not tensor.requires_grad:
        return None
    with torch.enable_grad():  # a teacher runs without gradients, and is asked about its inputs all the same
        return tensor.grad_fn or tensor.view_as(tensor).grad_fn.next_functions[0][0]


def tensors(value):
    """All floating tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    found = []
    for item in value:
        found += tensors(item)
    return found


def shapes(output):
    """Lines of text: the shape of every non-empty floating tensor, after the name of its field; equal shapes
    are counted."""
    fields = output._asdict().items() if hasattr(output, "_asdict") else [("", output)]
    lines = []
    for name, value in fields:
        counted = Counter(shape(tensor) for tensor in tensors(value) if tensor.numel())
        for text, count in counted.items():
            times = f"{count} x " if count > 1 else ""
            lines.append(f"{name} {times}{text}".strip())
    return tuple(lines)


def shape(tensor):
    """The shape as text, with B for the batch: (8, 33, 64) -> "(B, 33, 64)"."""
    sides = list(map(str, tensor.shape))
    if sides and tensor.shape[0] == ROWS:
        sides[0] = "B"
    return f"({', '.join(sides)})"


def levels(parts):
    """Lists of parts from top to bottom: each part below everything that it reads, the terms of the loss
    last."""
    depth = {}
    for part in parts:  # a part that runs again may read what stands below it: that does not count
        above = [depth.get(name, -1) for name in part.reads]
        depth[part.name] = 1 + max(above, default=-1)
    last = max(depth.values())
    rows = [[] for _ in range(last + 1)]
    for part in parts:
        rows[last if part.kind == "loss" else depth[part.name]].append(part)
    return [row for row in rows if row]


class Place(NamedTuple):
    """Where a box stands, in inches."""

    x: float  # of its middle
    top: float
    height: float

    @property
    def bottom(self):
        return self.top - self.height

    def covers(self, x, y):
        return abs(x - self.x) < WIDTH / 2 and self.bottom < y < self.top


def draw(parts):
    """A figure of the parts that `record` returns: a box for each, an arrow for everything that it reads. The
    image branch stands at the left, the text branch at the right, the losses at the bottom."""
    places, size = placed(levels(parts))
    figure, axis = plt.subplots(figsize=size)
    for part in parts:
        box(axis, part, places[part.name])
    used = Counter()  # how many arrows go round the boxes at either side
    for part in parts:
        for name in part.reads:
            arrow(axis, way(places, name, part.name, size[0], used))
    axis.set(xlim=(-GUTTER, size[0] + GUTTER), ylim=(-size[1], 0.1))
    axis.axis("off")
    legend(axis, {part.kind for part in parts})
    return figure


def placed(rows):
    """({name: Place}, (width, height)) of rows of parts."""
    sides = [[[p for p in row if textual(p) == right] for right in (False, True)] for row in rows[:-1]]
    widths = [max(len(side[k]) for side in sides) * (WIDTH + GAP) for k in (0, 1)]
    across = max(sum(widths), len(rows[-1]) * (WIDTH + GAP))
    middle = across * widths[0] / sum(widths)
    lanes = [(0.0, middle), (middle, across)]
    places, top = {}, 0.0
    for row, (left, right) in zip(rows, [*sides, (rows[-1], [])]):
        for lane, (start, end) in ((left, lanes[0]), (right, lanes[1])):
            start, end = (0.0, across) if row is rows[-1] else (start, end)
            for k, part in enumerate(lane):
                x = start + (k + 0.5) * (end - start) / len(lane)
                places[part.name] = Place(x, top, height_of(part))
        top -= max(map(height_of, row)) + BETWEEN
    return places, (across, -top)


TEXT = {"words", "identities", "inversion", "template", "full", "short", "text", "prompt_encoder", "bank"}


def textual(part):
    """Whether a part is of the text branch."""
    return part.name.partition(" ")[0] in TEXT


def way(places, source, target, across, used):
    """The corners of an arrow from one box to another: straight down, or round the boxes that stand between,
    at the side of its source."""
    one, two = places[source], places[target]
    straight = [(one.x, one.bottom), (two.x, two.top)]
    if clear(straight, [at for name, at in places.items() if name not in (source, target)]):
        return straight
    right = one.x > across / 2
    used[right] += 1
    out = GUTTER * used[right] / 4
    x = across - GAP / 2 + out if right else GAP / 2 - out
    edge = one.x + (WIDTH / 2 if right else -WIDTH / 2)
    level = one.top - one.height / 2
    return [(edge, level), (x, level), (x, two.top + 0.6 * BETWEEN), (two.x, two.top)]


def clear(ends, others):
    """Whether a straight line crosses none of some boxes."""
    (x, y), (to, below) = ends
    steps = [k / 40 for k in range(1, 40)]
    return not any(at.covers(x + t * (to - x), y + t * (below - y)) for at in others for t in steps)


def legend(axis, present):
    """A legend below the figure: the colour and edge of each of KINDS that is `present`."""
    marks = []
    for kind, (face, style) in KINDS.items():
        if kind in present:
            marks.append(Patch(facecolor=face, edgecolor="0.3", linestyle=style, label=kind))
    axis.legend(
        handles=marks,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=len(marks),
        frameon=False,
        fontsize=8,
    )


def height_of(part):
    """Inches of a box: its name, its lines, and the margins."""
    return LINE * (1.6 + len(part.gives))


def box(axis, part, at):
    """A box at its Place: the name in bold, and what the part gives."""
    face, style = KINDS[part.kind]
    shape = FancyBboxPatch(
        (at.x - WIDTH / 2, at.bottom),
        WIDTH,
        at.height,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=face,
        edgecolor="0.3",
        linestyle=style,
        zorder=2,
    )
    axis.add_patch(shape)
    name = shown(part)
    axis.text(at.x, at.top - LINE * 0.8, name, ha="center", va="center", fontsize=9, weight="bold", zorder=3)
    for k, line in enumerate(part.gives):
        axis.text(at.x, at.top - LINE * (1.8 + k), line, ha="center", va="center", fontsize=8, zorder=3)


NAMES = {  # as the papers call the parts of a method
    "image": "image encoder",
    "text": "text encoder",
    "template": "prompt",
    "words": "learned words",
    "bank": "prompt features",
    "heads": "classifier",
    "inversion": "inversion network",
    "interaction": "interaction module",
    "identities": "identity words",
    "prompt_encoder": "prompt encoder",
    "full": "full prompt",
    "short": "identity prompt",
    "match": "shared classifier",
    "head": "classifier",
    "second": "second class token",
    "layers": "interaction layer",
    "means": "mean images",
    "region_attn": "attribute queries",
    "region_proj": "projection",
    "joint_neck": "joint neck",
}


def shown(part):
    """How a picture calls a part; the terms of a loss keep their names."""
    first, space, rest = part.name.partition(" ")
    if first == "old":  # a part of the model as it was before the domain
        rest = NAMES.get(rest, rest)
    return part.name if part.kind == "loss" else NAMES.get(first, first) + space + rest


def arrow(axis, corners):
    """Along its corners, behind the boxes."""
    axis.plot(*zip(*corners[:-1]), color="0.45", lw=1, zorder=1, solid_joinstyle="round")
    axis.annotate(
        "",
        corners[-1],
        corners[-2],
        zorder=1,
        arrowprops={"arrowstyle": "-|>", "color": "0.45", "shrinkA": 0, "shrinkB": 0},
    )
