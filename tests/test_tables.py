"""Tables say what the runs say, and where a cell comes from."""

import dataclasses
import hashlib
import re
from types import SimpleNamespace

import guards
import numpy as np
import pytest
import torch
from made_runs import MACHINE

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
        provenance=dict(MACHINE),
    )


def badges(page):
    """The words of a page's verdicts."""
    return re.findall(r'<span class="badge \w+">(.*?)</span>', page)


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
    assert "−2.6" in page and '<span class="badge better">holds</span>' in page
    rows["plain contrast"] = row("plain contrast", 96.0)
    assert '<span class="badge worse">fails</span>' in ablations.ablation(rows, "full", "caption").data


def test_a_caption_counts_the_verdicts_and_names_the_largest_effect(kept):
    rows = {"full": row("full"), "worse": row("plain contrast"), "again": row("full")}
    assert (
        "caption. 2 compared: 1 worse, 1 undecided; the largest is −10"
        in ablations.ablation(rows, "full", "caption").data
    )
    assert "compared" not in ablations.ablation({"full": row("full")}, "full", "caption").data
    nothing = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "1 compared: 1 undecided" in nothing and "largest" not in nothing


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
    assert "the largest is −5" in page, "not nothing: the same runs, searched otherwise"


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
    assert tables.NOT_RUN in page and badges(page) == []


def test_a_row_that_nobody_printed_is_better_worse_or_cannot_be_told(kept):
    page = ablations.ablation(
        {"full": row("full"), "plain contrast": row("plain contrast")}, "full", "caption"
    ).data
    assert badges(page) == ["worse"]
    same = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert badges(same) == ["undecided"]


def test_effects_carry_the_runs_they_come_from(kept):
    page = ablations.ablation(
        {"full": row("full"), "plain contrast": row("plain contrast")}, "full", "caption"
    ).data
    assert page.count("promptsg/promptsg/plain-contrast/world_market-laptop-s2") == 2, (
        "the number and its effect"
    )


def test_a_number_of_another_recipe_is_greyed_and_called_stale(kept):
    assert "(stale)" not in ablations.ablation({"full": row("full")}, "full", "caption").data
    old = run("full", 1, 0.6)
    old.recipe["triplet_margin"] = 7.0
    BOOK.write(old)
    page = ablations.ablation({"full": row("full"), "again": row("plain contrast")}, "full", "caption").data
    assert len(re.findall(r'class="world[a-z ]* stale"', page)) == 2, (
        "the number, and the effect that is measured against it"
    )
    assert page.count("(stale)") == 2 and badges(page) == ["stale"], "and there is no verdict"
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
    "shown", [r"(\d+\.\d)( ± \d\.\d)<", r"( ± )\d\.\d(<)", r"([+−]\d+\.\d)( \[)", r"(, [+−])\d+(\.\d\])"]
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
    assert " mAP (80 % power, 3 seeds, 120 identities).</p>" in page
    page = ablations.ablation({"lambda 2": row("lambda 2")}, "lambda 2", "caption").data
    assert page.startswith("<p>How small a difference this table can show is not known: fewer than two seeds")


def test_what_cannot_be_told_says_how_many_seeds_would_tell(kept, monkeypatch):
    asked = []

    def needed(spread, level):
        asked.append(spread)
        return 12

    monkeypatch.setattr(ablations.intervals, "seeds_needed", needed)
    page = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "undecided</span> <small>(resolves 0.0; 12 seeds would tell)" in page and asked[0].mean == 0
    monkeypatch.setattr(ablations.intervals, "seeds_needed", lambda spread, level: None)
    page = ablations.ablation({"full": row("full"), "again": row("full")}, "full", "caption").data
    assert "50 seeds would not tell" in page


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
    assert badges(page) == ["one seed: no verdict"]


def test_an_overview_tells_which_rows_have_which_verdict(kept):
    rows = {"full": row("full"), "plain contrast": row("plain contrast"), "lambda 2": row("lambda 2")}
    page = ablations.overview({"sweep": (rows, "full")}, "caption").data
    assert 'worse">worse</span></td><td class="">plain contrast</td>' in page
    assert '<td class="empty">not run</td><td class="">lambda 2</td>' in page and page.count("<tr>") == 3


