"""The chapter of PAD: domains one after the other. World A to E stand for the five seen domains of the
paper's orders, World F to L for its seven unseen ones."""

from data_prep import catalogue
from reid_core.methods import pad
from reid_core.methods.baseline import LIFELONG
from reid_core.report.chapters.kinds import FULL, SEEDS, Box, Claim, Paper, Part, Question
from reid_core.runs.averages import UNSEEN

NAME = "PAD"
DESCRIBED = "PAD as described"  # the label of the other variant
DATA = f"{catalogue.LIFELONG}world"
ORDER_2 = f"{catalogue.LIFELONG}world order 2"
SHORT = f"{catalogue.LIFELONG}world in short"  # what the profile smoke trains on
FIRST = catalogue.order(DATA)[:1]
EPOCHS = "PAD's epochs"  # the row of the simple baselines


def described(row):
    """The label of a row of the other variant."""
    return f"{DESCRIBED}, {row}"


LADDER, STRENGTHS, BLOCKS = (tuple(rows) for rows in (pad.LADDER, pad.STRENGTHS, pad.BLOCKS))
PLAIN, FROZEN, PROMPTED, WORDED, HELD, WHOLE = LADDER  # S0 to S5
NEITHER, WEAK, STRONG = STRENGTHS[0], STRENGTHS[6], STRENGTHS[7]
# of the document: rows that differ in text distillation alone are one model (`pad.PADDescribed`)
DOCUMENT = (PROMPTED, "no contrast", "all slots at test (D8)", "control: random text tower")
SIMPLE = {  # what a page calls a simple baseline -> its label
    "sequential fine-tuning": f"sequential, {EPOCHS}",
    **{name: f"{name}, {EPOCHS}" for name in LIFELONG if name not in ("sequential", "joint")},
    "joint training": f"joint, {EPOCHS}",
}
SEQUENTIAL, JOINT = SIMPLE["sequential fine-tuning"], SIMPLE["joint training"]
COMPARED = {  # what a page calls a whole method -> its label
    **SIMPLE,
    "full fine-tuning (S0)": PLAIN,
    "PAD": "full",
    DESCRIBED: DESCRIBED,
}
DRAWN = {  # those that pictures show -> (method whose colour they have, line style): never colour alone
    "sequential fine-tuning": ("", "-"),
    "joint training": ("", ":"),
    "full fine-tuning (S0)": ("clip_reid", "--"),
    "PAD": ("pad", "-"),
    DESCRIBED: ("pad", "-."),
}
REAL = {order: catalogue.stands_for(order) for order in (DATA, ORDER_2)}  # whose numbers stand beside ours
PRINTED = {  # what the paper prints of a whole method, on the means over seen and over unseen domains
    "full fine-tuning (S0)": {"paper": "pad", "table": "seed: Ablation Study", "row": PLAIN},
    "PAD": {"paper": "pad", "table": "card 9.2: averages of PAD Table 1/2 (recovered rows)", "method": "PAD"},
}
CONTEXT = {  # tables of reported.csv that stand beside ours as context
    "averages of Tables 1 and 2": "card 9.2: averages of PAD Table 1/2 (recovered rows)",
    "earlier methods on order 1": "card 9.3: prior work, order-1",
    "earlier methods on order 2": "card 9.4: prior work, order-2",
}
PAPER = Paper(
    title="Prompt-Anchored Vision-Text Distillation for Lifelong Person Re-identification",
    authors="Wen Wen, Hao Chen, Shiliang Zhang",
    venue="CVPR 2026",
    link="https://arxiv.org/abs/2605.05027",
    code="https://github.com/zu-zi/PAD",
    remark="read at commit ca2b557; where it differs from the document, both are variants",
)
ENDS = ("sequential", "joint")  # what forgets most, and what no lifelong method may use
HEADLINES = (
    Part("pad", "released", (*FULL, *LADDER), (DATA,), SEEDS),
    Part("pad", "described", FULL, (DATA,), SEEDS),
    *(Part("lifelong", name, (EPOCHS,), (DATA,), SEEDS) for name in ENDS),
)
PARTS = (
    Part("pad", "released", FULL, FIRST, SEEDS[:1]),  # looked at beside the model after the last domain
    *(Part("lifelong", name, (EPOCHS,), (DATA,)) for name in LIFELONG if name not in ENDS),
    Part("pad", "released", STRENGTHS, (DATA,)),
    Part("pad", "released", (*BLOCKS, *pad.READINGS), (DATA,)),
    Part("pad", "released", tuple(pad.CONTROLS), (DATA,)),
    Part("pad", "described", DOCUMENT, (DATA,)),
    Part("pad", "released", (*FULL, *LADDER), (ORDER_2,)),
    Part("pad", "described", FULL, (ORDER_2,)),
    *(Part("lifelong", name, (EPOCHS,), (ORDER_2,)) for name in ENDS),
)
STEPS = (
    "S0) full fine-tuning",
    "S1) the first blocks frozen",
    "S2) and VA-prompts",
    "S3) and text distillation",
    "S4) S2 and visual distillation",
    "S5) all parts",
)
SHOWN = {
    **dict(zip(LADDER, STEPS, strict=True)),
    **{label: name for name, label in SIMPLE.items()},
    NEITHER: "no distillation",
    STRENGTHS[1]: "no distillation (strong)",
    STRENGTHS[2]: "text distillation alone, weak",
    STRENGTHS[3]: "text distillation alone, strong",
    STRENGTHS[4]: "visual distillation alone",
    STRENGTHS[5]: "visual distillation alone (strong)",
    WEAK: "both, text weak",
    STRONG: "both, text strong",
    **{row: f"{row.partition('=')[2]} of 12 blocks learn" for row in BLOCKS},
    "text teacher by EMA": "text teacher: running average",
    "no contrast": "words never meet images",
    "control: another's sentence": "shuffled identity sentences",
    described(PROMPTED): "without visual distillation (S2)",
    described("no contrast"): "words never meet images",
    described("all slots at test (D8)"): "all slots at test",
    described("control: random text tower"): "randomly initialised text encoder",
}
QUESTIONS = {
    "components": Question(
        title="Components (S0 to S5)",
        caption="The paper's ablation, against full fine-tuning",
        labels=LADDER,
        reference=PLAIN,
        table="seed: Ablation Study",
    ),
    "steps": Question(
        title="What each kind of distillation adds",
        caption="Rows S3 to S5 against prompts without distillation",
        labels=(PROMPTED, WORDED, HELD, WHOLE),
        reference=PROMPTED,
        table="seed: Ablation Study",
        plotted=False,
    ),
    "unseen": Question(
        title="Components on unseen domains",
        caption="The same rows on the seven domains that no training saw",
        labels=LADDER,
        reference=PLAIN,
        tests={row: (row, UNSEEN) for row in LADDER},
    ),
    "strength": Question(
        title="Strength of the text distillation",
        caption="Weak (0.5) and ten times as strong, with and without visual distillation",
        labels=(NEITHER, *STRENGTHS[2:5], WEAK, STRONG),
        reference=NEITHER,
        table="card 9.6: text KD strength",
    ),
    "blocks": Question(
        title="Unfrozen blocks (Table S6)",
        caption="Last blocks that learn from the second domain on, against four of twelve",
        labels=("full", BLOCKS[0], BLOCKS[2]),
    ),
    "simple": Question(
        title="Simple lifelong baselines",
        caption="The same backbone, data, seeds and at least as many epochs, against sequential fine-tuning",
        labels=(*SIMPLE.values(), "full", DESCRIBED),
        reference=SEQUENTIAL,
    ),
    "readings": Question(
        title="Unspecified details, and the document against the code",
        caption="Readings of unspecified details, against the released variant",
        labels=("full", DESCRIBED, *pad.READINGS),
    ),
    "document": Question(
        title="Rows of the document",
        caption="The same parts in the variant described, against all of them",
        labels=(DESCRIBED, *map(described, DOCUMENT)),
        reference=DESCRIBED,
    ),
    "language": Question(
        title="Controls for language",
        caption="Sentences that know nothing, against the full method",
        labels=("full", *pad.CONTROLS),
    ),
}


