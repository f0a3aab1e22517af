"""PromptSG held to its equations: word, sentence and interaction, the losses and gradients of its rows, the
features of every test, and the settings."""

import copy
from types import SimpleNamespace

import pytest
import torch
from definition import (
    EXACT,
    batch_norm,
    block,
    by_running,
    changed,
    contrast,
    cross_entropy,
    gradients,
    in_float64,
    learning,
    moved,
    norm,
    pooled,
    rates,
    raw_states,
    residual,
    spoken,
    stirred,
    triplet,
    unit,
    words_of,
)
from stages import entered, stepped

from reid_core import train
from reid_core.augment import Augmentation, Erasing
from reid_core.contract import first_batch
from reid_core.data import load_data, still_batches
from reid_core.evaluate import CaptionTable, sentence_batches
from reid_core.methods import METHODS
from reid_core.recipe import PROFILES

SMALL = {"image_height": 64, "image_width": 32, "ids_per_batch": 3}
HALF = (0.5, 0.5, 0.5)
SAID = "A photo of a {identity} person"

# what the paper's own model does, and in what other rows differ from it
USUAL = {
    "said": SAID,  # what is composed
    "plain": "A photo of a person",
    "prompt": "composed",  # in training
    "blocks": 2,
    "ids": ("z",),  # what has a classifier
    "triplets": ("z", "f12", "f11", "f10"),
    "pulls": (0.5, 0.5),  # weights of both directions of the contrast
    "temperature": 0.07,
    "pairs": False,  # whether an image and its own sentence alone are positives
    "times": 1,  # of a mean over positives
    "reweight": False,
    "all_words": False,
    "patches": False,
    "norms": True,
    "projection": False,
    "residual": False,
    "detached": False,
    "unit": False,
}
BARE = {"blocks": None, "ids": ("f12", "v"), "triplets": ("f11", "f12", "v")}
WITHOUT = {"prompt": "simplified", "pulls": (0.0, 0.0)}
ROWS = {
    "full": {},
    "a): L_i2t_sup=1;L_t2i_sup=1;MIM=1": {},
    "b): L_i2t_sup=0;L_t2i_sup=1;MIM=1": {"pulls": (0.0, 0.5)},
    "c): L_i2t_sup=1;L_t2i_sup=0;MIM=1": {"pulls": (0.5, 0.0)},
    "d): L_i2t_sup=1;L_t2i_sup=1;MIM=0": BARE,
    "Training w/ composed": {},
    "Training w/o composed": WITHOUT,
    "w/o attention module; inference: visual=1;text=0": BARE,
    "+ 1 cross-layer; inference: visual=1;text=0": {"blocks": 0},
    "+ 1 cross & 1 self-layer; inference: visual=1;text=0": {"blocks": 1},
    "+ 1 cross & 2 self-layer; inference: visual=1;text=1": {},
    "+ 1 cross & 2 self-layer; inference: visual=1;text=0": {},
    "interaction re-weights tokens (D7)": {"reweight": True},
    "plain contrast": {"pairs": True},
    "contrast summed over positives (D12)": {"times": 4},
    "pseudo-word as short as CLIP's words (D3)": {},
    "all words as queries (D5)": {"all_words": True},
    "patches alone (D6)": {"patches": True},
    "no norms before the attention (D8)": {"norms": False},
    "output projection (D8)": {"projection": True},
    "residual around cross-attention (D8)": {"residual": True},
    "retrieval by f12 and z (D9)": {},
    "simplified prompt in the gallery (D20)": {},
    "two classifiers (D10)": {"ids": ("z", "f12")},
    "triplet as in CLIP-ReID (D16)": {"triplets": ("z", "f12", "f11", "v")},
    "no warm-up (D17)": {},
    "inversion detached (D19)": {"detached": True},
    "normalised input to the inversion (D1)": {"unit": True},
    "period after the sentence (D4)": {"said": f"{SAID}."},
    "four pseudo-words (D4)": {},
    "lambda 0": {"pulls": (0.0, 0.0)},
    "lambda 0.1": {"pulls": (0.1, 0.1)},
    "lambda 0.5": {},
    "lambda 1": {"pulls": (1.0, 1.0)},
    "lambda 2": {"pulls": (2.0, 2.0)},
    "temperature 0.01": {"temperature": 0.01},
    "temperature 0.02": {"temperature": 0.02},
    "temperature 0.05": {"temperature": 0.05},
    "temperature 0.1": {"temperature": 0.1},
    "control: random text tower": {},
    "control: one constant sentence": WITHOUT,
    "control: words without meaning": {"said": "{identity}", "plain": "X X X X X"},
    "overlapping patches": {},
}
OTHERS = {"zero-shot", "half the epochs", "no interaction, half the epochs"}  # of another length
RESNETS = {"RN50", "RN50, rates of CLIP-ReID"}


