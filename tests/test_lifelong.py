"""Domains in an order: what is measured, what the simple baselines keep, and that an order resumes."""

import functools
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_prep import catalogue
from reid_core import checkpoint, lifelong, train
from reid_core.analysis import visuals
from reid_core.contract import interrupted, same_state
from reid_core.data import load_data, still_batches
from reid_core.evaluate import run_tests
from reid_core.methods import METHODS
from reid_core.methods.base import freeze_all_but, total
from reid_core.methods.baseline import LIFELONG, LearningWithoutForgetting, Replay, Sequential, exemplars
from reid_core.recipe import PROFILES
from reid_core.runs import measure
from reid_core.runs.run import OWN, Spec, training_folder

SMALL = {"stage2_epochs": 1, "stage2_ids_per_batch": 2, "image_height": 64, "image_width": 32}
RECIPE_ = METHODS["lifelong"].recipe.at(PROFILES["smoke"]).but(**SMALL)
ORDER = ("world_a@8", "world_b@8")  # eight identities to learn in each: four steps


@pytest.fixture(scope="module")
def domains():
    return [load_data(name, "smoke") for name in ORDER]


@pytest.fixture(scope="module")
def whole(domains, tmp_path_factory):
    """kind -> what `learned` gives of it in one go through both domains."""
    return functools.cache(lambda kind: learned(kind, domains, tmp_path_factory.mktemp("whole")))


@pytest.fixture
def fits(monkeypatch):
    """The folders of all trainings, as they come."""
    told, real = [], train.fit
    monkeypatch.setattr(train, "fit", lambda *args, **how: told.append(args[2]) or real(*args, **how))
    return told


def test_a_missing_score_is_one_sentence():
    records = [
        {"data": data, "task": "t", "after": after, "summary": {"mAP": 50.0}}
        for after, data in (("d0", "d0"), ("d0", "d1"), ("d1", "d1"))
    ]
    with pytest.raises(ValueError, match="expected a score on d0 after d1 in the records, found none"):
        lifelong.score_matrix(records, ["d0", "d1"])


def records_on(domains):
    """Records of every domain, as a run keeps them."""

    def tests(method, number):
        after = domains[number - 1].manifest.name
        return [
            {
                "data": data.manifest.name,
                "task": task,
                "after": after,
                "summary": scores.summary(),
            }
            for data in domains
            for task, scores in run_tests(method, data.without_cameras(), number=1).items()
        ]

    return tests


def learned(kind, domains, folder, shown=None, recipe=RECIPE_, **more):
    train.seed_all(0)
    method = kind(recipe, domains[0])
    how = {"precision": "fp32", "key": kind.__name__, "log": lambda *_: None}
    records, history = lifelong.learn(
        method, domains, folder, tests=records_on(shown or domains), **(how | more)
    )
    return method, records, history


@pytest.mark.parametrize("name", LIFELONG)
def test_every_simple_baseline_goes_through_two_domains(name, whole):
    method, records, history = whole(LIFELONG[name])
    matrix = lifelong.score_matrix(records, ["world_a", "world_b"])
    assert matrix.shape == (2, 2) and np.isfinite(matrix).all() and (matrix > 0).all()
    assert [line["domain"] for line in history] == [1, 2]
    terms = set(history[1]["losses"]) - set(history[0]["losses"])
    wanted = {"feature distillation": {"feature distillation"}}
    wanted["learning without forgetting"] = {"logit distillation"}
    assert terms == wanted.get(name, set())
    assert method.position == 2


def test_an_order_that_begins_alike_is_taken_up_and_ends_alike(domains, whole, tmp_path, fits):
    _, records, _ = learned(Sequential, domains[:1], tmp_path, domains)
    fits.clear()
    both, more, _ = learned(Sequential, domains, tmp_path)
    assert len(fits) == 1, "the first domain was not trained again"
    assert more[: len(records)] == records
    afresh, again, _ = whole(Sequential)
    assert again == more and same_state(afresh, both)


@pytest.mark.parametrize("stop_after", [1, 5])
@pytest.mark.parametrize("kind", [LearningWithoutForgetting, Replay])
def test_an_order_interrupted_within_a_domain_ends_with_the_same_bits(
    kind, stop_after, domains, whole, tmp_path
):
    method, records, _ = whole(kind)
    interrupted(lambda: learned(kind, domains, tmp_path, checkpoint_every=1), stop_after)
    again, resumed, _ = learned(kind, domains, tmp_path, checkpoint_every=1)
    assert same_state(method, again) and resumed == records


