"""`check_method` passes every method, and names each promise that a toy breaks; the contract of `base`
holds what later papers need of it."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from reid_core import contract, evaluate, methods, optim
from reid_core.augment import Augmentation
from reid_core.data import Loader, load_data
from reid_core.layers import Head
from reid_core.methods import METHODS
from reid_core.methods.base import Cached, Losses, Method, Paper, Stage, Task, Variant, total
from reid_core.optim import Group
from reid_core.prompts import GrowingTable
from reid_core.recipe import PROFILES, Recipe, assumed, stated
from reid_core.runs import run
from reid_core.runs.run import Spec
from reid_core.samplers import BatchIndex, CaptionShuffle, IdentityBatches, SamplerRng, Shuffle, Zipped
from reid_core.schedules import constant

SMOKE = PROFILES["smoke"]
KINDS = [(name, variant) for name, paper in METHODS.items() for variant in paper.variants]


FEW = 4  # identities: a promise needs no more, and costs a quarter of all
SMALL = {
    "image_height": 64,
    "image_width": 32,
    "ids_per_batch": FEW // 2,  # two steps of an epoch: one can be interrupted
    "stage2_ids_per_batch": FEW,
    "stage1_batch": 4 * FEW,
    "stage1_ids": FEW,
    "stage2_ids": FEW,
    "batch_t2i_pairs": 4 * FEW,
    "batch_i2i_images": 4 * FEW,
}


@pytest.mark.parametrize("paper, variant", KINDS, ids=[variant for _, variant in KINDS])
def test_every_method_keeps_the_promises(paper, variant, tmp_path):
    recipe = METHODS[paper].recipe_of(variant, "full").at(SMOKE)
    fields = {field.name for field in dataclasses.fields(recipe)}
    recipe = recipe.but(**{name: size for name, size in SMALL.items() if name in fields})
    name = METHODS[paper].takes("world_market")
    data, second = (load_data(f"{one}@{FEW}", "smoke") for one in (name, "world_a"))
    contract.check_method(METHODS[paper].variants[variant].kind, recipe, data, tmp_path, second)


@dataclass(frozen=True)
class ToyRecipe(Recipe):
    epochs: int = stated(1, "Sec. 1")
    width: int = stated(4, "Sec. 2")
    rates: tuple = stated((0.1, 0.2), "Sec. 3", "pretrained lr")
    keep: float = assumed(0.9, "per step", "decay")


class Toy(Method):
    """The least that keeps every promise: a linear tower on 8 x 4 pixels and a head."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        self.data, self.size = data, (8, 4)
        self.tower, self.head = nn.Linear(96, recipe.width), Head(recipe.width, data.classes)

    def stages(self):
        stage = Stage(
            name="all",
            epochs=self.recipe.epochs,
            sampler=Shuffle(range(len(self.data.train)), 16),
            views=[Augmentation()],
            losses=self.losses,
            weights={"identity": 1.0},
            groups=[Group(members=[self.tower, self.head], lr=0.1)],
            schedule=constant(1),
        )
        return [stage]

    def losses(self, batch):
        logits = self.head(self.features(batch, ["f"])["f"])
        return Losses({"identity": nn.functional.cross_entropy(logits, batch.labels)})

    def features(self, batch, names):
        return {"f": self.tower(batch.images.flatten(1))}

    def retrieval_tasks(self):
        return {"image to image": Task("f", "f")}

    def test_view(self):
        return Augmentation()


class TwoNames(Toy):
    def stages(self):
        return super().stages() * 2


class Blind(Toy):
    def losses(self, batch):
        return Losses({"identity": self.head.classifier.weight.square().sum()})


class NotFinite(Toy):
    def losses(self, batch):
        return Losses({"identity": super().losses(batch).terms["identity"] * float("nan")})


class Dependent(Toy):
    """Its features are centred over the batch."""

    def features(self, batch, names):
        found = self.tower(batch.images.flatten(1))
        return {"f": found - found.mean(0)}


class TwoWidths(Toy):
    def features(self, batch, names):
        found = self.tower(batch.images.flatten(1))
        return {"f": found, "g": found[:, :2]}

    def retrieval_tasks(self):
        return {"image to image": Task("f", "g")}


class Forgetful(Toy):
    """Calls constant what it trains."""

    def constants(self):
        return ["tower.weight"]


class Careless(Toy):
    """Draws from the clock of the process, which no checkpoint holds."""

    drawn = 0

    def losses(self, batch):
        Careless.drawn += 1
        return Losses({"identity": super().losses(batch).terms["identity"] * (1 + 0.1 * Careless.drawn)})


class Shared(Toy):
    def stages(self):
        (stage,) = super().stages()
        both = [Group(members=[self.tower, self.head], lr=0.1), Group(members=[self.tower], lr=0.1)]
        return [dataclasses.replace(stage, groups=both)]