@pytest.fixture(scope="module")
def few():
    return load_data("world_market@8", "smoke")


@pytest.fixture(scope="module")
def one(few):
    """A method for tests of settings alone."""
    return built(few)


def recipe_of(row, profile="smoke", **changes):
    return METHODS["promptsg"].recipe_of("promptsg", row).at(PROFILES[profile]).but(**changes)


def built(data, row="full", profile="smoke", **changes):
    """A method as it begins."""
    train.seed_all(0)
    changes = {"backbone": "tiny", "pretrained": "tiny", **SMALL, **changes}
    return METHODS["promptsg"].variants["promptsg"].kind(recipe_of(row, profile, **changes), data)


def away(method):
    """The same method with what is trained away from where it began."""
    moved([method.image], 0.01)
    moved([method.inversion, method.interaction, method.heads], 0.05, seed=1)
    return method


def defined(row):
    return SimpleNamespace(**{**USUAL, **ROWS[row]})


def standing(data, row="full", **changes):
    """A method within its stage, in float64, with a batch and what its row is by definition."""
    method = away(built(data, row, **changes))
    stage = entered(method)
    batch = in_float64(method, stage, first_batch(method, stage, data))
    method.read_sentences()  # the plain one, in float64, too
    return method, stage, batch, defined(row)


# From an image to z


def seen(method, batch):
    """States of the tower and v, (B, D) each, and all tokens (B, T, E) in the joint space."""
    tower, images = method.image, batch.images[:, 0]
    side = 0.0
    if method.recipe.sie:
        side = method.recipe.sie * tower.camera.table[batch.cameras]
    *_, third, second, last = raw_states(tower, images, side)
    normed = norm(last, tower.ln_post)
    tokens = normed @ tower.proj
    found = {"f10": third[:, 0], "f11": second[:, 0], "f12": normed[:, 0], "v": tokens[:, 0]}
    return found, tokens


def inverted(method, v, row):
    """Pseudo-words (B, count, W): three linear layers, two of them with ReLU, and a batch norm (Sec. 5.1)."""
    x = v.detach() if row.detached else v
    x = unit(x) if row.unit else x
    one, two, three = (layer for layer in method.inversion.layers if isinstance(layer, torch.nn.Linear))
    for layer in (one, two):
        x = torch.relu(x @ layer.weight.T + layer.bias)
    x = x @ three.weight.T + three.bias
    normed = (batch_norm if method.inversion.training else by_running)(x, method.inversion.norm)
    return normed.unflatten(1, (-1, method.text.width))


def asked(method, v, row, prompt):
    """All words (B, L, E) of the sentence that asks, in the joint space."""
    if prompt == "simplified":
        words = words_of(method.text, method.tokenizer, row.plain)[None]
        return spoken(method.text, words).expand(len(v), -1, -1)
    before, after = (words_of(method.text, method.tokenizer, part) for part in row.said.split("{identity}"))
    pieces = (before[:-1].expand(len(v), -1, -1), inverted(method, v, row), after[1:].expand(len(v), -1, -1))
    return spoken(method.text, torch.cat(pieces, 1))


def found_by(method, words, tokens, row):
    """z (B, E): cross-attention from the sentence to the tokens (Eq. 7), blocks of self-attention, a norm."""
    parts = method.interaction
    asking = words if row.all_words else words[:, -1:]
    tokens = tokens[:, 1:] if row.patches else tokens
    q, kv = asking, tokens
    if row.norms:
        q, kv = norm(asking, parts.norm_sentence), norm(tokens, parts.norm_tokens)
    x = (reweighted if row.reweight else gathered)(parts, q, kv)
    if row.projection:
        x = x @ parts.out_proj.weight.T + parts.out_proj.bias
    x = x + asking if row.residual else x
    assert len(parts.blocks) == row.blocks
    for layer in parts.blocks:
        x = block(x, layer)
    return norm(x[:, 0 if row.reweight else -1], parts.norm)


