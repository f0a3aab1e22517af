"""VLADR against its equations, written out: attributes read from patches, what prompts read in descriptions,
every loss with its weight, what passes from domain to domain, and the rates."""

import functools

import pytest
import torch
from definition import (
    batch_norm,
    block,
    called,
    contrast,
    cross_entropy,
    embedded,
    gradients,
    in_float64,
    learning,
    moved,
    norm,
    sentence,
    triplet,
    unit,
    words_of,
)
from stages import begun, entered, stepped

from reid_core import descriptions
from reid_core.augment import IMAGENET_MEAN, IMAGENET_STD, Augmentation
from reid_core.contract import first_batch
from reid_core.data import load_data, still_batches
from reid_core.loading import temperature
from reid_core.methods import METHODS
from reid_core.methods.vladr import PRINTED_ROWS
from reid_core.recipe import PROFILES

SMALL = {"image_height": 64, "image_width": 32}
FEW = {"stage1_ids": 2, "stage2_ids": 2, **SMALL}
KINDS = ["released", "described"]


@pytest.fixture(scope="module")
def domains():
    return [load_data(f"world_{name}@8", "smoke") for name in "abc"]


def printed(start):
    """The row of the document whose name begins so."""
    return next(row for row in PRINTED_ROWS if row.startswith(start))


def away(variant, domains, row="full", **changes):
    """A method whose weights, queries and statistics are away from where they began."""
    method = begun("vladr", variant, domains, row, **FEW, **changes)
    moved([method.student(), method.words])
    with torch.no_grad():
        method.region_attn.queries.normal_()  # they begin nearly equal
        for neck in (method.head.neck, method.joint_neck):
            neck.running_mean.normal_()
            neck.running_var.uniform_(0.5, 2)
    return method


def standing(variant, domains, number=-1, row="full", **changes):
    """Such a method within a stage, away from its old model, too, in float64, with a batch."""
    method = away(variant, domains, row, **changes)
    stage = entered(method, number)
    moved([method.student()], seed=1)
    if variant == "described":
        moved([method.prompts, method.text_head], seed=2)
    if stage.views:  # what it caches needs no pixels, and may be of float64
        method.double()
        stage.prepare()
    return method, stage, in_float64(method, stage, first_batch(method, stage, method.data))


def tokens(tower, images):
    """All tokens (B, T, D) behind the last norm."""
    x = embedded(tower, images)
    for layer in tower.transformer.resblocks:
        x = block(x, layer)
    return norm(x, tower.ln_post)


def attributes(decoder, projection, patches):
    """(B, K, E) of length one: eight heads of queries read patches, without norm and residual."""
    q = decoder.queries @ decoder.q_proj.weight.T + decoder.q_proj.bias
    k, v = (patches @ layer.weight.T + layer.bias for layer in (decoder.k_proj, decoder.v_proj))
    read = []
    for head in torch.arange(q.shape[-1]).chunk(8):
        share = (q[:, head] @ k[..., head].mT / len(head) ** 0.5).softmax(-1)
        read.append(share @ v[..., head])
    read = torch.cat(read, -1) @ decoder.proj_out.weight.T + decoder.proj_out.bias
    return unit(read @ projection.weight.T + projection.bias)


def looked(parts, view):
    """Class token, joint feature and attributes that a model (a dict of its parts) sees in a view."""
    last = tokens(parts["image"], view[:, 0])
    joint = last @ parts["image"].proj
    read = attributes(parts["region_attn"], parts["region_proj"], joint[:, 1:])
    return last[:, 0], joint[:, 0], read


def own_words(method):
    """Words of the domain's identities, which stand behind those of earlier ones."""
    return torch.cat([method.words.old, method.words.new])[method.first :]


def spoken(method, batch, texts):
    """(B, K, E) what the text tower says of each image of a batch; `texts` makes K of its four sentences."""

    @functools.cache
    def read(text):
        return sentence(method.text, words_of(method.text, method.tokenizer, text))

    rows = [method.data.train.parts[row] for row in batch.index.tolist()]
    return torch.stack([torch.stack([read(text) for text in texts(row)]) for row in rows])


