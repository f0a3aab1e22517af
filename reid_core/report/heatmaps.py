"""Heat maps of Visuals (`analysis.visuals`) over their images, and their scores beside those of a uniform
map.

Q explained queries, h x w patches of an image of H x W pixels
"""

import textwrap
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patheffects import withStroke

from reid_core.analysis import explain, visuals
from reid_core.report import tables

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


class Column(NamedTuple):
    """Maps (Q, h, w) of one method, and the words under each."""

    maps: np.ndarray
    under: list


EMPTY = "empty map"


def overlays(pictures, columns, titles, persons=(), width=0.78):
    """A line per picture (H, W, 3): it, then its map over it in grey for each of {title: Column, or the word
    that says why there are no maps}. `persons`, (H, W) of truth, are outlined."""
    height = width * pictures[0].shape[0] / pictures[0].shape[1]
    size = ((1 + len(columns)) * width, len(pictures) * (height + 0.4))  # inches, with room for words
    figure, axes = plt.subplots(len(pictures), 1 + len(columns), figsize=size, squeeze=False)
    for k, row in enumerate(axes):
        row[0].imshow(pictures[k])
        row[0].set_title(titles[k], fontsize=8, pad=3)
        person = persons[k] if len(persons) else None
        if person is not None:
            outline(row[0], person)
            below(row[0], f"person: {100 * person.mean():.0f} %")
        for axis, (name, column) in zip(row[1:], columns.items()):
            found, words = (None, column) if isinstance(column, str) else (column.maps[k], column.under[k])
            overlay(axis, pictures[k], found, words, person)
            if not k:  # the first line alone says which column is whose
                axis.set_title(textwrap.fill(name, 13), fontsize=8, pad=3)
    for axis in axes.flat:
        axis.axis("off")
    figure.subplots_adjust(wspace=0.06, hspace=0.36 / height, left=0, right=1, bottom=0, top=1)
    return figure


def overlay(axis, image, found, words, person=None, brightest=None):
    """The image in grey, its map (h, w) over it, the person outlined, words below; or, without a map or with
    an empty one, the word that says so. Its own peak is `brightest` unless told."""
    grey = np.asarray(image, float).mean(2)  # (H, W, 3) -> (H, W), so that no colour is taken for the map's
    there = found is not None and np.any(found)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, alpha=1 if there else 0.35)
    if there:
        shown = explain.spread(found, grey.shape)
        axis.imshow(shown, cmap="viridis", alpha=0.6, vmin=brightest and 0, vmax=brightest)
        below(axis, words)
        if person is not None:
            outline(axis, person)
        return
    said = words if found is None else EMPTY
    axis.text(0.5, 0.5, said, ha="center", va="center", transform=axis.transAxes, fontsize=9)


def below(axis, words):
    """Small words under a picture, whose axis is off."""
    axis.text(0.5, -0.015, words, ha="center", va="top", transform=axis.transAxes, fontsize=8)


def outline(axis, person):
    """The edge of a person, (H, W) of truth: white with a dark rim, seen on every ground."""
    if person.any():
        rim = [withStroke(linewidth=2.2, foreground="black")]
        axis.contour(person, [0.5], colors="white", linewidths=0.9).set_path_effects(rim)


def scores_of(one, how):
    """Scores (Q, scores) of the maps of one kind; `how` is a key of `visuals.HOW`."""
    return one.judged[list(visuals.HOW).index(how)]


def bars(found, how="relevance", colours=None):
    """Bars of every score for {label: Visuals}, with intervals over images, and a black line at the score of
    a uniform map."""
    figure, axis = plt.subplots(figsize=(5.2, 0.5 + len(SAYS) * (0.2 + 0.11 * len(found))))
    thick = 0.8 / len(found)  # of the distance between two scores; the bars of one score touch
    for k, (label, one) in enumerate(found.items()):
        style = {"color": (colours or {}).get(label, OKABE_ITO[k]), "hatch": HATCHES[k % len(HATCHES)]}
        places = np.arange(len(SAYS)) + (k + 0.5) * thick - 0.4
        score_bars(axis, scores_of(one, how), places, thick * 0.9, label=label, **style)
    any_of_them = next(iter(found.values()))  # all judge the same images, so chance is the same
    chance_lines(axis, any_of_them.chance)
    axis.set(xlim=(0, 100), xlabel="per cent of images or of the map")
    axis.set_yticks(range(len(SAYS)), SAYS.values())
    axis.invert_yaxis()
    place = (0.4, -0.1 - 0.5 / figure.get_figheight())
    axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=place, ncols=2)
    return figure


