"""HPL: what each stage trains, which rows a loss sees, and what prompts are made of."""

import pytest
import torch

from reid_core.data import Batch, Loader, load_data, still_batches
from reid_core.loading import locate, open_model
from reid_core.methods import hpl
from reid_core.methods.base import freeze_all_but
from reid_core.recipe import PROFILES
from reid_core.samplers import SamplerRng
from reid_core.towers import TextTokens

SMOKE = PROFILES["smoke"]


@pytest.fixture(scope="module")
def joint():
    """Pairs of one data set and images of another."""
    return load_data("world_text@8+world_msmt@8", "smoke")


def built(data, kind=hpl.HPL, **changes):
    torch.manual_seed(0)
    # what is claimed needs no more
    few = {"batch_t2i_pairs": 8, "batch_i2i_images": 8, "image_height": 64, "image_width": 32}
    return kind(hpl.RECIPE.at(SMOKE).but(**{**few, **changes}), data)


def step(method, data, number):
    """The method as stage `number` has it, with a batch of that stage."""
    stage = method.stages()[number]
    freeze_all_but(method, stage.groups)
    with torch.no_grad():
        stage.prepare()
        cached = {}
        for name, what in stage.cache.items():
            rows = still_batches(data, "train", method.size, what.view)
            cached[name] = torch.cat([what.compute(batch).to(what.dtype) for batch in rows])
    loader = Loader.of_stage(data, method.size, stage, cached=cached)
    return stage, next(iter(loader.batches(0, loader.plan(0))))


def plain(number, **more):
    """A batch of so many rows."""
    rows = torch.arange(number)
    return Batch(index=rows, labels=rows, cameras=rows, **more)


def moved(module):
    """Whether a gradient has reached any parameter of a module."""
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def one_term(method, data, name, number=1):
    """The method after the gradient of one unweighted term."""
    stage, batch = step(method, data, number)
    stage.losses(batch).terms[name].backward()
    return method


def test_an_epoch_is_as_long_for_sentences_alone_as_for_both_tasks(joint):
    assert hpl.RECIPE.epoch_pairs == 0, "the papers take all"
    assert hpl.RECIPE.at(PROFILES["laptop"]).epoch_pairs == PROFILES["laptop"].epoch_images // 2
    lengths = []
    for kind, more in ((hpl.HPL, {}), (hpl.SentencesAlone, hpl.ALONE)):
        for most in (0, 16):
            stage = built(joint, kind, epoch_pairs=most, **more).stages()[-1]
            lengths.append(len(stage.sampler.epoch(SamplerRng(0))))
    assert lengths[0] == lengths[2] > 2 and lengths[1] == lengths[3] == 2  # batches of eight pairs


def test_the_second_token_starts_as_the_first_and_a_random_one_does_not(joint):
    images = torch.randn(3, 1, 3, *built(joint).size)
    batch = plain(3, views=[images])
    with torch.no_grad():
        same = built(joint).eval().features(batch, ["c1"])
        other = built(joint, class_token_start="random").eval().features(batch, ["c1"])
        own = built(joint, class_head="separate").eval().features(batch, ["c1"])
    assert torch.allclose(same["c1"], same["c2"], atol=1e-5)
    assert not torch.allclose(other["c1"], other["c2"], atol=1e-2)
    assert torch.allclose(own["c2"], same["c2"], atol=1e-5), "its own projection starts as a copy"


def test_an_isolated_token_leaves_the_first_as_a_tower_with_one_has_it(joint):
    images = torch.randn(3, 1, 3, *built(joint).size)
    batch = plain(3, views=[images])
    with torch.no_grad():
        one = built(joint, class_tokens=1).eval().features(batch, ["c1"])
        isolated = built(joint, class_token_isolated=True).eval().features(batch, ["c1"])
        seen = built(joint).eval().features(batch, ["c1"])
    assert torch.equal(one["c1"], one["c2"]), "one token stands for both"
    assert torch.allclose(one["c1"], isolated["c1"], atol=1e-5)
    assert not torch.allclose(one["c1"], seen["c1"], atol=1e-5)


