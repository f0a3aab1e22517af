"""Runs on disk, intervals, and what is compared with what."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from data_prep import catalogue
from reid_core import checkpoint, optim, train
from reid_core.analysis import bench
from reid_core.data import load_data
from reid_core.methods import METHODS
from reid_core.report import reported
from reid_core.runs import intervals, measure, provenance
from reid_core.runs.intervals import detectable, interval, paired, verdict
from reid_core.runs.run import BOOK, OWN, Run, Spec, as_json


def run(seed, ap, pids=None, row="full", origin="world"):
    pids = list(range(len(ap))) if pids is None else pids
    record = {
        "data": "toy",
        "task": "image to image",
        "after": "",
        "summary": {"mAP": 100 * float(np.mean(ap))},
        "ap": list(ap),
        "pids": pids,
        "skipped": 0,
    }
    return Run(
        spec=Spec("clip_reid", "baseline", row, seed=seed),
        data={"origin": origin, "name": "toy"},
        recipe={},
        changes={},
        scores=[record],
        history=[],
        cost={},
        provenance={},
    )


def noisy(seed, shift=0.0, people=150, spread=0.05):
    hard = np.random.default_rng(7).uniform(0.2, 0.8, people)
    return run(seed, np.clip(hard + shift + np.random.default_rng(seed).normal(0, spread, people), 0, 1))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    return tmp_path / "results"


def test_a_run_written_reads_back_the_same(shelves):
    kept = OWN.write(noisy(3))
    assert OWN.find(kept.spec) == kept
    assert OWN.load(seed=3) == [kept] and OWN.load(seed=4) == []


def test_a_run_of_an_earlier_format_is_read_and_one_of_a_later_refused(shelves):
    run = noisy(0)
    told = dataclasses.asdict(run) | {
        "spec": run.spec._asdict(),
        "format": 1,
        "data": {"label": "world", "name": "toy"},
    }
    scores = {key: value for key, value in run.record().items() if key not in ("data", "task", "after")}
    told["scores"] = {"image to image": scores, "image to image on world_msmt": scores}
    OWN.path(run.spec).parent.mkdir(parents=True)
    OWN.path(run.spec).write_text(json.dumps(told))
    found = OWN.find(run.spec)
    assert found.data == run.data and found.scores[0] == run.scores[0]
    assert found.record("image to image on world_msmt")["data"] == "world_msmt"
    OWN.path(run.spec).write_text(json.dumps({**told, "format": 99}))
    with pytest.raises(ValueError, match="found a file that tells of none .*format 99"):
        OWN.find(run.spec)


def test_a_list_of_numbers_takes_one_line_of_a_file():
    told = {"ap": [0.5, 1e-05, -3], "names": ["a", "b"], "nested": [[1, 2], []], "none": None}
    text = as_json(told)
    assert json.loads(text) == told and ' "ap": [0.5, 1e-05, -3],' in text.splitlines()
    assert "  [1, 2]," in text.splitlines() and '  "a",' in text.splitlines()


def test_a_row_that_nobody_ran_is_none():
    assert BOOK.find(Spec("clip_reid", "baseline", "full", seed=999)) is None


@pytest.mark.parametrize(
    "spec, message",
    [
        (Spec("clip_read", "baseline"), "a method among clip_reid, promptsg, lifelong, found 'clip_read'"),
        (Spec("clip_reid", "base"), "a variant of clip_reid among baseline, clip_reid, found 'base'"),
        (
            Spec("clip_reid", "baseline", "ful"),
            "a row of clip_reid's variant baseline among full, zero-shot, .*, found 'ful'",
        ),
        (Spec("clip_reid", "baseline", profile="desk"), "a profile among smoke, laptop, paper, found 'desk'"),
    ],
)
def test_an_unknown_name_is_one_sentence(spec, message):
    with pytest.raises(ValueError, match=message):
        spec.check()


def test_changes_in_a_row_have_the_last_word_and_are_in_its_name():
    spec = Spec("clip_reid", "baseline", "full + stage2_epochs=2 + stage2_milestones=(1,)", profile="smoke")
    assert spec.recipe().stage2_epochs == 2 and spec.recipe().stage2_milestones == (1,)
    assert "stage2_epochs-2" in spec.name and spec.check() is spec


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(60):
        ap = rng.beta(2, 2, 80)
        found = interval([run(0, ap)], draws=300)
        hits += found.low <= 50 <= found.high
    assert 50 <= hits <= 60


def test_three_lucky_seeds_are_no_effect():
    """Where the luck of training is all there is, an interval of three seeds leaves out nothing in 95 of 100
    cases."""
    rng, found = np.random.default_rng(0), 0
    people = np.full(50, 0.5)
    for _ in range(200):
        one, two = (
            [run(seed, people + luck) for seed, luck in enumerate(rng.normal(0, 0.02, 3))] for _ in range(2)
        )
        change = paired(one, two, draws=50)
        found += not change.low <= 0 <= change.high
    assert 2 <= found <= 18


def test_images_of_one_person_count_as_one():
    ap, pids = np.repeat([0.2, 0.8, 0.5, 0.4], 25), np.repeat([1, 2, 3, 4], 25).tolist()
    assert interval([run(0, ap, pids)]).half > 2 * interval([run(0, ap)]).half


def test_pairing_sees_what_two_intervals_hide():
    better, base = ([noisy(s, shift, spread=0.02) for s in range(3)] for shift in (0.02, 0.0))
    difference = paired(better, base)
    assert difference.low > 0 and difference.mean == pytest.approx(2, abs=0.5)
    assert interval(base).half > difference.half


def test_runs_on_other_queries_are_not_compared():
    with pytest.raises(ValueError, match="runs on the same queries"):
        paired([run(0, [0.5] * 4)], [run(0, [0.5] * 4, pids=[9, 9, 1, 2])])
    with pytest.raises(ValueError, match="share seeds, found none"):
        paired([noisy(1)], [noisy(2)])


def test_what_can_be_detected_shrinks_with_seeds_and_with_less_noise():
    few, many = (
        detectable([noisy(s) for s in range(2)], draws=300),
        detectable([noisy(s) for s in range(6)], draws=300),
    )
    quiet = detectable([noisy(s, spread=0.01) for s in range(2)], draws=300)
    assert many < few and quiet < few and np.isnan(detectable([noisy(0)]))


def test_luck_in_training_hides_differences_as_small_as_itself():
    """Seeds three points apart, all people alike: no difference of one point could be told."""
    lucky = [noisy(seed, shift) for seed, shift in enumerate((0.0, 0.03, -0.03))]
    steady = [noisy(seed) for seed in range(3)]
    assert detectable(lucky, draws=300) > 5 > 2 > detectable(steady, draws=300)


def test_the_seeds_that_would_tell_are_those_after_which_a_difference_can_be_told():
    """Of a true difference of two points and a luck of three, so many seeds find it four times in five."""
    found = intervals.Spread(luck=0.03**2, people=0.001**2, mean=0.02)
    seeds = intervals.seeds_needed(found)
    rng, told = np.random.default_rng(0), 0
    for _ in range(400):
        half = intervals.quantile(0.975, found.luck / seeds, found.people, seeds)
        some = rng.normal(0.02, 0.03, seeds)
        told += abs(some.mean()) > half * (some.var(ddof=1) / seeds + found.people) ** 0.5
    assert 0.72 < told / 400 < 0.9 and seeds > 10
    assert intervals.seeds_needed(found._replace(people=0.02**2)) is None, (
        "more seeds do not change who is searched for"
    )
    assert intervals.seeds_needed(found._replace(mean=0.0)) is None


def test_the_spread_of_a_difference_is_that_of_its_pairs():
    ups = (0.0, 0.01, 0.04)
    runs, others = ([noisy(s, shift) for s, shift in enumerate(some)] for some in (ups, (0.0, 0.0, 0.0)))
    found = intervals.spread(runs, others)
    assert found.luck == pytest.approx(np.var(ups, ddof=1), rel=0.05) and found.mean == pytest.approx(
        np.mean(ups), abs=1e-3
    )


def test_a_verdict_needs_an_interval_without_zero():
    assert verdict(intervals.Interval(1.0, 0.2, 1.8), printed=3.0) == "holds"
    assert verdict(intervals.Interval(-1.0, -1.8, -0.2), printed=3.0) == "fails"
    assert verdict(intervals.Interval(1.0, -0.2, 2.2), printed=3.0) == "cannot tell"


def test_the_papers_numbers_are_there_word_for_word():
    row = {
        "paper": "promptsg",
        "table": "Table 2",
        "method": "Baseline",
        "backbone": "ViT-B/16",
        "dataset": "market1501",
    }
    assert reported.printed({"base": row}) == {("base", "mAP"): 86.4, ("base", "R1"): 93.3}
    with pytest.raises(ValueError, match="found none; correct the words"):
        reported.printed({"base": {**row, "table": "Table 22"}})
    assert len(reported.numbers()) == 2205 and len(reported.hyperparameters()) == 447


def test_a_run_interrupted_before_its_recipe_changed_does_not_stop_the_others(folder, monkeypatch):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    place = folder.parent / "runs" / spec.name
    place.mkdir(parents=True)
    checkpoint.save(place, 1, {"key": "before"})

    def fit(*_, **options):
        assert checkpoint.latest(place) is None and options["key"] != "before"
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        measure.measure(spec, log=lambda text: None)
    assert checkpoint.latest(place.with_name(f"{place.name}-interrupted-1")) == {"key": "before"}


def test_a_run_interrupted_before_its_code_changed_begins_again(folder, monkeypatch):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    place = folder.parent / "runs" / spec.name
    keys = []

    def fit(*_, **options):
        keys.append(options["key"])
        checkpoint.save(place, 1, {"key": options["key"]})
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", fit)
    for code in ("of Monday", "of Monday", "of Tuesday"):
        monkeypatch.setattr(provenance, "code", lambda code=code: code)
        with pytest.raises(KeyboardInterrupt):
            measure.measure(spec, log=lambda text: None)
    assert keys[0] == keys[1] != keys[2]
    assert checkpoint.latest(place)["key"] == keys[2]
    assert checkpoint.latest(place.with_name(f"{place.name}-interrupted-1"))["key"] == keys[0]


def test_a_run_goes_stale_with_what_its_code_computes_and_not_with_its_files(world):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    recipe = provenance.plain(dataclasses.asdict(spec.recipe()))
    kept = dataclasses.replace(noisy(0), spec=spec, recipe=recipe, fingerprint=provenance.fingerprint(spec))
    assert provenance.stale(kept) == ""
    for name in ("recipe", "data", "weights", "profile"):
        moved = dataclasses.replace(kept, fingerprint={**kept.fingerprint, name: "another"})
        assert provenance.stale(moved) == f"its {name} changed"


@pytest.mark.parametrize(
    "value, said",
    [
        (10.0, ""),
        (10.0005, ""),
        (9.9995, ""),
        (10.002, "its loss differs by 2.0e-04"),
        (0.0, "its loss differs by 1.0e+00"),
        (float("nan"), "its loss differs by inf"),
    ],
)
def test_a_probe_may_differ_as_processors_round_and_no_more(value, said):
    assert provenance.changed({"loss": 10.0, "gradient": 1e-9}, {"loss": value, "gradient": 2e-9}) == said


def test_a_probe_of_other_quantities_is_another_code():
    assert (
        provenance.changed({"loss": 1.0}, {"loss": 1.0, "more": 1.0})
        == "its code now computes other quantities (more)"
    )
    assert provenance.changed({}, {"loss": 1.0}).startswith("its code now computes other quantities")


MACHINES = {
    "no vector units": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
}
PROBE = """
import json, sys
from reid_core.runs.provenance import probe_losses
from reid_core.runs.run import Spec
print(json.dumps({name: probe_losses(Spec(*name.split())) for name in sys.argv[1:]}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_the_code_computes_the_same_on(machine):
    """Within half of what counts as a change."""
    names = ("clip_reid baseline", "clip_reid clip_reid", "promptsg promptsg")[2 * ("thread" in machine) :]
    command = [sys.executable, "-c", PROBE, *names]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **MACHINES[machine]})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name in names:
        here = provenance.probe_losses(Spec(*name.split()))
        assert here.keys() == told[name].keys()
        off = {key: abs(told[name][key] - here[key]) / max(abs(here[key]), provenance.FLOOR) for key in here}
        assert max(off.values()) < provenance.ROUNDING / 2, max(off, key=off.get)


