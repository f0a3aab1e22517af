"""VLADR: descriptions, attributes read from patches, relations kept, weights averaged; prompts that read, and
the memory of prototypes."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stages import begun, entered, stepped

from data_prep import public
from data_prep.public.descriptions import PARTS
from reid_core import descriptions, lifelong, losses, train
from reid_core.analysis import regions, visuals
from reid_core.contract import first_batch, interrupted, same_state
from reid_core.data import ReidData, load_data
from reid_core.layers import PrototypeMemory
from reid_core.loading import tokenizer_of
from reid_core.methods import METHODS, vladr
from reid_core.methods.base import freeze_all_but, learnable
from reid_core.prompts import ReadingPrompts
from reid_core.recipe import PROFILES
from reid_core.runs import run

KINDS = {"released": vladr.VLADRReleased, "described": vladr.VLADRDescribed}
FEW = {"stage1_ids": 2, "stage2_ids": 4}
SHORT = {"stage1_epochs": 1, "stage2_epochs": 1}
STEPS = {"released": 22, "described": 9}  # of a run that is interrupted: within the second domain


@pytest.fixture(scope="module")
def domains():
    return [load_data(f"world_{name}@8", "smoke") for name in "ab"]


def build(variant, domains, row="full", **changes):
    """A method that has begun all of `domains`, with batches that so few people can fill."""
    return begun("vladr", variant, domains, row, **FEW, **changes)


# Descriptions


def test_every_training_image_has_four_sentences_or_is_named(domains, monkeypatch):
    said = descriptions.part_sentences(domains[0])
    assert len(said) == len(domains[0].train) and all(len(parts) == 4 for parts in said)
    gone = [(), *said[1:]]
    monkeypatch.setitem(vars(domains[0].train), "parts", gone)
    with pytest.raises(ValueError, match=r"of every training image of world_a.*, found none of .*\(1 such\)"):
        descriptions.part_sentences(domains[0])


def test_descriptions_are_found_by_name_whatever_their_order(domains, tmp_path):
    path = tmp_path / "set" / "blip_descriptions.txt"
    shutil.copytree(domains[0].manifest.root, path.parent)
    (path.parent / "world.json").unlink()  # which would say that a file was changed
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(reversed(lines)), encoding="utf-8")
    allowances = {"allow_count_mismatch": True, "drop_unmatched_queries": True}
    turned = ReidData(public.read("market1501", path.parent, **allowances)).train
    whole = load_data("world_a", "smoke").train
    told = dict(zip(whole.paths[:, 0], whole.parts))
    assert len(turned) == len(told)
    assert all(told[image] == parts for image, parts in zip(turned.paths[:, 0], turned.parts))


def test_a_sentence_beyond_the_context_is_an_error_or_is_cut():
    tokenizer = tokenizer_of("ViT-B-16-quickgelu")
    long = [("a b c d e f g h",)]
    with pytest.raises(ValueError, match="sentences of at most 4 tokens, found 8 in 'a b c d e f g h"):
        descriptions.tokens(long, tokenizer, 6)
    found = descriptions.tokens(long, tokenizer, 6, cut=True)
    assert found.shape == (1, 1, 6) and found[0, 0, -1] == tokenizer.eot_token_id


def test_controls_move_lose_or_swap_words(domains):
    said, pids = descriptions.part_sentences(domains[0]), domains[0].train.pids
    moved = descriptions.of_another(said, pids)
    own = {pid: {said[k] for k in np.flatnonzero(pids == pid)} for pid in np.unique(pids)}
    order = np.unique(pids)
    following = dict(zip(order, np.roll(order, -1)))
    assert all(parts in own[following[pid]] for parts, pid in zip(moved, pids))
    few = descriptions.degraded(said, pids)
    assert few == descriptions.degraded(said, pids), "the same in every run"
    for parts, rest in zip(said, few):
        for sentence, left in zip(parts, rest):
            words = sentence.split()
            assert len(left.split()) == max(1, len(words) // 2) and set(left.split()) <= set(words)
    assert descriptions.swapped(said, pids)[0] == (*said[0][1:], said[0][0])


def test_a_random_partition_gives_each_word_to_one_prompt():
    said = [("A man with hair", "Wearing red shirt", "Wearing blue trousers", "Wearing shoes")]
    (whole, *parts), (again, *more) = (descriptions.by_chance(said, 4)[0] for _ in range(2))
    assert sorted(" ".join(parts).split()) == sorted(whole.split()) and len(parts) == 4
    assert (whole, parts) == (again, more)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_four_sentences_serve_four_queries_or_one(count, domains):
    with pytest.raises(ValueError, match=f"expected 4 attributes .* found {count}"):
        entered(build("released", domains[:1], attributes_K=count))


def test_features_of_descriptions_are_those_of_each_sentence(domains):
    """Different sentences are read once; what an image gets is what its own sentences say."""
    method = build("released", domains[:1])
    batch = stepped(method, entered(method), steps=0)
    for row in range(3):
        parts = domains[0].train.parts[int(batch.index[row])]
        ids = descriptions.tokens([parts], method.tokenizer, method.text.context)[0]
        with torch.no_grad():
            alone = F.normalize(method.text.sentences(ids), dim=-1)
        assert torch.allclose(batch.cached["parts"][row], alone, atol=1e-6)
    assert len(method.told) < method.which.numel()


# The released code


def test_new_identities_begin_at_their_class_centres_and_old_rows_stay(domains):
    method = build("released", domains[:1])
    entered(method)
    rows = method.head.classifier.weight.detach().clone()
    assert torch.allclose(rows.norm(dim=1), torch.ones(len(rows)))
    method.begin_domain(domains[1], 2)
    entered(method)
    assert torch.equal(method.head.classifier.weight[: len(rows)], rows)
    assert len(method.old["head"].classifier.weight) == len(rows) == method.first
    assert len(method.head.classifier.weight) == len(rows) + domains[1].classes


def test_centres_are_taken_without_moving_a_statistic(domains):
    method = build("released", domains[:1])
    stage = method.stages()[-1]
    freeze_all_but(method, stage.groups)
    statistics = method.head.neck.running_mean.clone()
    stage.start()
    assert torch.equal(method.head.neck.running_mean, statistics) and method.head.neck.training


def test_a_step_looks_at_both_views_once_and_at_the_weak_one_with_the_old_model(domains, monkeypatch):
    """The released code passes the weak view twice."""
    method = build("released", domains)
    stage = entered(method)
    batch = first_batch(method, stage, method.data)
    passes = []
    for name, tower in {"new": method.image, "old": method.old["image"]}.items():
        tower.register_forward_pre_hook(lambda _, given, name=name: passes.append((name, len(given[0]))))
    stage.losses(batch)
    count = len(batch.index)
    assert sorted(passes) == [("new", count), ("new", count), ("old", count)]


def test_the_old_model_and_relations_enter_with_the_second_domain(domains):
    first, second = (build("released", domains[:count]) for count in (1, 2))
    assert "domain alignment" not in first.stages()[-1].weights
    stage = entered(second)
    terms = stage.losses(first_batch(second, stage, second.data)).terms
    assert stage.weights["domain alignment"] == 1.0 and terms["domain alignment"] < 1e-4, "nothing has moved"
    stepped(second, stage, steps=3)
    assert stage.losses(first_batch(second, stage, second.data)).terms["domain alignment"] > 0


def test_labels_count_from_the_domains_first_row(domains):
    method = build("released", domains)
    stage = entered(method)
    batch = first_batch(method, stage, method.data)
    found = stage.losses(batch).terms["identity"]
    logits = method.head(method.see(batch.views[0]).last)
    first = len(method.old["head"].classifier.weight)
    assert first and torch.allclose(found, F.cross_entropy(logits, batch.labels + first))


def test_weights_are_averaged_after_a_domain_and_not_after_the_first(domains):
    method = build("released", domains)
    entered(method)
    old = {name: value.clone() for name, value in method.old.state_dict().items()}
    with torch.no_grad():
        for parameter in method.student().parameters():
            parameter.add_(1.0)
    method.end_domain()
    for name, value in method.student().state_dict().items():
        if value.is_floating_point() and name in old and "running" not in name:
            rows = len(old[name]) if old[name].dim() else None
            assert torch.allclose(value[:rows], old[name] + 0.6, atol=1e-5), name
    first = build("released", domains[:1])
    before = {name: value.clone() for name, value in first.state_dict().items()}
    first.end_domain()
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())


def test_the_batchs_identities_count_once(domains):
    torch.manual_seed(0)
    ids = torch.tensor([3, 3, 5, 5, 5, 9])
    features, bank = torch.randn(6, 8), torch.randn(10, 8)
    present, place = ids.unique(return_inverse=True)
    wanted = losses.bank_classification(features, bank[present], place, 1 / 0.5)
    assert torch.allclose(losses.batch_classification(features, bank[ids], ids, 0.5), wanted, atol=1e-6)


def test_stage_one_looks_with_the_pretrained_tower_and_trains_new_words_alone(domains):
    method = build("released", domains)
    with torch.no_grad():
        for parameter in method.image.parameters():
            parameter.add_(0.1)
    still = {name: value.clone() for name, value in method.state_dict().items()}
    stage = entered(method, 0)
    batch = stepped(method, stage)
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, still[name])}
    assert moved == {"words.new"} and batch.views == []
    fresh = build("released", domains)
    same = first_batch(fresh, entered(fresh, 0), fresh.data)
    assert torch.equal(same.cached["image"], batch.cached["image"])


def test_the_joint_neck_learns_its_statistics_and_nothing_else(domains):
    method = build("released", domains[:1])
    assert not list(method.joint_neck.parameters())
    stepped(method, entered(method))
    assert method.joint_neck.num_batches_tracked == 2, "one of each view"
    assert method.head.neck.num_batches_tracked == 2


@pytest.mark.parametrize(
    "row, terms",
    [
        ("no strong view", {"identity", "triplet", "coarse", "attribute alignment", "domain alignment"}),
        ("one view and fusion alone", {"identity", "triplet", "coarse"}),
        ("no attribute alignment", None),
        ("global relations, temperature 0.1", None),
    ],
)
def test_rows_leave_out_terms_and_what_nobody_reads(row, terms, domains):
    stage = entered(build("released", domains, row))
    assert terms is None or set(stage.weights) == terms
    asked = "no attribute alignment" in row or "alone" in row
    assert ("parts" in stage.cache) != asked
    read = {"attribute alignment", "domain alignment"} & set(stage.weights)
    assert len(stage.groups) == (3 if read else 2), "the decoder learns where something reads it"


def test_one_part_alone_is_aligned_and_kept(domains):
    method = build("released", domains, "lower alone")
    assert method.used == [PARTS.index("lower")]
    stage = entered(method)
    batch = first_batch(method, stage, method.data)
    batch.cached["parts"][:, 0] = 0.0  # of the head
    before = stage.losses(batch).terms["attribute alignment"]
    batch.cached["parts"][:, 2] = torch.randn_like(batch.cached["parts"][:, 2])
    assert stage.losses(batch).terms["attribute alignment"] != before


def test_queries_begin_as_copies_of_one_another(domains):
    """Nearly equal queries read nearly the same: the cosines of attributes say so."""
    method = build("released", domains[:1])
    (cosine,) = method.traits(domains[0])["query cosine"]
    assert cosine > 0.999
    apart = build("released", domains[:1], "orthogonal queries").region_attn.queries.detach()
    assert torch.allclose(apart @ apart.T, torch.eye(4), atol=1e-5)


def test_rates_fall_after_iterations_or_after_epochs(domains):
    rows = ("full", "rates per epoch (D1)")
    made = (build("released", domains[:1], row).schedule((60 * 143, 60)) for row in rows)
    per_step, per_epoch = made
    assert (per_step.unit, per_step.span) == ("step", 60 * 143) and per_step.factor(30) == pytest.approx(0.1)
    assert (per_epoch.unit, per_epoch.span) == ("epoch", 60) and per_epoch.factor(29) == 1.0


def test_at_the_papers_size_stage_two_trains_what_the_card_counts(domains):
    """88,098,304 numbers, without the joint classifier and the weights of its neck (D9)."""
    recipe = METHODS["vladr"].recipe_of("released", "full").but(pretrained=None, **FEW)
    method = vladr.VLADRReleased(recipe, domains[0])
    method.begin_domain(domains[0], 1)
    method.head.grow(500 - domains[0].classes)
    images = method.stages()[1:]
    method.stages = lambda: images
    assert learnable(method) == 88_098_304 - 500 * 512 - 2 * 512


# The document


def test_prompts_read_the_words_before_them_and_keep_their_place():
    words = torch.arange(24.0).view(2, 4, 3)
    prompts = -torch.ones(2, 2, 3)
    joined = ReadingPrompts.join(words, torch.tensor([3, 2]), prompts)
    assert torch.equal(joined.embeddings[0], torch.cat([words[0, :3], prompts[0], words[0, 3:]]))
    assert torch.equal(joined.embeddings[1, :5], torch.cat([words[1, :2], prompts[1], words[1, 2:3]]))
    assert joined.end.tolist() == [5, 4]


def test_what_a_prompt_reads_changes_with_the_description(domains):
    method = build("described", domains[:1]).eval()
    texts = [[("a red shirt",) * 5], [("a blue shirt",) * 5]]
    ids = [descriptions.tokens(said, method.tokenizer, method.text.context) for said in texts]
    with torch.no_grad():
        red, blue = (method.prompts(method.text, one)[0] for one in ids)
    assert red.shape == (5, method.text.joint_width)
    assert not torch.allclose(red, blue, atol=1e-3)
    assert not torch.allclose(red[0], red[1], atol=1e-3), "and prompts differ"


def test_stage_one_of_the_document_trains_prompts_and_their_head(domains):
    method = build("described", domains)
    still = {name: value.clone() for name, value in method.state_dict().items()}
    stepped(method, entered(method, 0))
    moved = {name.split(".")[0] for name, v in method.state_dict().items() if not torch.equal(v, still[name])}
    assert moved == {"prompts", "text_head"}


def test_a_memory_follows_its_domain_and_is_frozen_after():
    memory = PrototypeMemory(2, 3, 0.5)
    memory.open(1)
    memory.follow(torch.ones(2, 3))
    assert torch.equal(memory.moving, torch.ones(2, 3)), "the first batch sets it"
    memory.follow(torch.full((2, 3), 3.0))
    assert torch.equal(memory.moving, torch.full((2, 3), 2.0))
    memory.open(2)
    memory.follow(torch.zeros(2, 3))
    assert torch.equal(memory.kept, torch.full((1, 2, 3), 2.0)) and not memory.moving.any()
    again = PrototypeMemory(2, 3, 0.5)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.kept, memory.kept)


def test_a_memory_of_another_number_of_attributes_is_one_sentence():
    with pytest.raises(ValueError, match=r"a memory of 4 attributes of 3 numbers each, found \(2, 3\)"):
        PrototypeMemory(4, 3, 0.9).load_state_dict(PrototypeMemory(2, 3, 0.9).state_dict())


def test_earlier_prototypes_pull_the_batchs_mean_or_every_image(domains):
    method, each = (build("described", domains, row) for row in ("full", "memory pulls each image"))
    found = {}
    for one in (method, each):
        stage = entered(one)
        one.memory.kept.normal_(generator=torch.Generator().manual_seed(0))
        batch = first_batch(one, stage, one.data)
        seen = one.see_parts(batch.views[0])
        found[one] = stage.losses(batch).terms["domain alignment"], seen.attributes.detach()
    mean, read = found[method]
    prototypes = method.memory.kept[0]
    wanted = (1 - F.cosine_similarity(read.mean(0), prototypes, dim=-1)).mean().item()
    assert mean.item() == pytest.approx(wanted, 1e-3)
    single, read = found[each]
    wanted = (1 - F.cosine_similarity(read, prototypes, dim=-1)).mean().item()
    assert single.item() == pytest.approx(wanted, 1e-3)


def test_prototypes_take_less_than_one_image(domains):
    recipe = METHODS["vladr"].recipe_of("described", "full").but(pretrained=None)
    assert 4 * recipe.attributes_K * 512 == 8192 < 3 * recipe.image_height * recipe.image_width
    method = build("described", domains)
    prototypes = method.recipe.attributes_K * method.text.joint_width
    assert vladr.storage(method) == {"prototypes": prototypes, "words": 0}, "it learns no words of people"


def test_words_of_identities_are_stored_where_they_are_learned(domains):
    method = build("released", domains)
    words = domains[1].classes * method.recipe.ctx_tokens * method.text.width
    assert vladr.storage(method) == {"prototypes": 0, "words": words}
    baseline = build("described", domains, next(iter(vladr.PRINTED_ROWS)))
    assert vladr.storage(baseline)["words"] == words


def test_attributes_are_called_by_parts_where_each_has_a_sentence_of_its_own(domains):
    assert build("released", domains).attribute_names() == PARTS
    numbered = build("described", domains).attribute_names()
    assert numbered == tuple(f"attribute {k}" for k in (1, 2, 3, 4))


def test_rows_of_the_document_read_identities_the_whole_or_attributes(domains):
    terms = {}
    for row in vladr.PRINTED_ROWS:
        terms[row.partition(":")[0]] = set(entered(build("described", domains, row)).weights)
    own = {"identity", "triplet"}
    assert list(terms.values()) == [
        own | {"image to text"},
        own | {"global alignment"},
        own | {"attribute alignment"},
        own | {"attribute alignment", "domain alignment"},
        own | {"global alignment", "domain alignment"},
        own | {"attribute alignment", "domain alignment"},
    ]


# Both


@pytest.mark.parametrize("variant", KINDS)
def test_an_order_killed_within_the_second_domain_ends_with_the_same_bits(variant, domains, tmp_path):
    def learn(folder, every=None):
        train.seed_all(0)
        recipe = METHODS["vladr"].recipe_of(variant, "full").at(PROFILES["smoke"]).but(**FEW)
        method = KINDS[variant](recipe, domains[0])
        how = {"precision": "fp32", "key": "k", "log": lambda *_: None, "checkpoint_every": every}
        lifelong.learn(method, domains, folder, tests=lambda *_: [], **how)
        return method

    whole = learn(tmp_path / "whole")
    interrupted(lambda: learn(tmp_path / "broken", every=1), steps=STEPS[variant])
    assert same_state(whole, learn(tmp_path / "broken"))


@pytest.mark.parametrize("variant", KINDS)
def test_no_checkpoint_holds_the_pretrained_tower(variant, domains, tmp_path):
    method = build(variant, domains[:1])
    train.save_weights(method, tmp_path)
    held = train.checkpoint.read_tensors(tmp_path / train.WEIGHTS)[0]
    assert not any(name.startswith(("vanilla.", "text.")) for name in held)


def test_each_attribute_is_a_test_whose_summary_alone_is_kept(domains):
    tasks = build("released", domains[:1]).retrieval_tasks()
    assert next(iter(tasks)) == "image to image" and not tasks["image to image"].brief
    assert [name for name, task in tasks.items() if task.brief] == [f"by {part}" for part in PARTS]


def test_a_run_of_an_order_keeps_attributes_in_short_and_what_queries_look_at(shelves):
    """From a name to a file that is read again: attribute tests on seen sets alone, averages without them."""
    small = " + ".join(["full", *(f"{name}={value}" for name, value in {**FEW, **SHORT}.items())])
    spec = run.Spec("vladr", "released", small, data="lifelong:world in short", profile="smoke")
    visuals.measure_and_keep(spec, shelf=run.OWN, log=lambda *_: None)
    kept = run.OWN.at(spec)
    brief = [one for one in kept.scores if "ap" not in one]
    assert {one["task"] for one in brief} == {f"by {part}" for part in PARTS}
    assert {one["data"] for one in brief} == {"world_a", "world_b"}
    assert kept.record()["task"] == "seen average" and len(kept.tests) == 2 + 3
    shares = [one["traits"]["attribute shares"] for one in kept.scores if "traits" in one]
    assert np.allclose(np.sum(shares, 2), 100, atol=0.1) and len(shares) == 2 * 3


def test_attention_is_shared_out_among_parts_of_the_person(domains):
    method = build("released", domains[:1])
    found = regions.of_attributes(method, domains[0], number=4)
    assert found.shape == (4, 5) and np.allclose(found.sum(1), 100)
    maps = np.zeros((1, 1, *method.image.grid))
    maps[0, 0, 0, 0] = 1.0  # a corner, where nobody stands
    assert regions.shares(maps, domains[0])[0, -1] > 90


def test_simple_baselines_see_both_views_where_a_row_says_so(domains):
    paper = METHODS["lifelong"]
    small = {"stage2_ids_per_batch": 4}
    for variant in paper.variants:
        recipe = paper.recipe_of(variant, "VLADR's epochs, two views").at(PROFILES["smoke"]).but(**small)
        method = paper.variants[variant].kind(recipe, domains[0])
        for number, domain in enumerate(domains, 1):
            method.begin_domain(domain, number)
        stage = entered(method)
        assert len(stage.views) == 2, variant
        batch = first_batch(method, stage, method.data)
        both = stage.losses(batch).terms["triplet"]
        one = batch.__class__(**{**vars(batch), "views": batch.views[:1]})
        assert both > stage.losses(one).terms["triplet"]