def gathered(parts, q, kv):
    """What the words gather, with heads of 64."""
    width = q.shape[2]
    nothing = SimpleNamespace(weight=torch.eye(width).double(), bias=0.0)
    layers = SimpleNamespace(q_proj=parts.q_proj, k_proj=parts.k_proj, v_proj=parts.v_proj, c_proj=nothing)
    return pooled(layers, q, kv, width // 64)


def reweighted(parts, q, kv):
    """Values of all tokens, each times T times the attention that it receives on average over heads."""
    q, k, v = (
        x @ layer.weight.T + layer.bias
        for layer, x in ((parts.q_proj, q), (parts.k_proj, kv), (parts.v_proj, kv))
    )
    heads = torch.arange(q.shape[2]).split(64)
    share = [(q[..., head] @ k[..., head].mT / 8).softmax(-1)[:, 0] for head in heads]
    return kv.shape[1] * (sum(share) / len(share))[..., None] * v


def every(method, batch, row, prompts):
    """All features of a batch by name."""
    found, tokens = seen(method, batch)
    for prompt in prompts:
        words = asked(method, found["v"], row, prompt)
        found[f"l:{prompt}"] = words[:, -1]
        if row.blocks is not None:
            found[f"z:{prompt}"] = found_by(method, words, tokens, row)
    return found


# Losses


def terms_of(method, batch, row):
    """The terms of Eq. 10."""
    f, labels = every(method, batch, row, [row.prompt]), batch.labels
    f["z"], l = f.get(f"z:{row.prompt}"), f[f"l:{row.prompt}"]
    behind = [
        batch_norm(f[name], method.heads[name].neck) @ method.heads[name].classifier.weight.T
        for name in row.ids
    ]
    assert set(method.heads) == set(row.ids)
    how = (torch.arange(len(labels)) if row.pairs else labels, row.temperature, True)
    return {
        "identity": sum(cross_entropy(logits, labels, 0.1) for logits in behind),
        "triplet": sum(triplet(f[name], labels, 0.3) for name in row.triplets),
        "image to text": row.times * contrast(f["v"], l, *how),
        "text to image": row.times * contrast(l, f["v"], *how),
    }


def weights_of(row):
    """How much each term weighs (Eq. 10)."""
    return {"identity": 1.0, "triplet": 1.0, "image to text": row.pulls[0], "text to image": row.pulls[1]}


def computing(row):
    """The recipe of a row apart from weights, tests and warm-up: rows of one have the same losses."""
    one = {"lambda_supcon": 0.0, "i2t_share": 1.0, "t2i_share": 1.0, "warmup_epochs": 0}
    tests = {"test_prompt": "composed", "gallery_prompt": "composed", "retrieval_features": ("z",)}
    return recipe_of(row, **one, **tests)


ALIKE = {computing(row): row for row in reversed(ROWS)}  # the first row of each


@torch.no_grad()
@pytest.mark.parametrize("row", ALIKE.values())
def test_every_loss_of_promptsg_is_that_of_its_definition(row, few):
    method, stage, batch, by = standing(few, row)
    terms, wanted = stage.losses(batch).terms, terms_of(method, batch, by)
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value, **EXACT, msg=lambda said, name=name: f"{name}: {said}")


@torch.no_grad()
def test_a_share_of_the_triplets_leaves_that_of_z_whole(few):
    method, stage, batch, by = standing(few, triplet_feature_weight=0.25)
    f = every(method, batch, by, ["composed"])
    wanted = triplet(f["z:composed"], batch.labels, 0.3)
    wanted = wanted + 0.25 * sum(triplet(f[name], batch.labels, 0.3) for name in ("f12", "f11", "f10"))
    torch.testing.assert_close(stage.losses(batch).terms["triplet"], wanted, **EXACT)


def test_rows_that_compute_the_same_are_defined_alike():
    for row in ROWS:
        assert {**USUAL, **ROWS[row], "pulls": 0} == {**USUAL, **ROWS[ALIKE[computing(row)]], "pulls": 0}


def test_rows_share_a_training_where_they_differ_in_tests_alone():
    fields = {"test_prompt", "gallery_prompt", "retrieval_features"}
    assert set(METHODS["promptsg"].test_only) == fields


def test_every_row_has_a_definition():
    assert set(METHODS["promptsg"].rows) == set(ROWS) | OTHERS | RESNETS


@pytest.mark.parametrize("row", ROWS)
def test_every_loss_of_promptsg_weighs_what_its_row_says(row, one):
    assert published(one, row).stages()[0].weights == weights_of(defined(row))