def test_a_field_that_the_recipe_has_got_since_makes_no_run_stale_and_one_that_it_lost_does():
    recipe = Spec("clip_reid", "baseline", profile="smoke").recipe()
    values = dataclasses.asdict(recipe)
    younger = dataclasses.make_dataclass("Younger", [("new", int, 0)], bases=(type(recipe),), frozen=True)(
        **values
    )
    assert provenance.digest(younger) != provenance.digest(recipe) == provenance.digest(younger, values)
    assert provenance.digest(recipe.but(triplet_margin=0.5), values) != provenance.digest(recipe)
    lost = {**values, "gone": 1}
    assert provenance.digest(recipe, values) == provenance.digest_of(values)
    assert provenance.digest(recipe, lost) != provenance.digest_of(lost), (
        "what it was measured with is no field any more"
    )


def test_a_run_of_another_world_or_other_weights_is_outdated_at_a_glance():
    run = BOOK.load(variant="baseline", row="full")[0]
    other = dataclasses.replace(run, data={**run.data, "fingerprint": "another"})
    assert provenance.outdated(other) == "its data changed"
    other = dataclasses.replace(run, provenance={**run.provenance, "weights": "another"})
    assert provenance.outdated(other) == "its weights changed"


def test_the_fingerprint_of_a_world_needs_no_picture_of_it(world):
    assert catalogue.fingerprint("world_market", "smoke") == world.manifest.fingerprint