def test_stage_one_trains_the_prompts_of_the_people_in_the_batch_and_nothing_else(joint):
    method = built(joint)
    stage, batch = step(method, joint, 0)
    sum(stage.losses(batch).terms.values()).backward()
    used = method.identities.new.grad.flatten(1).abs().sum(1) > 0
    assert set(used.nonzero()[:, 0].tolist()) == set(batch.labels.tolist())
    assert all(map(moved, (method.inversion["image"], method.inversion["caption"])))
    assert not any(map(moved, (method.image, method.text, method.prompt_encoder, method.head, method.match)))


def test_stage_two_trains_towers_and_heads_and_passes_through_the_prompts(joint):
    method = built(joint)
    stage, batch = step(method, joint, 1)
    sum(stage.losses(batch).terms.values()).backward()
    assert all(map(moved, (method.image, method.text, method.head, method.match)))
    assert not any(map(moved, (method.prompt_encoder, method.identities, method.inversion)))


def test_stage_two_trains_the_inversion_where_a_row_says_so(joint):
    assert moved(one_term(built(joint, stage2_inversion="trained"), joint, "instance prompts").inversion)


@pytest.mark.parametrize(
    "name, image, text",
    [
        ("identity prompts", True, False),
        ("triplet", True, False),
        ("identity i2i", True, False),
        ("matching", True, True),
        ("instance prompts", True, True),
        ("prompt regularisation", True, True),
    ],
)
def test_a_term_reaches_the_towers_that_it_reads(joint, name, image, text):
    method = one_term(built(joint), joint, name)
    assert (moved(method.image), moved(method.text)) == (image, text)


def test_the_guiding_text_teaches_both_towers_and_a_detached_prompt_one(joint):
    """L_tgps pulls an image to the prompt of its caption: the caption's gradient goes through it."""
    assert moved(one_term(built(joint, vgps_share=0.0), joint, "instance prompts").text)
    detached = built(joint, vgps_share=0.0, detach_prompt_targets=True)
    assert not moved(one_term(detached, joint, "instance prompts").text)


@pytest.mark.parametrize("scope, sees", [("images", False), ("all", True)])
def test_losses_of_image_retrieval_see_the_image_half_unless_told(joint, scope, sees):
    method = built(joint, i2i_loss_scope=scope)
    stage, batch = step(method, joint, 1)
    batch.views[0].requires_grad_()
    stage.losses(batch).terms["triplet"].backward()
    pairs = batch.sizes[0]
    reached = batch.views[0].grad.flatten(1).abs().sum(1) > 0
    assert bool(reached[:pairs].any()) == sees and bool(reached[pairs:].any())


@pytest.mark.parametrize("name", ["matching", "identity t2i", "instance prompts", "prompt regularisation"])
def test_losses_of_text_retrieval_never_see_the_image_half(joint, name):
    method = built(joint)
    stage, batch = step(method, joint, 1)
    batch.views[0].requires_grad_()
    stage.losses(batch).terms[name].backward()
    reached = batch.views[0].grad.flatten(1).abs().sum(1) > 0
    assert reached[: batch.sizes[0]].all() and not reached[batch.sizes[0] :].any()


def test_normalised_distances_lie_between_zero_and_eight_and_raw_ones_need_not(joint):
    stage, batch = step(built(joint), joint, 0)
    assert 0 <= stage.losses(batch).terms["inversion consistency"] <= 8
    stage, batch = step(built(joint, distance_normalised=False), joint, 0)
    assert stage.losses(batch).terms["inversion consistency"] > 8


def test_a_joint_set_gives_pairs_of_the_first_and_images_of_the_others(joint):
    method = built(joint)
    pairs, images = method.halves()
    assert set(joint.train.domains[pairs]) == {"world_text"}
    assert set(joint.train.domains[images]) == {"world_msmt"}
    for chosen in method.sampler().epoch(SamplerRng(0)):
        count = chosen.sizes[0]
        assert set(chosen.index[:count]) <= set(pairs) and set(chosen.index[count:]) <= set(images)
        assert (chosen.captions[:count] >= 0).all() and (chosen.captions[count:] < 0).all()


def test_one_set_alone_gives_both_halves(world):
    pairs, images = built(world).halves()
    assert pairs.tolist() == images.tolist() == list(range(len(world.train)))