@pytest.mark.parametrize(
    "row, changes",
    [
        ("full", {"sie": 1.0}),
        ("inversion detached (D19)", {}),
        ("interaction re-weights tokens (D7)", {}),
        ("d): L_i2t_sup=1;L_t2i_sup=1;MIM=0", {}),
        ("Training w/o composed", {}),
        ("all words as queries (D5)", {}),
    ],
)
def test_every_trained_weight_of_promptsg_follows_the_gradient_of_its_definition(row, changes, few):
    """With the camera embedding, which no row has, as well."""
    method, stage, batch, by = standing(few, row, **changes)
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    how = {"inputs": list(trained.values()), "allow_unused": True, "materialize_grads": True}
    found, wanted = (
        torch.autograd.grad(sum(weight * terms[name] for name, weight in weights_of(by).items()), **how)
        for terms in (stage.losses(batch).terms, terms_of(method, batch, by))
    )
    for name, one, other in zip(trained, found, wanted):
        torch.testing.assert_close(one, other, **EXACT, msg=lambda said, name=name: f"{name}: {said}")


WAY = {"image", "inversion", "interaction"}  # through z to the word that asked
TAUGHT = {"identity": {*WAY, "heads"}, "triplet": WAY}
PULLED = {"image to text": {"image", "inversion"}, "text to image": {"image", "inversion"}}
BARELY = {"identity": {"image", "heads"}, "triplet": {"image"}}
CONSTANT = {"identity": {"image", "interaction", "heads"}, "triplet": {"image", "interaction"}}
CONSTANT |= {"image to text": {"image"}, "text to image": {"image"}}


@pytest.mark.parametrize(
    "row, taught",
    [
        ("full", {**TAUGHT, **PULLED}),
        ("inversion detached (D19)", {**TAUGHT, **PULLED}),
        ("d): L_i2t_sup=1;L_t2i_sup=1;MIM=0", {**BARELY, **PULLED}),
        ("Training w/o composed", CONSTANT),
    ],
)
def test_each_loss_of_promptsg_teaches_what_it_should_and_nothing_else(row, taught, few):
    method, stage, batch, _ = standing(few, row)
    terms = stage.losses(batch).terms
    assert {
        name: {key.split(".")[0] for key in gradients(method, loss)} for name, loss in terms.items()
    } == taught


@pytest.mark.parametrize(
    "row, parts",
    [
        ("full", ("image.", "inversion.", "interaction.", "heads.")),
        ("Training w/o composed", ("image.", "interaction.", "heads.")),
        ("d): L_i2t_sup=1;L_t2i_sup=1;MIM=0", ("image.", "inversion.", "heads.")),
    ],
)
def test_training_changes_what_it_teaches_and_the_statistics_of_its_norms(row, parts, few):
    """The text tower stays, and so does the bias of a neck."""
    method = built(few, row)
    before = copy.deepcopy(method.state_dict())
    stepped(method, entered(method), steps=2)
    assert changed(method, before) == {n for n in before if n.startswith(parts) and "neck.bias" not in n}
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad}
    assert trained == {part.removesuffix(".") for part in parts}


# Tests

COMPOSED = {
    "composed sentence to image": ("l:composed", "v"),
    "caption to composed sentence": ("caption", "l:composed"),
}


def searches_of(own, theirs, asking="composed"):
    """{task: (feature of the query, of the gallery)} of a row."""
    return {
        "image to image": (own, theirs),
        "image to image, re-ranked": (own, theirs),
        "simplified prompt": (cheap := own.replace("composed", "simplified"), cheap),
        "simplified prompt in the gallery (D20)": (own, cheap),
        "joint space": ("v", "v"),
        "caption to image": ("caption", "v"),
        "last state and z (D9)": (f"f12+z:{asking}",) * 2,
    }


TESTS = {
    "full": searches_of("z:composed", "z:composed") | COMPOSED,
    "+ 1 cross-layer; inference: visual=1;text=0": searches_of("z:simplified", "z:simplified", "simplified")
    | COMPOSED,
    "+ 1 cross & 2 self-layer; inference: visual=1;text=0": searches_of(
        "z:simplified", "z:simplified", "simplified"
    )
    | COMPOSED,
    "simplified prompt in the gallery (D20)": searches_of("z:composed", "z:simplified") | COMPOSED,
    "retrieval by f12 and z (D9)": searches_of("f12+z:composed", "f12+z:composed") | COMPOSED,
    "interaction re-weights tokens (D7)": searches_of("z:composed", "z:composed") | COMPOSED,
    "four pseudo-words (D4)": searches_of("z:composed", "z:composed") | COMPOSED,
    "d): L_i2t_sup=1;L_t2i_sup=1;MIM=0": searches_of("f12+v", "f12+v") | COMPOSED,
    "Training w/o composed": searches_of("z:simplified", "z:simplified", "simplified"),
}


