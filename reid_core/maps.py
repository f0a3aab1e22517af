"""Pictures of what is kept in Looks: heat maps over images, maps of embeddings, and scores beside chance."""

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from reid_core import explain, figures, looks

MARKERS = "os^DvP*X"
OKABE_ITO = matplotlib.color_sequences["okabe_ito"]
HATCHES = ("", "///", "...", "xxx")
NO_MASKS = "no masks to judge by"
SAYS = {
    "pointing": "peak on the person",
    "overlap": "overlap with the person",
    "person": "share on the person",
    "passer-by": "share on passers-by",
    "clutter": "share on clutter",
    "background": "share on background",
}


def overlays(images, columns, titles, width=0.95):
    """One row per image: the image (H, W, 3), and over it the map (h, w) of every column {title: (Q, h, w) or None}. A column
    without maps says so."""
    height = width * images[0].shape[0] / images[0].shape[1]
    size = ((1 + len(columns)) * width, len(images) * (height + 0.2) + 0.3)
    figure, axes = plt.subplots(len(images), 1 + len(columns), figsize=size, squeeze=False)
    for k, row in enumerate(axes):
        row[0].imshow(images[k])
        row[0].set_title(titles[k], fontsize=7, pad=2)
        for axis, (name, maps) in zip(row[1:], columns.items()):
            overlay(axis, images[k], None if maps is None else maps[k])
            if not k:
                axis.set_title(name, fontsize=7, pad=2)
    for axis in axes.flat:
        axis.axis("off")
    figure.subplots_adjust(wspace=0.06, hspace=0.12)
    return figure


def overlay(axis, image, found):
    """The image in grey, and the map over it: bright is where the score comes from."""
    grey = np.asarray(image, float).mean(2)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, alpha=0.35 if found is None else 1)
    if found is None:
        axis.text(0.5, 0.5, "not run", ha="center", va="center", transform=axis.transAxes, fontsize=8)
        return
    axis.imshow(explain.spread(found, grey.shape), cmap="viridis", alpha=0.6)


def embeddings(found, people=8):
    """t-SNE and UMAP of the same features side by side; the first people in colour, each with a marker, the others grey."""
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.4))
    for axis, (name, points) in zip(axes, (("t-SNE", found.tsne), ("UMAP", found.umap))):
        axis.set(xticks=[], yticks=[], xlabel=f"{name} 1 (no unit)", ylabel=f"{name} 2 (no unit)")
        if len(points):
            scatter(axis, points.astype(float), found.pids, np.unique(found.pids)[:people])
        else:
            axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False, fontsize=7
    )
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    return figure


def told_apart(found):
    """The finding of `embeddings`: in how many cases the nearest point of a map is the same person, and chance's share."""
    same = found.pids[:, None] == found.pids
    chance = (same.sum() - len(same)) / max(len(same) * (len(same) - 1), 1)
    shares = [f"{100 * nearest_alike(points, same):.0f} % of the images in {name}"
              for name, points in (("t-SNE", found.tsne), ("UMAP", found.umap)) if len(points)]  # fmt: skip
    return f"the nearest image is one of the same person for {' and '.join(shares)}, against {100 * chance:.0f} % by chance"


def nearest_alike(points, same):
    """The share of points (N, 2) whose nearest other one is alike; `same` (N, N)."""
    gaps = np.linalg.norm(points[:, None].astype(float) - points, axis=2)
    np.fill_diagonal(gaps, np.inf)
    return same[np.arange(len(gaps)), gaps.argmin(1)].mean()


def scatter(axis, points, pids, shown):
    rest = ~np.isin(pids, shown)
    axis.scatter(*points[rest].T, s=5, color="0.8", zorder=1)
    for k, pid in enumerate(shown):
        axis.scatter(*points[pids == pid].T, s=24, marker=MARKERS[k % len(MARKERS)], zorder=2,
                     color=OKABE_ITO[k % len(OKABE_ITO)], edgecolor="black", linewidth=0.3, label=f"person {pid}")  # fmt: skip


def judged(found, how="relevance", colours=None):
    """Bars of every score for {label: Looks}, with the interval over images, and a black line where a map without preference
    would be."""
    figure, axis = plt.subplots(figsize=(5.2, 0.5 + len(SAYS) * (0.24 + 0.2 * len(found))))
    thick = 0.8 / len(found)
    for k, (label, one) in enumerate(found.items()):
        values = [looks.mean(column) for column in one.judged[list(looks.HOW).index(how)].T]
        y = np.arange(len(SAYS)) + (k + 0.5) * thick - 0.4
        means = np.array([value.mean for value in values])
        ends = [means - [value.low for value in values], [value.high for value in values] - means]
        axis.barh(y, means, thick * 0.9, xerr=np.maximum(ends, 0), label=label, ecolor="0.25", edgecolor="black", linewidth=0.4,
                  color=(colours or {}).get(label, OKABE_ITO[k]), hatch=HATCHES[k % len(HATCHES)])  # fmt: skip
    by_chance = 100 * next(iter(found.values())).chance.astype(float).mean(0)
    for y, value in enumerate(by_chance):
        axis.plot(
            [value, value],
            [y - 0.45, y + 0.45],
            color="black",
            lw=2,
            label="" if y else "a map without preference",
        )
    axis.set(
        yticks=range(len(SAYS)),
        yticklabels=SAYS.values(),
        xlim=(0, 100),
        xlabel="per cent of images or of the map",
    )
    axis.invert_yaxis()
    axis.legend(
        frameon=False,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.4, -0.1 - 0.5 / figure.get_figheight()),
    )
    return figure


def finding(found, how="relevance"):
    """One sentence per {label: Looks}: how much of the maps lies on the person, and whether chance would do the same."""
    return "; ".join(f"{label}: {share_on_person(one, how)}" for label, one in found.items())


def titles(one, chosen):
    """What fills each of the images that are shown; nothing where no masks say it."""
    return [f"{one.share[k]:.0%} {one.why[k]}" if one.why[k] else "" for k in chosen]


def share_on_person(one, how):
    if np.isnan(one.judged).any():
        return NO_MASKS
    column, difference = explain.SCORES.index("person"), looks.beside_chance(one, how)
    share, by_chance = (100 * table[:, column].astype(float).mean()
                        for table in (one.judged[list(looks.HOW).index(how)], one.chance))  # fmt: skip
    word = "more than" if difference.low > 0 else "less than" if difference.high < 0 else "not told from"
    return f"{share:.0f} % of the map lies on the person, {word} the {by_chance:.0f} % of chance"


def points(one, score, how="relevance"):
    """Points above chance as text, with the interval over images."""
    if np.isnan(one.judged).any():
        return NO_MASKS
    found = looks.beside_chance(one, how, score)
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def ranked_lists(data, found):
    """The ranked lists of Looks: hardest first, then a median one and the best."""
    return figures.ranked_lists(data, found.queries, found.order, found.correct, found.order.shape[1])


def images(data, rows):
    """Query images (H, W, 3) as they lie on disk."""
    return [figures.picture(data, "query", row) for row in rows]