@pytest.mark.parametrize("variant", ["baseline", "clip_reid", "promptsg"])
def test_a_committed_run_of_each_method_still_says_what_the_code_says(variant):
    """A run of another world, weights or recipe is greyed on every page, and measured anew in time: that is
    no fault of the code."""
    run = next((run for run in BOOK.load(variant=variant, row="full") if not run.outdated), None)
    if run is None:
        pytest.skip("every committed run of this method is stale at a glance")
    assert provenance.stale(run) == "", run.spec.name


def test_an_epoch_that_was_held_up_does_not_count_as_slow():
    def epochs(stage, seconds, images):
        return [{"stage": stage, "seconds": s, "images": images} for s in seconds]

    history = epochs("read", [30.0, 10.0, 10.0, 10.0], 0) + epochs("see", [30.0, 30.0, 900.0, 30.0], 60)
    assert measure.pace(history) == {"training minutes": 3.0, "images per second": 2.0}
    assert measure.pace([]) == {"training minutes": 0.0, "images per second": 0.0}


def test_the_probe_sees_a_loss_that_changed_by_a_thousandth(world, monkeypatch):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    before = provenance.probe_losses(spec)
    from reid_core.methods import baseline

    real = baseline.batch_hard_triplet
    monkeypatch.setattr(baseline, "batch_hard_triplet", lambda *args: real(*args) * 1.001)
    provenance.probe_losses.cache_clear()
    after = provenance.probe_losses(spec)
    provenance.probe_losses.cache_clear()
    assert (
        "differs by 1.0e-03" in provenance.changed(before, after)
        and provenance.changed(before, dict(before)) == ""
    )


