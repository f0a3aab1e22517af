"""The plots of the book. Colours are matplotlib's okabe_ito, one per method throughout; maps are viridis."""

import base64
import io

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from reid_core.report.tables import escaped

STYLES = {  # never colour alone: lines of neighbouring colours differ in style
    "baseline": "-",
    "clip_reid": "--",
    "promptsg": "-.",
    "hpl": ":",
    "dmpt": "-",
    "pad": "--",
    "vladr": "-.",
}
COLOURS = dict(zip(STYLES, matplotlib.color_sequences["okabe_ito"]))  # in the order of STYLES
DPI = 220  # of photographs: two pixels for each of a common screen


def as_html(figure, caption, alt):
    """HTML of the figure with its caption (the finding) and alt text (what it looks like): a plot as SVG,
    photographs as a PNG."""
    photographs = any(axis.get_images() for axis in figure.axes)
    kind, mime = ("png", "image/png") if photographs else ("svg", "image/svg+xml")
    buffer = io.BytesIO()
    width = figure.get_tightbbox().width  # inches
    with matplotlib.rc_context({"svg.hashsalt": "reid"}):  # equal figures, equal bytes
        figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=DATELESS[kind])
    plt.close(figure)  # or the notebook would show it a second time
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f"width:{100 * width:.0f}px;max-width:100%"
    return (
        f'<figure><img src="data:{mime};base64,{data}" alt="{escaped(alt)}" style="{size}">'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


DATELESS = {"png": {}, "svg": {"Date": None}}


def losses(history, colour=None):
    """Every loss term over the epochs of a run's history, a panel per stage."""
    stages = list(dict.fromkeys(line["stage"] for line in history))  # each once, as they ran
    figure, axes = plt.subplots(1, len(stages), figsize=(4.2 * len(stages), 2.8), squeeze=False)
    for axis, stage in zip(axes[0], stages):
        lines = [line for line in history if line["stage"] == stage]
        epochs = [line["epoch"] for line in lines]
        for k, term in enumerate(lines[0]["losses"]):
            axis.plot(
                epochs,
                [line["losses"][term] for line in lines],
                label=term,
                color=colour or f"C{k}",
                ls=("-", "--", "-.", ":")[k % 4],
                marker="o",
                ms=2.5,
            )
        axis.set(xlabel="epoch", ylabel="loss (unweighted, nats or feature units)", title=stage)
        axis.legend(frameon=False, fontsize=8)
    return figure


GREY = "0.5"  # of the baseline where it stands beside one method


def colour_of(spec):
    """The colour of a spec's method in the whole book; grey for a simple baseline."""
    return COLOURS.get(spec.variant, COLOURS.get(spec.method, GREY))


def curves(found, term="identity", test=None):
    """A loss over epochs, a line for each of {label: runs}, with the run's mAP in a test at its end; the
    first of several labels is the baseline, in grey."""
    figure, axis = plt.subplots(figsize=(7, 3.4))
    ends = []  # (x, y, mAP, line style)
    for place, (label, runs) in enumerate(found.items()):
        for k, run in enumerate(runs):
            method = run.spec.variant
            grey = place == 0 and len(found) > 1
            style = {"color": GREY, "ls": "-"} if grey else {"color": COLOURS[method], "ls": STYLES[method]}
            epochs, values = course(run, term)
            told = label if k == 0 else None  # once in the legend
            axis.plot(epochs, values, lw=1.3, label=told, **style)
            ends.append((epochs[-1], values[-1], run.score(test=test), style))
    axis.set(xlabel="epoch", ylabel="identity loss per classifier, nats")
    axis.legend(frameon=False, fontsize=8)
    label_ends(axis, ends)
    return figure


CLASSIFIERS = {"baseline": 2, "clip_reid": 2}  # on f12 and on fp, which their recipes do not count


def course(run, term="identity"):
    """(epochs, identity loss per classifier) of a run's last stage, or None where it kept none of this
    name."""
    lines = [line for line in run.history if term in line["losses"]]
    if not lines:
        return None
    # their losses are added up
    several = len(run.recipe.get("id_features", ())) or CLASSIFIERS.get(run.spec.variant, 1)
    heads = several if term == "identity" else 1  # HPL has a term for each classifier
    return [line["epoch"] for line in lines], [line["losses"][term] / heads for line in lines]


LABEL = 0.055  # of the height of an axis: what a line of small print needs


def label_ends(axis, ends):
    """Write the mAP of each (x, y, mAP, line style) to the right of all, in the order of their heights, and
    join it with its line."""
    ends = sorted(ends, key=lambda end: end[1])
    right = max(x for x, *_ in ends)
    low, high = axis.get_ylim()
    places = apart([y for _, y, *_ in ends], LABEL * (high - low))
    for (x, y, score, style), place in zip(ends, places):
        axis.plot([x, 1.05 * right], [y, place], lw=0.8, clip_on=False, **style)
        axis.text(1.06 * right, place, f"{score:.1f}", va="center", fontsize=8, color="0.15")
    axis.text(1.06 * right, places[-1] + LABEL * (high - low), "mAP", va="center", fontsize=8, color="0.15")
    axis.set(xlim=(None, right), ylim=(low, high))


def apart(values, gap):
    """Places at least `gap` apart for ascending values, as near to them as their mean."""
    places = [values[0]]
    for value in values[1:]:
        places.append(max(value, places[-1] + gap))
    shift = np.mean(values) - np.mean(places)
    return [place + shift for place in places]


def curves_words(found, data, test=None):
    """(caption, alt text) of `curves`: the finding is whether the two methods' ranges of mAP overlap."""
    told = []
    ranges = []
    for label, runs in found.items():
        scores = [run.score(test=test) for run in runs]
        if scores:
            ranges.append((min(scores), max(scores)))
            between = f"{ranges[-1][0]:.1f}" if len(runs) == 1 else "{:.1f} to {:.1f}".format(*ranges[-1])
            told.append(f"{label} ends at {between} mAP ({seeds(len(runs))})")
    caption = f"On {data} {', '.join(told)}"
    if len(ranges) == 2 and min(map(len, found.values())) > 1:
        overlap = ranges[0][0] <= ranges[1][1] and ranges[1][0] <= ranges[0][1]
        caption += ": the ranges overlap" if overlap else ": the ranges do not overlap"
    if any(run.outdated for runs in found.values() for run in runs):
        caption += " (stale)"
    alt = f"The identity loss over epochs, a line per seed: {', '.join(told)}"
    return caption, alt


def seeds(number):
    return "one seed" if number == 1 else f"{number} seeds"


def schedule(stage):
    """The factor on a stage's learning rates over the span of its published schedule."""
    span = stage.schedule.span
    places = np.linspace(0, span, 400)[1:]  # a warm-up may start from 0, which has no logarithm
    factors = list(map(stage.schedule.factor, places))
    figure, axis = plt.subplots(figsize=(4.2, 2.4))
    axis.plot(places, factors, color=COLOURS["baseline"])
    axis.set(
        xlabel=f"{stage.schedule.unit} of the published schedule", ylabel="factor on the rate", yscale="log"
    )
    return figure


def triplet(points, pids):
    """Points (N, 2) of identities `pids` (N,): a solid line from each to its farthest positive, a dashed one
    to its nearest negative."""
    figure, axis = plt.subplots(figsize=(3.6, 3))
    distance = (points[:, None] - points).norm(dim=2)  # (N, 2) -> (N, N)
    same = pids[:, None] == pids
    far = distance.masked_fill(~same, -1).argmax(1).tolist()  # N positions
    near = distance.masked_fill(same, float("inf")).argmin(1).tolist()
    places = points.numpy()
    for k in range(len(points)):
        # shifted, as a line each way may join the same two points
        for other, style, shift in ((far[k], "-", 0.03), (near[k], "--", -0.03)):
            x, y = (places[[k, other]] + shift).T  # (2, 2): two points -> both x, both y
            axis.plot(x, y, style, color="grey", lw=1)
    for pid, marker in zip(pids.unique(), "os^"):
        axis.scatter(*points[pids == pid].T.numpy(), marker=marker, s=70, label=f"person {pid}", zorder=3)
    for k, (x, y) in enumerate(points.tolist()):
        axis.annotate(str(k), (x, y), textcoords="offset points", xytext=(7, 6))
    axis.set(xlabel="first feature", ylabel="second feature")
    axis.legend(frameon=False, fontsize=8)
    return figure


def growth(lines, start, until=5000):
    """Learnable parameters over identities: {method: (millions at `start` identities, more per identity)}."""
    figure, axis = plt.subplots(figsize=(5, 2.8))
    identities = np.linspace(0, until, 50)
    for method, (millions, each) in lines.items():
        parameters = millions + (identities - start) * each / 1e6  # in millions; `each` counts single ones
        axis.plot(identities, parameters, STYLES[method], color=COLOURS[method], label=method)
    for place, name in ((751, "Market-1501"), (1041, "MSMT17")):  # training identities
        axis.axvline(place, color="0.8", zorder=0)
        axis.annotate(
            name, (place, axis.get_ylim()[1]), rotation=90, va="top", ha="right", fontsize=7, color="0.4"
        )
    axis.set(xlabel="training identities", ylabel="learnable parameters, millions")
    axis.legend(frameon=False, fontsize=8)
    return figure


def bands(found, limits):
    """A line per gate: its band as a bar, `limits` {name: (low, high, ...)}, and a dot per seed of `found`
    {name: {seed: value}}."""
    names = [name for name in limits if name in found]  # in the order of the gates
    figure, axis = plt.subplots(figsize=(6.2, 0.34 * len(names) + 0.7))
    for y, name in enumerate(names):
        low, high = limits[name][:2]
        left = max(low, -1)  # an open band ends just inside the edge
        right = min(high, 101)
        axis.barh(y, right - left, left=left, height=0.6, color="0.85", zorder=1)
        values = np.array(list(found[name].values()))
        inside = (values >= low) & (values <= high)
        for marker, picked, colour in (("o", inside, "promptsg"), ("X", ~inside, "clip_reid")):
            axis.scatter(
                values[picked], [y] * picked.sum(), marker=marker, color=COLOURS[colour], s=26, zorder=2
            )
    axis.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlim=(-2, 102),
        xlabel="per cent, points or people: see the table",
    )
    axis.invert_yaxis()
    return figure


