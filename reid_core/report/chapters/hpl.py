"""The chapter of HPL: one model for two tasks. The set world_text stands for CUHK-PEDES: some of its people
are those of world_market."""

from data_prep import catalogue
from reid_core.methods import hpl
from reid_core.report.chapters.kinds import FULL, MARKETS, SEEDS, Box, Claim, Paper, Part, Question, Task

NAME = "HPL"
PAIR = ("world_text", MARKETS[0])  # what a joint training of two tasks joins
JOINT_SET = DATA = "+".join(PAIR)
MODULES = tuple(hpl.TABLES["Table 3"])  # from joint training with one class token to all parts
GUIDED = tuple(hpl.TABLES["Table 4"])  # no alignment loss, text-guided, vision-guided, both
SEPARATE = "separate models"  # the label of each task's `alone`
ASKED_BY = {"sentences": hpl.BASE[:2], "images": hpl.BASE[2:]}  # queries -> the losses of Eq. 2 for them
OTHER_TOKEN = "searched by the other token"
LEAKY = "shared people kept (D19)"  # the label of the full row on a joint set that keeps them
PAPER = Paper(
    title="Hierarchical Prompt Learning for Image- and Text-Based Person Re-Identification",
    authors="Linhan Zhou, Shuang Li, Neng Dong, Yonghang Tai, Yafei Zhang, Huafeng Li",
    venue="AAAI 2026",
    link="https://doi.org/10.1609/aaai.v40i16.38380",
    remark="LH-Z-Ac/HPL-AAAI26 announces it, none released",
)
TASKS = (
    Task("text to image", "text model alone", "Table 1", "identity t2i"),
    Task("image to image", "image model alone", "Table 2", "identity i2i"),
)
HEADLINES = (
    Part("hpl", "hpl", ("full", *MODULES), (JOINT_SET,), SEEDS),
    Part("hpl", "sentences", FULL, PAIR[:1], SEEDS),
    Part("hpl", "images", FULL, PAIR[1:], SEEDS),
)
PARTS = (
    Part("hpl", "hpl", GUIDED, (JOINT_SET,)),
    Part("hpl", "hpl", (*hpl.BALANCE, *hpl.CONTROLS), (JOINT_SET,)),
    Part("hpl", "hpl", FULL, (catalogue.LEAKY + JOINT_SET,)),
    Part("hpl", "hpl", (*hpl.SIZES_OF_PROMPTS, *hpl.WEIGHTS), (JOINT_SET,)),
    Part("hpl", "hpl", tuple(hpl.READINGS), (JOINT_SET,)),
)
SHOWN = {
    "control: another's prompt": "shuffled identity prompts",
    **{row: row.replace("lambda", "λ").replace(" ", " = ") for row in hpl.WEIGHTS},
    **dict(
        zip(
            (*MODULES, *GUIDED),
            (
                "1) joint training, one class token",
                "2) second class token",
                "3) second class token, prompts",
                "4) all parts",
                "neither alignment loss",
                "text-guided prompts alone",
                "vision-guided prompts alone",
                "both",
            ),
            strict=True,
        )
    ),
}
QUESTIONS = {
    "modules": Question(
        title="Modules (Table 3)",
        caption="Table 3, against joint training with one class token",
        labels=MODULES,
        reference=MODULES[0],
        table="Table 3",
    ),
    "alignment": Question(
        title="Alignment with instance prompts (Table 4)",
        caption="Table 4, against neither alignment loss",
        labels=GUIDED,
        reference=GUIDED[0],
        table="Table 4",
    ),
    "separate": Question(
        title="Joint or separate training",
        caption="A model per task and one model for both, against joint training with one class token",
        labels=(MODULES[0], SEPARATE, "full"),
        reference=MODULES[0],
    ),
    "balance": Question(
        title="Do the tasks compete?",
        caption="The two losses for image queries weigh three times as much, against as printed",
        labels=("full", *hpl.BALANCE),
    ),
    "tokens": Question(
        title="The other class token",
        caption="Each task searched by the token of the other, against its own",
        labels=("full", OTHER_TOKEN),
        tests={OTHER_TOKEN: ("full", " by the other token")},
    ),
    "words": Question(
        title="Number of pseudo-words",
        caption="Pseudo-words of an image or a caption, against four",
        labels=("full", "one pseudo-word (D5)", "eight pseudo-words (D5)"),
    ),
    "depth": Question(
        title="Depth of the inversion networks",
        caption="Blocks of the inversion networks, against four",
        labels=("full", "two inversion blocks", "one inversion block"),
    ),
    "weights": Question(
        title="Loss weights (Figure 3)",
        caption="Weights of the alignment and of the prompt regularisation, against 0.4 and 0.06",
        labels=("full", *hpl.WEIGHTS),
    ),
    "readings": Question(
        title="Unspecified details",
        caption="Readings of unspecified details, against the default",
        labels=("full", *hpl.READINGS, LEAKY),
    ),
    "language": Question(
        title="Controls for language",
        caption="Controls for language, against the full method",
        labels=("full", *hpl.CONTROLS),
    ),
}