def test_the_probe_sees_an_optimiser_and_a_rate(world, monkeypatch):
    """What happens after the gradient shows in the loss after an update."""
    spec = Spec("clip_reid", "baseline", "full + stage2_lr=0.01", profile="smoke")
    before = provenance.probe_losses(spec)
    monkeypatch.setattr(optim, "adam", lambda parts: torch.optim.SGD(parts))
    provenance.probe_losses.cache_clear()
    after = provenance.probe_losses(spec)
    provenance.probe_losses.cache_clear()
    assert "total after an update" in provenance.changed(before, after)


def test_rows_with_the_same_settings_are_one_run():
    printed = "Training w/ composed"
    assert Spec("promptsg", "promptsg", printed).same == Spec("promptsg", "promptsg", "full")
    changed = Spec("promptsg", "promptsg", printed + " + epochs=2").same
    assert changed.row == "full + epochs=2"
    assert Spec("promptsg", "promptsg", "plain contrast").same.row == "plain contrast"


def test_rows_with_equal_recipes_are_one_run_whatever_their_changes_say():
    assert Spec("promptsg", "promptsg", "lambda 0.5").same.row == "full"
    assert Spec("promptsg", "promptsg", "lambda 1").same.row == "lambda 1"


def test_a_row_of_another_tower_is_refused_where_the_profile_has_its_own():
    with pytest.raises(ValueError, match="expected the profile paper for the row 'RN50'.*found laptop"):
        Spec("promptsg", "promptsg", "RN50").check()
    assert Spec("promptsg", "promptsg", "RN50", profile="paper").check()


