"""Where a method looks, and what the masks say to it: worked examples on models of random weights."""

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.world.truth import REGIONS
from reid_core.analysis import explain
from reid_core.data import Batch
from reid_core.layers import CrossAttention
from reid_core.loading import load_clip, load_timm
from reid_core.methods import promptsg
from reid_core.methods.base import Method, Task
from reid_core.recipe import PROFILES

SIZE = (64, 32)


def batch_of(number=3, size=SIZE):
    torch.manual_seed(1)
    rows = torch.arange(number)
    return Batch(index=rows, labels=rows, cameras=None, views=[torch.randn(number, 1, 3, *size)])


class Looking(Method):
    """The least a method needs to be looked at."""

    def __init__(self, tower, read=lambda tower, out: out.tokens[:, 0]):
        super().__init__(None)
        self.image, self.read = tower.eval(), read

    def features(self, batch, names):
        return {"f": self.read(self.image, self.image(batch.images.flatten(0, 1), batch.cameras))}

    def retrieval_tasks(self):
        return {"image to image": Task("f", "f")}


def tower(name="open_clip", **options):
    torch.manual_seed(0)
    return (
        load_timm("tiny_vit", None, SIZE)
        if name == "timm"
        else load_clip("tiny", "random", SIZE, **options).image
    )


def spike(features):
    """A score that is not symmetric in any way."""
    return features[:, 0] + 2 * features[:, 1]


@pytest.mark.parametrize("name", ["open_clip", "timm"])
def test_watched_attention_gives_the_same_output(name):
    method, batch = Looking(tower(name)), batch_of()
    plain = method.embed(batch, "f")
    with explain.watched(tower=method.image) as maps:
        watched = method.embed(batch, "f")
    torch.testing.assert_close(watched, plain, atol=1e-5, rtol=1e-5)
    assert len(maps["tower"]) == 6 and maps["tower"][0].shape == (3, 3, 9, 9)
    torch.testing.assert_close(maps["tower"][3].sum(-1), torch.ones(3, 3, 9))


def test_watched_maps_are_those_of_the_block_itself():
    image, x = tower(), torch.randn(2, 9, 192)
    block = image.blocks[0]
    with explain.watched(block=block) as maps:
        block(x)
    published = nn.MultiheadAttention(192, 3, batch_first=True)
    published.load_state_dict(block.attn.state_dict())
    _, own = published(*[block.ln_1(x)] * 3, average_attn_weights=False)
    torch.testing.assert_close(maps["block"][0], own, atol=1e-5, rtol=1e-5)


def test_a_mask_and_a_causal_order_are_kept():
    image = tower(extra_tokens=1, isolated=True)
    with explain.watched(tower=image) as maps:
        image(batch_of().images[:, 0])
    assert maps["tower"][0][:, :, 0, 1].abs().max() == 0 and maps["tower"][0][:, :, 1, 1].min() > 0
    ahead = explain.attention_weights(torch.randn(4, 8), torch.randn(4, 8), causal=True).triu(1)
    assert ahead.abs().max() == 0


def test_the_kernel_is_put_back_even_after_an_error():
    kernel = torch.nn.functional.scaled_dot_product_attention
    with pytest.raises(RuntimeError), explain.watched(tower=tower()):
        raise RuntimeError
    assert torch.nn.functional.scaled_dot_product_attention is kernel


def test_relevance_is_the_rule_written_out():
    method, batch = Looking(tower()), batch_of()
    found = explain.relevance(method, batch, spike)
    with explain.watched(tower=method.image) as maps:
        total = spike(method.embed(batch, "f")).sum()
    gradients = torch.autograd.grad(total, maps["tower"])
    one = torch.eye(9)
    for a, g in zip(maps["tower"], gradients):
        one = one + (a[1] * g[1]).clamp(min=0).mean(0).detach() @ one
    assert found.shape == (3, 4, 2) and found.min() >= 0 and found.max() > 0
    torch.testing.assert_close(found[1].flatten(), one[0, 1:])


