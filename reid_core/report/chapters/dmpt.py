"""The chapter of DMPT: images in three spectra. Sets of the world stand for RGBNT201 and Market1501-MM
(persons), RGBNT100 and MSVR310 (vehicles)."""

from reid_core.methods import dmpt
from reid_core.report.chapters.kinds import FULL, SEEDS, Box, Claim, Paper, Part, Question

NAME = "DMPT"
PERSONS = ("world_rgbnt201", "world_market_mm")
VEHICLES = ("world_rgbnt100", "world_msvr310")
DATA = PERSONS[0]
TABLE_3, TABLE_4, TABLE_5 = (tuple(rows) for rows in dmpt.TABLES.values())
VISUAL, BOUND, WORDED, WHOLE = TABLE_3  # the first is Baseline 1, the last the full method
FROZEN = ("Baseline2", "fine-tuning")  # what the paper compares with: prompts, and a tower that learns
IMAGENET = tuple(dmpt.IMAGENET)
FIGURE_1 = tuple(dmpt.FIGURE_1)
PAPER = Paper(
    title="Decoupled Modality-aware Prompt Tuning for Multi-modal Object Re-identification",
    authors="Minghui Lin, Shu Wang, Xiang Wang, Jianhua Tang, Longbin Fu, Zhengrong Zuo, Nong Sang",
    venue="WACV 2025",
    link="https://arxiv.org/abs/2504.10985",
    remark="none released",
)
HEADLINES = (Part("dmpt", "dmpt", (*FULL, *TABLE_3, *FROZEN), PERSONS[:1], SEEDS),)
PARTS = (
    Part("dmpt", "dmpt", (*FULL, VISUAL, *FROZEN), (*PERSONS[1:], *VEHICLES)),
    Part("dmpt", "dmpt", (*TABLE_4, *TABLE_5), PERSONS[:1]),
    Part("dmpt", "dmpt", FIGURE_1, PERSONS[:1]),
    Part("dmpt", "dmpt", tuple(dmpt.LENGTHS), PERSONS[:1]),
    Part("dmpt", "dmpt", IMAGENET, (*PERSONS, *VEHICLES)),
    Part("dmpt", "dmpt", (*dmpt.CONTROLS, "fine-tuning with text", "head alone"), PERSONS[:1]),
    Part("dmpt", "dmpt", tuple(dmpt.READINGS), PERSONS[:1]),
)
SHOWN = {
    VISUAL: "1) semantic prompts (Baseline 1)",
    BOUND: "2) and the inverse bind",
    WORDED: "3) and modality prompts",
    WHOLE: "4) and text prompts: all parts",
    "Baseline2": "Baseline 2: semantic and text prompts",
    "fine-tuning": "full fine-tuning",
    "head alone": "frozen tower, trained head",
    **dict(zip(TABLE_4, ("no interaction layer", "one layer", "two layers"), strict=True)),
    **{row: f"{count} modality prompts" for count, row in enumerate(TABLE_5)},
    TABLE_5[1]: "1 modality prompt",
    FIGURE_1[0]: "prompts exchange without a bind",
    FIGURE_1[1]: "tokens of all spectra are fused",
    FIGURE_1[2]: "language binds, no interaction layer",
}


def there(gone):
    """What is left to see where some spectra are missing."""
    left = [word for spectrum, word in WORDS.items() if spectrum not in gone]
    return f"{left[0]} alone" if len(left) == 1 else " and ".join(left)


def lacking(filling):
    """{label: (row, test)} of the tests without some spectra, in which `filling` stands for them."""
    return {there(gone): ("full", dmpt.test_without(gone, filling)) for gone in dmpt.LACKING}


