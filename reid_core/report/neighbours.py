"""What features are near in Visuals (`analysis.visuals`): ranked lists of two methods for the same queries,
and embeddings in the plane."""

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from reid_core.analysis import visuals
from reid_core.report import images, tables

OKABE_ITO = matplotlib.color_sequences["okabe_ito"]
MARKERS = "os^DvP*X"
ACROSS = 2  # embeddings side by side: more are small
PLANES = {"tsne": "t-SNE", "umap": "UMAP"}  # fields of Visuals


def embeddings(found, plane="tsne", people=8):
    """An embedding in the plane of each of {label: Visuals, or the word that says why there are none}; the
    first `people` in colour, each with a marker, the others in grey."""
    columns = min(len(found), ACROSS)
    lines = -(-len(found) // columns)  # rounded up
    figure, axes = plt.subplots(lines, columns, figsize=(3.4 * columns, 3.1 * lines), squeeze=False)
    marks = {}
    for axis in axes.flat[len(found) :]:
        axis.axis("off")
    for axis, (label, one) in zip(axes.flat, found.items()):
        name = PLANES[plane]
        axis.set(
            xticks=[], yticks=[], xlabel=f"{name} 1 (no unit)", ylabel=f"{name} 2 (no unit)", title=label
        )
        points = points_of(one, plane)
        if len(points):
            shown = np.unique(one.pids)[:people]  # sorted: the same people for every method
            scatter(axis, points.astype(float), one.pids, shown)  # kept in half precision
            marks = dict(zip(*reversed(axis.get_legend_handles_labels())))
        else:
            said = one if isinstance(one, str) else tables.NOT_RUN
            axis.text(0.5, 0.5, said, ha="center", transform=axis.transAxes)
    if marks:
        figure.legend(marks.values(), marks, loc="lower center", ncols=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.12 / lines, 1, 1))
    return figure


def points_of(one, plane):
    """Points (N, 2) of one embedding of Visuals; of a word none, as of one that was not computed."""
    return () if isinstance(one, str) else getattr(one, plane)


def told_apart(found, plane="tsne"):
    """The finding of `embeddings` for a caption: how often the nearest point of the plane is the same person,
    and how often it would be by chance."""
    shares = []
    for label, one in found.items():
        points = points_of(one, plane)
        if len(points):
            same = one.pids[:, None] == one.pids  # (N, N)
            shares.append(f"{100 * nearest_alike(points, same):.0f} % for {label}")
            count = len(same)
            chance = (same.sum() - count) / max(count * (count - 1), 1)  # pairs of two different images
    if not shares:
        return f"{PLANES[plane]}: {tables.NOT_RUN}"
    return (
        f"The nearest point in {PLANES[plane]} is an image of the same person for {', '.join(shares)}; "
        f"by chance {100 * chance:.0f} %"
    )


def nearest_alike(points, same):
    """Share of points (N, 2) whose nearest neighbour has their identity; `same` (N, N)."""
    gaps = np.linalg.norm(points[:, None].astype(float) - points, axis=2)  # (N, N)
    np.fill_diagonal(gaps, np.inf)  # no point is its own neighbour
    nearest = gaps.argmin(1)  # (N,)
    return same[np.arange(len(gaps)), nearest].mean()


def scatter(axis, points, pids, shown):
    """Points (N, 2): those of the identities `shown` in colour with a marker, the others in grey."""
    rest = ~np.isin(pids, shown)
    axis.scatter(*points[rest].T, s=5, color="0.8", zorder=1)
    for k, pid in enumerate(shown):
        axis.scatter(
            *points[pids == pid].T,
            s=24,
            marker=MARKERS[k % len(MARKERS)],
            zorder=2,
            color=OKABE_ITO[k % len(OKABE_ITO)],
            edgecolor="black",
            linewidth=0.3,
            label=f"person {pid}",
        )


NOT_KEPT = "not kept"
BEHIND = OKABE_ITO[5]  # blue: a true match behind the shown places


def lists_beside(data, chosen, found, size=0.52):
    """A line for each of {position of an explained query: why it is shown}: the query, then, for each of
    {label: Visuals, or the word that says why there are none}, its first places and the first true match
    behind them, framed in blue, with its rank."""
    block = visuals.BESIDE + 1
    ratios = [1] + [0.8, *[1] * block] * len(found)
    height = 2 * size + 0.4  # inches: a picture and two lines of words
    figure, axes = plt.subplots(
        len(chosen),
        len(ratios),
        figsize=(size * sum(ratios), height * len(chosen)),
        width_ratios=ratios,
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    rows = next(one for one in found.values() if not isinstance(one, str)).rows
    for line, (k, why) in zip(axes, chosen.items()):
        framed(line[0], images.picture(data, "query", rows[k]), "query")
        heading(line[0], why)
        for number, (label, one) in enumerate(found.items()):
            places(line[2 + number * (block + 1) :][:block], data, label, one, k)
    figure.subplots_adjust(wspace=0.08, hspace=0.42 / (2 * size), left=0, right=1, bottom=0, top=1)
    return figure


def places(axes, data, label, one, k):
    """The part of a line of `lists_beside` that is one method's."""
    if isinstance(one, str) or not len(one.precision):
        heading(axes[0], label)
        said = one if isinstance(one, str) else NOT_KEPT
        axes[len(axes) // 2].text(0.5, 0.5, said, ha="center", transform=axes[len(axes) // 2].transAxes)
        return
    heading(axes[0], f"{label}: AP {100 * one.precision[k]:.0f} %")
    for place, (shot, right) in enumerate(zip(one.nearest[k], one.right[k])):
        mark, colour = images.MARKS[bool(right)]
        framed(axes[place], images.picture(data, "gallery", shot), f"{place + 1} {mark}", colour)
    if one.missed[k]:
        framed(axes[-1], images.picture(data, "gallery", one.missed_at[k]), f"rank {one.missed[k]}", BEHIND)


def framed(axis, image, title, colour="white"):
    """A picture with a frame, and a title above."""
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.imshow(image)
    axis.set_title(title, fontsize=7, pad=2)
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2)


def heading(axis, words):
    """Words above the title of a picture, from its left edge on."""
    axis.annotate(
        words, (0, 1), (0, 13), "axes fraction", textcoords="offset points", fontsize=8, weight="bold"
    )


def ranked_higher(found):
    """The finding of `lists_beside` for a caption: for how many queries the second method ranks the true
    matches higher than the first."""
    kept = {label: one for label, one in found.items() if not isinstance(one, str) and len(one.precision)}
    if len(kept) < 2:
        return "Ranked lists of one method alone"
    (first, one), (second, other) = kept.items()
    up, down = (other.precision > one.precision).sum(), (other.precision < one.precision).sum()
    return (
        f"Of {len(one.rows)} queries, one per person, {second} has a higher average precision than {first} "
        f"for {up} and a lower one for {down}"
    )
