"""Training steps on a GPU, told without one: fake tensors know their device and have no values. A tensor that
was left on the processor meets them with an error, and so does whatever asks for a value, which waits."""

import copy
import dataclasses

import pytest
import torch
from stages import begun, entered
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from reid_core import losses
from reid_core.contract import first_batch
from reid_core.data import load_data
from reid_core.methods import METHODS
from reid_core.methods.base import LifelongMethod, freeze_all_but, total, trainable
from reid_core.optim import make_optimisers
from reid_core.recipe import PROFILES

DATA = {"dmpt": "world_rgbnt201", "hpl": "world_text@8+world_msmt@8"}  # others: world_market
ORDER = ("world_a", "world_b")
FEW = {"hpl": {"batch_t2i_pairs": 8, "batch_i2i_images": 8}}


def made(paper, variant):
    """A method in the profile smoke; a lifelong one in its second domain."""
    kind = METHODS[paper].variants[variant].kind
    if issubclass(kind, LifelongMethod):
        return begun(paper, variant, [load_data(name, "smoke") for name in ORDER])
    data = load_data(DATA.get(paper, "world_market"), "smoke")
    recipe = METHODS[paper].recipe_of(variant, "full").at(PROFILES["smoke"])
    return kind(recipe.but(**FEW.get(paper, {})), data)


def moved(value):
    """The tensors of a batch on the device, wherever in it they are."""
    if isinstance(value, torch.Tensor):
        return value.to("cuda")
    if isinstance(value, dict):
        return {name: moved(one) for name, one in value.items()}
    if isinstance(value, list):
        return [moved(one) for one in value]
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **moved(vars(value)))
    return value


def step_on_device(method, number):
    """A step of a stage with all that it takes on a fake GPU, but for the backward pass, which wants a real
    one: its gradients are zeros."""
    batch = first_batch(method, entered(method, number), method.data)
    shared = [method.data, getattr(method, "tokenizer", None)]  # no step changes them
    method = copy.deepcopy(method, {id(one): one for one in shared})
    with FakeTensorMode(allow_non_fake_inputs=True):
        method.to("cuda")
        stage = method.stages()[number]
        freeze_all_but(method, stage.groups)
        found = stage.losses(moved(batch))
        assert total(found.terms, stage.weights).device.type == "cuda"
        for parameter in trainable(method, stage.groups).values():
            parameter.grad = torch.zeros_like(parameter)
        for optimiser in make_optimisers(method, stage.groups):
            optimiser.step()
        stage.after_step(found.carry)


@pytest.fixture(autouse=True)
def replaced_parameters():
    """A fake parameter takes the place of a real one, which cannot hold its data."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


@pytest.mark.parametrize(
    "paper, variant", [(name, variant) for name, paper in METHODS.items() for variant in paper.variants]
)
def test_a_step_keeps_to_its_device_and_never_waits_for_it(paper, variant):
    method = made(paper, variant)
    for number in range(len(method.stages())):
        step_on_device(method, number)


def test_a_step_that_asks_for_a_value_is_found(monkeypatch):
    asking = losses.batch_hard_triplet

    def asked(*args, **more):
        loss = asking(*args, **more)
        return loss * float(loss.item() > 0)

    monkeypatch.setattr("reid_core.methods.hpl.batch_hard_triplet", asked)
    with pytest.raises(DataDependentOutputException):
        step_on_device(made("hpl", "images"), 0)


def test_a_tensor_that_stays_behind_is_found():
    method = made("hpl", "images")
    method.image_losses = lambda c2, labels, first=0: {
        "triplet": (c2 @ torch.ones(c2.shape[1], 1)).sum(),
        "identity i2i": c2.sum(),
    }
    with pytest.raises(RuntimeError, match="same device|two devices"):
        step_on_device(method, 0)
