"""Pictures: image grids, ranked lists, masks, and cosines beside their images."""

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from data_prep import pictures

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


MARKS = {True: ("✓", OKABE_ITO[3]), False: ("✗", OKABE_ITO[6])}  # bluish green, vermilion


def ranked_lists(data, queries, order, correct, shown=8):
    """A line per query: the query, then its `shown` nearest gallery images; true matches framed in bluish
    green with a tick, others in vermilion with a cross."""
    images = []
    titles = []
    frames = []
    for row, query in enumerate(queries):
        images.append(picture(data, "query", query))
        titles.append("query")
        frames.append(None)
        for place in range(shown):
            images.append(picture(data, "gallery", order[row][place]))
            mark, colour = MARKS[bool(correct[row][place])]
            titles.append(f"{place + 1} {mark}")
            frames.append(colour)
    return image_grid(images, shown + 1, titles, frames)


def picture(data, split, shot, spectrum=0):
    """One image of a split as a uint8 array (H, W, 3), as it lies on disk."""
    shots = getattr(data, split)
    path, tile = shots.paths[shot, spectrum], shots.tiles[shot, spectrum]
    return np.asarray(pictures.opened(data.manifest.root / path, tile))


def images(data, rows):
    """Query images (H, W, 3) as they lie on disk."""
    return [picture(data, "query", row) for row in rows]