def by_prompts(method, batch, texts):
    """(B, 1 + K, E) what prompts read that stand between a text and its end; `texts` of each image, one for
    each prompt."""

    @functools.cache
    def read(text, place):
        words = words_of(method.text, method.tokenizer, text)
        return sentence(method.text, torch.cat([words[:-1], method.prompts.table[place], words[-1:]]))

    rows = [texts[row] for row in batch.index.tolist()]
    return torch.stack([torch.stack([read(text, k) for k, text in enumerate(row)]) for row in rows])


def paired(one, other, scale=1.0):
    """CLIP's loss on cosines: each row among the other's, both directions."""
    logits, rows = scale * unit(one) @ unit(other).T, torch.arange(len(one))
    return (cross_entropy(logits, rows) + cross_entropy(logits.T, rows)) / 2


def apart(one, other):
    """One minus the cosine, mean over what there is."""
    return (1 - (unit(one) * unit(other)).sum(-1)).mean()


def reid(method, seen, labels, name=""):
    """Cross-entropy of the class token among the people of all domains, soft triplet of the joint feature."""
    logits = batch_norm(seen[0], method.head.neck) @ method.head.classifier.weight.T
    identity = cross_entropy(logits, labels + method.first)
    return {f"identity{name}": identity, f"triplet{name}": triplet(seen[1], labels)}


def same(stage, batch, wanted):
    """Every term of a stage is what it should be, and all weigh the same."""
    terms = stage.losses(batch).terms
    assert set(terms) == set(wanted) and stage.weights == dict.fromkeys(wanted, 1.0)
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-8, abs=1e-12), name


# Losses of the released code


@pytest.mark.parametrize("count", [1, 3])
def test_released_words_learn_by_the_losses_of_their_definition(count, domains):
    method, stage, batch = standing("released", domains[:count], 0)
    image, how = batch.cached["image"], (batch.labels, 1.0, False)
    with torch.no_grad():
        text = called(method, own_words(method))[batch.labels]
        wanted = {"image to text": contrast(image, text, *how), "text to image": contrast(text, image, *how)}
        same(stage, batch, wanted)


def relations_kept(new, old, share):
    """Relations within the batch that attributes (B, K, E) have, as the old model has them: a sum over K."""
    gaps = []
    for one, other in zip(new.unbind(1), old.unbind(1)):
        now, then = (unit(x) @ unit(x).T / share for x in (one, other))
        now = now.softmax(1).clamp(min=1e-8).log()  # nobody is impossible
        gaps.append((then.softmax(1) * (then.log_softmax(1) - now)).sum(1).mean())
    return sum(gaps)


def among_the_batch(method, joint, labels):
    """The joint feature among the sentences of the batch's identities, on cosines."""
    ids, places = labels.unique(return_inverse=True)
    return cross_entropy(unit(joint) @ unit(called(method, own_words(method)[ids])).T, places)


def whole(four):
    return (" ".join(four),)


@pytest.mark.parametrize(
    "row, count, parts, texts",
    [
        ("full", 1, [0, 1, 2, 3], tuple),
        ("full", 3, [0, 1, 2, 3], tuple),
        ("lower alone", 2, [2], tuple),
        ("one attribute", 2, [0], whole),
    ],
)
def test_released_images_learn_by_the_losses_of_their_definition(row, count, parts, texts, domains):
    method, stage, batch = standing("released", domains[:count], row=row)
    with torch.no_grad():
        weak, strong = (looked(method.student(), view) for view in batch.views)
        wanted = reid(method, weak, batch.labels) | reid(method, strong, batch.labels, " strong")
        wanted["coarse"] = among_the_batch(method, weak[1], batch.labels)
        told = spoken(method, batch, texts)
        wanted["attribute alignment"] = sum(paired(weak[2][:, k], told[:, k]) for k in parts) / len(parts)
        if count > 1:
            old = looked(method.old, batch.views[0])[2]
            wanted["domain alignment"] = relations_kept(weak[2][:, parts], old[:, parts], 0.005)
        same(stage, batch, wanted)


def test_global_relations_are_those_of_the_joint_feature(domains):
    method, stage, batch = standing("released", domains[:2], row="global relations, temperature 0.1")
    with torch.no_grad():
        new, old = (looked(model, batch.views[0])[1][:, None] for model in (method.student(), method.old))
        found = stage.losses(batch).terms["domain alignment"]
    assert found.item() == pytest.approx(relations_kept(new, old, 0.1).item(), rel=1e-8)


# Losses of the document


