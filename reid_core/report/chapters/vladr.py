"""The chapter of VLADR: attributes in words, over domains one after the other. World A to E stand for the
five seen domains of the paper's setting 1, in which LPW takes the place of DukeMTMC; World F to L for its
seven unseen ones.

The authors' code and figure belong to the variant `released`, the paper's note to `described`: printed
numbers of one never stand beside the other.
"""

from data_prep import catalogue
from reid_core.methods import vladr
from reid_core.methods.baseline import LIFELONG
from reid_core.report.chapters.kinds import FULL, SEEDS, Box, Claim, Paper, Part, Question
from reid_core.runs.averages import UNSEEN

NAME = "VLADR"
DESCRIBED = "VLADR as described"  # the label of the other variant
DATA = f"{catalogue.LIFELONG}world"
ORDER_2 = f"{catalogue.LIFELONG}world order 2"
SHORT = f"{catalogue.LIFELONG}world in short"  # what the profile smoke trains on
FIRST = catalogue.order(DATA)[:1]
REAL = {  # order of the world -> whose printed numbers stand beside ours
    DATA: f"{catalogue.LIFELONG}order 1 with LPW",
    ORDER_2: f"{catalogue.LIFELONG}order 2 with LPW",
}
EPOCHS = "VLADR's epochs"  # rows of the simple baselines
TWO_VIEWS = f"{EPOCHS}, two views"
FEW_IMAGES = "as few images as prototypes weigh"


def described(row):
    """The label of a row of the other variant."""
    return f"{DESCRIBED}, {row}"


