"""The chapter of PromptSG."""

from reid_core.methods import promptsg
from reid_core.report.chapters.clip_reid import whole
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

NAME = "PromptSG"
DATA = MARKETS[0]
TABLE_3 = promptsg.PAPER.tables["Table 3"]
TABLE_4 = promptsg.PAPER.tables["Table 4"]
TABLE_5 = promptsg.PAPER.tables["Table 5"]


def choices(mark):
    """The rows of PromptSG's choices with this mark in their name."""
    return [row for row in promptsg.CHOICES if mark in row]


LAMBDAS = choices("lambda")
READINGS = choices("(D")  # the number of a reading of what the paper leaves open: "(D7)"
TEMPERATURES = choices("temperature")
FULL_PROMPT, SIMPLE_PROMPT = TABLE_5[-2:]
TUNED = ("CLIP fine-tune, zero-shot", "CLIP fine-tune", "CLIP-ReID", "PromptSG")
JOINT = "images of the joint space search each other"
PAPER = Paper(
    title="A Pedestrian is Worth One Prompt: Towards Language Guidance Person Re-Identification",
    authors="Zexian Yang, Dayan Wu, Chenming Wu, Zheng Lin, Jingzi Gu, Weiping Wang",
    venue="CVPR 2024",
    link="https://openaccess.thecvf.com/content/CVPR2024/html/"
    "Yang_A_Pedestrian_is_Worth_One_Prompt_Towards_Language_Guidance_Person_CVPR_2024_paper.html",
    remark="announced in the abstract, not found",
)
HEADLINES = (
    headline("promptsg", "promptsg", "full", *TABLE_3, *TABLE_4),
    headline("promptsg", "promptsg", *promptsg.CONTROLS),
)
PARTS = (
    Part("promptsg", "promptsg", tuple(TABLE_5)),
    Part("promptsg", "promptsg", tuple(promptsg.SHORTER), MARKETS),
    Part("promptsg", "promptsg", (*LAMBDAS, "plain contrast", "interaction re-weights tokens (D7)")),
    Part("promptsg", "promptsg", (*READINGS, *TEMPERATURES)),
)
SHOWN = {
    "control: words without meaning": "random token embeddings",
    "no interaction, half the epochs": "no interaction module, half of the epochs",
    "plain contrast": "contrastive loss without identity labels",
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
}
QUESTIONS = {
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
}


def part(id, text, where, better, against, tests=(None, None)):
    """The Claim that two rows of one of PromptSG's tables differ; `where` begins with the table's name. A row
    with a test of its own is that test of the full model."""
    columns = {"paper": "promptsg", "table": where.partition(",")[0]}
    printed = tuple({**columns, "row": row} for row in (better, against))
    measured = ["full" if test else row for row, test in zip((better, against), tests)]
    return Claim(id, text, where, *measured, printed, tests)


CLAIMS = (
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
)
BOXES = {
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
}