WORDS = {"rgb": "visible", "nir": "near infrared", "tir": "thermal"}
SUBSETS = tuple(lacking("zeros"))
NECK = {"feature before the neck (D18)": ("full", "image to image, before the neck")}
QUESTIONS = {
    "components": Question(
        title="Components (Table 3)",
        caption="Table 3, against semantic prompts alone",
        labels=TABLE_3,
        reference=VISUAL,
        table="Table 3",
    ),
    "baselines": Question(
        title="Baselines",
        caption="What else may learn: nothing but the head, prompts, or the whole tower; against Baseline 1",
        labels=(VISUAL, "head alone", *FROZEN, "fine-tuning with text", "full"),
        reference=VISUAL,
    ),
    "depth": Question(
        title="Interaction depth (Table 4)",
        caption="Table 4, against no interaction layer",
        labels=TABLE_4,
        reference=TABLE_4[0],
        table="Table 4",
    ),
    "words": Question(
        title="Modality prompts (Table 5)",
        caption="Table 5, against no modality prompt",
        labels=TABLE_5,
        reference=TABLE_5[0],
        table="Table 5",
    ),
    "length": Question(
        title="Semantic prompts (Figure 4)",
        caption="Semantic prompts of a block, against 32",
        labels=("full", *dmpt.LENGTHS),
    ),
    "exchange": Question(
        title="Other ways to exchange (Figure 1)",
        caption="What else may pass between spectra, against the inverse bind",
        labels=("full", *FIGURE_1),
    ),
    "missing": Question(
        title="Missing spectra at test",
        caption="The model that was trained with all three, tested with some, grey images for the others; "
        "against all three",
        labels=("full", *SUBSETS),
        tests=lacking("zeros"),
    ),
    "filled": Question(
        title="Missing spectra, filled by the mean",
        caption="As above, with the mean image of the training set for a missing one",
        labels=("full", *SUBSETS),
        tests=lacking("mean"),
        plotted=False,
    ),
    "dropped": Question(
        title="Missing spectra, left out",
        caption="As above, with nothing in place of a missing one: no bind over it, zeros in its share of "
        "the feature",
        labels=("full", *SUBSETS),
        tests=lacking("mask"),
        plotted=False,
    ),
    "readings": Question(
        title="Unspecified details",
        caption="Readings of unspecified details, against the default",
        labels=("full", *dmpt.READINGS, *NECK),
        tests=NECK,
    ),
    "language": Question(
        title="Controls for language",
        caption="Words of the spectra that name none, and no text prompts, against the full method",
        labels=("full", *dmpt.CONTROLS, WORDED),
    ),
}


def whole(method, backbone, table):
    """The columns that pick a whole method in Table 1 or 2."""
    return {"paper": "dmpt", "table": table, "method": method, "backbone": backbone}


def rows(id, text, table, better, against):
    """The Claim that two rows of one table differ."""
    printed = tuple({"paper": "dmpt", "table": table, "row": row} for row in (better, against))
    return Claim(id, text, table, better, against, printed)


CLAIMS = (
    rows("gain", "DMPT ranks above semantic prompts alone (Baseline 1)", "Table 3", WHOLE, VISUAL),
    Claim(
        "gain-away",
        "The same on the second set of persons",
        "Table 1, ImageNet weights",
        IMAGENET[0],
        IMAGENET[1],
        (whole("DMPT", "ViT", "Table 1"), whole("Baseline1", "ViT", "Table 1")),
        away=True,
        page="reproduce",
    ),
    rows("bind", "The inverse bind helps", "Table 3", BOUND, VISUAL),
    rows("modality", "Modality prompts, made of words, help", "Table 3", WORDED, BOUND),
    rows("text", "Fixed text prompts help", "Table 3", WHOLE, WORDED),
    rows("depth", "One interaction layer is better than two", "Table 4", TABLE_4[1], TABLE_4[2]),
    rows("one", "One modality prompt is better than two", "Table 5", TABLE_5[1], TABLE_5[2]),
    Claim(
        "frozen",
        "Prompts of a frozen tower rank above full fine-tuning",
        "Section 4.3",
        "full",
        "fine-tuning",
    ),
)
BOXES = {
    "chapter": Box(
        says="The paper claims that prompts of a frozen CLIP tower, which the spectra exchange through a "
        "common bind, search better than prompts that know nothing of other spectra.",
        claims=("gain", "bind", "frozen"),
        holds="The gain exists on images that share nothing with the paper's; its size is not to be "
        "compared.",
        fails="Prompts that know nothing of other spectra are enough on these images.",
    ),
    "reproduce": Box(
        says="Tables 1 and 3 of the paper print DMPT above both baselines, and above methods that fine-tune "
        "the whole tower, with 6.5 % of the parameters.",
        claims=("gain", "frozen"),
        holds="The order of DMPT and Baseline 1 is reproduced on synthetic images, not the printed numbers.",
        fails="The order of DMPT and Baseline 1 is not reproduced on synthetic images.",
    ),
    "ablate": Box(
        says="The paper claims that each part helps: modality prompts most, then the inverse bind and the "
        "text prompts.",
        claims=("modality", "bind", "text"),
        holds="Words of the spectra help here, too.",
        fails="Words of the spectra are not where a gain comes from on these images.",
    ),
    "look": Box(
        says="The paper's Figure 5 shows by t-SNE that persons part better with each component.",
        claims=("gain", "bind"),
        holds="The pictures below show what the better ranking looks like, and which spectrum it rests on.",
        fails="The pictures below show which spectrum the model rests on while the parts cost accuracy.",
    ),
}