def cells_of(page):
    """The lines of a table's body, each cell as a reader reads it."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", body)
    cells = [re.findall(r"<td.*?>(.*?)</td>", line) for line in lines]
    return [[" ".join(re.sub(r"<.*?>", "", one).split()) for one in line] for line in cells]


def test_every_metric_stands_with_an_interval_and_an_older_run_without_one(shelves):
    one = run("full", 0, 0.6)
    one.record()["first"] = [1] * 104 + [4] * 16
    one.record()["summary"] |= {"R1": 100 * 104 / 120, "R5": 100.0, "mINP": 30.0}
    runs = [BOOK.write(one)]
    assert tables.ours(runs, "R1").text == "86.7 ± 6.1", "one seed: of who is searched for"
    assert tables.ours(runs, "mINP").text == "30.0", "kept as a mean alone"
    one.record()["inp"] = [0.3] * 120
    assert tables.ours([BOOK.write(one)], "mINP").text == "30.0 ± 0.0"
    page = tables.table(["R1", "mINP"], [[tables.ours(runs, "R1"), tables.ours(runs, "mINP")]], "x").data
    assert guards.check_page(page, "p") == []


def test_a_cell_that_lacks_seeds_says_how_many_it_has(kept):
    BOOK.path(Spec("promptsg", "promptsg", "plain contrast", seed=1)).unlink()
    rows = {"full": row("full"), "plain contrast": row("plain contrast")}
    page = ablations.ablation(rows, "full", "caption").data
    full, plain = cells_of(page)
    assert "seeds" not in full[1] and plain[1].endswith("(2 of 3 seeds)"), plain
    assert "seeds" not in plain[2] and guards.check_page(page, "p") == []
    forged = page.replace("2 of 3 seeds", "3 of 3 seeds")
    assert len(guards.check_page(forged, "p")) == 1, "the guards count, too"
    page = ablations.ablation(rows, "plain contrast", "caption").data
    assert cells_of(page)[0][2].endswith("(2 of 3 seeds)"), "of three, two have a partner"
    BOOK.path(Spec("promptsg", "promptsg", "full", seed=1)).unlink()
    page = ablations.ablation(rows, "full", "caption").data
    assert page.count("of 3 seeds") == 1 and "caption; 2 of 3 seeds. 1 compared" in page, "said once"


def test_the_verdicts_of_a_table_are_corrected_for_their_number(kept, monkeypatch):
    rows = {"full": row("full"), "plain contrast": row("plain contrast"), "again": row("full")}
    monkeypatch.setattr(ablations.intervals, "chance", lambda spread: 0.03)
    alone = ablations.ablation({k: rows[k] for k in ("full", "plain contrast")}, "full", "caption").data
    both = ablations.ablation(rows, "full", "caption").data
    assert badges(alone) == ["worse"] and badges(both) == ["undecided", "undecided"]
    assert "corrected for 2 comparisons (Holm)" in both and "Holm" not in alone


def test_a_small_difference_is_called_on_one_kind_of_machine_alone(kept):
    for seed in range(3):
        BOOK.write(moved(run("full", seed, 0.6), 0.003))
    rows = {"full": row("full"), "again": row("lambda 2")}
    for seed in range(3):
        BOOK.write(dataclasses.replace(run("full", seed, 0.6), spec=row("lambda 2").specs[seed]))
    page = ablations.ablation(rows, "full", "caption").data
    assert badges(page) == ["worse"], "by 0.3, but on the same machine"
    for label in ("lambda 2", "plain contrast"):
        other = BOOK.find(row(label).specs[1])
        other.provenance["instructions"] = "AVX2"
        BOOK.write(other)
    page = ablations.ablation(rows, "full", "caption").data
    assert badges(page) == ["undecided"] and "several kinds of machine" in page
    rows["plain contrast"] = row("plain contrast")
    assert "worse" in badges(ablations.ablation(rows, "full", "caption").data), "ten points are no rounding"


def moved(one, up):
    """The run with all precisions a little higher."""
    record = one.record()
    record["ap"] = [min(ap + up, 1) for ap in record["ap"]]
    record["summary"]["mAP"] = 100 * float(np.mean(record["ap"]))
    return one


def test_a_readers_run_stands_beside_the_books_and_never_in_its_mean(kept):
    OWN.write(run("full", 0, 0.9))
    OWN.write(run("plain contrast", 0, 0.7))
    OWN.write(run("full", 7, 0.9))
    mine = [Spec("promptsg", "promptsg", "full", seed=seed) for seed in (0, 1, 2, 7)]
    rows = {"full": ablations.Row(mine), "plain contrast": row("plain contrast")}
    books = cells_of(ablations.ablation(rows, "full", "caption").data)
    page = ablations.ablation(rows, "full", "caption", shelf=OWN).data
    full, yours, plain, yours_too = cells_of(page)
    assert [full, plain] == books and "of 4 seeds" not in page, "as if nobody had trained"
    assert [yours[0], yours_too[0]] == ["full, your run", "plain contrast, your run"]
    assert yours[1].startswith("85"), "of both seeds: 90, clipped at 1"
    assert yours_too[2].startswith("−1") and yours_too[3] == "one seed: no verdict", "against your own"
    assert guards.check_page(page, "p") == []
    page = ablations.comparison({"full": mine}, ["mAP"], {}, "caption", shelf=OWN).data
    assert [line[0] for line in cells_of(page)] == ["full", "full, your run"]


def test_a_number_over_the_books_seeds_and_a_readers_is_found(kept):
    own = OWN.write(run("full", 7, 0.9))
    mixed = [BOOK.find(row("full").specs[0]), own]
    (complaint,) = guards.check_page(tables.table(["mAP"], [[tables.ours(mixed)]], "x").data, "p")
    assert "mixes the book's runs with a reader's" in complaint


def test_columns_without_an_entry_are_left_out_and_named_once(kept):
    specs = {"full": row("full").specs, "plain": row("plain contrast").specs}
    page = ablations.comparison(specs, ["mAP", "R1"], {("full", "mAP"): 89.6}, "caption").data
    assert all(len(line) == 4 for line in cells_of(page)), "row, the paper's, ours twice"
    assert page.count(tables.NOT_RUN) == 1 and "Ours, real data: mAP, R1 (not run)" in page
    assert "Paper: R1;" in page, "and what it does not print"


def test_a_table_has_two_storeys_where_columns_belong_together():
    heads = [
        "row",
        tables.Head("mAP", "Paper"),
        tables.Head("difference", "Paper"),
        tables.Head("mAP", "Ours"),
    ]
    page = tables.table(heads, [["a", "1", "2", "3"]], "caption").data
    assert '<th class="group" colspan="2">Paper</th><th class="group" colspan="1">Ours</th>' in page
    assert '<span class="whose">Paper: </span>difference' in page, "for where the upper one is not shown"
    assert "storey" not in tables.table(["row"], [["a"]], "x").data.partition("</style>")[2]


def test_the_caption_and_the_style_stand_in_the_table_and_outside_of_its_box():
    page = tables.table(["row"], [["a"]], "found").data
    assert page.startswith("<style>") and page.index("found") < page.index('class="scroll"')
    assert "<caption" not in page and page.count("<style>") == 1


def test_the_best_number_of_a_column_is_bold_and_points_stand_below_each_other(kept):
    column = [tables.printed(value) for value in (9.5, 10.5, None)]
    page = tables.table([tables.Head("mAP", best=True)], [[one] for one in column], "x").data
    assert f'<td class="paper decimal">{tables.FIGURE_SPACE}9.5' in page
    assert '<td class="paper decimal best">10.5' in page and page.count(" best") == 1
    assert " best" not in tables.table([tables.Head("mAP", best=True)], [[column[0]]], "x").data
    old = run("full", 0, 0.7)
    old.recipe["triplet_margin"] = 7.0
    stale = tables.ours([BOOK.write(old)])
    fresh = [tables.ours([BOOK.find(row(label).specs[1])]) for label in ("full", "plain contrast")]
    page = tables.table([tables.Head("mAP", best=True)], [[one] for one in (stale, *fresh)], "x").data
    assert page.count(" best") == 1 and "best stale" not in page
    assert guards.check_page(page, "p") == []


def test_a_row_may_be_called_otherwise_on_a_page(kept):
    rows = {"full": row("full"), "plain contrast": row("plain contrast")._replace(shown="b) without it")}
    page = ablations.ablation(rows, "full", "caption").data
    assert '<td class="" title="plain contrast">b) without it</td>' in page
    assert "the largest is −10.0, b) without it" in page or "b) without it" in page.partition("<div")[0]


def test_what_tells_two_machines_apart_stands_in_every_run():
    recipe = Spec("clip_reid", "baseline", profile="smoke").recipe()
    method = SimpleNamespace(recipe=recipe, parameters=lambda: iter([torch.zeros(1)]))
    told = provenance.of_method(method, "fp32")
    assert set(ablations.MACHINE) <= set(told) and all(told[name] for name in ablations.MACHINE)
    assert told["threads"] == torch.get_num_threads() and told["precision"] == "fp32"
