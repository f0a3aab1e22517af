"""PAD: the pool that grows, what each domain trains, both teachers, and what the paper counts."""

from types import SimpleNamespace

import pytest
import torch
from stages import begun, entered, stepped
from torch import nn

from data_prep import catalogue
from reid_core import lifelong, train
from reid_core.analysis import explain
from reid_core.contract import first_batch, interrupted, same_state
from reid_core.data import load_data, still_batches
from reid_core.methods import METHODS, pad
from reid_core.methods.base import freeze_all_but
from reid_core.prompts import PromptPool
from reid_core.recipe import PROFILES

KINDS = {"released": pad.PADReleased, "described": pad.PADDescribed}
FEW = {"ids_per_batch": 4, "stage1_batch": 16}


@pytest.fixture(scope="module")
def domains():
    return [load_data(f"world_{name}@8", "smoke") for name in "ab"]


def build(variant, domains, row="full", **changes):
    """A method that has begun all of `domains`, with batches that so few people can fill."""
    return begun("pad", variant, domains, row, **FEW, **changes)


# The pool


def pool(blocks=2, slots=10):
    torch.manual_seed(0)
    return PromptPool(blocks, 6, general=2, each=3, slots=slots, picked=4, spread=0.02)


def test_a_pool_opens_what_is_left_and_then_nothing():
    made = pool()
    counts = []
    for _ in range(4):
        made.open(4)
        counts.append((made.frozen.shape[1], made.trained.shape[1], made.waiting.shape[1]))
    assert counts == [(0, 4, 6), (4, 4, 2), (8, 2, 0), (10, 0, 0)]
    found = made(0, torch.randn(3, 5, 6), None)
    assert found.shape == (3, 2 + 4 * 3, 6), "a full pool still gives prompts"
    found.sum().backward()
    assert made.general.grad is not None


def test_opening_a_slot_keeps_every_vector_and_its_place():
    made = pool()
    first = made.waiting.clone()
    made.open(4)
    with torch.no_grad():
        made.trained.add_(1)
    made.open(3)
    assert torch.equal(made.frozen, first[:, :4] + 1) and torch.equal(made.trained.detach(), first[:, 4:7])


def test_each_image_gets_the_slots_of_its_nearest_keys():
    made = pool(blocks=1)
    made.open(6)
    made.keys = torch.eye(10, 6)[None]
    x = torch.zeros(1, 2, 6)
    x[0, :, :] = torch.tensor([0.1, 5.0, 0.2, 3.0, 0.0, 4.0])
    assert made.nearest(0, x, 6).tolist() == [[1, 5, 3, 2]]
    assert torch.equal(made(0, x, None)[0, 2:5], made.trained[0, 1])


def test_a_pool_takes_the_slots_that_a_file_holds():
    one, two = pool(), pool()
    one.open(4)
    one.open(4)
    two.load_state_dict(one.state_dict())
    assert two.trained.shape == one.trained.shape and torch.equal(two.frozen, one.frozen)


@pytest.mark.parametrize("variant", KINDS)
def test_earlier_slots_are_read_and_never_trained(variant, domains):
    method = build(variant, domains)
    frozen = method.prompts.frozen.clone()
    trained = method.prompts.trained.detach().clone()
    general = method.prompts.general.detach().clone()
    stepped(method, entered(method))
    assert torch.equal(method.prompts.frozen, frozen) and len(frozen[0]) == method.recipe.new_slots
    assert not torch.equal(method.prompts.trained, trained)
    assert not torch.equal(method.prompts.general, general), "general prompts learn in every domain"


def test_the_test_script_picks_among_slots_that_no_domain_has_opened(domains):
    one, all_ = (build("released", domains[:1], row) for row in ("full", "all slots at test (D8)"))
    batch = first_batch(one, one.stages()[-1], domains[0])
    with torch.no_grad():
        found = [method.eval().features(batch, ["fp"])["fp"] for method in (one, all_)]
        opened = [method.encode(batch)[2] for method in (one, all_)]
    assert not torch.equal(*found) and torch.equal(*opened), "training picks among open slots"