def score_bars(axis, scores, y, thick, **style):
    """A bar at each of `y` for the mean of a column of scores (Q, columns), with its interval over images."""
    values = [visuals.mean(column) for column in scores.T]
    means, low, high = np.array([(value.mean, value.low, value.high) for value in values]).T
    ends = np.maximum([means - low, high - means], 0)  # (2, columns); rounding may leave an end below 0
    axis.barh(y, means, thick, xerr=ends, ecolor="0.5", edgecolor="black", linewidth=0.4, **style)


def chance_lines(axis, chance):
    """A black line, with a white rim, across the bars of each score, at the mean of a uniform map's scores
    (Q, columns)."""
    rim = [withStroke(linewidth=4, foreground="white")]
    for y, value in enumerate(100 * chance.astype(float).mean(0)):
        label = "" if y else "uniform map"  # once in the legend
        axis.plot([value, value], [y - 0.45, y + 0.45], color="black", lw=2, label=label, path_effects=rim)


def finding(found, how="relevance"):
    """The mean share of the maps on the person for each of {label: Visuals}, and whether it can be told from
    that of a uniform map."""
    judged = {label: one for label, one in found.items() if not np.isnan(one.judged).any()}
    if not judged:
        return f"Share of the map on the person: {NO_MASKS}"
    told = [f"{label} {share_on_person(one, how)}" for label, one in judged.items()]
    by_chance = 100 * on_person(next(iter(judged.values())).chance)  # the same for all
    return f"Share of the map on the person: {', '.join(told)}; of a uniform map {by_chance:.0f} %"


def titles(one, chosen):
    """Titles of the shown images: the share of the group that it is shown for; "" without masks."""
    told = []
    for k in chosen:
        told.append(f"{100 * one.share[k]:.0f} % {one.why[k]}" if one.why[k] else "")
    return told


def share_on_person(one, how):
    """The clause of `finding` for one method; `how` is a key of `visuals.HOW`."""
    difference = visuals.beside_chance(one, how)
    if difference.low > 0:
        word = "above chance"
    elif difference.high < 0:
        word = "below chance"
    else:
        word = "undecided"
    return f"{100 * on_person(scores_of(one, how)):.0f} % ({word})"


def on_person(scores):
    """The mean over queries of a share on the person: of scores (Q, scores)."""
    return scores[:, explain.SCORES.index("person")].astype(float).mean()


def points(one, score, run=None, how="relevance"):
    """The cell of a score minus that of a uniform map, in points, with the interval over images; it names the
    run that these Visuals belong to."""
    if np.isnan(one.judged).any():
        return tables.Cell(NO_MASKS)
    found = visuals.beside_chance(one, how, score)
    text = f"{tables.points(found.mean)} [{tables.points(found.low)}, {tables.points(found.high)}]"
    if run is None or run.key != one.key:  # of no run, such as an untrained tower
        return tables.Cell(text)
    return tables.Cell(text, tables.kind_of([run]), (run,))


def shares(one, chosen, how="relevance"):
    """The Column of the chosen explained queries: under each map its share on the person, where masks tell;
    a word instead for a tower without attention."""
    if not len(getattr(one, how)):
        return "no attention"
    column = explain.SCORES.index("person")
    told = [100 * float(value) for value in scores_of(one, how)[chosen, column]]
    return Column(getattr(one, how)[chosen], ["" if np.isnan(share) else f"{share:.0f} %" for share in told])