def test_data_without_captions_are_refused_in_one_sentence():
    mute = load_data("world_market", "smoke")
    object.__setattr__(mute.train, "captions", [()] * len(mute.train))
    with pytest.raises(
        ValueError, match="expected captions in the training images of world_market, found none"
    ):
        built(mute).stages()


def test_the_prompts_of_people_who_stand_together_are_read_once_and_are_those_of_each(joint, monkeypatch):
    method = built(joint)
    stage, batch = step(method, joint, 0)
    read = []
    whole = method.identity_prompts
    monkeypatch.setattr(method, "identity_prompts", lambda labels: read.append(labels) or whole(labels))
    terms = stage.losses(batch).terms
    assert len(read[0]) == batch.sizes[0] + batch.sizes[1] // method.recipe.images_per_id
    each = hpl.pair_contrast(whole(batch.labels), batch.cached["class"], method.recipe.prompt_scale)
    assert torch.allclose(terms["text to image"], each, rtol=1e-5)


def test_pseudo_words_begin_as_long_as_words(joint):
    method = built(joint)
    tokens = torch.randn(64, 9, method.image.joint_width)
    first = torch.zeros(64, dtype=torch.long)
    words = method.inversion["image"](tokens, first, first + 8).detach()
    assert words.shape == (64, method.recipe.inst_tokens, method.text.width)
    wanted = method.text.token_embedding.weight.norm(dim=1).mean()
    assert words.norm(dim=2).mean() == pytest.approx(wanted.item(), rel=0.1)


@pytest.mark.parametrize("masked", [True, False])
def test_what_stands_behind_a_captions_end_is_hidden_from_the_inversion(joint, masked):
    method = built(joint, inversion_mask=masked).eval()
    text = method.tokenizer(["a man in red", "a woman with a long coat and a bag"])
    alone, together = (
        plain(1, text=text[:1, :6]),
        plain(2, text=text),
    )
    with torch.no_grad():
        words = [
            method.inversion["caption"](method.read_of(method.text, out), out.end, out.end)[0]
            for out in map(method.encode_text, (alone, together))
        ]
    assert torch.allclose(*words, atol=1e-5) == masked


def test_queries_alone_are_what_they_are_among_all_tokens(joint):
    """The last block of an inversion is computed for its queries."""
    inversion = built(joint).inversion["caption"].eval()
    tokens, end = torch.randn(3, 9, inversion.queries.shape[1]), torch.tensor([8, 4, 6])
    x = torch.cat([inversion.queries.expand(3, -1, -1), tokens], 1)
    mask = inversion.hide(x, end)
    for block in inversion.blocks:
        x = block(x, attn_mask=mask)
    wanted = inversion.out(inversion.norm(x[:, : len(inversion.queries)]))
    assert torch.allclose(inversion(tokens, end, end), wanted, atol=1e-5)


@pytest.mark.parametrize("readout", ["queries", "class"])
def test_every_patch_is_inverted_and_no_padding_of_a_caption(joint, readout):
    method = built(joint, inversion_readout=readout, inst_tokens={"queries": 4, "class": 1}[readout])
    image = torch.randn(2, 7, method.image.joint_width, requires_grad=True)
    caption = torch.randn(2, 6, method.text.width, requires_grad=True)
    words = method.pseudo_words(image, TextTokens(caption, torch.tensor([5, 3])))
    sum(one.square().sum() for one in words).backward()
    reached = [x.grad.abs().sum(2) > 0 for x in (image, caption)]
    assert reached[0].all() and reached[1].tolist() == [[True] * 6, [True] * 4 + [False] * 2]


def test_the_class_token_can_be_inverted_itself(joint):
    method = built(joint, inversion_readout="class", inst_tokens=1)
    stage, batch = step(method, joint, 0)
    sum(stage.losses(batch).terms.values()).backward()
    assert len(method.inversion["image"].queries) == 0 and moved(method.inversion["image"])


def test_the_prompt_encoder_is_a_copy_that_no_file_needs(joint):
    method = built(joint)
    constants = set(method.constants())
    assert {f"prompt_encoder.{name}" for name, _ in method.text.named_parameters()} <= constants
    assert not any(name.startswith("text.") for name in constants), "the caption encoder is trained"
    with torch.no_grad():
        method.text.ln_final.weight.add_(1)
    assert not torch.equal(method.text.ln_final.weight, method.prompt_encoder.ln_final.weight)


