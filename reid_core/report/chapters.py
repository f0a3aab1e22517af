"""Which rows the book prints, the most important first: the order in which `make results` measures them; and
what each chapter asks of them: its claims, its questions and the boxes of its pages.

World domains A and D stand for Market-1501 and MSMT17: they differ in cameras, wardrobe and layout. The set
world_text stands for CUHK-PEDES: some of its people are those of world_market.
"""

from operator import attrgetter
from typing import NamedTuple

from data_prep import catalogue
from reid_core.methods import METHODS, clip_reid, hpl, promptsg
from reid_core.runs.run import Spec

SEEDS = (0, 1, 2, 3, 4)  # of headline rows; sweeps and readings take the first three
FEW = SEEDS[:3]
MARKETS = ("world_market", "world_msmt")
PAIR = ("world_text", MARKETS[0])  # what a joint training of two tasks joins
JOINT_SET = "+".join(PAIR)
FULL = ("full",)
TABLE_3 = promptsg.PAPER.tables["Table 3"]
TABLE_4 = promptsg.PAPER.tables["Table 4"]
TABLE_5 = promptsg.PAPER.tables["Table 5"]
MODULES = tuple(hpl.TABLES["Table 3"])  # from joint training with one class token to all parts
GUIDED = tuple(hpl.TABLES["Table 4"])  # no alignment loss, text-guided, vision-guided, both


def choices(mark):
    """The rows of PromptSG's choices with this mark in their name."""
    return [row for row in promptsg.CHOICES if mark in row]


LAMBDAS = choices("lambda")
READINGS = choices("(D")  # the number of a reading of what the paper leaves open: "(D7)"
TEMPERATURES = choices("temperature")


class Part(NamedTuple):
    """Rows of one variant on some data sets, with some seeds."""

    method: str
    variant: str
    rows: tuple
    data: tuple = MARKETS[:1]
    seeds: tuple = FEW

    def specs(self):
        """A Spec of each row, seed by seed: an interrupted measurement leaves whole tables with fewer
        seeds."""
        return [
            Spec(self.method, self.variant, row, data, seed=seed).same
            for seed in self.seeds
            for row in self.rows
            for data in self.data
        ]


def headline(method, variant, *rows):
    """A Part of the rows that a reader looks for first: on both domains, with every seed."""
    return Part(method, variant, rows, MARKETS, SEEDS)


HEADLINES = (  # all of them seed by seed, so that compared rows have the same seeds
    headline("clip_reid", "baseline", "full"),
    headline("clip_reid", "clip_reid", "full"),
    headline("promptsg", "promptsg", "full", *TABLE_3, *TABLE_4),
    headline("promptsg", "promptsg", *promptsg.CONTROLS),
    headline("clip_reid", "clip_reid", *clip_reid.CONTROLS),
)
PARTS = (
    Part("clip_reid", "baseline", ("zero-shot",), MARKETS),
    Part("promptsg", "promptsg", tuple(TABLE_5)),
    Part("clip_reid", "clip_reid", tuple(clip_reid.ROWS)),
    Part("clip_reid", "baseline", tuple(clip_reid.SHORTER), MARKETS),
    Part("promptsg", "promptsg", tuple(promptsg.SHORTER), MARKETS),
    Part("clip_reid", "clip_reid", tuple(clip_reid.SHORTER), MARKETS),
    Part("promptsg", "promptsg", (*LAMBDAS, "plain contrast", "interaction re-weights tokens (D7)")),
    Part("clip_reid", "clip_reid", ("SIE", "overlapping patches")),
    Part("promptsg", "promptsg", (*READINGS, *TEMPERATURES)),
)


JOINT_HEADLINES = (
    Part("hpl", "hpl", ("full", *MODULES), (JOINT_SET,), SEEDS),
    Part("hpl", "sentences", FULL, PAIR[:1], SEEDS),
    Part("hpl", "images", FULL, PAIR[1:], SEEDS),
)
JOINT_PARTS = (
    Part("hpl", "hpl", GUIDED, (JOINT_SET,)),
    Part("hpl", "hpl", tuple(hpl.CONTROLS), (JOINT_SET,)),
    Part("hpl", "hpl", FULL, (catalogue.LEAKY + JOINT_SET,)),
    Part("hpl", "hpl", (*hpl.SIZES_OF_PROMPTS, *hpl.WEIGHTS), (JOINT_SET,)),
    Part("hpl", "hpl", tuple(hpl.READINGS), (JOINT_SET,)),
)