def test_a_tower_that_knows_its_cameras_is_tested_where_it_knows_none(monkeypatch):
    """World D has more cameras than A: none of them may be taken for one of A's."""
    method, data = Spec("clip_reid", "baseline", "SIE", profile="smoke").build()
    away = load_data("world_msmt", "smoke")
    assert away.camera_index(away.query.camids).max() >= 0
    assert (away.without_cameras().camera_index(away.query.camids) == -1).all()
    monkeypatch.setattr(measure, "load_data", lambda name, profile: away)
    monkeypatch.setattr(measure, "test_sets", lambda spec: [measure.TestSet("world_msmt", 1)])
    spec = Spec("clip_reid", "baseline", "SIE")
    with torch.no_grad():
        before = measure.tested(method, data, spec, measure.test_sets(spec))
        method.image.camera.table.copy_(
            method.image.camera.table.mean(0).expand_as(method.image.camera.table)
        )
        after = measure.tested(method, data, spec, measure.test_sets(spec))
    assert before == after, "only the mean of the table is used"


def test_what_is_cached_is_no_image_and_all_that_learns_is_counted(world):
    method, _ = Spec("clip_reid", "clip_reid", profile="smoke").build(world)
    history = [{"images": 0, "seconds": 30.0}, {"images": 600, "seconds": 60.0}]
    cost = measure.what_it_cost(method, history, 120.0)
    assert (cost["minutes"], cost["training minutes"], cost["images per second"]) == (2.0, 1.5, 10.0)
    counted = sum(p.numel() for part in (method.image, method.heads, method.words) for p in part.parameters())
    fixed = sum(getattr(m, name).numel() for m in method.modules() for name in getattr(m, "fixed", ()))
    assert cost["trained parameters"] == counted - fixed


def test_a_run_is_also_tested_where_it_was_not_trained(world, monkeypatch):
    """On the other domain of the same seed, in a record that names it."""
    sets = measure.test_sets(Spec("clip_reid", "baseline", data="world_market#1000"))
    assert sets == [measure.TestSet("world_market#1000"), measure.TestSet("world_msmt#1000", 1)]
    assert measure.test_sets(Spec("clip_reid", "baseline", profile="smoke")) == [
        measure.TestSet("world_market")
    ]
    asked = []
    monkeypatch.setattr(measure, "load_data", lambda name, profile: asked.append(name) or world)
    spec = Spec("clip_reid", "baseline", profile="smoke")
    method, _ = spec.build(world)
    found = measure.tested(method, world, spec, measure.test_sets(spec._replace(profile="laptop")))
    assert [(one["data"], one["task"]) for one in found] == [
        ("world_market", "image to image"),
        ("world_market", "image to image, re-ranked"),
        ("world_msmt", "image to image"),
    ]
    assert asked == ["world_msmt"]


def test_a_joint_set_is_tested_part_by_part_each_with_its_gallery_and_protocol(world):
    spec = Spec("promptsg", "promptsg", data="world_market+world_text", profile="smoke")
    joint = load_data(spec.data, "smoke")
    assert len(joint.train) > len(world.train) and set(joint.train.domains) == {"world_market", "world_text"}
    method, _ = spec.build(joint)
    found = measure.tested(method, joint, spec, measure.test_sets(spec._replace(row="zero-shot")))
    assert [(one["data"], one["task"]) for one in found] == [
        ("world_market", "image to image"),
        ("world_text", "caption to image"),
    ]
    assert "camera left out" in found[0]["protocol"] and "no gallery image left out" in found[1]["protocol"]


