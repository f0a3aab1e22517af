"""Tables say what the runs say, and where a cell comes from."""

import dataclasses
import hashlib
import re

import guards
import numpy as np
import pytest

from reid_core.methods import promptsg
from reid_core.report import ablations, chapters, tables
from reid_core.runs import provenance
from reid_core.runs.run import BOOK, OWN, Run, Spec


def run(row, seed, mean, people=120):
    hard = np.random.default_rng(3).uniform(0.1, 0.9, people)
    noise = np.random.default_rng([seed, len(row)]).normal(0, 0.02, people)
    ap = np.clip(hard - hard.mean() + mean + noise, 0, 1)
    told = {
        "data": "toy",
        "task": "image to image",
        "after": "",
        "summary": {"mAP": 100 * float(ap.mean()), "R1": 50.0},
        "ap": ap.tolist(),
        "pids": list(range(people)),
        "skipped": 0,
    }
    counts = {"query": {"identities": people}}
    return Run(
        spec=Spec("promptsg", "promptsg", row, seed=seed),
        data={"origin": "world", "name": "toy", "counts": counts},
        recipe={},
        changes={},
        scores=[told],
        history=[],
        cost={},
        provenance={},
    )


@pytest.fixture
def kept(shelves):
    for seed in range(3):
        BOOK.write(run("full", seed, 0.6))
        BOOK.write(run("plain contrast", seed, 0.5))


def row(label, printed=None):
    return ablations.Row(
        [Spec("promptsg", "promptsg", label, seed=seed) for seed in range(3)], printed=printed
    )


def test_an_ablation_gives_each_effect_its_interval_and_a_verdict(kept):
    rows = {"full": row("full", 94.6), "plain contrast": row("plain contrast", 92.0)}
    page = ablations.ablation(rows, "full", "caption").data
    assert "-2.6" in page and "holds" in page
    rows["plain contrast"] = row("plain contrast", 96.0)
    assert "fails" in ablations.ablation(rows, "full", "caption").data


def test_a_caption_counts_the_verdicts_and_names_the_largest_effect(kept):
    rows = {"full": row("full"), "worse": row("plain contrast"), "again": row("full")}
    assert (
        "caption. 2 compared: 1 worse, 1 cannot tell; the largest is -10"
        in ablations.ablation(rows, "full", "caption").data
    )
    assert "compared" not in ablations.ablation({"full": row("full")}, "full", "caption").data
    nothing = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "1 compared: 1 cannot tell" in nothing and "largest" not in nothing


def test_a_table_says_how_its_numbers_were_ranked(kept):
    one = run("full", 0, 0.6)
    one.record()["protocol"] = "image queries; nothing left out"
    BOOK.write(one)
    assert (
        "Ours: image queries; nothing left out"
        in ablations.ablation({"full": row("full")}, "full", "caption").data
    )


def test_another_test_of_one_run_is_compared_with_the_first_one(kept):
    for seed in range(3):
        both = run("full", seed, 0.6)
        both.scores.append({**run("full", seed, 0.55).record(), "task": "simplified prompt"})
        BOOK.write(both)
    rows = {"full": row("full"), "cheap": row("full")._replace(task="simplified prompt")}
    page = ablations.ablation(rows, "full", "caption").data
    assert "the largest is -5" in page, "not nothing: the same runs, searched otherwise"


def test_only_runs_on_the_same_images_are_compared(kept):
    for seed in range(3):
        moved = run("plain contrast", seed, 0.5)
        moved.data.update({"fingerprint": "another world"} if seed == 2 else {})
        moved.record()["pids"] = [pid + 1000 * (seed == 2) for pid in range(120)]
        BOOK.write(moved)
    one = ablations.compared({"full": row("full"), "plain": row("plain contrast")}, "full")[1]
    assert len(one.runs) == 2 == len(ablations.alike(one.others, one.runs)) and one.change.mean < 0


def test_a_row_without_a_run_says_so_and_has_no_verdict(kept):
    page = ablations.ablation({"full": row("full"), "lambda 2": row("lambda 2")}, "full", "caption").data
    assert tables.NOT_RUN in page and "holds" not in page and "worse" not in page