def wanted():
    """Every spec that the book prints, in order, each once: those of earlier chapters first. Rows that differ
    in the test alone are tests of one run, and left out."""
    specs = in_order(HEADLINES, PARTS) + in_order(JOINT_HEADLINES, JOINT_PARTS)
    return list(dict.fromkeys(filter(trains, specs)))


def in_order(headlines, parts):
    """The specs of headlines, seed by seed, and of the other Parts behind them."""
    first = [spec for part in headlines for spec in part.specs()]
    first.sort(key=attrgetter("seed"))  # stable: by importance within a seed
    return first + [spec for part in parts for spec in part.specs()]


def trains(spec):
    """Whether a row needs a training of its own: it is the full one, or changes more than the test."""
    paper = METHODS[spec.method]
    changes = paper.rows[spec.row]
    return not changes or not set(changes) <= set(paper.test_only)


class Paper(NamedTuple):
    """The head of a chapter: the paper, where it stands, and who wrote it."""

    title: str
    authors: str
    venue: str
    link: str
    code: str = ""  # of the authors; "" where none was released
    remark: str = ""  # on the code, or why there is none


PAPERS = {
    "CLIP-ReID": Paper(
        title="CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text "
        "Labels",
        authors="Siyuan Li, Li Sun, Qingli Li",
        venue="AAAI 2023",
        link="https://arxiv.org/abs/2211.13977",
        code="https://github.com/Syliz517/CLIP-ReID",
        remark="read at commit eb1898b",
    ),
    "PromptSG": Paper(
        title="A Pedestrian is Worth One Prompt: Towards Language Guidance Person Re-Identification",
        authors="Zexian Yang, Dayan Wu, Chenming Wu, Zheng Lin, Jingzi Gu, Weiping Wang",
        venue="CVPR 2024",
        link="https://openaccess.thecvf.com/content/CVPR2024/html/"
        "Yang_A_Pedestrian_is_Worth_One_Prompt_Towards_Language_Guidance_Person_CVPR_2024_paper.html",
        remark="announced in the abstract, not found",
    ),
    "HPL": Paper(
        title="Hierarchical Prompt Learning for Image- and Text-Based Person Re-Identification",
        authors="Linhan Zhou, Shuang Li, Neng Dong, Yonghang Tai, Yafei Zhang, Huafeng Li",
        venue="AAAI 2026",
        link="https://doi.org/10.1609/aaai.v40i16.38380",
        remark="LH-Z-Ac/HPL-AAAI26 announces it, none released",
    ),
}
SHOWN = {  # how pages call a row; others are called by their own name
    "full": "full method",
    "1 token": "one learned word",
    "8 tokens": "eight learned words",
    "SIE": "camera embedding (SIE)",
    "control: random text tower": "randomly initialised text encoder",
    "control: another's sentence": "shuffled identity prompts",
    "control: one constant sentence": "one constant sentence",
    "control: words without meaning": "random token embeddings",
    "half the epochs": "half of the epochs",
    "no interaction, half the epochs": "no interaction module, half of the epochs",
    "plain contrast": "contrastive loss without identity labels",
    "CLIP fine-tune": "CLIP fine-tune (baseline)",
    "zero-shot": "zero-shot",
    **dict(
        zip(
            (*TABLE_3, *TABLE_4, *TABLE_5),
            (
                "a) all parts",
                "b) without image-to-text loss",
                "c) without text-to-image loss",
                "d) without the interaction module",
                "composed prompt",
                "one sentence for all",
                "no interaction module",
                "cross-attention alone, simplified prompt",
                "one self-attention layer, simplified prompt",
                "two self-attention layers, composed prompt",
                "two self-attention layers, simplified prompt",
            ),
            strict=True,
        )
    ),
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


def shown(label):
    """How pages call a row, or a row of another method: "CLIP fine-tune, half of the epochs"."""
    if label in SHOWN:
        return SHOWN[label]
    name, comma, row = label.partition(", ")
    return f"{name}, {SHOWN[row]}" if comma and row in SHOWN else label


class Task(NamedTuple):
    """A task that a joint training is tested in, on its own part of the joint set."""

    name: str  # of the test
    alone: str  # the model that is trained for it alone, as `notebook.NAMES` calls it
    table: str  # that prints whole methods
    term: str  # the loss whose course its learning curves show


TASKS = {  # of chapters with several, in the order of the parts of their joint set
    "HPL": (
        Task("text to image", "text model alone", "Table 1", "identity t2i"),
        Task("image to image", "image model alone", "Table 2", "identity i2i"),
    ),
}
SEPARATE = "separate models"  # the label of each task's `alone`
OTHER_TOKEN = "searched by the other token"
LEAKY = "shared people kept (D19)"  # the label of the full row on a joint set that keeps them


class Question(NamedTuple):
    """Rows of a chapter's ablations that answer one question, each against the `reference`."""

    title: str
    caption: str
    labels: tuple
    reference: str = "full"
    table: str = ""  # of the paper, where it prints these rows
    tests: dict = {}  # {label: (row, test)} of what differs in the test alone
    plotted: bool = True  # in the forest plot


def training_length(*labels):
    """The Question how much a method needs its epochs."""
    return Question(
        title="Training length",
        caption="All published epochs and half of them, against the baseline with all",
        labels=labels,
        reference="CLIP fine-tune",
    )


FULL_PROMPT, SIMPLE_PROMPT = TABLE_5[-2:]
TUNED = ("CLIP fine-tune, zero-shot", "CLIP fine-tune", "CLIP-ReID", "PromptSG")
JOINT = "images of the joint space search each other"
QUESTIONS = {
    "CLIP-ReID": {
        "components": Question(
            title="Components",
            caption="Components of CLIP-ReID, against the full method (four learned words)",
            labels=("full", "no stage 1", "1 token", "8 tokens", "no image-to-text loss"),
        ),
        "tower": Question(
            title="Camera embedding, overlapping patches",
            caption="Camera embedding and overlapping patches, against neither",
            labels=("full", "SIE", "overlapping patches"),
        ),
        "language": Question(
            title="Controls for language",
            caption="Controls for language, and the baseline, against the full method",
            labels=("full", *clip_reid.CONTROLS, "CLIP fine-tune"),
        ),
        "length": training_length(
            "CLIP fine-tune", "CLIP-ReID", "CLIP fine-tune, half the epochs", "CLIP-ReID, half the epochs"
        ),
    },
    "PromptSG": {
        "components": Question(
            title="Components (Table 3)",
            caption="Table 3, against row a",
            labels=tuple(TABLE_3),
            reference=TABLE_3[0],
            table="Table 3",
        ),
        "prompt": Question(
            title="Composed prompt (Table 4)",
            caption="Table 4, against training with the composed prompt",
            labels=tuple(TABLE_4),
            reference=TABLE_4[0],
            table="Table 4",
        ),
        "depth": Question(
            title="Depth and prompt at test (Table 5)",
            caption="Table 5, against the full model with composed prompts",
            labels=tuple(TABLE_5),
            reference=FULL_PROMPT,
            table="Table 5",
            tests={SIMPLE_PROMPT: ("full", "simplified prompt")},
        ),
        "contrast": Question(
            title="Contrastive loss",
            caption="The weight of the contrastive loss, and the loss without identity labels",
            labels=(*LAMBDAS, "plain contrast"),
            reference="lambda 0.5",
        ),
        "readings": Question(
            title="Unspecified details",
            caption="Readings of unspecified details, against the default",
            labels=("full", *READINGS, *TEMPERATURES),
            tests={
                "retrieval by f12 and z (D9)": ("full", "last state and z (D9)"),
                "simplified prompt in the gallery (D20)": ("full", "simplified prompt in the gallery (D20)"),
            },
        ),
        "language": Question(
            title="Controls for language",
            caption="Controls for language, and the baseline, against the full model",
            labels=("full", *promptsg.CONTROLS, "CLIP fine-tune"),
        ),
        "length": training_length(
            "CLIP fine-tune",
            "full",
            TABLE_3[3],
            "CLIP fine-tune, half the epochs",
            "half the epochs",
            "no interaction, half the epochs",
        ),
        "domain": Question(
            title="Zero-shot and fine-tuned",
            caption="Tested where the training was, against zero-shot CLIP",
            labels=TUNED,
            reference=TUNED[0],
            plotted=False,
        ),
        "composed": Question(
            title="A composed sentence as query",
            caption="A composed sentence as query, against the image in the same space",
            labels=("images search images by z", JOINT, "composed sentences search images"),
            reference=JOINT,
            tests={
                "images search images by z": ("full", None),
                JOINT: ("full", "joint space"),
                "composed sentences search images": ("full", "composed sentence to image"),
            },
            plotted=False,
        ),
        "captions": Question(
            title="A caption as query",
            caption="A caption as query: gallery of images, and of the sentences that they compose",
            labels=("captions search images", "captions search composed sentences"),
            reference="captions search images",
            tests={
                "captions search images": ("full", "caption to image"),
                "captions search composed sentences": ("full", "caption to composed sentence"),
            },
            plotted=False,
        ),
    },
    "HPL": {
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
    },
}


class Claim(NamedTuple):
    """What a paper says of one comparison: that the row `better` ranks above the row `against`."""

    id: str
    text: str  # in the terms of the field
    where: str  # in the paper
    better: str  # labels, as `notebook.Chapter` reads them
    against: str
    printed: tuple = ()  # of both rows, the columns that pick them in results/reported.csv
    tests: tuple = (None, None)  # of both rows, where not a run's first
    away: bool = False  # on the chapter's other data set
    page: str = "ablate"  # that shows the comparison
    metric: str = "mAP"
    task: str = ""  # the name of a chapter's Task, where it has several


TABLE_2 = {  # the whole methods in PromptSG's Table 2, ViT-B/16
    name: {"paper": "promptsg", "table": "Table 2", "backbone": "ViT-B/16", "method": method}
    for name, method in (
        ("CLIP fine-tune", "Baseline"),
        ("CLIP-ReID", "CLIP-ReID"),
        ("PromptSG", "PromptSG"),
    )
}


def whole(id, text, better, against, away=False):
    """The Claim that one method ranks above another, as printed in PromptSG's Table 2."""
    return Claim(
        id=id,
        text=text,
        where=f"PromptSG, Table 2, {'MSMT17' if away else 'Market-1501'}",
        better=better,
        against=against,
        printed=(TABLE_2[better], TABLE_2[against]),
        away=away,
        page="reproduce",
    )


def part(id, text, where, better, against, tests=(None, None)):
    """The Claim that two rows of one of PromptSG's tables differ; `where` begins with the table's name. A row
    with a test of its own is that test of the full model."""
    columns = {"paper": "promptsg", "table": where.partition(",")[0]}
    printed = tuple({**columns, "row": row} for row in (better, against))
    measured = ["full" if test else row for row, test in zip((better, against), tests)]
    return Claim(id, text, where, *measured, printed, tests)


def joint(id, text, where, better, against, task, metric="mAP"):
    """The Claim that two rows of HPL differ in one task; `where` begins with the table that prints both, or
    with a figure, which prints none."""
    table = where.partition(",")[0]
    printed = ()
    if table.startswith("Table"):
        printed = tuple({"paper": "hpl", "table": table, "row": row} for row in (better, against))
    return Claim(id, text, where, better, against, printed, metric=metric, task=task)


TEXT, IMAGE = (task.name for task in TASKS["HPL"])
CLAIMS = {
    "CLIP-ReID": (
        whole(
            "gain",
            "CLIP-ReID ranks above fine-tuned CLIP without sentences",
            "CLIP-ReID",
            "CLIP fine-tune",
        ),
        whole(
            "gain-away",
            "The same on the larger data set",
            "CLIP-ReID",
            "CLIP fine-tune",
            away=True,
        ),
        Claim("stage-1", "Prompt learning (stage 1) helps", "abstract", "full", "no stage 1"),
        Claim(
            "image-to-text",
            "The image-to-text loss of stage 2 helps",
            "abstract",
            "full",
            "no image-to-text loss",
        ),
        Claim("words", "Four learned words are better than one", "default of the code", "full", "1 token"),
        Claim(
            "language",
            "CLIP's text encoder helps: a randomly initialised one is worse",
            "abstract, in our reading",
            "full",
            "control: random text tower",
        ),
        Claim("cameras", "A camera embedding (SIE) helps", "README of the code", "SIE", "full"),
        Claim("overlap", "Overlapping patches help", "README of the code", "overlapping patches", "full"),
    ),
    "PromptSG": (
        whole("gain", "PromptSG ranks above fine-tuned CLIP without sentences", "PromptSG", "CLIP fine-tune"),
        whole("over-clip-reid", "PromptSG ranks above CLIP-ReID", "PromptSG", "CLIP-ReID"),
        part(
            "interaction",
            "The multimodal interaction module helps",
            "Table 3, rows a and d",
            TABLE_3[0],
            TABLE_3[3],
        ),
        part(
            "image-to-text",
            "The image-to-text contrastive loss helps",
            "Table 3, rows a and b",
            TABLE_3[0],
            TABLE_3[1],
        ),
        part(
            "text-to-image",
            "The text-to-image contrastive loss helps",
            "Table 3, rows a and c",
            TABLE_3[0],
            TABLE_3[2],
        ),
        part(
            "composed",
            "A pseudo-word per image is better than one sentence for all",
            "Table 4, both rows",
            *TABLE_4,
        ),
        part(
            "depth",
            "Two self-attention layers are better than cross-attention alone",
            "Table 5, rows 2 and 5",
            SIMPLE_PROMPT,
            TABLE_5[1],
            tests=("simplified prompt", None),
        ),
        part(
            "prompt-at-test",
            "The composed prompt at test is better than the simplified one",
            "Table 5, rows 4 and 5",
            FULL_PROMPT,
            SIMPLE_PROMPT,
            tests=(None, "simplified prompt"),
        ),
    ),
    "HPL": (
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
    ),
}


class Box(NamedTuple):
    """What opens a page: what the paper claims, the claims whose measured effects the second sentence tells,
    and what the verdict on the first of them means."""

    says: str
    claims: tuple
    holds: str
    fails: str


BOXES = {
    "CLIP-ReID": {
        "chapter": Box(
            says="The paper claims that a learned sentence for every identity makes a better image encoder "
            "than identity labels alone.",
            claims=("gain", "gain-away"),
            holds="The gain exists on images that share nothing with the paper's; its size is not to be "
            "compared.",
            fails="Identity labels alone are enough on these images, and the sentences cost accuracy.",
        ),
        "reproduce": Box(
            says="PromptSG's Table 2 prints CLIP-ReID several points of mAP above the baseline, which is the "
            "same image encoder without sentences.",
            claims=("gain", "gain-away"),
            holds="The order of the two methods is reproduced on synthetic images, not the printed numbers.",
            fails="The order of the two methods is not reproduced on synthetic images.",
        ),
        "ablate": Box(
            says="The paper claims that both stages matter: prompt learning (stage 1), and its sentences as "
            "targets of the image-to-text loss (stage 2).",
            claims=("stage-1", "image-to-text", "language"),
            holds="What stage 1 learns reaches the image encoder; the controls for language say whether its "
            "meaning matters.",
            fails="Sentences that were not learned do as well or better, so that stage 1 is not where a gain "
            "comes from.",
        ),
        "look": Box(
            says="The paper shows attention maps that lie on the person, on images of the authors' choice.",
            claims=("gain",),
            holds="The maps below show whether the better ranking comes with more attention to the person.",
            fails="The maps below show what the model attends to while the sentences cost accuracy.",
        ),
    },
    "PromptSG": {
        "chapter": Box(
            says="The paper claims that a sentence composed from the image itself guides the image encoder "
            "to what identifies a person, far beyond CLIP-ReID.",
            claims=("gain", "over-clip-reid"),
            holds="The gain over the baseline exists on images that share nothing with the paper's; its size "
            "is not to be compared.",
            fails="Without real data and the authors' weights the printed gain over the baseline is not "
            "reproduced.",
        ),
        "reproduce": Box(
            says="Table 2 of the paper prints PromptSG above the baseline and CLIP-ReID on both data sets.",
            claims=("gain", "over-clip-reid"),
            holds="The order of PromptSG and the baseline is reproduced on synthetic images, not the printed "
            "numbers.",
            fails="The order of PromptSG and the baseline is not reproduced on synthetic images.",
        ),
        "ablate": Box(
            says="The paper claims that every part helps: the interaction module most, then the composed "
            "prompt and both directions of the contrastive loss.",
            claims=("interaction", "composed", "image-to-text"),
            holds="The interaction module carries a part of the gain here, too.",
            fails="The contrastive loss on the image encoder does better without the module that makes the "
            "paper's largest gain.",
        ),
        "look": Box(
            says="The paper's Figures 1 and 4 show attention maps that lie on the person once the prompt is "
            "composed, on images of the authors' choice.",
            claims=("composed",),
            holds="The maps below show whether the better ranking comes with more attention to the person.",
            fails="The maps below show what the model attends to while the composed prompt costs accuracy.",
        ),
    },
    "HPL": {
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
            holds="The maps below show whether a better ranking comes with tokens that look at different "
            "things.",
            fails="The maps below show what the two tokens look at while the second one costs accuracy.",
        ),
    },
}