def joint(id, text, where, better, against, task, metric="mAP"):
    """The Claim that two rows of HPL differ in one task; `where` begins with the table that prints both, or
    with a figure, which prints none."""
    table = where.partition(",")[0]
    printed = ()
    if table.startswith("Table"):
        printed = tuple({"paper": "hpl", "table": table, "row": row} for row in (better, against))
    return Claim(id, text, where, better, against, printed, metric=metric, task=task)


TEXT, IMAGE = (task.name for task in TASKS)
CLAIMS = (
    joint(
        "gain-text",
        "HPL ranks above joint training with one class token, text to image",
        "Table 3, rows 1 and 4",
        MODULES[3],
        MODULES[0],
        TEXT,
    ),
    joint(
        "gain-image",
        "HPL ranks above joint training with one class token, image to image",
        "Table 3, rows 1 and 4",
        MODULES[3],
        MODULES[0],
        IMAGE,
    ),
    joint(
        "routing-text",
        "A class token per task helps text to image",
        "Table 3, rows 1 and 2",
        MODULES[1],
        MODULES[0],
        TEXT,
    ),
    joint(
        "routing-image",
        "A class token per task helps image to image",
        "Table 3, rows 1 and 2",
        MODULES[1],
        MODULES[0],
        IMAGE,
    ),
    joint(
        "regularisation",
        "Cross-modal prompt regularisation helps text to image",
        "Table 3, rows 3 and 4",
        MODULES[3],
        MODULES[2],
        TEXT,
        metric="R1",
    ),
    joint(
        "text-guided",
        "Text-guided prompts help text to image",
        "Table 4, rows 1 and 2",
        GUIDED[1],
        GUIDED[0],
        TEXT,
        metric="R1",
    ),
    joint(
        "vision-guided",
        "Vision-guided prompts help image to image",
        "Table 4, rows 1 and 3",
        GUIDED[2],
        GUIDED[0],
        IMAGE,
    ),
    joint(
        "separate",
        "Separate models rank above joint training with one class token, image to image",
        "Figure 1a",
        SEPARATE,
        MODULES[0],
        IMAGE,
    ),
)
BOXES = {
    "chapter": Box(
        says="The paper claims that one model with a class token per task and prompts at two levels "
        "answers image and text queries better than joint training without them.",
        claims=("gain-text", "gain-image"),
        holds="The gain for text queries exists on images that share nothing with the paper's; its size "
        "is not to be compared.",
        fails="Joint training with one class token is better for text queries on these images.",
    ),
    "reproduce": Box(
        says="Table 3 of the paper prints HPL above joint training with one class token in both tasks, "
        "by more for image queries than for text queries.",
        claims=("gain-text", "gain-image"),
        holds="The order is reproduced for text queries on synthetic images, not the printed numbers.",
        fails="The order is not reproduced for text queries on synthetic images.",
    ),
    "ablate": Box(
        says="The paper claims that joint training hurts both tasks, that the second class token repairs "
        "most of it, and that prompts of either kind add to it.",
        claims=("routing-image", "routing-text", "separate", "vision-guided", "text-guided"),
        holds="A class token per task carries a part of the gain for image queries here, too.",
        fails="One class token is enough for image queries here, so that the gain is not where the paper "
        "finds it.",
    ),
    "look": Box(
        says="The paper shows by Grad-CAM that the token for text queries looks at the things a sentence "
        "names, and the token for image queries at clothing and body.",
        claims=("routing-text", "routing-image"),
        holds="The maps below show whether a better ranking comes with tokens that look at different things.",
        fails="The maps below show what the two tokens look at while the second one costs accuracy.",
    ),
}