PRINTED_ROWS = tuple(map(described, vladr.PRINTED_ROWS))
PLAIN, MTAD, CMA, IDA, WHOLE_IMAGE, BY_CHANCE = PRINTED_ROWS
SIMPLE = {  # what a page calls a simple baseline -> its label
    "sequential fine-tuning": f"sequential, {TWO_VIEWS}",
    **{name: f"{name}, {TWO_VIEWS}" for name in LIFELONG if name not in ("sequential", "joint")},
    "joint training": f"joint, {TWO_VIEWS}",
}
ONE_VIEW = {name: label.removesuffix(", two views") for name, label in SIMPLE.items()}
SEQUENTIAL, JOINT = SIMPLE["sequential fine-tuning"], SIMPLE["joint training"]
BASELINE = "CLIP-ReID, lifelong (described)"  # what a page calls the first row of the printed table
COMPARED = {  # what a page calls a whole method -> its label
    **SIMPLE,
    "PAD": "PAD",
    BASELINE: PLAIN,
    DESCRIBED: DESCRIBED,
    NAME: NAME,  # its full row
}
DRAWN = {  # those that pictures show -> (method whose colour they have, line style): never colour alone
    "sequential fine-tuning": ("", "-"),
    "joint training": ("", ":"),
    "weight fusion": ("", "--"),
    "PAD": ("pad", "-"),
    DESCRIBED: ("vladr", "-."),
    NAME: ("vladr", "-"),
}
FIGURE = "Figure results.png (order-1 table in the authors' README)"
ABLATION = "seed: Ablation Study"
PRINTED = {  # what is printed of a whole method, on the means over seen and over unseen domains
    BASELINE: {"paper": "vladr", "table": ABLATION, "row": next(iter(vladr.PRINTED_ROWS))},
    DESCRIBED: {"paper": "vladr", "table": "seed: Main Results", "method": NAME},
    NAME: {"paper": "vladr", "table": FIGURE, "method": NAME},
}
CONTEXT = {  # tables of reported.csv that stand beside ours as context
    "methods of the authors' figure": FIGURE,
    "earlier methods on the order with DukeMTMC": "card 6.4: Duke-based order-1 context (DASK/LSTKC figures)",
}
PAPER = Paper(
    title="Vision-Language Attribute Disentanglement and Reinforcement for Lifelong Person Re-Identification",
    authors="Kunlun Xu, Haotong Cheng, Jiangmeng Li, Xu Zou, Jiahuan Zhou",
    venue="CVPR 2026",
    link="https://arxiv.org/abs/2603.19678",
    code="https://github.com/zhoujiahuan1991/CVPR2026-VLADR",
    remark="read at commit a48c88f; where it differs from the document, both are variants",
)
ENDS = ("sequential", "joint")  # what forgets most, and what no lifelong method may use
BETWEEN = tuple(name for name in LIFELONG if name not in ENDS)
CHOICES, ATTRIBUTES, DESCRIPTIONS, DESCRIPTIONS_DESCRIBED, CONTROLS, READINGS = (
    tuple(rows)
    for rows in (
        vladr.CHOICES,
        vladr.ATTRIBUTES,
        vladr.DESCRIPTIONS,
        vladr.DESCRIPTIONS_DESCRIBED,
        vladr.CONTROLS,
        vladr.READINGS_DESCRIBED,
    )
)
HEADLINES = (
    Part("vladr", "released", FULL, (DATA,), SEEDS),
    Part("vladr", "described", (*FULL, *vladr.PRINTED_ROWS), (DATA,), SEEDS),
    *(Part("lifelong", name, (TWO_VIEWS,), (DATA,), SEEDS) for name in ENDS),
)
PARTS = (
    Part("vladr", "released", FULL, FIRST, SEEDS[:1]),  # looked at beside the model after the last domain
    Part("vladr", "released", CHOICES, (DATA,)),
    Part("vladr", "released", (*ATTRIBUTES, *DESCRIPTIONS, *CONTROLS), (DATA,)),
    Part("vladr", "described", (*READINGS, *DESCRIPTIONS_DESCRIBED, *CONTROLS), (DATA,)),
    *(Part("lifelong", name, (EPOCHS, TWO_VIEWS), (DATA,)) for name in BETWEEN),
    *(Part("lifelong", name, (EPOCHS,), (DATA,)) for name in ENDS),
    Part("lifelong", "exemplar replay", (FEW_IMAGES,), (DATA,)),
    Part("vladr", "released", FULL, (ORDER_2,)),
    Part("vladr", "described", (*FULL, *vladr.PRINTED_ROWS), (ORDER_2,)),
    *(Part("lifelong", name, (TWO_VIEWS,), (ORDER_2,)) for name in ENDS),
)
STEPS = (
    "baseline: CLIP-ReID, lifelong",
    "+ MTAD, stage 1 only",
    "+ CMA, cross-modal alignment",
    "+ IDA, cross-domain alignment: all parts",
    "the whole image instead of attributes, with IDA",
    "attributes by random partition",
)
MEANING = {  # of rows that both variants have
    "another's descriptions": "shuffled descriptions",
    "degraded descriptions": "half of the words lost",
    "parts swapped": "sentences of another part",
}
PULLED = "memory pulls each image"
DETAILS = {
    "1 attribute prompt": "1 attribute",
    "2 attribute prompts": "2 attributes",
    "8 attribute prompts": "8 attributes",
    PULLED: "memory pulls each image",
    "rates per step": "VLADR as described, rates per iteration",
}
ONE, TWO = "one view and fusion alone", "two views and fusion alone"
PER_EPOCH, ORTHOGONAL = "rates per epoch (D1)", "orthogonal queries"
RELATIONS = ("global relations, temperature 0.1", "global relations, temperature 0.005")
FUSIONS = {"no fusion": "no fusion: all new", "fusion 0.5": "half new", "fusion 0.7": "0.7 new"}
SHOWN = {
    **dict(zip(PRINTED_ROWS, STEPS, strict=True)),
    **{label: f"{name}, two views" for name, label in SIMPLE.items()},
    **{label: f"{name}, one view" for name, label in ONE_VIEW.items()},
    f"exemplar replay, {FEW_IMAGES}": "exemplar replay, as many bytes as the memory",
    **MEANING,
    **{described(row): words for row, words in (MEANING | DETAILS).items()},
    **{described(row): "randomly initialised text encoder" for row in CONTROLS},
    "no strong view": "one view, all other terms",
    ONE: "one view, fusion",
    TWO: "two views, fusion",
    PER_EPOCH: "rates per epoch",
    ORTHOGONAL: "queries that start at right angles",
    RELATIONS[0]: "relations of the whole image, temperature 0.1",
    RELATIONS[1]: "relations of the whole image, temperature 0.005",
    **FUSIONS,
    "one attribute": "one query, the whole description",
    **{f"{part} alone": f"query of the {part} alone" for part in ("head", "upper", "lower", "foot")},
}
QUESTIONS = {
    "components": Question(
        title="Components, as described",
        caption="The printed ablation, against CLIP-ReID in lifelong training",
        labels=PRINTED_ROWS,
        reference=PLAIN,
        table=ABLATION,
    ),
    "unseen": Question(
        title="Components on unseen domains",
        caption="The same rows on the seven domains that no training saw",
        labels=PRINTED_ROWS,
        reference=PLAIN,
        table=ABLATION,
        tests={label: (label, UNSEEN) for label in PRINTED_ROWS},
    ),
    "released": Question(
        title="What each term of the released code adds",
        caption="Terms of the code, against one view and fusion alone",
        labels=(ONE, TWO, "no attribute alignment", "no domain alignment", "no strong view", "full"),
        reference=ONE,
    ),
    "queries": Question(
        title="Query collapse: rates per iteration or per epoch",
        caption="Rates that fall after 30 iterations, as released, or after 30 epochs, as before it (D1)",
        labels=("full", PER_EPOCH, ORTHOGONAL),
    ),
    "attributes": Question(
        title="Attributes: four, one, or each alone",
        caption="Queries and sentences of fewer attributes, against all four",
        labels=("full", *ATTRIBUTES),
    ),
    "relations": Question(
        title="Relations of attributes or of the whole image",
        caption="What the old model holds on to, against relations of four attributes",
        labels=("full", "no domain alignment", *RELATIONS),
    ),
    "fusion": Question(
        title="Fusion of old and new weights",
        caption="How much of the new weights is kept after each domain, against 0.6",
        labels=("full", *FUSIONS),
    ),
    "prompts": Question(
        title="How many attribute prompts (K), as described",
        caption="Learned local prompts, against four",
        labels=(DESCRIBED, *map(described, READINGS[:3])),
        reference=DESCRIBED,
    ),
    "memory": Question(
        title="Prototype memory or exemplar replay",
        caption="One vector per attribute and domain, against other readings and kept images",
        labels=(
            DESCRIBED,
            CMA,
            described(PULLED),
            f"exemplar replay, {FEW_IMAGES}",
            ONE_VIEW["exemplar replay"],
        ),
        reference=DESCRIBED,
    ),
    "descriptions": Question(
        title="Quality of descriptions, as released",
        caption="Other sentences for the same images, against their own",
        labels=("full", *DESCRIPTIONS),
    ),
    "descriptions as described": Question(
        title="Quality of descriptions, as described",
        caption="Other sentences for the same images, against their own, in the variant described",
        labels=(DESCRIBED, *map(described, DESCRIPTIONS_DESCRIBED)),
        reference=DESCRIBED,
    ),
    "simple": Question(
        title="Every lifelong method",
        caption="The same backbone, data and seeds, VLADR's epochs, against sequential fine-tuning",
        labels=(*SIMPLE.values(), *ONE_VIEW.values(), "PAD", PLAIN, DESCRIBED, NAME),
        reference=SEQUENTIAL,
    ),
    "readings": Question(
        title="The document against the code",
        caption="Both variants, and the schedule of one in the other, against the released variant",
        labels=(NAME, DESCRIBED, described("rates per step")),
        reference=NAME,
    ),
    "language": Question(
        title="Controls for language, as released",
        caption="A text encoder that knows no language, against the full method",
        labels=("full", *CONTROLS),
    ),
    "language as described": Question(
        title="Controls for language, as described",
        caption="A text encoder that knows no language, against the full variant described",
        labels=(DESCRIBED, *map(described, CONTROLS)),
        reference=DESCRIBED,
    ),
}


