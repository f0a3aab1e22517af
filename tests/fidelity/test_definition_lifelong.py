"""The simple baselines of lifelong chapters held to their definitions: what each learns from, holds on to and
keeps of a domain, and what is tested after which."""

import copy
import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from definition import (
    EXACT,
    batch_norm,
    by_running,
    changed,
    cross_entropy,
    gradients,
    in_float64,
    learning,
    moved,
    rates,
    stirred,
    supervised,
    triplet,
)
from stages import begun, entered, stepped

from reid_core import lifelong, train
from reid_core.augment import Augmentation
from reid_core.contract import first_batch
from reid_core.data import ReidData, load_data, still_batches
from reid_core.methods import METHODS
from reid_core.randaugment import RandAugment
from reid_core.recipe import PROFILES

SMALL = {"image_height": 64, "image_width": 32, "stage2_ids_per_batch": 3, "strong_view": True}
KINDS = list(METHODS["lifelong"].variants)
TERM = {"feature distillation": "feature distillation", "learning without forgetting": "logit distillation"}


@pytest.fixture(scope="module")
def domains():
    return [load_data(f"world_{name}@8", "smoke") for name in "abc"]


def plain(kind, domains, **changes):
    """A method that has begun all of `domains`, with what each but the last has taught it."""
    method = begun("lifelong", kind, domains[:1], **{**SMALL, **changes})
    for number, domain in enumerate(domains[1:], 2):
        away(method, number)
        method.begin_domain(domain, number)
    return method


def away(method, seed=0):
    """What a domain teaches, away from where it was."""
    moved([method.image], 0.01, seed)
    moved([method.heads], 0.05, seed)
    stirred(method.heads, seed)


def standing(kind, domains, **changes):
    """A method within the stage of its last domain, in float64, with a batch, and the tower and heads that it
    has begun the stage with."""
    method = plain(kind, domains, **changes)
    before = copy.deepcopy((method.image, method.heads))
    stage = entered(method)
    away(method, 9)
    for module in before:
        module.double().requires_grad_(False)
    return method, stage, in_float64(method, stage, first_batch(method, stage, method.data)), before


# Losses


def behind(heads, features, labels):
    """Identity of f12 and fp behind two necks, and triplet of three features."""
    logits = [batch_norm(f, head.neck) @ head.classifier.weight.T for f, head in zip(features[1:], heads)]
    return logits, {
        "identity": sum(cross_entropy(one, labels, 0.1) for one in logits),
        "triplet": sum(triplet(f, labels, 0.3) for f in features),
    }


def kept_features(features, before, images):
    """Mean squared differences of three features, averaged (PAD's featKD)."""
    old = supervised(before[0], images)
    return sum(((now - then) ** 2).mean() for now, then in zip(features, old)) / 3


def kept_logits(logits, before, images, first):
    """Four times cross-entropy with what the old heads say at temperature 2 of earlier identities, which is
    zero for the others; both heads on average (Li and Hoiem 2016)."""
    found = []
    for now, head, then in zip(logits, before[1], supervised(before[0], images)[1:]):
        told = by_running(then, head.neck) @ head.classifier.weight[:first].T
        shares = (told / 2).softmax(1)
        found.append(-4 * (shares * (now / 2).log_softmax(1)[:, :first]).sum(1).mean())
    return sum(found) / 2


def wanted_terms(kind, method, batch, before, domains):
    """The losses of a domain: of both views, and on the first of them what holds on to earlier domains."""
    first = sum(one.classes for one in domains[:-1]) if kind == "learning without forgetting" else 0
    views = [supervised(method.image, view[:, 0]) for view in batch.views]
    (logits, terms), (_, others) = (behind(method.heads, one, batch.labels + first) for one in views)
    terms = {name: terms[name] + others[name] for name in terms}
    if len(domains) > 1 and kind == "feature distillation":
        terms[TERM[kind]] = kept_features(views[0], before, batch.images[:, 0])
    if len(domains) > 1 and kind == "learning without forgetting":
        terms[TERM[kind]] = kept_logits(logits, before, batch.images[:, 0], first)
    return terms


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_domain_is_learned_by_the_losses_of_its_definition(kind, count, domains):
    method, stage, batch, before = standing(kind, domains[:count])
    terms, wanted = stage.losses(batch).terms, wanted_terms(kind, method, batch, before, domains[:count])
    assert stage.weights == dict.fromkeys(wanted, 1.0) and set(terms) == set(wanted)
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-8), name