def test_heads_that_grew_teach_the_new_identities_and_keep_the_old_rows(domains):
    method = LearningWithoutForgetting(RECIPE_, domains[0])
    method.begin_domain(domains[0], 1)
    before = method.heads[0].classifier.weight.detach().clone()
    method.begin_domain(domains[1], 2)
    after = method.heads[0].classifier.weight
    assert len(after) == len(before) + domains[1].classes and torch.equal(after[: len(before)], before)
    (stage,) = method.stages()
    stage.start()
    assert method.old_heads[0].classifier.out_features == len(before)
    freeze_all_but(method, stage.groups)
    assert all(not p.requires_grad for p in [*method.old.parameters(), *method.old_heads.parameters()])
    assert total({"a": torch.ones(())}, {"a": 2.0}) == 2


def test_the_memory_of_replay_has_its_size_and_is_the_same_every_time(domains):
    few = exemplars(domains[0].manifest, 10, 4)
    assert len(few.table) == 10 and set(few.table.split) == {"train"}
    assert few.table.groupby("pid").size().max() <= 4
    assert few.fingerprint == exemplars(domains[0].manifest, 10, 4).fingerprint
    assert few.fingerprint != domains[0].manifest.fingerprint
    method = Replay(RECIPE_, domains[0])
    method.begin_domain(domains[0], 1)
    method.begin_domain(domains[1], 2)
    assert method.data.classes > domains[1].classes
    assert len(method.data.train) <= len(domains[1].train) + RECIPE_.replay_images


@pytest.fixture
def orders(shelves, monkeypatch):
    """Two short orders that begin alike, as lifelong:world and lifelong:other."""
    monkeypatch.setitem(catalogue.ORDERS, "world", ORDER)
    monkeypatch.setitem(catalogue.ORDERS, "other", ("world_a@8", "world_d@8"))
    monkeypatch.setattr(catalogue, "WORLD_UNSEEN", ("world_f",))
    monkeypatch.setattr(catalogue, "UNSEEN", ("world_f",))
    place = catalogue.ROOT / "build" / "world"
    place.mkdir(parents=True, exist_ok=True)  # in a fresh clone no other test may have made it
    (catalogue.build_folder()).mkdir(exist_ok=True)
    (catalogue.build_folder() / "world").symlink_to(place)


def small(variant, **changes):
    row = " + ".join(["full", *(f"{name}={value}" for name, value in {**SMALL, **changes}.items())])
    return Spec("lifelong", variant, row, "lifelong:world", "smoke")


def test_an_order_is_a_run_like_any_other(orders, fits):
    """From its name to records after each domain; the second order begins alike and trains once less."""
    spec = small("sequential")
    run = measure.measure(spec, log=lambda text: None)
    assert [(one["after"], one["data"]) for one in run.scores] == [
        (after, data) for after in ORDER for data in (*ORDER, "world_f")
    ]
    assert OWN.find(spec) == run and run.data["name"] == "lifelong:world" and len(fits) == 2
    matrix = lifelong.score_matrix(run.scores, ORDER)
    assert matrix.shape == (2, 2) and lifelong.forgetting(matrix).shape == (1,)
    other = measure.measure(spec._replace(data="lifelong:other"), log=lambda text: None)
    assert len(fits) == 3 and other.scores[0]["summary"] == run.scores[0]["summary"]
    assert lifelong.score_matrix(other.scores, ["world_a@8", "world_d@8"]).shape == (2, 2), (
        "tested on its own sets"
    )
    method, _ = visuals.trained(spec)
    with torch.no_grad():
        batch = next(still_batches(load_data(ORDER[0], "smoke"), "query", method.size, method.test_view()))
        assert method.embed(batch, "f12+fp").isfinite().all(), "the model after the last domain can be used"
    alone = measure.measure(spec._replace(data=ORDER[0]), log=lambda text: None)
    assert len(fits) == 3, "the first domain of an order is a run of its own, and not trained again"
    assert alone.record()["data"] == ORDER[0] and alone.record()["after"] == ""


def test_rows_that_begin_alike_share_the_first_domain(orders, fits):
    some = measure.measure(small("exemplar replay"), log=lambda text: None)
    few = measure.measure(small("exemplar replay", replay_images=4), log=lambda text: None)
    assert len(fits) == 3, "of the second row the second domain alone was trained"
    first, second = (
        [one["summary"] for one in run.scores if one["after"] == ORDER[0]] for run in (some, few)
    )
    assert first == second
    other = measure.measure(small("exemplar replay", flip_p=0.0), log=lambda text: None)
    assert len(fits) == 5, "what acts from the start is another training"
    kept = (catalogue.build_folder() / "runs").glob(f"*/*/*/*/{train.WEIGHTS}")  # as `weights` lists runs
    runs = {training_folder(run.spec.name) for run in (some, few, other)}
    assert {path.parent for path in kept} == runs, "what rows share is no run"