@pytest.mark.parametrize("row", [row for row in hpl.PAPER.rows if row != "full"])
def test_every_row_takes_a_step_in_both_stages(joint, row):
    method = built(joint, **hpl.PAPER.rows[row])
    for number in range(2):
        stage, batch = step(method, joint, number)
        assert all(term.isfinite() for term in stage.losses(batch).terms.values())


def test_a_row_without_prompts_computes_none(joint, monkeypatch):
    method = built(joint, **hpl.NO_PROMPTS)
    for name in ("prompts", "identity_prompts", "pseudo_words"):
        monkeypatch.setattr(method, name, None)
    stage, batch = step(method, joint, 1)
    assert list(stage.losses(batch).terms) == list(hpl.BASE)


def test_separate_models_read_their_own_half(joint):
    sentences, images = (built(joint, kind, **hpl.ALONE) for kind in (hpl.SentencesAlone, hpl.ImagesAlone))
    assert moved(one_term(sentences, joint, "matching", 0).text) and not moved(sentences.head)
    one_term(images, joint, "triplet", 0)
    assert moved(images.image) and not moved(images.text)


def test_no_row_moves_what_another_shares(joint):
    """Towers, words, inversion and heads of the full method are those of its rows."""
    one = dict(built(joint).named_parameters())
    for row in ("TRT=1;HPL=1;CMPR=0", "second token at random (D1)", "two inversion blocks"):
        for name, value in built(joint, **hpl.PAPER.rows[row]).named_parameters():
            if name in one and "inversion" not in name and "extra_" not in name:
                assert torch.equal(value, one[name]), (row, name)


def luperson(path, size, patch=16):
    """A file as LUPerson-MLLM's: {"model": ...} in half precision, IRRA's names with two prefixes, parts of
    other losses, positions of images of this size, and no temperature."""
    state = open_model("tiny", locate("tiny")).state_dict()
    del state["logit_scale"]
    width = state["visual.positional_embedding"].shape[1]
    rows = 1 + (size[0] // patch) * (size[1] // patch)
    state["visual.positional_embedding"] = torch.randn(rows, width, generator=torch.manual_seed(0))
    others = ("cross_attn.in_proj_weight", "ln_post.weight", "ln_pre_t.bias", "mlm_head.fc.bias")
    packed = {f"module.base_model.{name}": value.half() for name, value in state.items()}
    packed |= {f"module.{name}": torch.zeros(3).half() for name in (*others, "classifier.weight")}
    torch.save({"model": packed, "epoch": 30}, path)
    return {name: value.half().float() for name, value in state.items()}


@pytest.mark.filterwarnings("ignore:expected weights that tell")
def test_weights_of_luperson_mllm_load_and_their_positions_are_not_resized(joint, tmp_path):
    size = built(joint).size
    state = luperson(tmp_path / "best0.pth", size)
    method = built(joint, pretrained=str(tmp_path / "best0.pth"))
    found = method.image.state_dict()
    for name in ("positional_embedding", "class_embedding", "ln_post.weight", "proj"):
        assert torch.equal(found[name], state[f"visual.{name}"]), name
    assert torch.equal(method.text.token_embedding.weight, state["token_embedding.weight"])
    assert all(p.dtype == torch.float32 for p in method.parameters())
    assert torch.equal(method.image.extra_position[0], state["visual.positional_embedding"][0])


@pytest.mark.filterwarnings("ignore:expected weights that tell")
def test_positions_of_another_size_than_the_recipes_are_one_sentence(joint, tmp_path):
    luperson(tmp_path / "best0.pth", (384, 128))
    with pytest.raises(ValueError, match="expected visual.positional_embedding of shape .*found .193, "):
        built(joint, pretrained=str(tmp_path / "best0.pth"))


def test_a_file_that_is_not_there_is_named_and_the_fallback_is_openais_clip(joint, tmp_path):
    assert hpl.RECIPE.pretrained == "openai"
    with pytest.raises(ValueError, match="expected weights for tiny at .*best0.pth or a tag of open_clip's"):
        built(joint, pretrained=str(tmp_path / "best0.pth"))