@pytest.mark.parametrize(
    "kind, broken",
    [
        (TwoNames, "stages with different names"),
        (Shared, "to train each parameter once in all"),
        (NotFinite, "a finite identity in all, found nan"),
        (TwoWidths, r"one width of features in 'image to image', found \[4, 2\]"),
        (Dependent, "to embed an image alike in any batch"),
        (Forgetful, "to end alike after an interruption"),
        (Careless, "to end alike after an interruption"),
    ],
)
def test_a_broken_promise_is_named(kind, broken, world, tmp_path):
    with pytest.raises(ValueError, match=f"expected {kind.__name__} .*{broken}"):
        contract.check_method(kind, ToyRecipe(), world, tmp_path)


def test_a_group_that_no_gradient_reaches_is_named(world, tmp_path):
    class Apart(Blind):
        def stages(self):
            (stage,) = super().stages()
            apart = [Group(members=[self.tower], lr=0.1), Group(members=[self.head], lr=0.1)]
            return [dataclasses.replace(stage, groups=apart)]

    with pytest.raises(ValueError, match="expected Apart to train group 0 of all, found no gradient there"):
        contract.check_method(Apart, ToyRecipe(), world, tmp_path)


def test_the_toy_itself_keeps_them(world, tmp_path):
    contract.check_method(Toy, ToyRecipe(), world, tmp_path)


# What later papers need of the contract


def test_a_variant_has_its_own_settings_and_its_own_rows(monkeypatch):
    """PAD and VLADR: one recipe, two readings."""
    paper = Paper(
        recipe=ToyRecipe(),
        variants={"described": Variant(Toy), "released": Variant(Toy, {"width": 8}, ("full", "wide"))},
        rows={"full": {}, "wide": {"width": 16}, "as described": {"keep": 0.5}},
    )
    monkeypatch.setitem(methods.METHODS, "toy", paper)
    run.first_alike.cache_clear()
    widths = [Spec("toy", name, profile="smoke").recipe().width for name in paper.variants]
    assert widths == [4, 8] and Spec("toy", "released", "wide", profile="smoke").recipe().width == 16
    assert Spec("toy", "described", "as described").check()
    with pytest.raises(ValueError, match="a row of toy's variant released among full, wide, found 'as desc"):
        Spec("toy", "released", "as described").check()


def test_tuples_and_decays_follow_the_profile():
    """Rules map over tuples; with half of the steps, an average remembers as long a part of the training."""
    half = dataclasses.replace(SMOKE, time=0.5, pretrained_lr=2.0)
    found = ToyRecipe().at(half)
    assert found.rates == (0.2, 0.4) and found.keep == pytest.approx(0.81)
    assert ToyRecipe().at(dataclasses.replace(half, time=1.0)).keep == 0.9


@dataclass(frozen=True)
class ByPlace(Recipe):
    epochs: tuple = stated((20, 12), "card", by="position")
    width: int = stated(4, "card")
    for_data = {"world_b": {"width": 9}}


@pytest.mark.parametrize("position, epochs", [(1, 20), (2, 12), (7, 12)])
def test_settings_by_position_and_by_data_set(position, epochs):
    recipe = ByPlace()
    assert recipe.on("world_a", position).epochs == epochs and recipe.on("world_a").epochs == (20, 12)
    assert recipe.on("world_b", position).width == 9 and recipe.on("world_a", position).width == 4


@pytest.mark.parametrize("old", ["trained", "frozen", "dropped"])
def test_a_table_and_a_head_take_the_size_of_the_file(old):
    one, two = GrowingTable((2,)), GrowingTable((2,))
    one.grow(3, old="dropped")
    one.grow(4, old=old)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(), two()) and len(two()) == (4 if old == "dropped" else 7)
    head, other = Head(5, 3), Head(5, 1)
    head.grow(2)
    other.load_state_dict(head.state_dict())
    assert other.classifier.weight.shape == (5, 5)
    features = torch.randn(4, 5)
    assert torch.equal(head.eval()(features), other.eval()(features))


def test_a_table_may_have_a_first_value_of_its_own():
    table = GrowingTable((2,), init=lambda rows: torch.full((rows, 2), 7.0))
    table.grow(3, old="dropped")
    assert (table() == 7).all()
    with pytest.raises(ValueError, match="expected old among trained, frozen, dropped, found 'gone'"):
        table.grow(1, old="gone")


class Three(Toy):
    """Reads three spectra and counts only those that are there."""

    multispectral = True

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.tower = nn.Linear(96, recipe.width)

    def features(self, batch, names):
        found = self.tower(batch.images.flatten(2)) * batch.present[..., None]  # (B, M, D)
        return {"f": found.sum(1) / batch.present.sum(1, keepdim=True)}


