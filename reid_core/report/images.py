"""Pictures: image grids and ranked lists; and of Visuals (`analysis.visuals`) heat maps over images,
embeddings in the plane, and the scores of explanations beside those of a uniform map."""

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from data_prep import pictures
from reid_core.analysis import explain, visuals
from reid_core.report import tables

OKABE_ITO = matplotlib.color_sequences["okabe_ito"]


def image_grid(images, columns, titles=None, frames=None, width=0.72):
    """uint8 images (N, H, W, 3) in lines of `columns`, each `width` inches wide; `frames` are N colours or
    None."""
    rows = -(-len(images) // columns)  # rounded up
    height, across = images[0].shape[:2]
    line = width * height / across + 0.22  # inches: an image, and its title above
    figure, axes = plt.subplots(rows, columns, figsize=(columns * width, rows * line), squeeze=False)
    for k, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        if k >= len(images):  # the last line may be shorter
            axis.axis("off")
            continue
        axis.imshow(images[k])
        axis.set_title(titles[k] if titles else "", fontsize=7, pad=2)
        colour = frames[k] if frames else None
        for spine in axis.spines.values():
            spine.set(color=colour or "white", linewidth=2.5)  # white: all images keep the same size
    figure.subplots_adjust(wspace=0.08, hspace=0.18)
    return figure


def regions(image, mask, names):
    """An image (H, W, 3), and beside it its mask (H, W) of numbers into `names`, painted and labelled."""
    figure, axes = plt.subplots(1, 2, figsize=(4.6, 3.4))
    present = [k for k in np.unique(mask) if names[k] != "background"]
    painted = np.full((*mask.shape, 3), 0.92)  # (H, W) -> (H, W, 3), light grey
    for number, k in enumerate(present):
        painted[mask == k] = matplotlib.color_sequences["tab10"][number]
    for axis, shown in zip(axes, (image, painted)):
        axis.imshow(shown)
        axis.axis("off")
    for number, k in enumerate(present):
        y, x = np.argwhere(mask == k).mean(0)  # the middle of the region; it may lie outside of a curved one
        axes[1].annotate(
            names[k],
            (x, y),
            (mask.shape[1] * 1.04, y),  # to the right of the image, at the region's height
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
    axes[0].imshow(np.concatenate(images))  # N of (H, W, 3) -> (N * H, W, 3): one above the other
    axes[0].axis("off")
    axes[1].imshow(table, cmap="viridis", aspect="auto")
    middle = (table.min() + table.max()) / 2
    for (row, column), value in np.ndenumerate(table):
        axes[1].text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value < middle else "black",  # low values of viridis are dark
            weight="bold" if value == table[row].max() else "normal",
        )
    axes[1].set(xticks=range(count), yticks=[], xlabel="sentence (bold: the nearest to the image)")
    axes[1].set_xticklabels(range(1, count + 1))
    return figure


def heat(maps, size):
    """Maps (N, h, w) as uint8 pictures (N, H, W, 3) in viridis, each scaled from its own lowest to its
    highest value."""
    span = np.ptp(maps, axis=(1, 2), keepdims=True)  # (N, 1, 1)
    lowest = maps.min((1, 2), keepdims=True)
    level = (maps - lowest) / np.where(span > 0, span, 1)  # a flat map is 0 everywhere
    rgba = matplotlib.colormaps["viridis"](level)  # (N, h, w) -> (N, h, w, 4)
    pictures = []
    for colours in (255 * rgba[..., :3]).astype(np.uint8):
        enlarged = Image.fromarray(colours).resize(
            size[::-1], Image.Resampling.NEAREST
        )  # (W, H), as in Pillow
        pictures.append(np.asarray(enlarged))
    return pictures


def same_size(pictures):
    """Pictures (H, W, 3), each resized to the first one, so that they fit one grid."""
    height, width = pictures[0].shape[:2]
    return [np.asarray(Image.fromarray(one).resize((width, height))) for one in pictures]


def ranked_lists(data, queries, order, correct, shown=8):
    """A line per query: the query, then its `shown` nearest gallery images; true matches framed in bluish
    green with a tick, others in vermilion with a cross."""
    right = OKABE_ITO[3]  # bluish green
    wrong = OKABE_ITO[6]  # vermilion
    images = []
    titles = []
    frames = []
    for row, query in enumerate(queries):
        images.append(picture(data, "query", query))
        titles.append("query")
        frames.append(None)
        for place in range(shown):
            images.append(picture(data, "gallery", order[row][place]))
            mark, colour = ("✓", right) if correct[row][place] else ("✗", wrong)
            titles.append(f"{place + 1} {mark}")
            frames.append(colour)
    return image_grid(images, shown + 1, titles, frames)


def picture(data, split, shot, spectrum=0):
    """One image of a split as a uint8 array (H, W, 3), as it lies on disk."""
    paths = getattr(data, split).paths  # (shots, spectra)
    return np.asarray(pictures.opened(data.manifest.root / paths[shot, spectrum]))


MARKERS = "os^DvP*X"
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
    size = ((1 + len(columns)) * width, len(images) * (height + 0.2) + 0.3)  # inches, with room for titles
    figure, axes = plt.subplots(len(images), 1 + len(columns), figsize=size, squeeze=False)
    for k, row in enumerate(axes):
        row[0].imshow(images[k])
        row[0].set_title(titles[k], fontsize=7, pad=2)
        for axis, (name, maps) in zip(row[1:], columns.items()):
            overlay(axis, images[k], None if maps is None else maps[k])
            if not k:  # the first line alone says which column is whose
                axis.set_title(name, fontsize=7, pad=2)
    for axis in axes.flat:
        axis.axis("off")
    figure.subplots_adjust(wspace=0.06, hspace=0.12)
    return figure


def overlay(axis, image, found):
    """The image in grey and the map over it, bright where the score comes from; None says "not run"."""
    grey = np.asarray(image, float).mean(2)  # (H, W, 3) -> (H, W), so that no colour is taken for the map's
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, alpha=0.35 if found is None else 1)
    if found is None:
        axis.text(0.5, 0.5, "not run", ha="center", va="center", transform=axis.transAxes, fontsize=8)
        return
    axis.imshow(explain.spread(found, grey.shape), cmap="viridis", alpha=0.6)