def rows(id, text, better, against, test=None):
    """The Claim that two rows of the printed ablation differ."""
    printed = tuple(
        {"paper": "vladr", "table": ABLATION, "row": label.removeprefix(f"{DESCRIBED}, ")}
        for label in (better, against)
    )
    return Claim(id, text, "Ablation Study", better, against, printed, tests=(test, test))


CLAIMS = (
    rows("gain", "VLADR keeps more of seen domains than CLIP-ReID in lifelong training", IDA, PLAIN),
    rows("unseen", "VLADR ranks above that baseline on unseen domains", IDA, PLAIN, UNSEEN),
    rows("mtad", "Attributes that are disentangled in stage 1 help on their own", MTAD, PLAIN),
    rows("cma", "Cross-modal alignment of attributes helps", CMA, MTAD),
    rows("ida", "Alignment with the memory of earlier domains helps", IDA, CMA),
    rows("global", "Attributes are held better than the whole image", IDA, WHOLE_IMAGE),
    rows("random", "A learned partition ranks above a random one", IDA, BY_CHANCE),
    Claim(
        "released",
        "In the released code, attributes add to two views and fusion",
        "official code",
        "full",
        TWO,
    ),
)
BOXES = {
    "chapter": Box(
        says="The paper claims that attributes in words, such as the colour of a shirt, stay the same from "
        "domain to domain, so that a model that is tied to them forgets less.",
        claims=("gain", "global", "released"),
        holds="The gain exists on images that share nothing with the paper's; its size is not to be "
        "compared.",
        fails="On these images the described method keeps less than CLIP-ReID that is trained on one domain "
        "after the other.",
    ),
    "reproduce": Box(
        says="The document prints 52.3 mAP over five seen domains and 34.5 over unseen ones, the authors' "
        "figure 70.4 and 77.8, so that each stands beside the variant that it belongs to.",
        claims=("gain", "unseen"),
        holds="The order of the described method and its baseline is reproduced on synthetic images, not the "
        "printed numbers.",
        fails="The order of the described method and its baseline is not reproduced on synthetic images.",
    ),
    "ablate": Box(
        says="The paper claims that each of three parts helps, that attributes are held better than the "
        "whole image, and that a learned partition is better than a random one.",
        claims=("mtad", "cma", "ida", "global", "random"),
        holds="Disentangling attributes in words helps here, too, before anything holds on to earlier "
        "domains.",
        fails="Disentangling attributes in words costs more than it gives on these images.",
    ),
    "look": Box(
        says="The paper explains what is kept by four attribute queries, of which each should look at its "
        "own part of the person.",
        claims=("released", "gain"),
        holds="The pictures below show what the queries look at, and what is kept with them.",
        fails="The pictures below show what the queries look at, and what is lost nevertheless.",
    ),
}