def test_two_tests_of_one_run_are_compared_query_by_query():
    runs = [noisy(seed) for seed in range(3)]
    for one in runs:
        record = one.record("image to image")
        one.scores.append({**record, "task": "simplified prompt", "ap": [ap / 2 for ap in record["ap"]]})
    change = paired(runs, runs, "simplified prompt", "image to image")
    assert change.mean == pytest.approx(-50 * np.mean([one.record()["ap"] for one in runs]), abs=1e-6)
    assert change.high < 0


def test_the_bench_keeps_what_it_measured_before(shelves):
    bench.keep("one", {"ratio": 1})
    bench.keep("two", {"ratio": 2})
    assert bench.kept("one")["ratio"] == 1 and bench.kept("two")["commit"] and bench.kept("three") is None


def test_what_a_gpu_measured_stands_beside_what_a_cpu_did(shelves, monkeypatch):
    bench.keep("one", {"ratio": 1})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    bench.keep("one", {"ratio": 2})
    assert [bench.kept("one", gpu)["ratio"] for gpu in (False, True)] == [1, 2]


def test_the_full_row_is_tested_in_all_tests_and_other_rows_in_the_first():
    assert measure.test_sets(Spec("promptsg", "promptsg", "full + epochs=1"))[0].number is None
    assert measure.test_sets(Spec("promptsg", "promptsg", "plain contrast"))[0].number == 1


def test_what_a_paper_prints_nothing_of_is_a_dash_and_a_wrong_label_an_error():
    row = {
        "paper": "promptsg",
        "table": "Table 2",
        "method": "Baseline",
        "backbone": "ViT-B/16",
        "dataset": "world_a",
    }
    assert reported.printed({"base": row}) == {}


def test_a_readers_own_run_stands_before_the_books(shelves):
    books, own = noisy(0), noisy(1)
    BOOK.write(books)
    assert OWN.find(books.spec) == books
    own = dataclasses.replace(own, spec=books.spec)
    OWN.write(own)
    assert OWN.find(books.spec) == own and BOOK.find(books.spec) == books


def test_a_row_that_means_nothing_for_a_variant_is_refused():
    with pytest.raises(ValueError, match="a row of clip_reid's variant baseline among .*found 'no stage 1'"):
        Spec("clip_reid", "baseline", "no stage 1").check()


ALIKE = (  # pairs of specs whose letters and digits are the same
    ({"data": "/фото/t.csv"}, {"data": "/снимки/t.csv"}),
    ({"data": "/x/T.csv"}, {"data": "/x/t.csv"}),
    ({"data": "/a/b/x.csv"}, {"data": "/a/b-x.csv"}),
    ({"data": "world_market#-1"}, {"data": "world_market#1"}),
    ({"row": "full + triplet_weight=-2"}, {"row": "full + triplet_weight=2"}),
    ({"row": "full + stage2_lr=1e-4"}, {"row": "full + stage2_lr=1e+4"}),
)


@pytest.mark.parametrize("one, two", ALIKE)
def test_no_two_specs_have_one_name(one, two):
    names = [Spec("clip_reid", "baseline", **what).name for what in (one, two)]
    assert names[0] != names[1]


def test_a_table_has_another_name_in_every_folder(tmp_path, monkeypatch):
    names = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        names.append(Spec("clip_reid", "baseline", data="my.csv").name)
    assert names[0] != names[1]
    assert Spec("clip_reid", "baseline", data=str(tmp_path / "there" / "my.csv")).name == names[1]


def test_a_long_change_makes_no_name_that_a_disk_refuses():
    row = "full + prompt_template=" + "a photo of a person " * 40
    assert max(map(len, Spec("clip_reid", "baseline", row).name.split("/"))) < 100


def test_declared_rows_have_their_own_names_without_digits():
    for method, paper in METHODS.items():
        for variant in paper.variants:
            names = [Spec(method, variant, row).name for row in paper.rows]
            assert len(set(names)) == len(names)
    assert Spec("promptsg", "promptsg", "lambda 0.1", "world_msmt", seed=3).name == (
        "promptsg/promptsg/lambda-0-1/world_msmt-laptop-s3"
    )
