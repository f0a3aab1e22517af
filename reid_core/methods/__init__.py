"""The papers, each a `base.Paper` at the end of its own file. What is not complete yet has stages, but no
losses: it proves that the contract of `base` holds it, and no command runs it."""

from reid_core.methods import clip_reid, dmpt, hpl, pad, promptsg, vladr
from reid_core.methods.base import Paper, Variant
from reid_core.methods.baseline import LIFELONG

# PAD's schedule of the first domain, in every domain: its later ones are shorter
AS_LONG_AS_PAD = {
    name: getattr(pad.PAPER.recipe.on("", position=1), name)
    for name in ("stage2_epochs", "stage2_span", "stage2_milestones")
}
PAPERS = {
    "clip_reid": clip_reid.PAPER,
    "promptsg": promptsg.PAPER,
    "hpl": hpl.PAPER,
    "dmpt": dmpt.PAPER,
    "pad": pad.PAPER,
    "vladr": vladr.PAPER,
    "lifelong": Paper(  # the simple baselines of lifelong chapters, with CLIP-ReID's settings
        recipe=clip_reid.RECIPE,
        variants={name: Variant(kind) for name, kind in LIFELONG.items()},
        rows={"full": {}, "PAD's epochs": AS_LONG_AS_PAD},
    ),
}
METHODS = {name: paper for name, paper in PAPERS.items() if paper.complete}
