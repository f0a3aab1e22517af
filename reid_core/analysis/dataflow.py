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


def draw(parts):
    """A figure of the parts that `record` returns: a box for each, an arrow for everything that it reads."""
    rows = levels(parts)
    across = max(map(len, rows)) * (WIDTH + 0.3)
    heights = [max(map(height_of, row)) for row in rows]
    figure, axis = plt.subplots(figsize=(across, sum(heights) + 0.45 * len(rows)))
    places = {}  # name -> (middle, upper edge, height), in inches
    top = 0.0
    for row, height in zip(rows, heights):
        for k, part in enumerate(row):
            places[part.name] = ((k + 0.5) * across / len(row), top, height_of(part))
            box(axis, part, *places[part.name])
        top -= height + 0.45
    for part in parts:
        for name in part.reads:
            arrow(axis, places[name], places[part.name])
    axis.set(xlim=(0, across), ylim=(top, 0.1))
    axis.axis("off")
    legend(axis, {part.kind for part in parts})
    return figure


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


def box(axis, part, x, top, height):
    """A box with the middle of its upper edge at (x, top): the name in bold, and what the part gives."""
    face, style = KINDS[part.kind]
    shape = FancyBboxPatch(
        (x - WIDTH / 2, top - height),
        WIDTH,
        height,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=face,
        edgecolor="0.3",
        linestyle=style,
        zorder=2,
    )
    axis.add_patch(shape)
    axis.text(x, top - LINE * 0.8, part.name, ha="center", va="center", fontsize=9, weight="bold", zorder=3)
    for k, line in enumerate(part.gives):
        axis.text(x, top - LINE * (1.8 + k), line, ha="center", va="center", fontsize=8, zorder=3)


def arrow(axis, source, target):
    """From the lower edge of one box to the upper edge of another, behind the boxes."""
    x, top, height = source
    to, below, _ = target
    bend = 0.0 if top - height - below < 0.6 else 0.12  # a longer arrow goes round what is between
    axis.annotate(
        "",
        (to, below),
        (x, top - height),
        zorder=1,
        arrowprops={
            "arrowstyle": "-|>",
            "color": "0.45",
            "shrinkA": 0,
            "shrinkB": 0,
            "connectionstyle": f"arc3,rad={bend}",
        },
    )
