"""Pictures: image grids and ranked lists; and of Visuals (`analysis.visuals`) heat maps over images,
embeddings in the plane, and the scores of explanations beside those of a uniform map."""

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from reid_core.analysis import explain, visuals


def image_grid(images, columns, titles=None, frames=None, width=0.72):
    """uint8 images (N, H, W, 3) in lines of `columns`, each `width` inches wide; `frames` are N colours or
    None."""
    rows = -(-len(images) // columns)
    height, across = images[0].shape[:2]
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * width, rows * (width * height / across + 0.22)), squeeze=False
    )
    for k, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        if k >= len(images):
            axis.axis("off")
            continue
        axis.imshow(images[k])
        axis.set_title(titles[k] if titles else "", fontsize=7, pad=2)
        for spine in axis.spines.values():
            spine.set(color=frames[k] if frames and frames[k] else "white", linewidth=2.5)
    figure.subplots_adjust(wspace=0.08, hspace=0.18)
    return figure


def regions(image, mask, names):
    """An image (H, W, 3), and beside it its mask (H, W) of numbers into `names`, painted and labelled."""
    figure, axes = plt.subplots(1, 2, figsize=(4.6, 3.4))
    present = [k for k in np.unique(mask) if names[k] != "background"]
    painted = np.full((*mask.shape, 3), 0.92)
    for number, k in enumerate(present):
        painted[mask == k] = matplotlib.color_sequences["tab10"][number]
    for axis, shown in zip(axes, (image, painted)):
        axis.imshow(shown)
        axis.axis("off")
    for number, k in enumerate(present):
        y, x = np.argwhere(mask == k).mean(0)
        axes[1].annotate(
            names[k],
            (x, y),
            (mask.shape[1] * 1.04, y),
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": matplotlib.color_sequences["tab10"][number]},
        )
    return figure


def likeness(images, table):
    """Cosines (N, N) of images with sentences: an image before each line, the number in each field."""
    count = len(images)
    figure, axes = plt.subplots(1, 2, figsize=(5.2, 0.8 * count), width_ratios=(1, count))
    axes[0].imshow(np.concatenate(images))
    axes[0].axis("off")
    axes[1].imshow(table, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        dark = value < (table.min() + table.max()) / 2
        axes[1].text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
            weight="bold" if value == table[row].max() else "normal",
        )
    axes[1].set(xticks=range(count), yticks=[], xlabel="sentence (bold: the nearest to the image)")
    axes[1].set_xticklabels(range(1, count + 1))
    return figure


def heat(maps, size):
    """Maps (N, h, w) as uint8 pictures (N, H, W, 3) in viridis, each scaled from its own lowest to its
    highest value."""
    span = np.ptp(maps, axis=(1, 2), keepdims=True)
    level = (maps - maps.min((1, 2), keepdims=True)) / np.where(span > 0, span, 1)
    colours = (255 * matplotlib.colormaps["viridis"](level)[..., :3]).astype(np.uint8)
    return [np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.NEAREST)) for one in colours]


def same_size(pictures):
    """Pictures (H, W, 3), each resized to the first one, so that they fit one grid."""
    height, width = pictures[0].shape[:2]
    return [np.asarray(Image.fromarray(one).resize((width, height))) for one in pictures]


def ranked_lists(data, queries, order, correct, shown=8):
    """A line per query: the query, then its `shown` nearest gallery images; true matches framed in bluish
    green with a tick, others in vermilion with a cross."""
    right, wrong = (matplotlib.color_sequences["okabe_ito"][k] for k in (3, 6))
    images, titles, frames = [], [], []
    for row, query in enumerate(queries):
        images.append(picture(data, "query", query))
        titles.append("query")
        frames.append(None)
        for place in range(shown):
            images.append(picture(data, "gallery", order[row][place]))
            titles.append(f"{place + 1} {'✓' if correct[row][place] else '✗'}")
            frames.append(right if correct[row][place] else wrong)
    return image_grid(images, shown + 1, titles, frames)


