"""Nothing of the specification is lost: every setting is a field, every printed row a key, every decision is
named.

What is not there yet is listed here with the reason; each chapter takes its part out of the lists.
"""

import dataclasses
import re
from pathlib import Path

import pytest
from pending import ABLATION_TABLES, DECISIONS, PENDING_ABLATIONS, PENDING_DECISIONS, PENDING_ROWS

from reid_core.methods import PAPERS, clip_reid, promptsg
from reid_core.report import reported

ROOT = Path(__file__).resolve().parents[1]


SPECIFIED = [name for name in PAPERS if name != "lifelong"]  # simple baselines have no paper
SETTINGS = {"clip_reid": clip_reid.SETTINGS, "promptsg": promptsg.SETTINGS}


def recipe_of(paper):
    return PAPERS[paper].recipe


def fields(paper):
    """(row name, value, status) of every field of the paper's recipe and of its named variants."""
    found = list(dataclasses.fields(recipe_of(paper)))
    names = [field.name for field in found]
    for variant in SETTINGS.get(paper, {}).values():
        found, names = found + list(variant.values()), names + list(variant)
    return [
        (field.metadata["row"] or name, field.default, field.metadata["status"])
        for name, field in zip(names, found)
    ]


def numbers(text):
    """The numbers in a value of hyperparameters.csv, fractions worked out; None where it holds words."""
    parts = re.split(r"[;,]", str(text))
    try:
        return [float(a) / float(b or 1) for a, _, b in (part.strip().partition("/") for part in parts)]
    except ValueError:
        return None


def flat(value):
    return [number for part in value for number in flat(part)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("paper", SPECIFIED)
def test_every_setting_is_a_field_or_is_listed_with_the_reason(paper):
    rows = set(reported.hyperparameters(paper=paper).name)
    here = {row for row, *_ in fields(paper)}
    missing, listed = rows - here, {row for names in PENDING_ROWS[paper].values() for row in names}
    assert missing == listed, (
        f"not a field and not listed: {missing - listed}; listed and a field by now: {listed - missing}"
    )


@pytest.mark.parametrize("paper", SPECIFIED)
def test_a_field_says_what_the_list_of_settings_says(paper):
    table = reported.hyperparameters(paper=paper)
    for row, value, _ in fields(paper):
        for line in table[table.name == row].itertuples():
            wanted, found = numbers(line.value), [v for v in flat(value) if not isinstance(v, str)]
            if wanted and len(wanted) == 1 and found:
                assert (
                    any(abs(v - wanted[0]) <= 1e-9 + 1e-6 * abs(wanted[0]) for v in found) or row in UNITS
                ), (row, value)


UNITS = {  # the same fact in another form
    "stage2_warmup_init_lr",  # 1e-6, here as a tenth of 1e-5
    "stage2_lr_bias",  # 1e-5, here as twice 5e-6
    "batch_size",  # 64, here as 16 x 4
    "mim_heads_vit",
    "sa_heads",  # 12, here as the width of one
    "mim_mlp_dim",
    "mim_kv_tokens",  # 8 x 64 = 512, 4 x 512, 129: here as parts of the width
    "supcon_directions_weight",  # half of the sum, here as lambda times a share of one each
    "olp",  # 0, here as the stride of 12 that turns it on
    "stage1_epochs",
    "stage2_epochs",  # VLADR: also the span of its schedule, in iterations
}


@pytest.mark.parametrize("paper", SPECIFIED)
def test_the_status_of_a_field_is_that_of_the_list(paper):
    table = reported.hyperparameters(paper=paper)
    for row, _, status in fields(paper):
        known = set(table[table.name == row].status)
        assert not known or status in known, f"{paper} {row}: {status}, listed as {known}"


@pytest.mark.parametrize("paper", SPECIFIED)
def test_every_printed_ablation_row_is_a_key_or_its_chapter_is_to_come(paper):
    if not ABLATION_TABLES.get(paper):
        return
    labels = {
        row for table in ABLATION_TABLES[paper] for row in reported.numbers(paper=paper, table=table).row
    }
    assert labels, "the tables of ablations are in reported.csv"
    keys = set(PAPERS[paper].rows)
    assert labels <= keys or paper in PENDING_ABLATIONS, labels - keys
    assert not (labels <= keys and paper in PENDING_ABLATIONS), (
        f"{paper} is complete: take it out of the list"
    )


@pytest.mark.parametrize("paper", DECISIONS)
def test_every_decision_of_a_card_is_named_in_the_papers_file_or_listed(paper):
    source = (ROOT / "reid_core" / "methods" / f"{paper}.py").read_text()
    missing = {name for name in DECISIONS[paper] if not re.search(rf"\b{name}\b", source)}
    assert missing == set(PENDING_DECISIONS[paper]), (
        f"not named and not listed: {sorted(missing - set(PENDING_DECISIONS[paper]))}; named by now: "
        f"{sorted(set(PENDING_DECISIONS[paper]) - missing)}"
    )
