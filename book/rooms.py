"""Two pictures of how the project hangs together, made from the imports of its files."""

import ast
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (  # from the bottom
    "data_prep",
    "reid_core",
    "reid_core.methods",
    "reid_core.runs",
    "reid_core.analysis",
    "reid_core.report",
    "reid_core.calibrate",
)
PER_LINE = 9  # module names in a line of a band


def modules():
    """{module: set of modules of the project that it imports}."""
    files = [path for package in ("data_prep", "reid_core") for path in (ROOT / package).rglob("*.py")]
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files if path.stem[0] != "_"
    }
    return {name: set(imports(path, names)) - {name} for name, path in sorted(names.items())}


def imports(path, names):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                name
                for one in node.names
                for name in (f"{node.module}.{one.name}", node.module)
                if name in names
            )


def layer_of(module):
    return max((layer for layer in LAYERS if module.startswith(f"{layer}.")), key=len)


def rooms(found):
    """Bands of modules, the lowest layer at the bottom, with the number of imports between them."""
    arrows = Counter((layer_of(one), layer_of(two)) for one, reads in found.items() for two in reads)
    figure, axis = plt.subplots(figsize=(8.6, 6.4))
    for level, layer in enumerate(LAYERS):
        names = [name.removeprefix(f"{layer}.") for name in found if layer_of(name) == layer]
        inside = list(
            dict.fromkeys(name if "." not in name else f"{name.partition('.')[0]}/" for name in names)
        )
        lines = [", ".join(inside[k : k + PER_LINE]) for k in range(0, len(inside), PER_LINE)]
        box(axis, 0, level, 8.2, 0.72, f"{layer}/", "\n".join(lines))
    for (one, two), count in arrows.items():
        high, low = LAYERS.index(one), LAYERS.index(two)
        if high != low:
            x = 8.5 + 0.62 * (len(LAYERS) - 1 - high) + 0.2 * (high - low)
            line = {"arrowstyle": "->", "lw": 0.8, "color": "0.35"}
            axis.annotate("", (x, low + 0.36), (x, high + 0.36), arrowprops=line)
            axis.text(x, high + (0.42 if high > low else 0.22), str(count), fontsize=6.5, ha="center")
    return finished(figure, axis, (-0.1, 12.9), (-0.1, len(LAYERS) - 0.2))


WAY = (  # columns of the second picture
    ("data_prep.catalogue", "data_prep.manifest", "reid_core.augment", "reid_core.samplers"),
    ("reid_core.data", "reid_core.towers", "reid_core.recipe"),
    ("reid_core.loading", "reid_core.layers", "reid_core.prompts", "reid_core.losses"),
    ("reid_core.methods.base", "reid_core.methods.promptsg", "reid_core.optim"),
    ("reid_core.train", "reid_core.metrics", "reid_core.rerank"),
    ("reid_core.evaluate", "reid_core.checkpoint"),
    ("reid_core.runs.measure",),
)


def way(found):
    """Boxes in columns, from the catalogue to a measured run, with an arrow to every reader."""
    figure, axis = plt.subplots(figsize=(9.2, 3.8))
    place = {
        name: (2.0 * column, 3 - row - (4 - len(names)) / 2)
        for column, names in enumerate(WAY)
        for row, name in enumerate(names)
    }
    for name, (x, y) in place.items():
        box(axis, x, y, 1.5, 0.5, name.rpartition(".")[2], "", name.startswith("data_prep"))
    for reader, reads in found.items():
        for name in reads & set(place) if reader in place else ():
            (x, y), (to_x, to_y) = place[name], place[reader]
            if to_x > x:
                arrow = {"arrowstyle": "->", "lw": 0.7, "color": "0.55", "zorder": 0}
                axis.annotate("", (to_x, to_y + 0.25), (x + 1.5, y + 0.25), arrowprops=arrow)
    return finished(figure, axis, (-0.2, 2.0 * len(WAY) - 0.2), (-0.3, 3.8))


def box(axis, x, y, width, height, title, text, dark=False):
    colour = "#fdebc8" if dark else "#d6eaf8"
    axis.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02", fc=colour, ec="0.4", lw=0.6)
    )
    top = y + height - 0.14 if text else y + height / 2
    axis.text(x + 0.08, top, title, fontsize=9, weight="bold", va="center")
    axis.text(x + 0.08, y + 0.06, text, fontsize=6.6, va="bottom", linespacing=1.05)


def finished(figure, axis, across, up):
    axis.set(xlim=across, ylim=up)
    axis.axis("off")
    figure.tight_layout(pad=0.2)
    return figure


def write(folder):
    """rooms.svg and way.svg."""
    found = modules()
    for name, draw in (("rooms", rooms), ("way", way)):
        figure = draw(found)
        figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