@pytest.mark.parametrize("kind", TERM)
def test_what_holds_on_teaches_tower_and_heads_by_the_gradient_of_its_definition(kind, domains):
    method, stage, batch, before = standing(kind, domains)
    found = gradients(method, stage.losses(batch).terms[TERM[kind]])
    wanted = gradients(method, wanted_terms(kind, method, batch, before, domains)[TERM[kind]])
    parts = {"feature distillation": {"image"}, "learning without forgetting": {"image", "heads"}}
    assert found.keys() == wanted.keys() and {name.split(".")[0] for name in found} == parts[kind]
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **EXACT, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_domain_changes_tower_and_heads_alone(kind, domains):
    """What stood before it stays, as do the biases of necks."""
    method = plain(kind, domains[:2])
    stage = entered(method)
    before = copy.deepcopy(method.state_dict())
    stepped(method, stage, steps=2)
    parts = ("image.", "heads.")
    assert changed(method, before) == {n for n in before if n.startswith(parts) and "neck.bias" not in n}


# From domain to domain


@pytest.mark.parametrize("kind", KINDS)
def test_a_domain_begins_with_the_tower_that_the_last_one_left_or_with_the_pretrained_one(kind, domains):
    """The latter where all domains are learned at once."""
    pretrained = copy.deepcopy(begun("lifelong", kind, domains[:1], **SMALL).image.state_dict())
    method = plain(kind, domains[:2])
    left = copy.deepcopy(method.image.state_dict())
    assert not torch.equal(left["proj"], pretrained["proj"])
    entered(method)
    wanted = pretrained if kind == "joint" else left
    assert all(torch.equal(value, wanted[name]) for name, value in method.image.state_dict().items())


@pytest.mark.parametrize("kind", ["feature distillation", "learning without forgetting", "weight fusion"])
def test_the_old_model_is_the_one_that_the_last_domain_left(kind, domains):
    for count in (2, 3):
        method = plain(kind, domains[:count])
        left = copy.deepcopy(method.image.state_dict())
        entered(method)
        away(method, 9)
        assert all(torch.equal(value, left[name]) for name, value in method.old.state_dict().items())


def test_old_heads_know_earlier_identities_alone_and_say_of_them_what_they_said(domains):
    method = plain("learning without forgetting", domains)
    heads = copy.deepcopy(method.heads)
    entered(method)
    for head, old in zip(heads, method.old_heads):
        count = domains[0].classes + domains[1].classes
        assert torch.equal(old.classifier.weight, head.classifier.weight[:count])
        assert torch.equal(old.neck.running_mean, head.neck.running_mean) and not old.training


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_new_in_every_domain_or_grow(kind, domains):
    method = plain(kind, domains[:2])
    away(method, 5)
    there = [head.classifier.weight.detach().clone() for head in method.heads]
    method.begin_domain(domains[2], 3)
    kept = len(there[0]) if kind == "learning without forgetting" else 0
    for head, rows in zip(method.heads, there):
        weight = head.classifier.weight.detach()
        assert torch.equal(weight[:kept], rows[:kept])
        assert len(weight) == kept + method.data.classes
        assert weight[kept:].std().item() == pytest.approx(0.001, rel=0.15)
        assert bool((head.neck.running_mean == 0).all()) is (kept == 0)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_weight_fusion_alone_averages_the_tower_with_the_one_before_the_domain(kind, count, domains):
    method = plain(kind, domains[:count])
    left = copy.deepcopy(method.image.state_dict())
    entered(method)
    away(method, 9)
    learned = copy.deepcopy(method.image.state_dict())
    share = 0.5 if (kind, count) == ("weight fusion", 2) else 1.0
    method.end_domain()
    for name, value in method.image.state_dict().items():
        torch.testing.assert_close(value, share * learned[name] + (1 - share) * left[name])


# Images of earlier domains


def files(manifest, table):
    """Names of image files with the folder of their set."""
    return [str((Path(manifest.root) / path).resolve()) for path in table.path]


def everything(data):
    return files(data.manifest, data.manifest.split("train"))