def as_tested(method, data):
    """A method as it is tested, its norms away from where they began, and a batch."""
    stirred(method)
    method.eval().double().read_sentences()
    batch = next(still_batches(data, "query", method.size, method.test_view(), batch=6))
    batch.views = [batch.images.double()]
    return batch


@torch.no_grad()
@pytest.mark.parametrize("row", TESTS)
def test_every_test_compares_the_features_of_its_definition(row, few):
    """Before the necks, with the statistics that the norms have kept."""
    method, by = away(built(few, row)), defined(row)
    batch = as_tested(method, few)
    wanted = every(method, batch, by, ["composed", "simplified"])
    wanted.setdefault("z:composed", seen(method, batch)[1][:, 0])  # nobody asks: v stands for z
    sentences = next(sentence_batches(CaptionTable(few.gallery.captions, method.tokenizer), "cpu", 4))
    said = [text[: text.argmax() + 1] for text in sentences.text]  # the last sign has the largest number
    wanted["caption"] = torch.cat(
        [spoken(method.text, method.text.token_embedding.weight[ids][None])[:, -1] for ids in said]
    )
    found = method.retrieval_tasks()
    assert list(found) == list(TESTS[row])
    for name, sides in TESTS[row].items():
        assert found[name].rerank == ("re-ranked" in name)
        assert found[name].query_type == ("text" if sides[0] == "caption" else "image")
        for side, told in zip((found[name].query, found[name].gallery), sides):
            one = method.embed(sentences if told == "caption" else batch, side)
            joined = torch.cat([wanted[part] for part in told.split("+")], 1)
            torch.testing.assert_close(one, joined, **EXACT, msg=lambda text, told=told: f"{told}: {text}")


@torch.no_grad()
def test_a_resnet_is_read_by_its_last_two_stages_and_all_tokens_of_its_pool(few):
    """Random weights, in the width that its attention pool gives; word and sentence as they are elsewhere."""
    small = {"backbone": "RN50-quickgelu", "pretrained": None, "mim_self_attention_blocks": 1}
    method, by = built(few, "RN50", **small), SimpleNamespace(**{**USUAL, "blocks": 1})
    batch = as_tested(method, few).rows(slice(0, 2))
    f3, f4, tokens = residual(method.image, batch.images[:, 0])
    words = asked(method, tokens[:, 0], by, "composed")
    z = found_by(method, words, tokens, by)
    wanted = {"f3": f3, "f4": f4, "v": tokens[:, 0], "l:composed": words[:, -1], "z:composed": z}
    found = method.features(batch, ["z:composed"])
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-7, atol=1e-7, msg=lambda s, name=name: name + s
        )
    assert method.retrieval_tasks()["last state and z (D9)"].query == "f4+z:composed"
    assert method.recipe.triplet_features == ("z", "f4", "f3", "v")


# Where everything begins


def test_what_is_new_begins_as_decided(few):
    """Batch norm as printed; projections and blocks as CLIP's own (D8); a classifier of N(0, 0.001)."""
    method = built(few)
    width, parts = method.image.joint_width, method.interaction
    assert (method.inversion.norm.weight == 1).all() and (method.inversion.norm.bias == 0).all()
    out = width**-0.5 * 4**-0.5  # of two blocks
    for layer in parts.blocks:
        spreads = ((layer.attn.in_proj_weight, width**-0.5), (layer.attn.out_proj.weight, out))
        spreads += ((layer.mlp.c_fc.weight, (2 * width) ** -0.5), (layer.mlp.c_proj.weight, out))
        for weight, spread in spreads:
            assert weight.std().item() == pytest.approx(spread, rel=0.05)
        assert layer.mlp.c_fc.weight.shape == (4 * width, width)
    for layer in (parts.q_proj, parts.k_proj, parts.v_proj):
        assert layer.weight.std().item() == pytest.approx(width**-0.5, rel=0.05)
    assert method.heads["z"].classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert method.heads["z"].classifier.bias is None


