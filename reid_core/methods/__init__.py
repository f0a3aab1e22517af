"""The papers, each a `base.Paper` at the end of its own file, and the simple baselines of lifelong chapters.
What is not complete has stages, but no losses: no command runs it."""

from reid_core.methods import clip_reid, dmpt, hpl, pad, promptsg, vladr
from reid_core.methods.base import Paper, Variant
from reid_core.methods.baseline import LIFELONG

# PAD's schedule of the first domain, in every domain: its later ones are shorter
AS_LONG_AS_PAD = {
    name: getattr(pad.PAPER.recipe.on("", position=1), name)
    for name in ("stage2_epochs", "stage2_span", "stage2_milestones")
}
AS_LONG_AS_VLADR = {"stage2_epochs": vladr.PAPER.recipe.stage2_epochs}
# VLADR's prototypes of a domain take 4 x 512 numbers, 8 KiB: less than one image of 256 x 128. Four images
# are the fewest that give each of four earlier domains one.
FEW_IMAGES = {"replay_images": 4}
LIFELONG_ROWS = {
    "full": {},
    "PAD's epochs": AS_LONG_AS_PAD,
    "VLADR's epochs": AS_LONG_AS_VLADR,
    "VLADR's epochs, two views": {**AS_LONG_AS_VLADR, "strong_view": True},
    "as few images as prototypes weigh": {**AS_LONG_AS_VLADR, **FEW_IMAGES},
}
EVERYBODY = tuple(row for row in LIFELONG_ROWS if row != "as few images as prototypes weigh")
PAPERS = {
    "clip_reid": clip_reid.PAPER,
    "promptsg": promptsg.PAPER,
    "hpl": hpl.PAPER,
    "dmpt": dmpt.PAPER,
    "pad": pad.PAPER,
    "vladr": vladr.PAPER,
    "lifelong": Paper(
        recipe=clip_reid.LifelongRecipe(),
        variants={
            name: Variant(kind, rows=None if name == "exemplar replay" else EVERYBODY)
            for name, kind in LIFELONG.items()
        },
        rows=LIFELONG_ROWS,
    ),
}
METHODS = {name: paper for name, paper in PAPERS.items() if paper.complete}
