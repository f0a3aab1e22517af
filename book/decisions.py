"""The page of decisions: what the papers leave open and we had to assume, with an anchor per decision."""

import re

from reid_core.methods import PAPERS
from reid_core.report.scoreboard import BEFORE, FIVE
from reid_core.report.tables import escaped, folded, short, table

NUMBER = re.compile(r"D(\d+)([a-z]?)\b")
IN_A_CELL = re.compile(r"(<td[^>]*>)(D\d+)\b")  # where a recipe table names a decision
OF_A_PAGE = re.compile(r"notebooks/\d+_(\w+)/")
HEAD = """\
# Decisions

Details that a paper does not specify must be decided by whoever rebuilds it. Each decision below is a
field of the recipe and can be changed with `--set FIELD=VALUE`; those that a reader may doubt are rows
of the ablations of [PromptSG](../notebooks/2_promptsg/ablate.ipynb),
[HPL](../notebooks/3_hpl/ablate.ipynb), [DMPT](../notebooks/4_dmpt/ablate.ipynb),
[PAD](../notebooks/5_pad/ablate.ipynb) and [VLADR](../notebooks/6_vladr/ablate.ipynb). Settings that a
paper states, or that its official code has, stand in the recipe tables with their place."""
NO_FIELD = {  # decisions that leave nothing to set
    "promptsg": {
        18: "The rate falls every 20 epochs of 60: as the 20th and the 40th begin.",
        23: "MSMT17 is version 1, trained on its lists train and val together.",
        24: "CUHK03 is the new protocol with labelled boxes.",
        25: "The last epoch is reported. The best is not looked for: the test set would pick it.",
        26: "Batch norms use the statistics of the batch in training, running ones in testing.",
        27: "Without the interaction module the baseline's heads and test feature remain.",
        28: "Losses and distances are computed in float32.",
    },
    "hpl": {
        14: "Pairs are shuffled and define the epoch; the images come as 16 identities with 4 images each.",
        17: "Weights stay in float32 under bfloat16; biases, norms and tokens have no weight decay.",
        19: "People whom either data set tests are removed from the training images of the other.",
        23: "Both classifiers know all identities of the merged data sets.",
        24: "The last epoch is reported.",
        25: "The two weights are taken as printed, whatever the scale of the words.",
    },
    "dmpt": {
        1: "One frozen tower reads all spectra in one pass; the printed 6.5 % counts three.",
        2: "What is frozen is in evaluation mode.",
        4: "Position embeddings are resized bilinearly, as by the methods that the paper is compared with.",
        6: "Each block has a linear map of its own from the word to the prompts, with bias, shared by the "
        "spectra.",
        9: "One batch norm and one classifier on the class tokens of all spectra side by side.",
        12: "The sentences end with a period, as quoted in Sec. 3.2.",
        22: "The lengths of Figure 4, whose values are lost: 4, 8, 16, 32 and 64, scaled with the grid.",
        23: "Both baselines keep the cross-entropy, triplet and centre losses.",
        24: "Labels and files are sorted.",
        25: "The last epoch is reported. The best is not looked for: the test set would pick it.",
        27: "Three seeds or more; the order of the rows counts more than the numbers.",
        28: "There is no camera embedding.",
        29: "Vehicles, too, are 256 pixels high and 128 wide.",
        31: "The linear maps have biases.",
    },
    "pad": {
        3: "The contrast is a stage of its own in the code, and a term of the only stage in the document.",
        6: "The average forgets the old domain within a few epochs, as printed: 0.997 in every step.",
        7: "Keys of slots are never trained: no gradient reaches them, and no loss pulls at them.",
        9: "CUHK-SYSU has one camera: its gallery counts as another.",
        10: "PRID has 464 or 649 gallery images, as the protocol of unseen sets says.",
        11: "Unseen sets have three protocols: two that were released, and the customary one (D11b).",
        12: "Unseen sets lie in the folder of the others, or in one called Unseen.",
        13: "Rates are those that the code uses; others in its configuration are dead.",
        15: "The text tower is never trained.",
        16: "New slots join student and teacher alike, and can be picked from the first step on.",
        17: "CUHK03 has batches of 48, as in the configuration.",
        18: "Settings of the first domain go with the place, those of MSMT17 and CUHK03 with the data set.",
        20: "All identities are used; name@500 cuts a set to 500.",
        21: "Shares of trained parameters are told for both stages.",
        22: "No sentence is read at test, but prompts are: what they cost is measured.",
        23: "Where LPW takes part, it stands for DukeMTMC.",
        24: "The student is tested, not the average.",
        25: "Slots are picked in float32.",
        26: "Positions are resized bilinearly.",
        27: "The ablation is that of the document; a second digest contradicts it.",
        28: "Banks of sentences are encoded in chunks, once.",
        29: "Repeating bits on a GPU is an option of the run.",
        30: "Stage 1 of the first domain reads features that were made with random prompts.",
        31: "Strengths of distillation are ours: ten times the weak text term.",
        32: "Erasing follows timm.",
        33: "The place of prompts in the sequence does not matter; distances are taken in float32 (D33b).",
        34: "Cameras and people are read from the file's name alone.",
    },
    "vladr": {
        0: "Document and released code differ; both are variants, and printed numbers of one never stand "
        "beside the other.",
        2: "Identities are sorted, where the code takes the order of a set in memory.",
        3: "Splits of the unseen sets are ours.",
        4: "One device: batch norms see the whole batch, not the half of each of two GPUs.",
        5: "The towers alone run in bfloat16; losses and relations at temperature 0.005 are in float32.",
        6: "Fusion averages weights and running statistics; counters stay those of the new model.",
        7: "Descriptions are made anew with any BLIP-2; those of the world come from its truth.",
        8: "The last epoch is reported. The best is not looked for: the test set would pick it.",
        9: "The joint feature has a neck and no classifier, which no loss of the code reads.",
        10: "The simple baselines have rows with VLADR's epochs and its second view.",
    },
}


