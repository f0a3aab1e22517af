"""Pictures of attribute queries from Visuals (`analysis.visuals`): where each looks, and which images each
places side by side.

    Q explained images, K attributes, N points of an embedding, h x w patches
"""

import numpy as np
from matplotlib import pyplot as plt

from reid_core.analysis.attributes import NEAREST
from reid_core.analysis.regions import PARTS, WORN
from reid_core.report import heatmaps, images
from reid_core.report.neighbours import PLANES
from reid_core.report.notebook import missing

IMAGES = 2  # whose maps are shown
HAIR = {"blonde": "#ceac68"}  # the one colour of the world that matplotlib does not know by its name
NOT_KEPT = "Maps and embeddings of single attributes"


def maps(looks, label):
    """The attention map of each query over IMAGES images, of the method that an `Explanations` calls so."""
    found = kept(looks, label)
    if found is None:
        return missing(NOT_KEPT)
    rows = looks.chosen[:IMAGES]
    drawn = heatmaps.overlays(
        images.images(looks.data, found.rows[rows]),
        {
            name: heatmaps.Column(found.attended[rows, k], [""] * len(rows))
            for k, name in enumerate(names_of(found))
        },
        heatmaps.titles(found, rows),
    )
    caption = (
        f"Maps of two queries of one image have a mean correlation of {likeness(found.attended):.2f} over "
        f"{len(found.rows)} people ({label}): at 1 they are one map. Each is scaled to its own peak"
    )
    return looks.figure(drawn, f"{caption}.", "Lines of an image and a heat map for each attribute query")


def plane(looks, label, name="tsne"):
    """The images in the plane by each attribute, in the colour of what the part wears."""
    found = kept(looks, label)
    points = getattr(found, f"{name}_by", ())
    if not np.size(points) or not len(found.worn):
        return missing(NOT_KEPT)
    told = [
        f"{worn} {own:.0f} % ({whole:.0f} % by the whole feature, {chance:.0f} % by chance)"
        for worn, (own, whole, chance) in zip(WORN, found.agrees)
    ]
    caption = (
        f"{PLANES[name]} by each attribute of {label}, in the colour of what the part wears. Of the "
        f"{NEAREST} nearest images of other people by the attribute show the same: {', '.join(told)}."
    )
    alt = "A scatter plot for each attribute, its points in the colours of clothes or hair"
    return looks.figure(scatters(points, found.worn, name), caption, alt)


def kept(looks, label):
    """The Visuals of a method if they hold maps of attributes, or None."""
    found = looks.there.get(label)
    return found if found is not None and len(found.attended) else None


def names_of(found):
    """K names of the attributes of Visuals: those of parts, if it is known what the parts wear."""
    count = found.attended.shape[1]
    return PARTS if len(found.worn) else [f"attribute {k + 1}" for k in range(count)]


def likeness(attended):
    """Mean correlation between two different maps of one image, of maps (Q, K, h, w)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        several = [np.corrcoef(one.reshape(len(one), -1).astype(float)) for one in attended]
    count = attended.shape[1]
    apart = [(one.sum() - np.trace(one)) / max(count * (count - 1), 1) for one in several]
    return float(np.nanmean(apart))  # a map without any contrast has no correlation


def scatters(points, worn, name):
    """A panel for each of K attributes, with points (K, N, 2) in the colours (N, K) that are worn."""
    drawn, axes = plt.subplots(1, len(points), figsize=(2.3 * len(points), 2.5), squeeze=False)
    for axis, place, colours, part in zip(axes[0], points.astype(float), worn.T, WORN):
        seen = [HAIR.get(colour, colour) for colour in colours]
        axis.scatter(*place.T, s=9, c=seen, edgecolor="0.45", linewidth=0.3)
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(f"{PLANES[name]} (no unit)", fontsize=8)
        axis.set_title(part, fontsize=8)
        axis.set_facecolor("0.93")  # white clothes are seen
    drawn.tight_layout()
    return drawn