def test_a_row_begins_with_words_as_short_as_those_of_clip(few):
    method = built(few, "pseudo-word as short as CLIP's words (D3)")
    spread = method.text.token_embedding.weight.std()
    assert torch.allclose(method.inversion.norm.weight, spread.expand(method.text.width))


def test_the_control_alone_has_a_text_tower_that_read_nothing(few):
    own, other = built(few), built(few, "control: random text tower")
    assert not torch.equal(own.text.token_embedding.weight, other.text.token_embedding.weight)
    for name, value in own.image.state_dict().items():
        assert torch.equal(value, other.image.state_dict()[name]), name


@torch.no_grad()
@pytest.mark.parametrize("row", ["full", "control: random text tower", "control: words without meaning"])
def test_the_plain_sentence_is_read_once_by_the_tower_of_its_row(row, few):
    method = built(few, row)
    found = method.plain[:, -1].double()
    wanted = asked(method.double(), torch.zeros(1), defined(row), "simplified")[:, -1]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)  # read in float32
    assert method.plain.shape[:2] == (1, 1)


@pytest.mark.parametrize("row, count", [("full", 1), ("four pseudo-words (D4)", 4)])
def test_an_image_writes_as_many_words_as_its_row_says(row, count, few):
    method = built(few, row)
    v = torch.randn(2, method.image.joint_width)
    assert method.inversion(v).shape == (2, count, method.text.width)


# Settings

# row -> epochs, rate of the tower, of what is new, weight decay, start and length of warm-up, milestones
SETTINGS = {
    "full": (60, 5e-6, 5e-5, 1e-4, 0.1, 10, (20, 40)),
    "RN50": (60, 5e-6, 5e-5, 1e-4, 0.1, 10, (20, 40)),
    "RN50, rates of CLIP-ReID": (120, 3.5e-4, 3.5e-4, 5e-4, 0.01, 10, (40, 70)),
    "no warm-up (D17)": (60, 5e-6, 5e-5, 1e-4, 0.1, 0, (20, 40)),
    "half the epochs": (30, 5e-6, 5e-5, 1e-4, 0.1, 10, (20, 40)),  # of a curve that is written in 60
    "zero-shot": (0, 5e-6, 5e-5, 1e-4, 0.1, 10, (20, 40)),
}


def published(method, row):
    """The same method with the recipe of a row, as the paper has it, and identities for its batches."""
    method.recipe = recipe_of(row, "paper")
    method.data = copy.copy(method.data)
    method.data.labels = torch.arange(64).repeat_interleave(4).numpy()
    return method


@pytest.mark.parametrize("row", SETTINGS)
def test_promptsg_learns_with_the_settings_of_its_row(row, one):
    epochs, slow, fast, decay, start, warmup, milestones = SETTINGS[row]
    method = published(one, row)
    stage = method.stages()[0]
    assert (stage.epochs, stage.sampler.P, stage.sampler.K) == (epochs, 16, 4)
    base = {"image": slow, "inversion": fast, "interaction": fast, "heads": fast}
    parts = {n: n.split(".")[0] for n, _ in method.named_parameters()}
    wanted = {n: (base[p] * (2 if "bias" in n else 1), decay) for n, p in parts.items() if p in base}
    assert learning(method, stage) == wanted
    span = 120 if milestones == (40, 70) else 60
    places = [e * span / epochs for e in range(1, epochs + 1)]
    curve = [start + (1 - start) * e / warmup if e < warmup else 1.0 for e in places]
    curve = [factor * 0.1 ** sum(e >= m for m in milestones) for factor, e in zip(curve, places)]
    for group, rate in zip(stage.groups, (slow, fast)):
        assert rates(stage, group) == pytest.approx([rate * factor for factor in curve])


@pytest.mark.parametrize("row", ["full", "RN50"])
def test_images_are_prepared_as_clip_reid_does(row, one):
    method = published(one, row)
    usual = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if "RN50" in row else (HALF, HALF)
    erasing = Erasing(0.5, (0.02, 1 / 3), (0.3, 1 / 0.3))
    assert method.test_view() == Augmentation("bilinear", *usual)
    assert method.stages()[0].views == [Augmentation("bicubic", *usual, 0.5, 10, erasing=(erasing,))]
    assert (method.recipe.image_height, method.recipe.image_width) == (256, 128)


@pytest.mark.parametrize("row, stride", [("full", 16), ("overlapping patches", 12)])
def test_patches_lie_as_far_apart_as_the_row_of_promptsg_says(row, stride, few):
    assert built(few, row).image.stride == stride and recipe_of(row, "paper").stride == stride