def page():
    """The page as Markdown, with a table of HTML per paper."""
    blocks = [HEAD]
    for entry in (BEFORE[1], *FIVE):
        rows = of_paper(entry.method)
        blocks.append(f"## {entry.title}")
        blocks.append(as_table(entry, rows) if rows else "Nothing that is built so far had to be assumed.")
    return "\n\n".join(blocks) + "\n"


def of_paper(name):
    """[(number or None, setting, value, reason)] of what a recipe assumes, in the order of numbers."""
    rows = [(number, "–", "–", words) for number, words in NO_FIELD.get(name, {}).items()]
    for line in PAPERS[name].recipe.table():
        if line.status == "assumed":
            found = NUMBER.match(line.where)
            rows.append(
                (int(found[1]) if found else None, line.name, short(line.printed), reason(line.where))
            )
    return sorted(rows, key=lambda row: (row[0] is None, row[0] or 0))  # stable: fields in their own order


def as_table(entry, rows):
    """The table of a paper; the first row of each decision carries its anchor."""
    lines = [[f"D{number}" if number is not None else "–", *rest] for number, *rest in rows]
    caption = f"What {entry.title} does not specify, and what is assumed here"
    told = table(["decision", "setting", "assumed", "why"], lines, caption).data
    for number in {number for number, *_ in rows if number is not None}:
        place = f'<td class="" id="{anchor(entry.method, number)}">D{number}</td>'
        told = told.replace(f'<td class="">D{number}</td>', place, 1)
    return folded(f"All {len(rows)} settings", told)  # browsers open it for a link to an anchor inside


def reason(where):
    """The words behind the number of a decision."""
    return NUMBER.sub("", where, count=1).lstrip(":; ") if NUMBER.match(where) else where


def anchor(name, number):
    """The anchor of a paper's decision."""
    return f"{name.replace('_', '-')}-d{number}"


def linked(text, place, up):
    """A built page of a chapter, whose recipe tables lead to its decisions."""
    chapter = OF_A_PAGE.match(place)
    if not chapter:
        return text

    def link(found):
        address = f"{up}book/decisions.html#{anchor(chapter[1], found[2][1:])}"
        return f'{found[1]}<a href="{escaped(address)}">{found[2]}</a>'

    return IN_A_CELL.sub(link, text)