def test_waiting_for_another_who_trains_the_same_is_told_and_is_no_time_of_the_run(domains, tmp_path):
    place = lifelong.prefix_folder(tmp_path, "Sequential", domains[:1])
    spent, said = [], []
    there = threading.Event()

    def hold():
        with checkpoint.turn_at(place):
            there.set()
            time.sleep(0.5)

    other = threading.Thread(target=hold)
    other.start()
    there.wait()
    learned(Sequential, domains[:1], tmp_path, spent=spent, log=said.append)
    other.join()
    waited, trained = spent
    assert waited > 0.2 and trained > 0
    assert said[0] == f"waits for another program that works on {place.name}"


WAITING = {  # every change of a field that waits for the second domain, at once
    ("pad", "released"): {"lambda_text": 0.0, "lambda_feat": 0.0, "lambda_logit": 0.0, "unfrozen_blocks": 1}
    | {"texkd_teacher": "ema", "freeze_policy": "none"},
    ("pad", "described"): {"lambda_text": 5.0, "lambda_feat": 2.0, "lambda_logit": 2.0, "unfrozen_blocks": 1}
    | {"texkd_teacher": "ema", "freeze_policy": "none"},
    ("vladr", "released"): {"dalign_weight": 0.0, "dalign_reads": "global", "dalign_temperature": 0.1}
    | {"fusion_alpha_new": 1.0},
    ("vladr", "described"): {"memory_pulls": "each image"},
    ("lifelong", "exemplar replay"): {"replay_images": 4},
}
FEW = {  # batches that eight identities fill
    "pad": {"ids_per_batch": 4, "stage1_batch": 16},
    "vladr": {"stage1_ids": 2, "stage2_ids": 4, "stage1_epochs": 1},
    "lifelong": SMALL,
}


@pytest.mark.parametrize("paper, variant", WAITING)
def test_fields_that_wait_change_nothing_in_the_first_domain(paper, variant, domains, tmp_path):
    kind = METHODS[paper].variants[variant].kind
    recipe = METHODS[paper].recipe_of(variant, "full").at(PROFILES["smoke"]).but(**FEW[paper])
    other = recipe.but(**WAITING[paper, variant])
    assert set(kind.waiting) == {name for name in vars(recipe) if vars(recipe)[name] != vars(other)[name]}
    one, told, history = learned(kind, domains[:1], tmp_path / "one", recipe=recipe)
    two, same, again = learned(kind, domains[:1], tmp_path / "two", recipe=other)
    assert same_state(one, two) and told == same
    assert [line["losses"] for line in history] == [line["losses"] for line in again]


def test_an_order_asks_for_a_lifelong_method():
    with pytest.raises(ValueError, match="a lifelong method for the order lifelong:world, found baseline"):
        Spec("clip_reid", "baseline", data="lifelong:world").check()
    with pytest.raises(ValueError, match="expected one data set, found the order lifelong:order 1"):
        catalogue.read("lifelong:order 1")
    with pytest.raises(ValueError, match="expected an order among world, .*order 1, .*, found 'order 3'"):
        catalogue.order("lifelong:order 3")
    assert catalogue.order("lifelong:world#7")[1] == "world_b#7"


def test_a_training_part_may_be_cut_to_its_first_identities():
    whole, few = catalogue.read("world_market", "smoke"), catalogue.read("world_market@5", "smoke")
    assert few.split("train").pid.nunique() == 5 < whole.split("train").pid.nunique()
    assert len(few.split("query")) == len(whole.split("query"))
    assert few.fingerprint == catalogue.fingerprint("world_market@5", "smoke") != whole.fingerprint
    with pytest.raises(ValueError, match="expected a number of identities after @ in world_market@x"):
        catalogue.read("world_market@x", "smoke")


def test_a_probe_walks_two_domains_and_sees_what_holds_on_to_the_first(domains):
    method = LIFELONG["feature distillation"](RECIPE_, domains[0])
    found = train.probe_losses(method, domains, batches=2)
    kept = [name for name in found if "feature distillation" in name]
    assert kept and all(name.startswith("domain 2 | ") for name in kept)
    assert any(name.startswith("domain 1 | ") for name in found)


def test_domains_one_by_one_take_as_many_steps_as_all_at_once():
    spec = Spec("lifelong", "sequential", "full", "lifelong:world", "laptop")
    assert spec.lifelong and not Spec("clip_reid", "baseline").lifelong
    domain = SimpleNamespace(train=SimpleNamespace(paths=np.zeros((600, 1))))
    joint = SimpleNamespace(train=SimpleNamespace(paths=np.zeros((3000, 1))))
    assert train.passes(domain, spec.epoch_images) == train.passes(joint, spec.epoch_images) == 1
    assert train.passes(domain, spec._replace(method="clip_reid", variant="baseline").epoch_images) == 3