def embeddings(found, people=8):
    """t-SNE and UMAP of the same features side by side; the first `people` in colour, each with a marker, the
    others in grey."""
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.4))
    shown = np.unique(found.pids)[:people]  # sorted: the same people for every method
    for axis, (name, points) in zip(axes, planes(found).items()):
        axis.set(xticks=[], yticks=[], xlabel=f"{name} 1 (no unit)", ylabel=f"{name} 2 (no unit)")
        if len(points):
            scatter(axis, points.astype(float), found.pids, shown)  # kept in half precision
        else:
            axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes)
    handles, labels = axes[0].get_legend_handles_labels()  # both panels show the same people
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=7)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    return figure


def planes(found):
    """{name: points (N, 2)} of the embeddings of Visuals; one that was not computed has no points."""
    return {"t-SNE": found.tsne, "UMAP": found.umap}


def told_apart(found):
    """The finding of `embeddings` for a caption: how often the nearest point of the plane is the same person,
    and how often it would be by chance."""
    same = found.pids[:, None] == found.pids  # (N, N)
    count = len(same)
    chance = (same.sum() - count) / max(count * (count - 1), 1)  # among pairs of two different images
    shares = []
    for name, points in planes(found).items():
        if len(points):
            shares.append(f"{100 * nearest_alike(points, same):.0f} % of the images in {name}")
    return (
        f"the nearest image is one of the same person for {' and '.join(shares)}, against "
        f"{100 * chance:.0f} % by chance"
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


def scores_of(one, how):
    """Scores (Q, scores) of the maps of one kind; `how` is a key of `visuals.HOW`."""
    return one.judged[list(visuals.HOW).index(how)]


def judged(found, how="relevance", colours=None):
    """Bars of every score for {label: Visuals}, with intervals over images, and a black line at the score of
    a uniform map."""
    figure, axis = plt.subplots(figsize=(5.2, 0.5 + len(SAYS) * (0.24 + 0.2 * len(found))))
    thick = 0.8 / len(found)  # of the distance between two scores; the bars of one score touch
    for k, (label, one) in enumerate(found.items()):
        place = (k + 0.5) * thick - 0.4
        colour = (colours or {}).get(label, OKABE_ITO[k])
        score_bars(
            axis,
            scores_of(one, how),
            np.arange(len(SAYS)) + place,
            thick * 0.9,
            label=label,
            color=colour,
            hatch=HATCHES[k % len(HATCHES)],
        )
    any_of_them = next(iter(found.values()))  # all judge the same images, so chance is the same
    chance_lines(axis, any_of_them.chance)
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


def score_bars(axis, scores, y, thick, **style):
    """A bar at each of `y` for the mean of a column of scores (Q, columns), with its interval over images."""
    values = [visuals.mean(column) for column in scores.T]
    means, low, high = np.array([(value.mean, value.low, value.high) for value in values]).T
    ends = np.maximum([means - low, high - means], 0)  # (2, columns); rounding may leave an end below 0
    axis.barh(y, means, thick, xerr=ends, ecolor="0.25", edgecolor="black", linewidth=0.4, **style)


def chance_lines(axis, chance):
    """A black line across the bars of each score, at the mean of a uniform map's scores (Q, columns)."""
    for y, value in enumerate(100 * chance.astype(float).mean(0)):
        label = "" if y else "uniform map"  # once in the legend
        axis.plot([value, value], [y - 0.45, y + 0.45], color="black", lw=2, label=label)


def finding(found, how="relevance"):
    """A clause per {label: Visuals}: the share of the maps that lies on the person, and whether it can be
    told from that of a uniform map."""
    return "; ".join(f"{label}: {share_on_person(one, how)}" for label, one in found.items())


def titles(one, chosen):
    """Titles of the shown images: the share of the group that it is shown for; "" without masks."""
    told = []
    for k in chosen:
        told.append(f"{one.share[k]:.0%} {one.why[k]}" if one.why[k] else "")
    return told


def share_on_person(one, how):
    """The clause of `finding` for one method; `how` is a key of `visuals.HOW`."""
    if np.isnan(one.judged).any():
        return NO_MASKS
    column = explain.SCORES.index("person")
    share = 100 * scores_of(one, how)[:, column].astype(float).mean()
    by_chance = 100 * one.chance[:, column].astype(float).mean()
    difference = visuals.beside_chance(one, how)
    if difference.low > 0:
        word = "more than"
    elif difference.high < 0:
        word = "less than"
    else:
        word = "not told from"
    return f"{share:.0f} % of the map lies on the person, {word} the {by_chance:.0f} % of chance"


def points(one, score, run=None, how="relevance"):
    """The cell of a score minus that of a uniform map, in points, with the interval over images; it names the
    run that these Visuals belong to."""
    if np.isnan(one.judged).any():
        return tables.Cell(NO_MASKS)
    found = visuals.beside_chance(one, how, score)
    text = f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
    if run is None or run.key != one.key:  # of no run, such as an untrained tower
        return tables.Cell(text)
    return tables.Cell(text, tables.kind_of([run]), (run,))


def kept_lists(data, found):
    """The ranked lists of Visuals: hardest queries first, then a median one and the best."""
    return ranked_lists(data, found.queries, found.order, found.correct, found.order.shape[1])


def images(data, rows):
    """Query images (H, W, 3) as they lie on disk."""
    return [picture(data, "query", row) for row in rows]