def test_a_row_that_nobody_printed_is_better_worse_or_cannot_be_told(kept):
    page = ablations.ablation(
        {"full": row("full"), "plain contrast": row("plain contrast")}, "full", "caption"
    ).data
    assert "worse" in page and "better" not in page
    same = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "cannot tell" in same


def test_effects_carry_the_runs_they_come_from(kept):
    page = ablations.ablation(
        {"full": row("full"), "plain contrast": row("plain contrast")}, "full", "caption"
    ).data
    assert page.count("promptsg/promptsg/plain-contrast/world_market-laptop-s2") == 2, (
        "the number and its effect"
    )


def test_a_number_of_another_recipe_is_greyed_and_called_stale(kept):
    assert "stale" not in ablations.ablation({"full": row("full")}, "full", "caption").data
    old = run("full", 1, 0.6)
    old.recipe["triplet_margin"] = 7.0
    BOOK.write(old)
    page = ablations.ablation({"full": row("full"), "again": row("plain contrast")}, "full", "caption").data
    assert page.count('class="world stale"') == 2, "the number, and the effect that is measured against it"
    assert page.count("(stale)") == 2 and '<td class="">stale</td>' in page, "and there is no verdict"
    assert provenance.outdated(old) == "its recipe changed" and run("full", 0, 0.6).outdated == ""


def test_a_run_that_was_trained_again_carries_the_mark_of_its_own_file(shelves):
    book, own = BOOK.write(run("full", 0, 0.6)), OWN.write(run("full", 0, 0.7))
    assert tables.sha(book) == digest(BOOK.path(book.spec)) and tables.sha(own) == digest(OWN.path(own.spec))
    elsewhere = dataclasses.replace(own, scores=run("full", 0, 0.8).scores)
    with pytest.raises(ValueError, match="a file with the scores of .*, found none; measure it again"):
        tables.sha(elsewhere)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@pytest.fixture
def checked(kept):
    """A page of an ablation: numbers, effects, and both of another test than the first."""
    for seed in range(3):
        both = run("full", seed, 0.6)
        both.scores.append({**run("full", seed, 0.55).record(), "task": "simplified prompt"})
        BOOK.write(both)
    rows = {"full": row("full"), "plain contrast": row("plain contrast")}
    rows["cheap"] = row("full")._replace(task="simplified prompt")
    shown = (
        ablations.ablation(rows, "full", "caption").data + ablations.ablation(rows, "cheap", "caption").data
    )
    return (
        shown
        + tables.table(["R1"], [[tables.ours(list(map(BOOK.find, row("full").specs)), "R1")]], "caption").data
    )


def test_the_guards_compute_what_a_cell_says_and_find_the_same(checked):
    assert checked.count("data-metric") == 11 and checked.count("data-against") == 4
    assert guards.check_page(checked, "p") == []


@pytest.mark.parametrize(
    "shown", [r"(\d+\.\d)( ± \d\.\d)<", r"( ± )\d\.\d(<)", r"([+-]\d+\.\d)( \[)", r"(, [+-])\d+(\.\d\])"]
)
def test_a_number_that_its_run_does_not_say_is_found(checked, shown):
    places = list(re.finditer(shown, checked))
    assert len(places) >= 4
    for place in places:
        changed = (
            checked[: place.start()]
            + place[0].replace(re.search(r"\d+", place[0])[0], "99")
            + checked[place.end() :]
        )
        (complaint,) = guards.check_page(changed, "p")
        assert "99" in complaint and "is not that of its runs" in complaint


def test_a_stale_number_is_still_that_of_its_run(kept):
    old = run("full", 1, 0.6)
    old.recipe["triplet_margin"] = 7.0
    BOOK.write(old)
    page = ablations.ablation({"full": row("full"), "again": row("plain contrast")}, "full", "caption").data
    assert "(stale)" in page and guards.check_page(page, "p") == []


