"""One contract, every method: those that run, and the plans of those to come."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from reid_core.data import Batch, Loader, load_data, still_batches
from reid_core.methods import METHODS, PAPERS
from reid_core.methods.base import LifelongMethod, Method, Stage, freeze_all_but, total
from reid_core.methods.baseline import LIFELONG
from reid_core.recipe import PROFILES
from reid_core.samplers import SamplerRng

SMOKE = PROFILES["smoke"]
SMALL = {  # what is claimed needs no more
    "ids_per_batch": 4,
    "stage2_ids_per_batch": 4,
    "stage1_batch": 16,
    "stage1_ids": 4,
    "stage2_ids": 4,
    "batch_t2i_pairs": 16,
    "batch_i2i_images": 16,
    "image_height": 64,
    "image_width": 32,
}
ALL = [
    (paper.recipe_of(name, "full"), variant.kind, paper.complete)
    for paper in PAPERS.values()
    for name, variant in paper.variants.items()
]
RUNNING = [(recipe, kind) for recipe, kind, complete in ALL if complete]
PLANNED = [(recipe, kind) for recipe, kind, complete in ALL if not complete]
NAMES = [kind.__name__ for _, kind, _ in ALL]


def data_for(kind, world):
    """The smallest data set that a method takes."""
    return load_data("world_rgbnt201", "smoke") if kind.__name__ == "DMPT" else world


def small(recipe):
    fields = {field.name for field in dataclasses.fields(recipe)}
    return recipe.but(**{name: size for name, size in SMALL.items() if name in fields})


def build(recipe, kind, data):
    torch.manual_seed(0)
    data = data_for(kind, data)
    method = kind(small(recipe.at(SMOKE)), data)
    if isinstance(method, LifelongMethod):
        method.begin_domain(data, 1)
    return method


@pytest.fixture(scope="module", params=ALL, ids=NAMES)
def method(request, world):
    return build(*request.param[:2], world)


@pytest.fixture(scope="module", params=RUNNING, ids=[kind.__name__ for _, kind in RUNNING])
def running(request, world):
    return build(*request.param, world)


def test_stages_are_data(method):
    assert isinstance(method, Method) and len(method.size) == 2
    for stage in method.stages():
        assert (
            isinstance(stage, Stage) and stage.epochs >= 1 and stage.weights and stage.schedule.factor(1) >= 0
        )
        assert stage.views or stage.cache, "a stage sees images or what a frozen tower said of them"


def test_groups_share_no_parameter_and_have_a_rate(method):
    for stage in method.stages():
        members = [id(p) for group in stage.groups for p in group.parameters()]
        assert members and len(members) == len(set(members)) and all(group.lr > 0 for group in stage.groups)


def test_samplers_name_rows_of_the_training_split(method):
    world = method.data
    for stage in method.stages():
        batches = stage.sampler.epoch(SamplerRng(0))
        index = np.concatenate([batch.index for batch in batches])
        assert len(batches) and index.min() >= 0 and index.max() < len(world.train)


def test_tests_name_their_protocol(method):
    tasks = method.retrieval_tasks()
    assert tasks and all(task.protocol in ("market", "scene", "all") for task in tasks.values())
    assert all(task.query_type in ("image", "text") for task in tasks.values())


def test_a_planned_lifelong_method_has_terms_for_a_second_domain(world):
    for recipe, kind in PLANNED:
        if issubclass(kind, LifelongMethod):
            method = build(recipe, kind, world)
            first = [set(stage.weights) for stage in method.stages()]
            method.begin_domain(world, 2)
            second = [set(stage.weights) for stage in method.stages()]
            assert any(a < b for a, b in zip(first, second)), (
                f"{kind.__name__}: nothing keeps the first domain"
            )


def batch_of(method, stage, world):
    world = data_for(type(method), world)
    cached = {}
    for name, what in stage.cache.items():
        with torch.no_grad():
            rows = [what.compute(batch) for batch in still_batches(world, "train", method.size, what.view)]
        cached[name] = torch.cat(rows)
    loader = Loader.of_stage(world, method.size, stage, cached=cached)
    return next(iter(loader.batches(0, loader.plan(0))))


def test_every_term_has_a_weight_and_gradients_reach_every_group(running, world):
    for stage in running.stages():
        freeze_all_but(running, stage.groups)
        stage.prepare()
        running.zero_grad()
        losses = stage.losses(batch_of(running, stage, world))
        total(losses.terms, stage.weights).backward()
        assert all(term.isfinite() and term.dtype == torch.float32 for term in losses.terms.values())
        for group in stage.groups:
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in group.parameters())


def test_features_of_both_sides_have_one_width_and_do_not_depend_on_the_batch(running, world):
    running.eval()
    spectra = data_for(type(running), world).train.paths.shape[1]
    images = torch.randn(6, spectra, 3, *running.size)
    present = torch.ones(6, spectra, dtype=torch.bool)
    sentences = ["a man in red", "a woman", "a person with a bag", "a man", "two people", "somebody"]

    def see(number):
        rows = torch.arange(number)
        about = {"index": rows, "labels": rows, "cameras": rows % 3, "present": present[:number]}
        shown = Batch(**about, views=[images[:number]])
        told = Batch(index=rows, labels=rows, cameras=rows, text=text_of(running, sentences[:number]))
        return [
            (
                running.embed(told if task.query_type == "text" else shown, task.query),
                running.embed(shown, task.gallery),
            )
            for task in running.retrieval_tasks().values()
        ]

    with torch.no_grad():
        whole, part = see(6), see(2)
    for sides, same in zip(whole, part):
        assert all(torch.allclose(w[:2], p, atol=1e-4) for w, p in zip(sides, same))
        assert len({side.shape[1] for side in sides}) == 1


def text_of(method, sentences):
    return method.tokenizer(sentences) if hasattr(method, "text") else None


def spying(recipe, seen):
    """The recipe, writing down which of its fields are read."""
    names = {field.name for field in dataclasses.fields(recipe)}

    def read(self, name):
        if name in names:
            seen.add(name)
        return object.__getattribute__(self, name)

    def on(self, *place):
        # a recipe that is made from another reads every field: it is made from the one that nobody watches
        return spying(recipe.on(*place), seen)

    spy = object.__new__(type("Spy", (type(recipe),), {"__getattribute__": read, "on": on}))
    spy.__dict__.update(recipe.__dict__)
    return spy


READ_BY = {"dmpt": ("fine-tuning", "ImageNet tower (D3)")}  # rows that read what the full one does not


def test_every_field_of_a_recipe_is_read_by_some_variant(world):
    """Building, staging and one loss of each stage: a field that nothing reads then is a lie."""
    for name, paper in METHODS.items():
        if name == "lifelong":
            continue  # borrows the recipe of CLIP-ReID
        seen, fields = set(), {field.name for field in dataclasses.fields(paper.recipe)}
        for variant, row in itertools.product(paper.variants, ("full", *READ_BY.get(name, ()))):
            kind = paper.variants[variant].kind
            recipe = small(paper.recipe_of(variant, row).at(SMOKE))
            method = kind(spying(recipe, seen), data_for(kind, world))
            method.test_view(), method.retrieval_tasks()
            for number in (1, 2) if isinstance(method, LifelongMethod) else (0,):
                read_all(method, number, world)
        assert fields - seen <= {"seed"}, f"{name}: nothing reads {fields - seen - {'seed'}}"


def read_all(method, number, world):
    """Stages and losses of a method, of a lifelong one in its domain `number`."""
    if number:
        method.begin_domain(world, number)
    for stage in method.stages():
        freeze_all_but(method, stage.groups)
        stage.start()
        stage.prepare()
        stage.after_step(stage.losses(batch_of(method, stage, world)).carry)
    if number:
        method.end_domain()


# What the cards say of each method, at full scale.
CARDS = {
    "Baseline": [({"identity": 1.0, "triplet": 1.0}, 60, {5e-6}, {1e-4})],
    "ClipReID": [
        ({"image to text": 1.0, "text to image": 1.0}, 120, {3.5e-4}, {1e-4}),
        ({"identity": 0.25, "triplet": 1.0, "image to text": 1.0}, 60, {5e-6}, {1e-4}),
    ],
    "PromptSG": [
        (
            {"identity": 1.0, "triplet": 1.0, "image to text": 0.5, "text to image": 0.5},
            60,
            {5e-6, 5e-5},
            {1e-4},
        )
    ],
    "HPL": [
        ({"text to image": 1.0, "image to text": 1.0, "inversion consistency": 1.0}, 10, {5e-5, 0.02}, {0.0}),
        (
            {
                "matching": 1.0,
                "identity t2i": 1.0,
                "triplet": 1.0,
                "identity i2i": 1.0,
                "identity prompts": 1.0,
                "instance prompts": 0.4,
                "prompt regularisation": 0.06,
            },
            60,
            {1e-5, 5e-5},
            {4e-5, 0.0},
        ),
    ],
    "SentencesAlone": [({"matching": 1.0, "identity t2i": 1.0}, 60, {1e-5, 5e-5}, {4e-5, 0.0})],
    "ImagesAlone": [({"triplet": 1.0, "identity i2i": 1.0}, 60, {1e-5, 5e-5}, {4e-5, 0.0})],
    "DMPT": [({"identity": 1.0, "triplet": 1.0, "centre": 1.0, "contrast": 1.0}, 60, {1e-3}, {1e-4})],
    "PADReleased": [
        ({"image to text": 1.0, "text to image": 1.0}, 20, {2e-3}, {0.0}),
        ({"identity": 0.25, "triplet": 1.0, "image to text": 1.0}, 30, {5e-6, 2e-3}, {1e-4, 0.0}),
    ],
    "PADDescribed": [
        (
            {"image to text": 1.0, "text to image": 1.0, "identity": 1.0, "triplet": 1.0},
            30,
            {5e-6, 2e-3},
            {1e-4, 0.0},
        )
    ],
    "VLADRReleased": [
        ({"image to text": 1.0, "text to image": 1.0}, 120, {3.5e-3}, {1e-4}),
        (
            {
                "identity": 1.0,
                "triplet": 1.0,
                "identity strong": 1.0,
                "triplet strong": 1.0,
                "coarse": 1.0,
                "attribute alignment": 1.0,
            },
            60,
            {5e-6},
            {1e-4, 0.0},
        ),
    ],
    "VLADRDescribed": [
        (
            {"global": 1.0, "local": 1.0, "orthogonality": 1.0, "identity": 1.0, "triplet": 1.0},
            10,
            {3.5e-3},
            {1e-4},
        ),
        ({"identity": 1.0, "triplet": 1.0, "attribute alignment": 1.0}, 60, {5e-6}, {1e-4, 0.0}),
    ],
}


BASELINE = {"identity": 1.0, "triplet": 1.0}
CARDS |= {kind.__name__: [(BASELINE, 60, {5e-6}, {1e-4})] for kind in LIFELONG.values()}


@pytest.mark.parametrize("recipe, kind, complete", ALL, ids=NAMES)
def test_stages_at_full_scale_are_those_of_the_card(recipe, kind, complete, world):
    tiny = {"backbone": "tiny", "pretrained": "tiny", "image_height": 128, "image_width": 64}
    method = kind(recipe.but(**tiny), data_for(kind, world))
    if isinstance(method, LifelongMethod):
        method.begin_domain(world, 1)
    stages = method.stages()
    wanted = CARDS[kind.__name__]
    assert len(stages) == len(wanted)
    for stage, (weights, epochs, rates, decays) in zip(stages, wanted):
        assert stage.weights == weights and stage.epochs == epochs
        assert {group.lr for group in stage.groups} == rates
        assert {group.weight_decay for group in stage.groups} == decays