def read_off(found):
    """Linear probes of several towers, {tower: {attribute: (% right, % of the commonest word)}}, as groups of
    bars."""
    figure, axis = plt.subplots(figsize=(7.4, 2.8))
    attributes = list(next(iter(found.values())))
    width = 0.8 / len(found)  # the bars of a group touch, the groups do not
    left = np.arange(len(attributes)) - width / 2  # of a group: its first bar is centred on its place
    for k, (name, told) in enumerate(found.items()):
        correct = [told[attribute][0] for attribute in attributes]
        axis.bar(
            np.arange(len(attributes)) + width * k,
            correct,
            width,
            label=name,
            color=f"C{k}",
            hatch=("", "//", "..")[k % 3],
            alpha=0.8,
        )
    common = [told[attribute][1] for attribute in attributes]  # of the last tower: the same for all
    axis.hlines(
        common, left, np.arange(len(attributes)) + 0.8 - width / 2, color="0.2", label="commonest word"
    )
    axis.set(ylabel="% of strangers named rightly", ylim=(0, 100))
    middle = np.arange(len(attributes)) + 0.4 - width / 2
    axis.set_xticks(middle, attributes, rotation=30, ha="right", fontsize=8)
    axis.legend(frameon=False, fontsize=8, ncols=len(found) + 1)
    return figure