@pytest.mark.parametrize("row", ["full", printed("Random Attribute Partition")])
def test_described_prompts_learn_by_the_losses_of_their_definition(row, domains):
    method, stage, batch = standing("described", domains[:2], 0, row)
    four = method.data.train.parts
    texts = descriptions.by_chance(four, 4) if row != "full" else [whole(parts) * 5 for parts in four]
    image, scale = batch.cached["image"], 1 / temperature("tiny")
    with torch.no_grad():
        first, *rest = by_prompts(method, batch, texts).unbind(1)
        pairs = [((unit(a) * unit(b)).sum(1) ** 2).mean() for a in rest for b in rest if a is not b]
        head = method.text_head
        logits = batch_norm(first, head.neck) @ head.classifier.weight.T
        wanted = {
            "global": paired(image, first, scale),
            "local": sum(paired(image, each, scale) for each in rest) / 4,
            "orthogonality": sum(pairs) / 12,
            "identity": cross_entropy(logits, batch.labels),
            "triplet": triplet(first, batch.labels),
        }
        same(stage, batch, wanted)


@pytest.mark.parametrize(
    "row, count",
    [("full", 1), ("full", 3), ("memory pulls each image", 3), (printed("Global Representation + IDA"), 3)],
)
def test_described_images_learn_by_the_losses_of_their_definition(row, count, domains):
    method, stage, batch = standing("described", domains[:count], row=row)
    method.memory.kept.normal_()
    with torch.no_grad():
        seen = looked(method.student(), batch.views[0])
        wanted = reid(method, seen, batch.labels)
        read = by_prompts(method, batch, [whole(parts) * 5 for parts in method.data.train.parts])
        if "Global" in row:
            wanted["global alignment"], looks = apart(seen[1], read[:, 0]), unit(seen[1])[:, None]
        else:
            wanted["attribute alignment"], looks = apart(seen[2], read[:, 1:]), seen[2]
        if count > 1:
            looks = looks if "each" in row else looks.mean(0)
            pulls = [apart(looks, kept.expand_as(looks)) for kept in method.memory.kept]
            wanted["domain alignment"] = sum(pulls) / (count - 1)
        same(stage, batch, wanted)


def test_the_documents_baseline_learns_from_raw_products_with_the_domains_sentences(domains):
    method, stage, batch = standing("described", domains[:2], row=printed("Baseline"))
    with torch.no_grad():
        seen = looked(method.student(), batch.views[0])
        logits = seen[1] @ called(method, own_words(method)).T
        wanted = {"image to text": cross_entropy(logits, batch.labels)}
        same(stage, batch, reid(method, seen, batch.labels) | wanted)


# What each loss teaches

READ = {"image", "region_attn", "region_proj"}
REID = {"identity": {"image", "head"}, "triplet": {"image"}}
STRONG = {f"{name} strong": parts for name, parts in REID.items()}
ALIGNED = {"attribute alignment": READ, "domain alignment": READ}
TEXT = {name: {"prompts"} for name in ("global", "local", "orthogonality", "triplet")}


@pytest.mark.parametrize(
    "variant, number, taught",
    [
        ("released", 0, {"image to text": {"words"}, "text to image": {"words"}}),
        ("released", 1, {**REID, **STRONG, **ALIGNED, "coarse": {"image"}}),
        ("described", 0, {**TEXT, "identity": {"prompts", "text_head"}}),
        ("described", 1, {**REID, **ALIGNED}),
    ],
)
def test_each_loss_teaches_what_it_should_and_nothing_else(variant, number, taught, domains):
    method, stage, batch = standing(variant, domains[:2], number)
    if variant == "described":
        method.memory.kept.normal_()
    terms = stage.losses(batch).terms
    found = {name: {key.split(".")[0] for key in gradients(method, loss)} for name, loss in terms.items()}
    assert found == taught


def test_the_global_prompt_learns_who_it_is_and_the_local_ones_to_differ(domains):
    method, stage, batch = standing("described", domains[:1], 0)
    terms = stage.losses(batch).terms
    found = {}
    for name, loss in terms.items():
        grad = gradients(method, loss)["prompts.table"]
        found[name] = grad.flatten(1).abs().sum(1).nonzero().flatten().tolist()
    own, rest = {name: [0] for name in ("global", "identity", "triplet")}, [1, 2, 3, 4]
    assert found == {**own, "local": rest, "orthogonality": rest}


