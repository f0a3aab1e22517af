"""A reproduction page: what is assumed, how to run it again, and a reader's own run beside the book's."""

import dataclasses
import re
from types import SimpleNamespace

import decisions
import pytest
from made_runs import noisy, run

from reid_core.methods import PAPERS
from reid_core.recipe import PROFILES
from reid_core.report import notebook, tables
from reid_core.report.notebook import NAMES, Chapter, ParameterError, coerced
from reid_core.runs import measure, provenance
from reid_core.runs.run import BOOK, OWN, Spec

WORLD = {"origin": "world", "name": "toy"}
TINY = {"stage1_epochs": 1, "stage2_epochs": 1}


def chapter(name="CLIP-ReID", **told):
    page = {
        "profile": "laptop",
        "data": "world_market",
        "seed": 0,
        "retrain": False,
        "shelf": BOOK,
        "changes": {},
    }
    return Chapter(SimpleNamespace(**{**page, **told}), name)


def kept(shelf, label="CLIP-ReID", seed=0, shift=0.0, profile="laptop", data="world_market", cost=None):
    """A made-up run of a whole method on a shelf."""
    spec = Spec(*NAMES[label], "full", data, profile, seed)
    ap = noisy(seed, shift).record()["ap"]
    one = run(seed, ap, first=[1 if value > 0.5 else 2 for value in ap])
    return shelf.write(dataclasses.replace(one, spec=spec, data=WORLD, cost=cost or {}))


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(provenance, "outdated", lambda run: "")


def rows_of(page):
    """The rows of a table as texts, without tags."""
    body = page.partition("<tbody>")[2]
    return [re.sub(r"<[^>]*>", " ", row) for row in body.split("<tr>")[1:]]


def test_each_assumed_or_changed_setting_stands_in_the_table_once_and_no_other():
    for paper in PAPERS.values():
        recipe = paper.recipe.at(PROFILES["laptop"])
        shown = tables.assumed_table(recipe, "caption").data
        lines = {line.name: line for line in recipe.table()}
        named = re.findall(r"(?:>|; )(\w+) ", shown)
        listed = [name for name in named if name in lines]
        wanted = [
            name
            for name, line in lines.items()
            if line.status == "assumed" or tables.used_value(line, recipe) != tables.short(line.printed)
        ]
        assert sorted(listed) == sorted(wanted)


def test_a_decision_in_the_table_leads_to_its_anchor():
    shown = chapter("PromptSG").assumed().data
    linked = decisions.linked(shown, "notebooks/2_promptsg/reproduce.html", "../../")
    anchors = re.findall(r"decisions.html#([\w-]+)", linked)
    assert len(anchors) > 15 and all(f'id="{one}"' in decisions.page() for one in anchors)
    assert len(anchors) == len(set(anchors)), "a line per decision"


def test_milestones_stand_in_the_epochs_of_the_run():
    shown = chapter(profile="smoke").assumed().data
    assert "stage2_milestones (30, 50) → 1, 1.67 of 2" in shown
    assert "stage2_warmup_epochs 10 → 0.333 of 2" in shown
    assert "1, 1.67 of 2" in chapter(profile="smoke").recipe().data
    assert "milestones" not in chapter(profile="paper", data="market1501").assumed().data


def test_a_page_tells_the_time_and_the_line_of_the_run_itself(shelves, fresh, monkeypatch):
    one = kept(BOOK, cost={"minutes": 3.25})
    shown = chapter().rerun(one).data
    assert "This run took 3.25 min on a processor, 2 threads" in shown
    assert f"<pre>image to image on toy  mAP {one.score():.1f}  R1 " in shown
    assert "not run" in chapter().rerun(None).data
    monkeypatch.setattr(provenance, "outdated", lambda run: "its data changed")
    older = dataclasses.replace(one)  # a run remembers whether it is stale
    assert "An older version of this run (its data changed) took 3.25 min" in chapter().rerun(older).data


def test_whole_methods_stand_in_one_table_as_printed_and_on_both_worlds(shelves, fresh):
    for data in ("world_market", "world_msmt"):
        kept(BOOK, "CLIP fine-tune", data=data)
    kept(OWN, "CLIP fine-tune", shift=0.1)
    shown = chapter(shelf=OWN).scores().data
    baseline, mine, other = rows_of(shown)
    assert "86.4" in baseline and baseline.count("±") == 4 and "86.4" not in mine
    assert mine.strip().startswith("CLIP fine-tune, your run") and mine.count("±") == 2
    assert "not run" in other and "Market-1501: mAP, R1 (not run)" in shown