def test_a_missing_spectrum_is_black_and_marked_in_the_test_alone(tmp_path):
    """DMPT's missing-modality protocol."""
    data = load_data("world_rgbnt201", "smoke")
    lacking = data.without("nir", "tir")
    assert lacking.train is data.train and data.query.present.all()
    torch.manual_seed(0)
    method = Three(ToyRecipe(), data).eval()
    whole, some = (contract.image_batch(method, one, "query") for one in (data, lacking))
    assert some.present.tolist() == [[True, False, False]] * len(some.index)
    black = some.images[:, 1:]
    assert (black == black[0, 0, 0, 0, 0]).all() and torch.equal(some.images[:, 0], whole.images[:, 0])
    assert torch.allclose(method.embed(some, "f"), method.tower(whole.images[:, 0].flatten(1)))
    found = [evaluate.run_tests(method, one)["image to image"].mAP for one in (data, lacking)]
    assert found[0] != found[1]
    with pytest.raises(ValueError, match="expected spectra among rgb, nir, tir, .* found 'uv'"):
        data.without("uv")


def test_the_parts_of_a_zipped_batch_are_batches(world):
    """HPL: pairs of image and sentence beside P x K images."""
    counts = [len(sentences) for sentences in world.train.captions]
    pairs = CaptionShuffle(range(len(world.train)), counts, 6)
    sampler = Zipped(pairs, IdentityBatches(world.labels, 2, 4))
    from reid_core.data import CaptionTable
    from reid_core.loading import tokenizer_of

    table = CaptionTable(world.train.captions, tokenizer_of("ViT-B-16-quickgelu"))
    loader = Loader(world, size=(8, 4), sampler=sampler, views=[Augmentation()], captions=table)
    batch = next(iter(loader.batches(0, loader.plan(0))))
    first, second = batch.parts()
    assert (len(first.index), len(second.index)) == (6, 8) and len(first.text) == 6 and len(second.text) == 0
    assert torch.equal(torch.cat([first.labels, second.labels]), batch.labels)
    assert torch.equal(torch.cat([first.images, second.images]), batch.images)
    assert len(loader.batch(BatchIndex(batch.index.numpy()), contract.train.generator(0)).parts()) == 1


def test_a_stage_attaches_sentences_where_its_sampler_names_none(world):
    """VLADR: camera batches with a sentence of each image, the same in every run."""
    from reid_core.data import CaptionTable
    from reid_core.loading import tokenizer_of

    table = CaptionTable(world.train.captions, tokenizer_of("ViT-B-16-quickgelu"))
    sampler = IdentityBatches(world.labels, 2, 4)
    loaders = [
        Loader(world, size=(8, 4), sampler=sampler, views=[Augmentation()], captions=table) for _ in range(2)
    ]
    one, two = (next(iter(loader.batches(3, loader.plan(3)))) for loader in loaders)
    assert len(one.text) == 8 and torch.equal(one.text, two.text)


def test_a_cache_that_needs_no_image_reads_none(world, monkeypatch):
    method = Toy(ToyRecipe(), world)
    (stage,) = method.stages()
    said = Cached(lambda batch: batch.labels.float()[:, None], None)
    stage = dataclasses.replace(stage, views=[], cache={"words": said})
    monkeypatch.setattr(type(world), "store", lambda *_: pytest.fail("an image was read"))
    batch = contract.first_batch(method, stage, world)
    assert torch.equal(batch.cached["words"][:, 0], batch.labels.float())


def test_labels_of_training_images_agree_between_loader_and_still_batches(world):
    loader = Loader(world, size=(8, 4), sampler=Shuffle(range(len(world.train)), 16), views=[])
    batch = next(iter(loader.batches(0, loader.plan(0))))
    still = next(evaluate.still_batches(world, "train", (8, 4), None))
    assert torch.equal(still.labels[batch.index], batch.labels)
    assert torch.equal(still.cameras[batch.index], batch.cameras) and still.views == []


def test_a_decoupled_table_refuses_what_would_move_unused_rows():
    with pytest.raises(ValueError, match="expected no weight decay"):
        optim.RowAdam([{"params": [nn.Parameter(torch.zeros(2, 2))], "weight_decay": 0.1}])


def test_the_loss_of_a_stage_is_a_module(world):
    """What compiles or distributes a training wraps one thing."""
    from reid_core.methods.base import StageLoss

    method = Toy(ToyRecipe(), world)
    (stage,) = method.stages()
    loss = StageLoss(method, stage)
    batch = contract.first_batch(method, stage, world)
    assert set(loss.parameters()) == set(method.parameters())
    assert total(loss(batch).terms, stage.weights).isfinite()
    assert SamplerRng(0).shuffle([1, 2, 3]) == SamplerRng(0).shuffle([1, 2, 3])