@pytest.mark.parametrize("variant, row", [("released", "full"), ("described", printed("Baseline"))])
def test_words_of_earlier_identities_stay_as_they_are(variant, row, domains):
    method = away(variant, domains[:2], row)
    before = method.words().detach().clone()
    stepped(method, entered(method, 0), steps=2)
    alike = (method.words() == before).flatten(1).all(1)
    assert alike[: method.first].all() and not alike.all()


# What is looked at


@pytest.mark.parametrize("variant", KINDS)
def test_text_learns_on_what_the_pretrained_tower_says_of_unchanged_images(variant, domains):
    pretrained = begun("vladr", variant, domains[:1], **SMALL).image.double()
    method, stage, batch = standing(variant, domains[:2], 0)
    plain = Augmentation("bicubic", IMAGENET_MEAN, IMAGENET_STD)
    assert stage.cache["image"].view == plain
    images = next(still_batches(method.data, "train", method.size, plain)).images[batch.index, 0].double()
    with torch.no_grad():
        joint = tokens(pretrained, images)[:, 0] @ pretrained.proj
    torch.testing.assert_close(batch.cached["image"], joint, rtol=1e-5, atol=1e-4)  # computed in float32


def test_necks_average_over_each_view_in_turn(domains):
    method, stage, batch = standing("released", domains[:2])
    means = [neck.running_mean.clone() for neck in (method.head.neck, method.joint_neck)]
    with torch.no_grad():
        for view in batch.views:
            seen = looked(method.student(), view)[:2]
            means = [0.9 * mean + 0.1 * feature.mean(0) for mean, feature in zip(means, seen)]
        stage.losses(batch)
    for neck, mean in zip((method.head.neck, method.joint_neck), means):
        torch.testing.assert_close(neck.running_mean, mean, rtol=0, atol=1e-8)


def still_neck(x, neck):
    """A neck that is tested, without its weights."""
    return (x - neck.running_mean) / torch.sqrt(neck.running_var + neck.eps)


@pytest.mark.parametrize("variant", KINDS)
def test_what_is_tested_lies_behind_both_necks_and_attributes_are_read_from_patches(variant, domains):
    method = away(variant, domains[:2]).double().eval()
    batch = next(still_batches(domains[0], "query", method.size, method.test_view(), batch=8))
    batch.views = [batch.images.double()]
    task = next(iter(method.retrieval_tasks().values()))
    assert task.query == task.gallery
    with torch.no_grad():
        last, joint, read = looked(method.student(), batch.images)
        neck = method.head.neck
        last = still_neck(last, neck) * neck.weight + neck.bias
        wanted = torch.cat([last, still_neck(joint, method.joint_neck)], 1)
        found = [method.embed(batch, name) for name in (task.query, "attributes")]
    for one, other in zip(found, (wanted, read.flatten(1))):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


# From domain to domain


def state_of(module):
    """Floating tensors of a module, as they are."""
    return {k: v.detach().clone() for k, v in module.state_dict().items() if v.is_floating_point()}


def test_the_old_model_is_the_one_that_stands_when_images_begin(domains):
    method = away("released", domains[:2])
    entered(method)
    method.begin_domain(domains[2], 3)
    moved([method.student()], seed=3)
    standing = state_of(method.student())
    entered(method)
    standing["head.classifier.weight"] = standing["head.classifier.weight"][: method.first]
    old = state_of(method.old)
    assert old.keys() == standing.keys()
    assert all(torch.equal(value, standing[name]) for name, value in old.items())


def test_new_identities_begin_at_the_mean_of_their_features_behind_the_neck(domains):
    method = away("released", domains[:2])
    before = state_of(method.head)
    entered(method)
    batch = next(still_batches(domains[1], "train", method.size, method.test_view()))
    neck, found = method.head.neck, state_of(method.head)
    with torch.no_grad():
        last = still_neck(tokens(method.image, batch.images[:, 0])[:, 0], neck) * neck.weight + neck.bias
        means = [last[batch.labels == label].mean(0) for label in range(domains[1].classes)]
    rows = found.pop("classifier.weight")
    earlier = before.pop("classifier.weight")[: method.first]
    torch.testing.assert_close(rows, torch.cat([earlier, unit(torch.stack(means))]), rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in found.items()), "statistics, too"