@pytest.mark.parametrize("given", ['{"i2t_weight": 0.5}', {"i2t_weight": 0.5}])
def test_changes_come_as_a_dict_or_as_json(given):
    assert coerced("changes", "dict", given) == {"i2t_weight": 0.5}


@pytest.mark.parametrize("given", ["[1]", "i2t_weight=1", 3, [1]])
def test_changes_of_another_kind_are_refused(given):
    with pytest.raises(ParameterError, match="expected changes to be dict, found"):
        coerced("changes", "dict", given)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nonsense": 1}, "expected fields of ClipReidRecipe .*, found 'nonsense'; correct the name"),
        ({"stage2_epochs": "many"}, "expected stage2_epochs to be a whole number, found 'many'"),
        ({"stage2_epochs": -1}, "expected stage2_epochs from 0 to 1000, found -1"),
        ({"flip_p": 2}, "expected flip_p from 0 to 1, found 2"),
        ({"a b": 1}, "expected a change FIELD=VALUE of the recipe, found 'a b=1'"),
    ],
)
def test_a_wrong_change_is_told_in_one_sentence_before_anything_trains(changes, message):
    with pytest.raises(ParameterError, match=message):
        chapter(changes=changes)


def test_a_list_of_a_parameter_becomes_a_tuple_of_the_recipe():
    assert chapter(changes={"stage2_milestones": [3, 5]}).own.recipe().stage2_milestones == (3, 5)
    assert chapter("PromptSG", changes={"id_features": ["z"]}).own.recipe().id_features == ("z",)


def test_without_changes_a_line_says_what_to_set():
    assert "Set the parameter changes to a dict" in chapter().try_it().data


@pytest.mark.slow
def test_your_run_is_trained_once_on_your_shelf_and_stands_beside_the_books(shelves, fresh, monkeypatch):
    books = kept(BOOK, profile="smoke", shift=0.1)
    page = chapter(profile="smoke", shelf=OWN, changes=TINY)
    shown = page.try_it().data
    mine = OWN.at(page.own)
    assert mine.recipe["stage2_epochs"] == 1 and BOOK.at(page.own) is None
    full, own = rows_of(shown)
    assert f"{books.score():.1f}" in full
    assert (
        own.strip().startswith("stage1_epochs=1, stage2_epochs=1, your run") and f"{mine.score():.1f}" in own
    )
    for cell in re.findall(r'data-run="([^"]*)"', shown):
        assert len({"stage2_epochs" in name for name in cell.split()}) == 1, "no cell has both"
    monkeypatch.setattr(measure, "measure", None)  # not called again
    assert f"{mine.score():.1f}" in chapter(profile="smoke", shelf=OWN, changes=TINY).try_it().data


def test_retrain_trains_in_smoke_though_a_fresh_run_is_there(shelves, fresh, monkeypatch):
    trained = []
    monkeypatch.setattr(measure, "measure", lambda spec, **how: trained.append(spec))
    kept(OWN, profile="smoke")
    page = SimpleNamespace(profile="smoke", data="world_market", seed=0, retrain=False, shelf=OWN)
    assert notebook.reproduce(page, *NAMES["CLIP-ReID"]) and trained == []
    page.retrain = True
    notebook.reproduce(page, *NAMES["CLIP-ReID"])
    assert len(trained) == 1


def test_progress_on_a_page_is_one_line_that_is_gone_in_the_end(monkeypatch, capsys):
    lines = []
    handle = SimpleNamespace(update=lambda told: lines.append(told.data))
    monkeypatch.setattr(notebook, "display", lambda told, display_id: lines.append(told.data) or handle)
    log = notebook.PageLine()
    for line in ("about 2 min left", "about 1 min left", ""):
        log.update(line)
    assert lines == ["<p>about 2 min left</p>", "<p>about 1 min left</p>", ""]
    log("not tested")
    assert capsys.readouterr().out == "not tested\n"


def test_progress_learns_the_pace_of_stages_from_a_run_that_is_kept(shelves):
    one = kept(BOOK)
    history = [
        {"stage": "stage 1", "seconds": 9.0},
        {"stage": "stage 1", "seconds": 1.0},
        {"stage": "stage 1", "seconds": 1.0},
    ]
    BOOK.write(dataclasses.replace(one, history=[*history, {"stage": "stage 2", "seconds": 4.0}]))
    spec = one.spec._replace(row="full + i2t_weight=0.5", seed=3)
    assert measure.epochs_before(spec) == {"stage 1": 1.0, "stage 2": 4.0}
    assert measure.epochs_before(spec._replace(variant="baseline")) == {}