@pytest.mark.parametrize("frozen", [False, True])
def test_relevance_needs_no_trained_parameter(frozen):
    method = Looking(tower()).requires_grad_(not frozen)
    with torch.no_grad():
        assert explain.relevance(method, batch_of(), spike).max() > 0


def test_a_token_that_nobody_reads_is_irrelevant():
    a = torch.zeros(1, 3, 3)
    a[0, 0, 1] = 0.5  # the class token reads the first patch, nobody reads the second
    assert explain.through_blocks([a, a])[0, 0].tolist() == [1, 1, 0]


def test_a_score_of_one_image_says_nothing_about_another():
    method, batch = Looking(tower()), batch_of()
    alone = explain.relevance(method, batch_of(1), spike)
    batch.views[0][0] = batch_of(1).views[0][0]
    torch.testing.assert_close(explain.relevance(method, batch, spike)[0], alone[0], atol=1e-6, rtol=1e-4)


def test_prompts_and_extra_class_tokens_are_no_patches():
    class Prompted(Looking):
        def features(self, batch, names):
            prompter = lambda index, x, prompts: torch.ones(len(x), 5, x.shape[2])  # noqa: E731
            return {"f": self.image(batch.images.flatten(0, 1), None, prompter).tokens[:, 0]}

    method = Prompted(tower(extra_tokens=2))
    for explained in (explain.relevance, explain.grad_cam):
        assert explained(method, batch_of(), spike).shape == (3, 4, 2)


class Interacting(Looking):
    """PromptSG in small: one query reads the tokens, from the first one or without the class token."""

    def __init__(self, tower, reader, first=0):
        super().__init__(tower)
        self.interaction, self.first = reader, first

    def features(self, batch, names):
        tokens = self.image(batch.images.flatten(0, 1), batch.cameras).tokens
        return {"f": self.interaction(tokens[:, self.first :])[:, 0]}

    def readers(self, name):
        return [(self.image, 0), (self.interaction, -1)]