@pytest.mark.parametrize("variant", KINDS)
def test_anchors_of_a_domain_stay_as_its_end_left_them(variant, domains):
    """Whatever becomes of their words later; unseen sets have none."""
    method = build(variant, domains[:1])
    before = method.own_sentences()
    method.begin_domain(domains[1], 2)
    with torch.no_grad():
        for table in (method.words.new, method.words.old):
            table.add_(1.0)
    assert torch.equal(method.anchors["world_a"], before)
    found = [method.eval().traits(domain)["anchor cosine"] for domain in domains]
    features, _ = method.looked_at(domains[0])
    best = nn.functional.cosine_similarity(features[:, None], before[None], dim=-1).max(1).values
    assert found[0] == [pytest.approx(best.mean().item(), abs=1e-4)] and found[1] != found[0]
    assert "anchor cosine" not in method.traits(load_data("world_f@8", "smoke"))


# What a domain trains


def learning(method, stage):
    """Names of the parameters that a stage trains, without numbers of blocks."""
    freeze_all_but(method, stage.groups)
    return {name for name, parameter in method.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("variant", KINDS)
def test_the_first_domain_adapts_the_whole_tower_and_later_ones_its_last_blocks(variant, domains):
    for count in (1, 2):
        method = build(variant, domains[:count], unfrozen_blocks=2)
        names = learning(method, method.stages()[-1])
        tower = {name for name in names if name.startswith("image.")}
        blocks = {int(name.split(".")[3]) for name in tower if "resblocks" in name}
        depth = len(method.image.blocks)
        assert blocks == set(range(depth) if count == 1 else range(depth - 2, depth))
        assert ("image.proj" in tower) == (count == 1)
        assert "heads.0.neck.bias" in names, "necks learn their bias (D14)"
        assert not any(name.startswith(("text", "teacher")) for name in names)


def test_as_many_blocks_learn_in_later_domains_as_a_recipe_says(domains):
    for count in (0, 1, 6):
        method = build("released", domains, unfrozen_blocks=count)
        assert len(method.adapting()) == count, "none, if none is to learn"
    with pytest.raises(ValueError, match="expected at most 6 unfrozen_blocks.*, found 7; lower"):
        build("released", domains[:1], unfrozen_blocks=7)


def test_a_row_without_freezing_adapts_the_whole_tower_in_every_domain(domains):
    method = build("released", domains, "S0: Freeze=0;VA=0;TEXKD=0;VISKD=0")
    names = learning(method, method.stages()[-1])
    assert "image.proj" in names and not any(name.startswith("prompts") for name in names)


@pytest.mark.parametrize(
    "row, terms",
    [
        ("S2: Freeze=1;VA=1;TEXKD=0;VISKD=0", set()),
        ("S3: Freeze=1;VA=1;TEXKD=1;VISKD=0", {"text distillation"}),
        ("S4: Freeze=1;VA=1;TEXKD=0;VISKD=1", {"feature distillation", "logit distillation"}),
        ("full", {"text distillation", "feature distillation", "logit distillation"}),
    ],
)
@pytest.mark.parametrize("variant", KINDS)
def test_what_holds_on_is_in_later_domains_alone_and_as_a_row_says(variant, row, terms, domains):
    for count, wanted in ((1, set()), (2, terms)):
        method = build(variant, domains[:count], row)
        found = set()
        for number in range(len(method.stages())):
            stage = entered(method, number)
            found |= set(stage.losses(first_batch(method, stage, method.data)).terms)
        assert {term for term in found if "distillation" in term} == wanted


def test_words_of_earlier_identities_go_or_stay_as_the_variant_says(domains):
    released, described = (build(variant, domains) for variant in KINDS)
    assert len(released.words()) == domains[1].classes
    assert len(described.words()) == domains[0].classes + domains[1].classes
    assert described.first == domains[0].classes and released.first == 0
    kept = described.words()[: described.first].detach()
    assert torch.equal(described.teacher_words(), kept), "the text teacher holds the earlier words"


def test_the_teacher_in_words_begins_as_the_student_and_stays(domains):
    """Released: TEXKD starts at zero, since the teacher is the student's own first words (D1)."""
    method = build("released", domains)
    stage = entered(method, 0)
    batch = first_batch(method, stage, method.data)
    first = stage.losses(batch).terms["text distillation"]
    before = method.teacher_words().clone()
    stepped(method, stage, 2)
    assert first.item() == pytest.approx(0, abs=1e-6)
    assert stage.losses(batch).terms["text distillation"] > 1e-6
    assert torch.equal(method.teacher_words(), before)


@pytest.mark.parametrize("variant, number", [("released", 0), ("described", 0)])
def test_a_text_teacher_by_average_falls_in_with_the_student(variant, number, domains):
    """The document's reason for a teacher that stays: an average is soon where the student is."""
    gaps = {}
    for row in ("full", "text teacher by EMA"):
        method = build(variant, domains, row, ema_alpha=0.5, lr_va_prompt=5e-3)
        stepped(method, entered(method, number), 4)
        gaps[row] = (method.teacher_words() - method.known_words()).abs().mean().item()
    assert gaps["text teacher by EMA"] < 0.5 * gaps["full"]


@pytest.mark.parametrize("variant", KINDS)
def test_the_visual_teacher_is_the_average_of_what_learns(variant, domains):
    method = build(variant, domains)
    stage = entered(method)
    student = {name: value.detach().clone() for name, value in method.image.state_dict().items()}
    stepped(method, stage)
    alpha = method.recipe.ema_alpha
    for name, value in method.image.state_dict().items():
        wanted = alpha * student[name] + (1 - alpha) * value
        torch.testing.assert_close(method.teacher.state_dict()[name], wanted, rtol=0, atol=1e-6)
    pooled = method.teacher_prompts.general
    assert not torch.equal(pooled, method.prompts.general) and not pooled.requires_grad


def test_at_its_start_the_visual_teacher_says_what_the_student_says(domains):
    for variant in KINDS:
        method = build(variant, domains)
        stage = entered(method)
        terms = stage.losses(first_batch(method, stage, method.data)).terms
        for name in ("feature distillation", "logit distillation"):
            assert terms[name].item() == pytest.approx(0, abs=1e-5), (variant, name)


def test_the_stages_draw_other_identities_beside_those_of_the_batch(domains):
    import numpy as np

    labels = torch.tensor([3, 3, 5, 0])
    batch = SimpleNamespace(rng=np.random.default_rng(0), labels=labels)
    ids = pad.drawn(batch, 100, 10, labels)
    assert len(ids) == 10 == len(set(ids.tolist())) and {0, 3, 5} <= set(ids.tolist())
    assert len(pad.drawn(batch, 6, 10, labels)) == 6 and len(pad.drawn(batch, 50, 10)) == 10


def test_the_slots_that_images_pick_are_shared_out_among_the_domains_that_opened_them(domains):
    method = build("released", domains)
    slots = method.traits(domains[1])["slots"]
    assert len(slots) == 2 and sum(slots) == pytest.approx(100) and min(slots) > 0
    method.prompts.keys = torch.zeros_like(method.prompts.keys)
    method.prompts.keys[:, :8, 0] = -1  # none is near to what points the other way
    method.prompts.keys[:, 8:, 0] = 1
    method.prompts.query = lambda x: torch.eye(x.shape[2])[:1].expand(len(x), -1)
    assert method.traits(domains[1])["slots"] == pytest.approx([0, 100])
    row = "S1: Freeze=1;VA=0;TEXKD=0;VISKD=0"
    assert "slots" not in build("released", domains, row).traits(domains[1])


def test_what_is_said_of_a_model_is_said_of_the_one_that_is_tested(domains):
    """Where the test picks among all slots (D8), so do its traits."""
    method = build("released", domains, "all slots at test (D8)").eval()
    batch = next(still_batches(domains[0], "query", method.size, method.test_view()))
    with torch.no_grad():
        tested = method.features(batch, ["fp"])["fp"]
    features, picked = method.looked_at(domains[0])
    assert torch.equal(features[: len(tested)], tested)
    assert max(one.max().item() for one in picked) >= method.prompts.opened()


def test_tests_read_prompts_as_keys_and_values_as_training_does(domains):
    """No block passes prompts on as tokens, which would cost a fifth more."""
    method = build("released", domains)
    ways = method.image.ways(method.prompts.picker(False), 33, 1)
    assert [through for _, through, _ in ways] == [PromptPool.through] * len(method.image.blocks)


@pytest.mark.parametrize("variant", KINDS)
def test_gamma_is_a_constant_in_the_code_and_is_learned_where_a_recipe_says_so(variant, domains):
    for learns in (False, True):
        method = build(variant, domains, texkd_gamma_learnable=learns)
        stage = entered(method, 0)
        trained = [member for group in stage.groups for member in group.members]
        assert any(member is method.gamma for member in trained) == learns
    assert METHODS["pad"].recipe_of(variant, "full").texkd_gamma_learnable == (variant == "described")


def test_text_distillation_of_the_document_has_nothing_to_correct(domains):
    """Its teacher begins as the student, and nothing else moves the words of earlier people: neither they
    nor the tower get a gradient beyond rounding."""
    method = build("described", domains, texkd_image_gradient=True)
    stage = entered(method, 0)
    terms = stage.losses(first_batch(method, stage, method.data)).terms
    taught = [method.words.new, *method.image.parameters()]
    taught = [value for value in taught if value.requires_grad]
    held, pulled = (
        sum(
            grad.abs().sum().item()
            for grad in torch.autograd.grad(terms[name], taught, retain_graph=True, allow_unused=True)
            if grad is not None
        )
        for name in ("text distillation", "image to text")
    )
    assert terms["text distillation"] < 1e-6 and held < 1e-4 * pulled


def test_a_text_teacher_of_the_other_variant_is_one_sentence(domains):
    for variant, other in (("released", "previous"), ("described", "fresh_init")):
        with pytest.raises(ValueError, match=f"expected texkd_teacher among .*, found '{other}'"):
            build(variant, domains[:1], texkd_teacher=other)


def test_an_image_is_embedded_without_the_text_tower(domains, monkeypatch):
    method = build("released", domains)
    monkeypatch.setattr(type(method.text), "forward", None)
    batch = first_batch(method, method.stages()[-1], method.data)
    assert method.embed(batch, "f12+fp").shape[1] == method.image.width + method.image.joint_width


def test_settings_follow_the_place_in_the_order_and_the_data_set():
    recipe = pad.PADRecipe()
    first, later, msmt, cuhk = (
        recipe.on(name, position)
        for name, position in (("market1501", 1), ("market1501", 3), ("msmt17", 4), ("cuhk03", 5))
    )
    assert (first.stage1_epochs, first.stage2_epochs, first.stage2_milestones) == (20, 30, (18, 26))
    assert (later.stage1_epochs, later.stage2_epochs, later.stage2_milestones) == (12, 25, (14, 22))
    assert (msmt.stage1_epochs, msmt.stage2_epochs, msmt.stage2_milestones) == (15, 32, (18, 28))
    assert (cuhk.stage1_batch, cuhk.ids_per_batch, cuhk.random_erasing_p) == (48, 12, 0.6)
    assert recipe.on("msmt17", 1).stage2_epochs == 30, "MSMT17 as the first of an order"
    assert recipe.but(stage1_epochs=(0, 0)).on("msmt17", 4).stage1_epochs == 0, "a row stays a row"


# What the paper counts


@pytest.fixture(scope="module")
def paper_size():
    """`released` at the paper's size, in the domain of CUHK-SYSU as the second of an order."""
    recipe = pad.PADRecipe().but(pretrained=None)
    method = pad.PADReleased(recipe, load_data("world_a@8", "smoke"))
    for number, (name, classes) in enumerate({"market1501": 751, "cuhk_sysu": 5532}.items(), 1):
        manifest = SimpleNamespace(name=name)
        rows = torch.arange(2 * classes).numpy() % classes
        domain = SimpleNamespace(classes=classes, manifest=manifest, labels=rows, train=rows)
        method.begin_domain(domain, number)
    return method


def test_prompts_take_what_the_paper_prints(paper_size):
    """13.71 M numbers, 26.1 MiB in half precision, at the peak (Key Findings)."""
    taken = pad.storage(paper_size)
    assert taken == {"words": 5532 * 4 * 512, "pool": 2_377_728}
    assert round(sum(taken.values()) / 1e6, 2) == 13.71
    assert round(2 * sum(taken.values()) / 2**20, 1) == 26.1


def test_the_trained_shares_are_those_of_the_paper(paper_size):
    """7.81 % in stage 1 and 26.07 % in stage 2 on CUHK-SYSU (Table S6); 1.1 % to 1.7 % in stage 1 on sets of
    the size of Market-1501."""
    shares = pad.trained_share(paper_size)
    assert [round(share, 2) for share in shares.values()] == [7.81, 26.07]
    named = {
        "market1501": (751, 1.19),
        "dukemtmc": (702, 1.11),
        "msmt17": (1041, 1.64),
        "cuhk03": (767, 1.22),
    }
    whole = 145_062_400 - 5532 * (1280 + 4 * 512)  # all but heads and words, which have rows by identity
    for classes, wanted in named.values():
        assert 100 * classes * 2048 / (whole + classes * (1280 + 2048)) == pytest.approx(wanted, abs=0.006)


# Orders


def test_the_worlds_second_order_has_the_roles_of_the_papers():
    roles = dict(zip(catalogue.ORDERS["world"], catalogue.ORDERS["order 1"]))
    second = [roles[name] for name in catalogue.ORDERS["world order 2"]]
    assert second == list(catalogue.ORDERS["order 2"])
    assert catalogue.unseen("lifelong:world order 2") == catalogue.unseen("lifelong:world")


def test_an_order_names_the_protocol_of_its_unseen_sets():
    assert catalogue.order("lifelong:order 1#pad_jun") == catalogue.order("lifelong:order 1")
    assert catalogue.unseen("lifelong:order 1#pad_jun")[0] == "cuhk01#pad_jun"
    with pytest.raises(ValueError, match="a protocol of unseen sets among standard.*found 'pad_may'"):
        catalogue.order("lifelong:order 1#pad_may")


@pytest.mark.parametrize(
    "domains, found", [(("world_a", "world_b", "world_a"), "world_a"), (("world_a", "world_f"), "world_f")]
)
def test_a_domain_that_comes_twice_or_is_also_unseen_is_one_sentence(domains, found, monkeypatch):
    monkeypatch.setitem(catalogue.ORDERS, "wrong", domains)
    with pytest.raises(ValueError, match=f"every domain of the order wrong once, .* found {found}"):
        catalogue.order("lifelong:wrong")


def test_more_slots_than_the_pool_has_is_one_sentence(domains):
    with pytest.raises(ValueError, match="at most 36 slots, found 40; lower new_slots or enlarge pool_size"):
        build("released", domains[:1], new_slots=40)


def learned(domains, folder, variant="released", every=None):
    train.seed_all(0)
    recipe = METHODS["pad"].recipe_of(variant, "full").at(PROFILES["smoke"]).but(**FEW)
    method = KINDS[variant](recipe, domains[0])
    how = {"precision": "fp32", "key": "pad", "log": lambda *_: None, "checkpoint_every": every}
    lifelong.learn(method, domains, folder, tests=lambda *_: [], **how)
    return method


@pytest.mark.parametrize("variant", KINDS)
def test_an_order_killed_inside_domain_three_ends_with_the_same_bits(variant, domains, tmp_path):
    third = load_data("world_c@8", "smoke")
    three = [*domains, third]
    whole = learned(three, tmp_path / "whole", variant)
    learned(domains, tmp_path / "broken", variant)
    interrupted(lambda: learned(three, tmp_path / "broken", variant, every=1), steps=1)
    again = learned(three, tmp_path / "broken", variant, every=1)
    assert same_state(whole, again)
    assert isinstance(again.prompts.trained, nn.Parameter) and again.position == 3


def test_a_checkpoint_of_another_order_is_not_taken_up(domains, tmp_path):
    one = lifelong.prefix_folder(tmp_path, "key", domains)
    two = lifelong.prefix_folder(tmp_path, "key", domains[::-1])
    assert one != two and lifelong.prefix_folder(tmp_path, "other", domains) != one


def test_distillation_is_computed_in_float32_under_autocast(domains):
    """A scale of a hundred makes half a nat of what bfloat16 rounds of a cosine."""
    torch.manual_seed(0)
    images, student, teacher = torch.randn(8, 64), torch.randn(12, 64), torch.randn(12, 64)
    how = (torch.tensor(7.0), 0.07)
    exact = pad.cosine_distillation(images, student, teacher, *how)
    with torch.autocast("cpu", torch.bfloat16):
        assert pad.cosine_distillation(images, student, teacher, *how) == exact


def test_a_word_that_names_no_choice_is_one_sentence(domains):
    for name in ("freeze_policy", "eval_active_slots", "featkd_reduction", "texkd_teacher"):
        with pytest.raises(ValueError, match=f"expected {name} among .*, found 'nothing'"):
            build("released", domains[:1], **{name: "nothing"})


def test_a_model_with_a_pool_is_explained_as_any_other(domains):
    """Prompts are keys and values of each block: in every map they stand behind the patches, and are cut
    off."""
    method = build("released", domains).eval()
    batch = next(still_batches(domains[0], "query", method.size, method.test_view(), batch=2))
    with torch.no_grad():
        target = method.embed(batch, "f12+fp") + 0.1
    for how in explain.HOW.values():
        found = how(method, batch, explain.nearness(target), "f12+fp")
        assert found.shape == (2, *method.image.grid) and found.isfinite().all() and found.max() > 0