@pytest.mark.parametrize("variant, share", [("released", 0.6), ("described", 1.0)])
def test_a_later_domain_ends_with_weights_between_new_and_old(variant, share, domains):
    """Statistics of both necks among them; of what grew, the rows that there were."""
    method, stage, batch = standing(variant, domains[:2])
    stage.losses(batch)
    new, old = state_of(method.student()), state_of(method.old)
    method.end_domain()
    for name, value in state_of(method.student()).items():
        rows = len(old[name])
        wanted = torch.cat([share * new[name][:rows] + (1 - share) * old[name], new[name][rows:]])
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-8, msg=name)
    assert not torch.equal(new["joint_neck.running_mean"], old["joint_neck.running_mean"])


@pytest.mark.parametrize("row", ["full", printed("Global Representation + IDA")])
def test_the_memory_of_a_domain_is_an_average_over_its_batches(row, domains):
    """Of unit vectors, each batch's mean; a domain's first batch sets it, and the next domain keeps it."""
    method, stage, batch = standing("described", domains[:2], row=row, memory_decay=0.7)
    kept = []
    for number in (2, 3):
        wanted = None
        for seed in range(2):
            moved([method.image], seed=seed)
            with torch.no_grad():
                _, joint, read = looked(method.student(), batch.views[0])
            mean = (read if row == "full" else unit(joint)[:, None]).mean(0)
            wanted = mean if wanted is None else 0.7 * wanted + 0.3 * mean
            stage.after_step(stage.losses(batch).carry)
        found = method.memory.moving
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)  # batches are told in float32
        kept.append(wanted)
        method.begin_domain(domains[2], number + 1)
    torch.testing.assert_close(method.memory.kept[1:], torch.stack(kept), rtol=0, atol=1e-6)


# Rates


def published(variant, domains):
    """A small method with the recipe of the paper."""
    method = begun("vladr", variant, domains, **FEW)
    method.recipe = METHODS["vladr"].recipe_of(variant, "full").at(PROFILES["paper"]).but(**FEW)
    return method


@pytest.mark.parametrize("variant", KINDS)
def test_every_parameter_learns_at_its_own_rate(variant, domains):
    """In stage 2 biases learn twice as fast, but not the decoder's, on which no weight decay lies."""
    method = published(variant, domains[:2])
    text = ["words.new"] if variant == "released" else ["prompts.table", *text_head(method)]
    found = [learning(method, entered(method, number)) for number in (0, 1)]
    images = [n for n, _ in method.named_parameters() if n.startswith(("image.", "head.", "region_proj."))]
    wanted = {name: (1e-5 if "bias" in name else 5e-6, 1e-4) for name in images}
    decoder = [name for name, _ in method.named_parameters() if name.startswith("region_attn.")]
    assert found == [dict.fromkeys(text, (3.5e-3, 1e-4)), wanted | dict.fromkeys(decoder, (5e-6, 0.0))]


def text_head(method):
    """Parameters of the head of prompts: its neck has no bias that learns."""
    return [f"text_head.{name}" for name, _ in method.text_head.named_parameters() if "bias" not in name]


def curve(place):
    """Ten steps (or epochs) of warm-up from a hundredth, a tenth from the thirtieth on."""
    return (0.01 + 0.99 * place / 10 if place < 10 else 1.0) * (0.1 if place >= 30 else 1.0)


@pytest.mark.parametrize("number, epochs, steps", [(0, 120, 573), (1, 60, 143)])
def test_released_rates_fall_after_thirty_iterations_of_the_published_run(number, epochs, steps, domains):
    stage = published("released", domains[:1]).stages()[number]
    assert stage.epochs == epochs
    places = [0, 1, 5, 9, 10, 29, 30, 100, epochs * steps - 1]
    at = [stage.schedule.position(p // steps, epochs, p % steps, steps, False) for p in places]
    assert [stage.schedule.factor(p) for p in at] == pytest.approx([curve(p) for p in places])


@pytest.mark.parametrize("number, epochs, published_epochs", [(0, 10, 120), (1, 60, 60)])
def test_described_rates_fall_with_epochs(number, epochs, published_epochs, domains):
    stage = published("described", domains[:1]).stages()[number]
    assert stage.epochs == epochs
    at = [stage.schedule.position(e, epochs, 0, 10, False) for e in range(epochs)]
    wanted = [curve((e + 1) * published_epochs / epochs) for e in range(epochs)]
    assert [stage.schedule.factor(p) for p in at] == pytest.approx(wanted)