def spread(rows):
    """Images per identity, and images per camera, by split; `rows` is the table of a manifest, in which the
    spectra of a shot count once."""
    moments = rows.drop_duplicates(["split", "shot"])
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.6))
    for k, (split, some) in enumerate(moments.groupby("split", sort=False)):
        style = {"label": split, "color": f"C{k}", "hatch": ("", "//", "..")[k % 3], "alpha": 0.75}
        of_identity = some.groupby("pid").size()  # {pid: images}
        sizes = of_identity.value_counts().sort_index()  # {images: identities}
        axes[0].bar(sizes.index + 0.27 * k, sizes, 0.27, **style)
        cameras = some.camid.value_counts().sort_index()
        axes[1].bar(cameras.index + 0.27 * k, cameras, 0.27, **style)
    axes[0].set(xlabel="images of an identity", ylabel="identities")
    axes[1].set(xlabel="camera", ylabel="images")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def spread_words(rows, name):
    """The finding of `spread` for a caption."""
    moments = rows.drop_duplicates(["split", "shot"])
    sizes = moments.groupby("pid").size()
    cameras = moments.groupby("pid").camid.nunique()
    return (
        f"An identity of {name} has {sizes.min()} to {sizes.max()} images (median {sizes.median():.0f}) "
        f"from {cameras.median():.0f} of {moments.camid.nunique()} cameras (median); "
        f"{(cameras == 1).mean():.0%} were seen by one camera alone"
    )


def lengths(found, titles):
    """mAP against steps of training, {(method, data): {part: Point}}; bars are the standard deviation over
    seeds. A panel for each of `titles`, {data: words}."""
    figure, axes = plt.subplots(1, len(titles), figsize=(4.6 * len(titles), 3), sharey=True, squeeze=False)
    for axis, (data, title) in zip(axes[0], titles.items()):
        for (method, where), points in found.items():
            if where != data:
                continue
            steps = [point.steps for point in points.values()]
            means = [point.mean for point in points.values()]
            spread = np.nan_to_num([point.spread for point in points.values()])  # one seed has no deviation
            axis.errorbar(
                steps,
                means,
                spread,
                color=COLOURS[method],
                ls=STYLES[method],
                marker="o",
                ms=4,
                capsize=3,
                label=method,
            )
        axis.set(xlabel="steps of the image tower", title=title)
    axes[0, 0].set(ylabel="mAP, per cent")
    for axis in [axis for axis in axes[0] if axis.has_data()][:1]:  # a data set may not be measured yet
        axis.legend(frameon=False, fontsize=8)
    return figure
