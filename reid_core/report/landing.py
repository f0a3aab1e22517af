"""The four links of a chapter's landing page, each with a small picture made of the chapter's own runs."""

import re

from IPython.display import HTML
from matplotlib import pyplot as plt

from reid_core.analysis import visuals
from reid_core.data import load_data
from reid_core.report import ablations, figures, forest, heatmaps, images, tables
from reid_core.report.notebook import NAMES
from reid_core.report.orders import OrderChapter
from reid_core.runs import intervals
from reid_core.runs.run import Spec

SIZE = (2.0, 1.5)  # inches of a picture
BARS = 5  # that one has room for
PAGES = {"idea": "Idea", "reproduce": "Reproduction", "ablate": "Ablations", "look": "Explanations"}
STYLE = (
    "<style>.doors{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;"
    "margin:1rem 0}.doors a{display:block;padding:.5rem;border:1px solid rgba(128,128,128,.4);"
    "border-radius:6px;color:inherit;text-decoration:none;font-size:.85rem;line-height:1.35}"
    ".doors a:hover{border-color:#0072b2}.doors a b{display:block;font-size:1rem}"
    ".doors a img{width:100%!important;height:7.5rem!important;object-fit:contain;background:#fff;"
    "border-radius:4px;margin-bottom:.4rem}</style>"
)


def links(chapter, idea, words):
    """Links to the pages of a chapter, with `words` {page: what is there}; `idea` is a text or an equation,
    which stands for the page of that name."""
    drawn = {
        "idea": (plain(idea)[0], "The idea as a prompt or an equation"),
        "reproduce": (scores(chapter), "Bars of mAP, one per method"),
        "ablate": (effects(chapter), "Intervals of effects around a line of no difference"),
        "look": (heat(chapter), "A query, and it under a heat map with the person outlined"),
    }
    made = [link(page, *drawn[page], words[page]) for page in PAGES]
    return HTML(f'<div class="doors">{STYLE}{"".join(made)}</div>')


def link(page, drawn, alt, words):
    """One link: picture, name, words."""
    picture = re.search("<img[^>]*>", figures.as_html(drawn, "", alt))[0]
    told = f"<b>{PAGES[page]}</b><span>{tables.escaped(words)}</span>"
    return f'<a href="{page}.html">{picture}{told}</a>'


def plain(said=""):
    """(figure, axis) without frame and ticks; `said` stands in the middle."""
    figure, axis = plt.subplots(figsize=SIZE)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.text(0.5, 0.5, said, ha="center", va="center", transform=axis.transAxes, fontsize=13)
    return figure, axis


def scores(chapter):
    """The mAP of the whole methods, with intervals; pale where runs are stale."""
    figure, axis = plain()
    whole = list(chapter.whole().items())[-BARS:]
    for y, (name, row) in enumerate(whole):
        runs = ablations.found(row.specs, chapter.page.shelf, row.task)
        stale = any(run.outdated for run in runs)
        word = f": {tables.STALE if stale else tables.NOT_RUN}" if stale or not runs else ""
        axis.text(0, y - 0.4, name + word, fontsize=10, va="center")
        if runs:
            ours = intervals.interval(runs, row.task)
            ends = [[ours.mean - ours.low], [ours.high - ours.mean]]
            colour = figures.COLOURS.get(row.specs[0].variant, figures.GREY)
            style = {"color": colour, "ecolor": "0.5", "alpha": 0.3 if stale else 1}
            axis.barh(y, ours.mean, 0.4, xerr=ends, **style)
    axis.set(xlim=(0, 100), ylim=(y + 0.4, -0.6))
    return figure


def effects(chapter):
    """The forest plot of the chapter's questions in small, without its words."""
    rows = [one for group in chapter.groups() for one in group.rows if one.change]
    if not rows:
        return plain(tables.NOT_RUN)[0]
    figure, axis = plain()
    for y, one in enumerate(rows):
        style = {"color": forest.COLOURS[forest.side(one)], "lw": 1.5}
        axis.plot([one.change.low, one.change.high], [y, y], **style)
        axis.plot(one.change.mean, y, "o", ms=3, **style)
    axis.axvline(0, color="0.2", lw=0.8, zorder=0)
    axis.invert_yaxis()
    return figure


def squares(scores):
    """Scores (T, T) as colours, a row per stage and a column per domain."""
    figure, axis = plain()
    axis.imshow(scores, vmin=0, vmax=100, cmap="viridis")
    return figure


def heat(chapter):
    """The first example of the chapter's explanations: the image, and the relevance of the method over it; of
    an order, what its method has kept of each domain."""
    if isinstance(chapter, OrderChapter):
        kept = chapter.matrices().get(chapter.name)
        return squares(kept[0]) if kept else plain(tables.NOT_RUN)[0]
    spec = Spec(*NAMES[chapter.name], "full", chapter.page.data, chapter.page.profile, chapter.page.seed)
    one = visuals.fresh(spec, chapter.page.shelf)
    if one is None:
        run = chapter.page.shelf.find(spec)
        return plain(tables.STALE if run and run.outdated else tables.NOT_RUN)[0]
    first = visuals.shown(one)[:1]
    data = visuals.part_with_queries(load_data(spec.data, spec.profile))
    column = heatmaps.shares(one, first)
    persons = visuals.persons(data, one.rows[first])
    return heatmaps.overlays(images.images(data, one.rows[first]), {"": column}, [""], persons)