class Explicit(CrossAttention):
    """A reader that computes its map by itself and keeps it with its gradient."""

    def forward(self, tokens):
        q = self.split(self.q_proj(self.queries)[None].expand(len(tokens), -1, -1))
        k, v = self.split(self.k_proj(tokens)), self.split(self.v_proj(tokens))
        share = explain.attention_weights(q, k)
        self.maps = share if self.remember else None
        return self.proj_out((share @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("first", [0, 1])
def test_relevance_passes_through_a_module_that_reads_the_tokens(first):
    torch.manual_seed(0)
    watched = Interacting(tower(), CrossAttention(queries=1, width=192, heads=3), first)
    found = explain.relevance(watched, batch_of(), spike)
    assert found.shape == (3, 4, 2) and found.max() > 0
    explicit = Interacting(watched.image, Explicit(queries=1, width=192, heads=3), first)
    explicit.load_state_dict(watched.state_dict())
    torch.testing.assert_close(explain.relevance(explicit, batch_of(), spike), found, atol=1e-6, rtol=1e-4)
    assert explicit.interaction.maps is None and not explicit.interaction.remember


@pytest.mark.parametrize(
    "change", [{}, {"mim_mode": "reweight"}, {"mim_class_token": False}, {"mim_query": "words"}]
)
def test_promptsg_is_explained_through_its_interaction(world, change):
    method = promptsg.PromptSG(promptsg.RECIPE.at(PROFILES["smoke"]).but(**change), world).eval()
    batch = batch_of(2, method.size)
    found = explain.relevance(method, batch, spike)
    assert found.shape == (2, 8, 4) and found.min() >= 0 and found.max() > 0
    assert explain.layer_of(method, explain.query_of(method)) is method.image.final_norm
    assert explain.grad_cam(method, batch, spike).shape == (2, 8, 4)


def test_a_method_whose_interaction_is_taken_out_is_seen_by_its_class_token():
    class Bare(Interacting):
        def readers(self, name):
            return [(self.image, 0)]

    plain = Looking(tower())
    bare = Bare(plain.image, nn.Identity())
    for explained in (explain.relevance, explain.grad_cam):
        torch.testing.assert_close(explained(bare, batch_of(), spike), explained(plain, batch_of(), spike))


def test_a_reader_that_reweighs_keeps_the_tokens_apart():
    query, tokens = torch.tensor([[[0.0, 0.2, 0.8]]]), torch.eye(3)[None]
    sees_last = torch.zeros(1, 3, 3)
    sees_last[0, 0, 2] = 1.0
    assert explain.read_by([query], tokens, -1)[0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert explain.read_by([query, torch.zeros(1, 1, 1)], tokens, -1)[0].tolist() == pytest.approx(
        [0, 0.2, 0.8]
    )
    assert explain.read_by([query, sees_last], tokens, 0)[0].tolist() == pytest.approx([0, 0, 0.8])


def test_of_several_queries_the_last_answers_with_what_the_blocks_brought_it():
    queries, brought = torch.tensor([[[1.0, 0, 0], [0, 0.2, 0.8]]]), torch.zeros(1, 2, 2)
    brought[0, 1, 0] = 0.5
    assert explain.read_by([queries], torch.eye(3)[None], -1)[0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert explain.read_by([queries, brought], torch.eye(3)[None], -1)[0].tolist() == pytest.approx(
        [0.5, 0.2, 0.8]
    )


def test_what_a_token_gathered_is_normalised():
    found = explain.normalised(torch.tensor([[[1.0, 3.0, 1.0], [0, 1, 0], [0, 0, 1]]]))
    assert found[0, 0].tolist() == [1, 0.75, 0.25] and found[0, 1].tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["open_clip", "timm"])
def test_grad_cam_is_the_equation_written_out(name):
    method, batch = Looking(tower(name)), batch_of()
    kept = []
    layer = explain.layer_of(method, "f")
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    total = spike(method.embed(batch, "f")).sum()
    hook.remove()
    gradient = torch.autograd.grad(total, kept[0])[0][:, 1:]
    wanted = (
        (kept[0][:, 1:] * gradient.mean(1, keepdim=True)).sum(2).clamp(min=0).unflatten(1, (4, 2)).detach()
    )
    torch.testing.assert_close(
        explain.grad_cam(method, batch, spike), explain.stretched(wanted), atol=1e-4, rtol=1e-3
    )


def test_grad_cam_leaves_the_method_as_it_was():
    method = Looking(tower())
    explain.grad_cam(method, batch_of(), spike)
    assert all(p.grad is None for p in method.parameters())
    assert not any(module._forward_hooks for module in method.modules())


class TwoTokens(Looking):
    """A method whose second class token answers one of its features."""

    def features(self, batch, names):
        tokens = self.image(batch.images.flatten(0, 1), batch.cameras).tokens
        return {"f": tokens[:, 0], "g": tokens[:, 1]}

    def readers(self, name):
        return [(self.image, {"f": 0, "g": 1}[name])]


def test_the_token_that_answers_is_the_one_that_is_explained():
    method, batch = TwoTokens(tower(extra_tokens=1)), batch_of()
    with torch.no_grad():
        method.image.extra_embedding.add_(torch.randn_like(method.image.extra_embedding))
    one, two = (explain.relevance(method, batch, spike, name) for name in "fg")
    assert one.shape == two.shape == (3, 4, 2) and two.max() > 0 and not torch.allclose(one, two)


class Spectra(Looking):
    def features(self, batch, names):
        tokens = self.image(batch.images.flatten(0, 1)).tokens[:, 0]
        return {"f": tokens.unflatten(0, batch.images.shape[:2]).flatten(1)}


def test_every_spectrum_has_its_map():
    batch = batch_of(2)
    batch.views = [torch.randn(2, 3, 3, *SIZE)]
    method = Spectra(tower())
    for explained in (explain.relevance, explain.grad_cam):
        assert explained(method, batch, spike).shape == (2, 3, 4, 2)
    found = explain.relevance(method, batch, spike)
    assert found[:, 0].max() > 0 == found[:, 1:].max(), "the score reads the first spectrum alone"


def test_a_resnet_is_seen_by_grad_cam_and_not_by_relevance():
    torch.manual_seed(0)
    method = Looking(load_clip("RN50-quickgelu", None, SIZE).image, lambda tower, out: tower.joint_cls(out))
    assert explain.grad_cam(method, batch_of(2), spike).shape == (2, 4, 2)
    with pytest.raises(ValueError, match="attention blocks, found ClipResNet; look at it with Grad-CAM"):
        explain.relevance(method, batch_of(2), spike)


def test_scores_are_per_image():
    features = torch.tensor([[1.0, 0], [0, 2]])
    assert explain.nearness(torch.tensor([[3.0, 0], [0, -1]]))(features).tolist() == [1, -1]
    assert explain.logit(lambda x: x * 2, torch.tensor([0, 1]))(features).tolist() == [2, 4]


MASK = np.full((4, 4), REGIONS.index("background"), np.uint8)
MASK[:, 1] = REGIONS.index("upper")
MASK[0, 1] = REGIONS.index("head")
MASK[3, 3] = REGIONS.index("passer-by")
MASK[0, 3] = REGIONS.index("hiding")


def test_a_map_equal_to_the_mask_scores_one():
    found = explain.judge((explain.group(MASK, "person")).astype(float), MASK)
    assert found == {"pointing": 1, "overlap": 1, "person": 1, "passer-by": 0, "clutter": 0, "background": 0}


def test_a_uniform_map_scores_the_share_of_pixels():
    found = explain.chance(MASK)
    assert found == {
        "pointing": 0.25,
        "overlap": 0.25,
        "person": 0.25,
        "passer-by": 1 / 16,
        "clutter": 1 / 16,
        "background": 10 / 16,
    }
    assert explain.judge(np.zeros((2, 2)), MASK) == found, "and so does a map that says nothing"


def test_scores_on_a_map_to_check_by_hand():
    found = np.zeros((4, 4))
    found[:2, 1], found[3, 3], found[1, 0] = 1.0, 4.0, 2.0
    assert explain.judge(found, MASK) == {
        "pointing": 0,
        "overlap": 0,
        "person": 0.25,
        "passer-by": 0.5,
        "clutter": 0,
        "background": 0.25,
    }
    assert explain.overlap(found, explain.group(MASK, "person"), bright=0.25) == pytest.approx(2 / 6)


def test_every_region_belongs_to_one_group():
    assert sorted(sum(explain.GROUPS.values(), ())) == sorted(REGIONS)


def test_shares_of_a_map_add_up_to_one():
    found = explain.judge(np.random.default_rng(0).random((2, 2)), MASK)
    assert sum(found[name] for name in explain.GROUPS) == pytest.approx(1)


def test_images_are_chosen_by_rule_and_one_per_person():
    masks = np.stack(
        [np.where(np.arange(16).reshape(4, 4) < k, REGIONS.index("clutter"), 0) for k in (2, 9, 8, 5, 9)]
    )
    found = explain.fullest(masks, "clutter", 3, pids=[1, 2, 2, 3, 4])
    assert found.rows.tolist() == [1, 4, 3] and found.why == ["clutter"] * 3
    assert found.share.tolist() == [9 / 16, 9 / 16, 5 / 16]


def test_a_map_is_drawn_from_its_lowest_to_its_highest():
    maps = explain.stretched(torch.tensor([[[2.0, 4.0]], [[3.0, 3.0]]]))
    assert maps.tolist() == [[[0, 1]], [[0, 0]]]