def rows(id, text, better, against, where="Ablation Study", table="seed: Ablation Study"):
    """The Claim that two rows of a table differ."""
    printed = tuple({"paper": "pad", "table": table, "row": row} for row in (better, against))
    return Claim(id, text, where, better, against, printed)


CLAIMS = (
    rows("gain", "PAD forgets less than full fine-tuning: a higher mean over seen domains", WHOLE, PLAIN),
    rows("freeze", "Freezing the first blocks helps", FROZEN, PLAIN),
    rows("prompts", "VA-prompts give back what freezing costs", PROMPTED, FROZEN),
    rows("vision", "Visual distillation helps", HELD, PROMPTED),
    rows("text", "Weak text distillation helps", WORDED, PROMPTED),
    rows(
        "weak",
        "Text distillation must stay weak",
        WEAK,
        STRONG,
        "Key Findings",
        "card 9.6: text KD strength",
    ),
    Claim(
        "unseen",
        "PAD also ranks above full fine-tuning on unseen domains",
        "Main Results",
        WHOLE,
        PLAIN,
        tests=(UNSEEN, UNSEEN),
    ),
)
BOXES = {
    "chapter": Box(
        says="The paper claims that sentences from a frozen text encoder anchor an image encoder that meets "
        "one domain after the other, so that it forgets less and still adapts.",
        claims=("gain", "vision", "text"),
        holds="The gain exists on images that share nothing with the paper's; its size is not to be "
        "compared.",
        fails="On these images full fine-tuning forgets less than PAD.",
    ),
    "reproduce": Box(
        says="The paper prints a mean over five seen domains of 70.7 mAP after the last one, 4.5 above full "
        "fine-tuning of CLIP-ReID, and 78.6 on unseen domains.",
        claims=("gain", "unseen"),
        holds="The order of PAD and full fine-tuning is reproduced on synthetic images, not the printed "
        "numbers.",
        fails="The order of PAD and full fine-tuning is not reproduced on synthetic images.",
    ),
    "ablate": Box(
        says="The paper claims that visual distillation gives most, that text distillation helps as long as "
        "it is weak, and that prompts give back what freezing costs.",
        claims=("vision", "text", "weak", "prompts"),
        holds="Holding on to visual features helps here, too.",
        fails="Holding on to visual features costs more than it keeps on these images.",
    ),
    "look": Box(
        says="The paper explains forgetting as drift: features stay apart from each other but leave the "
        "sentences that named them.",
        claims=("gain", "freeze"),
        holds="The pictures below show which domains are kept, and when they are lost.",
        fails="The pictures below show which domains are lost, and when.",
    ),
}
