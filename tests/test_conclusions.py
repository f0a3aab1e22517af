"""What the chapters conclude in words is what the committed runs say: a sentence that no longer holds fails
here."""

from pathlib import Path

import nbformat
import pytest

from reid_core.report import ablations, chapters
from reid_core.runs import intervals
from reid_core.runs.run import BOOK, Spec

ROOT = Path(__file__).resolve().parents[1]
A, D = chapters.MARKETS
BARE = chapters.TABLE_3[3]
BASELINE, CLIP_REID, PROMPTSG = (
    ("clip_reid", "baseline"),
    ("clip_reid", "clip_reid"),
    ("promptsg", "promptsg"),
)
COSTLY = ("patches alone (D6)", "no norms before the attention (D8)", "no warm-up (D17)")


def runs(kind, row="full", data=A):
    """The runs there are, all of one world."""
    found = [BOOK.find(Spec(*kind, row, data, seed=seed)) for seed in chapters.SEEDS]
    return ablations.of_one_world([run for run in found if run])


def change(one, two, task=None, other=None):
    """The Interval of one row, (kind, row, data), minus another."""
    sides = runs(*one), runs(*two)
    assert len({run.data["fingerprint"] for side in sides for run in side}) == 1, (
        "a conclusion compares runs of one world"
    )
    assert all(len(side) >= len(chapters.FEW) for side in sides), "a conclusion needs three seeds"
    return intervals.paired(*sides, task, other)


def worse(*sides):
    return change(*sides).high < 0


def open_question(*sides):
    found = change(*sides)
    return found.low <= 0 <= found.high


CLAIMS = {
    "1_clip_reid/ablate": {
        "Without stage 1 it loses points, and without the image-to-text loss as well.": lambda: (
            worse((CLIP_REID, "no stage 1"), (CLIP_REID,))
            and worse((CLIP_REID, "no image-to-text loss"), (CLIP_REID,))
        ),
        "A text tower with random weights cannot be told from the real one, and another "
        "identity's sentence costs points": lambda: (
            open_question((CLIP_REID, "control: random text tower"), (CLIP_REID,))
            and worse((CLIP_REID, "control: another's sentence"), (CLIP_REID,))
        ),
        "A camera embedding and overlapping patches gain points each on domain A.": lambda: (
            worse((CLIP_REID,), (CLIP_REID, "SIE"))
            and worse((CLIP_REID,), (CLIP_REID, "overlapping patches"))
        ),
    },
    "2_promptsg/ablate": {
        (
            "On domain D it does better without its interaction than with it; on domain A that cannot be "
            "told."
        ): lambda: (
            worse((PROMPTSG, "full", D), (PROMPTSG, BARE, D)) and open_question((PROMPTSG,), (PROMPTSG, BARE))
        ),
        "On domain A CLIP-ReID is ahead of it.": lambda: worse((PROMPTSG,), (CLIP_REID,)),
        (
            "A text tower with random weights, and one sentence for all, cannot be told from the full model."
        ): lambda: (
            open_question((PROMPTSG, "control: random text tower"), (PROMPTSG,))
            and open_question((PROMPTSG, "Training w/o composed"), (PROMPTSG,))
        ),
        "A contrast without identity labels costs it points.": lambda: worse(
            (PROMPTSG, "plain contrast"), (PROMPTSG,)
        ),
        "A composed sentence ranks worse than the image that composed it.": lambda: (
            change((PROMPTSG,), (PROMPTSG,), "composed sentence to image", "joint space").high < 0
        ),
        "three readings cost more than ten points on average: attention to the patches alone, no norms "
        "before the attention, and no warm-up.": lambda: (
            all(
                worse((PROMPTSG, row), (PROMPTSG,)) and change((PROMPTSG, row), (PROMPTSG,)).mean < -10
                for row in COSTLY
            )
            and all(
                change((PROMPTSG, row), (PROMPTSG,)).mean > -10
                for row in chapters.READINGS
                if row not in COSTLY and chapters.trains(Spec(*PROMPTSG, row))
            )
        ),
        "Which words are queries in the attention (D5), how many classifiers there are (D10) and which "
        "triplet (D16) cannot be told from the default.": lambda: all(
            open_question((PROMPTSG, row), (PROMPTSG,))
            for row in ("all words as queries (D5)", "two classifiers (D10)", "triplet as in CLIP-ReID (D16)")
        ),
    },
}


@pytest.mark.parametrize("page, sentence", [(page, sentence) for page in CLAIMS for sentence in CLAIMS[page]])
def test_a_conclusion_is_on_its_page_and_holds_in_the_committed_runs(page, sentence):
    cells = nbformat.read(ROOT / "notebooks" / f"{page}.ipynb", as_version=4).cells
    text = " ".join(" ".join(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    assert sentence in text, "the page does not say it"
    assert CLAIMS[page][sentence](), "the runs do not say it"