def test_what_can_stand_in_a_table_is_one_line_that_no_sign_ends():
    assert tables.escaped("a | <b>\n\n\"c'") == "a &#124; &lt;b&gt; &quot;c&#x27;"
    told = tables.Cell("1 | 2\n\n3", 'x" onclick="y', asked={"test": 'a" onclick="b | c'})
    page = tables.table(["|\n\n|"], [[told]], "|\n\n|").data
    assert "\n" not in page and "|" not in page and guards.check_page(page, "p") == []


def test_what_a_table_can_show_is_said_before_it(kept):
    page = ablations.ablation({"full": row("full")}, "full", "caption").data
    assert page.startswith("<p>This table can resolve differences of about ")
    assert "points of mAP (80 % power, 3 seeds, 120 identities).</p>" in page
    page = ablations.ablation({"lambda 2": row("lambda 2")}, "lambda 2", "caption").data
    assert page.startswith("<p>How small a difference this table can show is not known: fewer than two seeds")


def test_what_cannot_be_told_says_how_many_seeds_would_tell(kept, monkeypatch):
    asked = []
    monkeypatch.setattr(ablations.intervals, "seeds_needed", lambda spread: asked.append(spread) or 12)
    page = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "cannot tell (12 seeds would)" in page and asked[0].mean == 0
    monkeypatch.setattr(ablations.intervals, "seeds_needed", lambda spread: None)
    page = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "cannot tell (no 50 seeds would)" in page


def test_runs_of_an_older_world_are_not_averaged_with_those_of_a_newer_one(kept):
    old = run("full", 1, 0.6)
    BOOK.write(dataclasses.replace(old, data={**old.data, "fingerprint": "another world"}))
    assert [one.spec.seed for one in ablations.found(row("full").specs)] == [0, 2]


def test_the_plan_of_the_book_names_rows_that_exist_and_each_once():
    specs = chapters.wanted()
    assert len(specs) == len(set(specs)) and all(spec.check() and spec.same == spec for spec in specs)
    assert [spec.variant for spec in specs[:6:2]] == ["baseline", "clip_reid", "promptsg"], (
        "full rows come first"
    )
    assert [spec.data for spec in specs[:2]] == list(chapters.MARKETS), "on both domains"
    headlines = [spec for spec in specs if spec.row in ("full", *chapters.TABLE_3, *chapters.TABLE_4)]
    assert {spec.seed for spec in headlines} == set(chapters.SEEDS) and len(chapters.SEEDS) >= 5
    assert {spec.seed for spec in specs if spec not in headlines} >= set(chapters.FEW)
    rows = {spec.row for spec in specs if spec.method == "promptsg"}
    printed = {Spec("promptsg", "promptsg", label).same.row for label in promptsg.PRINTED}
    assert printed - rows == {"+ 1 cross & 2 self-layer; inference: visual=1;text=0"}, (
        "a test of the full run"
    )


def test_a_speed_table_names_its_machine():
    told = {
        "ratios": {"tower alone": 1.0, "composed": 0.9},
        "model": "tiny",
        "batch": 4,
        "device": "two cores",
    }
    page = tables.speed(told, {"composed": 0.48}, "Table 5").data
    assert "0.48" in page and "two cores" in page


def test_one_seed_is_no_verdict(kept):
    for seed in (1, 2):
        BOOK.path(Spec("promptsg", "promptsg", "plain contrast", seed=seed)).unlink()
    page = ablations.ablation(
        {"full": row("full", 94.6), "plain contrast": row("plain contrast", 92.0)}, "full", "caption"
    ).data
    assert "one seed: no verdict" in page and "holds" not in page


def test_an_overview_tells_which_rows_have_which_verdict(kept):
    rows = {"full": row("full"), "plain contrast": row("plain contrast"), "lambda 2": row("lambda 2")}
    page = ablations.overview({"sweep": (rows, "full")}, "caption").data
    assert '<td class="">worse</td><td class="">plain contrast</td>' in page
    assert '<td class="">not run</td><td class="">lambda 2</td>' in page and page.count("<tr>") == 3