def picture(data, split, shot, spectrum=0):
    """One image of a split as a uint8 array (H, W, 3), as it lies on disk."""
    return np.asarray(
        Image.open(data.manifest.root / getattr(data, split).paths[shot, spectrum]).convert("RGB")
    )


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
    """A line per image: the image (H, W, 3), then its map (h, w) over the grey image for each column of
    {title: (Q, h, w) or None}. A column without maps says "not run"."""
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
    """The image in grey and the map over it, bright where the score comes from; None says "not run"."""
    grey = np.asarray(image, float).mean(2)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, alpha=0.35 if found is None else 1)
    if found is None:
        axis.text(0.5, 0.5, "not run", ha="center", va="center", transform=axis.transAxes, fontsize=8)
        return
    axis.imshow(explain.spread(found, grey.shape), cmap="viridis", alpha=0.6)


def embeddings(found, people=8):
    """t-SNE and UMAP of the same features side by side; the first `people` in colour, each with a marker, the
    others in grey."""
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
    """The finding of `embeddings` for a caption: how often the nearest point of the plane is the same person,
    and how often it would be by chance."""
    same = found.pids[:, None] == found.pids
    chance = (same.sum() - len(same)) / max(len(same) * (len(same) - 1), 1)
    shares = [
        f"{100 * nearest_alike(points, same):.0f} % of the images in {name}"
        for name, points in (("t-SNE", found.tsne), ("UMAP", found.umap))
        if len(points)
    ]
    return (
        f"the nearest image is one of the same person for {' and '.join(shares)}, against "
        f"{100 * chance:.0f} % by chance"
    )


def nearest_alike(points, same):
    """Share of points (N, 2) whose nearest neighbour has their identity; `same` (N, N)."""
    gaps = np.linalg.norm(points[:, None].astype(float) - points, axis=2)
    np.fill_diagonal(gaps, np.inf)
    return same[np.arange(len(gaps)), gaps.argmin(1)].mean()


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


def judged(found, how="relevance", colours=None):
    """Bars of every score for {label: Visuals}, with intervals over images, and a black line at the score of
    a uniform map."""
    figure, axis = plt.subplots(figsize=(5.2, 0.5 + len(SAYS) * (0.24 + 0.2 * len(found))))
    thick = 0.8 / len(found)
    for k, (label, one) in enumerate(found.items()):
        values = [visuals.mean(column) for column in one.judged[list(visuals.HOW).index(how)].T]
        y = np.arange(len(SAYS)) + (k + 0.5) * thick - 0.4
        means = np.array([value.mean for value in values])
        ends = [means - [value.low for value in values], [value.high for value in values] - means]
        axis.barh(
            y,
            means,
            thick * 0.9,
            xerr=np.maximum(ends, 0),
            label=label,
            ecolor="0.25",
            edgecolor="black",
            linewidth=0.4,
            color=(colours or {}).get(label, OKABE_ITO[k]),
            hatch=HATCHES[k % len(HATCHES)],
        )
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
    """A clause per {label: Visuals}: the share of the maps that lies on the person, and whether it can be
    told from that of a uniform map."""
    return "; ".join(f"{label}: {share_on_person(one, how)}" for label, one in found.items())


def titles(one, chosen):
    """Titles of the shown images: the share of the group that it is shown for; "" without masks."""
    return [f"{one.share[k]:.0%} {one.why[k]}" if one.why[k] else "" for k in chosen]


def share_on_person(one, how):
    """The clause of `finding` for one method; `how` is a key of `visuals.HOW`."""
    if np.isnan(one.judged).any():
        return NO_MASKS
    column, difference = explain.SCORES.index("person"), visuals.beside_chance(one, how)
    share, by_chance = (
        100 * table[:, column].astype(float).mean()
        for table in (one.judged[list(visuals.HOW).index(how)], one.chance)
    )
    word = "more than" if difference.low > 0 else "less than" if difference.high < 0 else "not told from"
    return f"{share:.0f} % of the map lies on the person, {word} the {by_chance:.0f} % of chance"


def points(one, score, how="relevance"):
    """A score minus that of a uniform map as text, in points, with the interval over images."""
    if np.isnan(one.judged).any():
        return NO_MASKS
    found = visuals.beside_chance(one, how, score)
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def kept_lists(data, found):
    """The ranked lists of Visuals: hardest queries first, then a median one and the best."""
    return ranked_lists(data, found.queries, found.order, found.correct, found.order.shape[1])


def images(data, rows):
    """Query images (H, W, 3) as they lie on disk."""
    return [picture(data, "query", row) for row in rows]
