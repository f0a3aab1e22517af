"""The chapter of CLIP-ReID and of the baseline. PromptSG's Table 2 prints both."""

from reid_core.methods import clip_reid
from reid_core.report.chapters.kinds import (
    MARKETS,
    Box,
    Claim,
    Paper,
    Part,
    Question,
    headline,
    training_length,
)

NAME = "CLIP-ReID"
DATA = MARKETS[0]
PAPER = Paper(
    title="CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text "
    "Labels",
    authors="Siyuan Li, Li Sun, Qingli Li",
    venue="AAAI 2023",
    link="https://arxiv.org/abs/2211.13977",
    code="https://github.com/Syliz517/CLIP-ReID",
    remark="read at commit eb1898b",
)
HEADLINES = (
    headline("clip_reid", "baseline", "full"),
    headline("clip_reid", "clip_reid", "full"),
    headline("clip_reid", "clip_reid", *clip_reid.CONTROLS),
)
PARTS = (
    Part("clip_reid", "baseline", ("zero-shot",), MARKETS),
    Part("clip_reid", "clip_reid", tuple(clip_reid.ROWS)),
    Part("clip_reid", "baseline", tuple(clip_reid.SHORTER), MARKETS),
    Part("clip_reid", "clip_reid", tuple(clip_reid.SHORTER), MARKETS),
    Part("clip_reid", "clip_reid", ("SIE", "overlapping patches")),
)
SHOWN = {
    "full": "full method",
    "1 token": "one learned word",
    "8 tokens": "eight learned words",
    "SIE": "camera embedding (SIE)",
    "control: random text tower": "randomly initialised text encoder",
    "control: another's sentence": "shuffled identity prompts",
    "control: one constant sentence": "one constant sentence",
    "half the epochs": "half of the epochs",
    "CLIP fine-tune": "CLIP fine-tune (baseline)",
    "zero-shot": "zero-shot",
}
QUESTIONS = {
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
}


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


CLAIMS = (
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
)
BOXES = {
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
}