def remembered(data, count):
    """The first images of a domain: identity by identity, at most four of each."""
    table, found = data.manifest.split("train"), []
    for pid in sorted(set(table.pid)):
        found += files(data.manifest, table[table.pid == pid])[:4]
    return found[:count]


@pytest.mark.parametrize("count, each", [(1, 0), (2, 21), (3, 10)])
def test_replay_sees_the_domain_and_as_many_images_of_each_earlier_one(count, each, domains):
    """21 images in all: 10 of each of two domains."""
    method = plain("exemplar replay", domains[:count], replay_images=21)
    wanted = everything(domains[count - 1])
    for earlier in domains[: count - 1]:
        wanted += remembered(earlier, each)
    assert sorted(everything(method.data)) == sorted(wanted)
    people = domains[count - 1].classes + (count - 1) * -(-each // 4)
    assert method.data.classes == people == method.heads[0].classifier.out_features


def test_replay_keeps_four_images_of_an_identity_in_the_order_of_identities(domains):
    """Of a domain whose identities have eight images each, in any order."""
    manifest = domains[0].manifest
    table = manifest.table.sample(frac=1.0, random_state=0).reset_index(drop=True)
    pairs = table.pid.where(table.split != "train", table.pid - table.pid % 4)
    crowded = ReidData(dataclasses.replace(manifest, table=table.assign(pid=pairs)))
    assert crowded.manifest.split("train").groupby("pid").size().max() == 8
    method = plain("exemplar replay", [crowded, domains[1]], replay_images=10)
    wanted = everything(domains[1]) + remembered(crowded, 10)
    assert sorted(everything(method.data)) == sorted(wanted)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_joint_training_sees_all_domains_so_far(count, domains):
    method = plain("joint", domains[:count])
    assert sorted(everything(method.data)) == sorted(
        itertools.chain.from_iterable(map(everything, domains[:count]))
    )
    assert method.data.classes == sum(one.classes for one in domains[:count])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("exemplar replay", "joint")])
def test_all_others_see_the_domain_alone(kind, domains):
    assert plain(kind, domains).data is domains[2]


@pytest.mark.parametrize("kind", ["exemplar replay", "joint"])
def test_a_domain_that_begins_again_is_met_once(kind, domains):
    """As where an order is taken up."""
    method = plain(kind, domains[:2])
    seen = everything(method.data)
    method.begin_domain(domains[1], 2)
    assert everything(method.data) == seen


# Tests and settings


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_tested_is_f12_and_fp_of_the_tower_that_learns(kind, domains):
    method, *_ = standing(kind, domains[:2])
    method.eval()
    batch = next(still_batches(domains[0], "query", method.size, method.test_view(), batch=6))
    batch.views = [batch.images.double()]
    task = next(iter(method.retrieval_tasks().values()))
    wanted = torch.cat(supervised(method.image, batch.images[:, 0])[1:], 1)
    for name in (task.query, task.gallery):
        torch.testing.assert_close(method.embed(batch, name), wanted, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_every_domain_is_learned_with_the_settings_of_clip_reids_baseline(kind, domains):
    method = plain(kind, domains[:2])
    method.recipe = METHODS["lifelong"].recipe_of(kind, "full").at(PROFILES["paper"])
    labels = torch.arange(64).repeat_interleave(4).numpy()
    method.data = copy.copy(method.data)
    method.data.labels = labels
    (stage,) = method.stages()
    assert (stage.epochs, stage.sampler.P, stage.sampler.K) == (60, 16, 4)
    names = [n for n, _ in method.named_parameters() if n.startswith(("image.", "heads."))]
    assert learning(method, stage) == {n: (5e-6 * (2 if "bias" in n else 1), 1e-4) for n in names}
    curve = [min(0.1 + 0.9 * e / 10, 1) * 0.1 ** ((e >= 30) + (e >= 50)) for e in range(1, 61)]
    for group in stage.groups:
        assert rates(stage, group) == pytest.approx([5e-6 * factor for factor in curve])
    assert len(stage.views) == 1


def test_the_second_view_is_reflected_and_changed_at_random_and_not_erased(domains):
    """As in VLADR's code."""
    method = begun("lifelong", "sequential", domains[:1], **SMALL)
    row = METHODS["lifelong"].recipe_of("sequential", "VLADR's epochs, two views")
    method.recipe = row.at(PROFILES["paper"]).but(stage2_ids_per_batch=3)
    half = (0.5, 0.5, 0.5)
    chance = RandAugment(2, 10, cutout=64 / 256)
    second = Augmentation("bicubic", half, half, 0.5, 16, "reflect", randaugment=chance)
    assert method.stages()[0].views == [method.train_view(), second]


# What is tested after which domain


def fitted(method, data, place, **_):
    """In the place of a training: the tower moves by the number of the domain."""
    place.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for stage in method.stages():
            stage.start()
        method.image.class_embedding += method.position
    return [{"place": place.name}]


def ordered(kind, domains, folder, monkeypatch):
    """Records and history of an order, and what stood in the tower at each test, from where it began."""
    monkeypatch.setattr(train, "fit", fitted)
    train.seed_all(0)
    recipe = METHODS["lifelong"].recipe_of(kind, "full").at(PROFILES["smoke"]).but(**SMALL)
    method = METHODS["lifelong"].variants[kind].kind(recipe, domains[0])
    start = method.image.class_embedding.detach().clone()

    def tests(tested, number):
        gone = (tested.image.class_embedding - start).mean().item()
        return [{"number": number, "position": tested.position, "gone": gone}]

    records, history = lifelong.learn(method, domains, folder, tests=tests, key="k", log=lambda *_: None)
    return records, history


@pytest.mark.parametrize(
    "kind, gone",
    [("sequential", (1, 3, 6)), ("weight fusion", (1, 2, 3.5)), ("joint", (1, 2, 3))],
)
def test_the_model_of_each_domain_is_tested_once_it_is_consolidated(
    kind, gone, domains, tmp_path, monkeypatch
):
    """And the next domain begins with it: also where nothing is left to train, since an order is taken up."""
    for _ in range(2):
        records, history = ordered(kind, domains, tmp_path, monkeypatch)
        assert [one["number"] for one in records] == [one["position"] for one in records] == [1, 2, 3]
        assert [one["gone"] for one in records] == pytest.approx(gone, abs=1e-5)
        assert [line["domain"] for line in history] == [1, 2, 3]
        for path in tmp_path.rglob("records-*.json"):
            path.unlink()  # tests are asked again


def test_an_order_with_another_domain_takes_up_what_it_shares_and_no_more(domains, tmp_path, monkeypatch):
    _, one = ordered("sequential", domains, tmp_path, monkeypatch)
    _, two = ordered("sequential", [domains[0], domains[2], domains[1]], tmp_path, monkeypatch)
    assert [a["place"] == b["place"] for a, b in zip(one, two)] == [True, False, False]


def scored():
    """Records of three domains, tested on all and on one that nobody trains on."""
    scores = {"a": (70, 75, 65), "b": (85, 80, 55), "c": (10, 30, 90), "other": (1, 2, 3)}
    return [
        {"after": after, "data": data, "task": "t", "summary": {"mAP": values[s], "rank1": 100.0}}
        for s, after in enumerate("abc")
        for data, values in scores.items()
    ]


def test_rows_of_a_score_matrix_are_domains_that_were_learned_and_columns_those_that_are_tested():
    matrix = lifelong.score_matrix(scored(), "abc")
    assert matrix.tolist() == [[70, 85, 10], [75, 80, 30], [65, 55, 90]]
    assert lifelong.score_matrix(scored(), "abc", ["other"]).tolist() == [[1], [2], [3]]


def test_averages_and_forgetting_read_the_domains_that_were_met():
    """The best score of a domain is one that it had since it was learned, and before the end."""
    matrix = lifelong.score_matrix(scored(), "abc")
    assert lifelong.seen_averages(matrix).tolist() == [70, 77.5, 70]
    assert lifelong.average_incremental_score(matrix) == 72.5
    assert lifelong.forgetting(matrix).tolist() == [75 - 65, 80 - 55]
    assert lifelong.running_forgetting(matrix)[1:].tolist() == [70 - 75, (10 + 25) / 2]
    assert lifelong.backward_transfer(matrix).tolist() == [65 - 70, 55 - 80]
    assert lifelong.forward_transfer(matrix, [5, 6, 7]).tolist() == [85 - 6, 30 - 7]
