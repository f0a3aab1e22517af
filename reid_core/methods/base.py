"""What a method is: modules, stages as data, and encoders for retrieval.

A paper's file reads like its method section: recipe, ablations, parts, method. Papers import this file and the shared
parts, never each other.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from reid_core.augment import Augmentation
from reid_core.draws import generator
from reid_core.schedules import Schedule

IMAGES = "images"  # the stream of stages that teach the image tower with P identities x K images: the same for every method


@contextmanager
def chance_of(part):
    """Draw the initial weights of a part from a stream of its own, which depends on the seed and its name alone: methods and
    rows that share a part begin with the same one, whatever else they have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(torch.initial_seed(), "initial weights", part).integers(2**62)))
        yield


class Losses(NamedTuple):
    """Named *unweighted* terms, and detached tensors for `after_step`."""

    terms: dict
    carry: dict = {}


@dataclass
class Group:
    """Parameters that learn alike; `members` are modules and parameters. All else is frozen and in eval mode."""

    members: list
    lr: float
    weight_decay: float = 0.0
    bias_factor: float = 1.0  # on the rate of parameters whose name contains "bias"
    bias_decay: float | None = None  # their weight decay, the group's unless told
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    row_sparse: bool = False  # tables: a row moves only in steps that use it
    muon: bool = False  # matrices: steps of equal length in all directions (Jordan et al. 2024), without Adam

    def parameters(self):
        """Every parameter of the members, once."""
        found = {}
        for member in self.members:
            parameters = [member] if isinstance(member, nn.Parameter) else member.parameters()
            found |= {id(p): p for p in parameters}
        return list(found.values())


class Cached(NamedTuple):
    """What a frozen tower says once about every training row: Batch -> (B, ...), seen through `view`."""

    compute: Callable
    view: Augmentation


@dataclass
class Stage:
    """Everything the loop needs to know, as data."""

    name: str
    epochs: int
    draws: Any  # a sampler of reid_core.draws: which rows make a batch
    views: list  # augmentations; empty where only cached tensors are needed
    losses: Callable  # Batch -> Losses
    weights: dict  # the paper's total-loss equation
    groups: list
    schedule: Schedule
    cache: dict = field(default_factory=dict)  # name -> Cached
    prepare: Callable = lambda: None  # before the first step, and again when a run is taken up
    captions: Any = None  # a CaptionTable where batches carry sentences
    chance: str = ""  # names the stream of its draws and augmentations; its own name unless told. Stages that share it see the same images


class Task(NamedTuple):
    """One way of searching: Batch -> (B, D) for each side. `asks` is "image" or "text". The protocol binds sentences; images
    are ranked by the data set's own. `rerank`: by k-reciprocal neighbours."""

    query: Callable
    gallery: Callable
    protocol: str = "all"
    asks: str = "image"
    rerank: bool = False


class Remembered:
    """A function of a Batch that keeps its last answer: in a test, several tasks ask about one batch. Where gradients are
    wanted, and hooks may be in place, it is asked anew."""

    def __init__(self, function):
        self.function, self.asked, self.said = function, None, None

    def __call__(self, batch):
        if torch.is_grad_enabled():
            return self.function(batch)
        if self.asked is not batch:
            self.asked, self.said = batch, self.function(batch)
        return self.said


class Method(nn.Module):
    """A paper. Subclasses build their parts in `__init__` and give `stages`, `retrieval_tasks`, `test_view` and the
    image `size` (H, W)."""

    def __init__(self, recipe):
        super().__init__()
        self.recipe = recipe

    def stages(self):
        """A list of Stage, run in order."""
        raise NotImplementedError

    def after_step(self, carry):
        """Teachers and memories move here, once per optimiser step."""

    def retrieval_tasks(self):
        """{name: Task}."""
        raise NotImplementedError

    def test_view(self):
        """How test images are resized and normalised."""
        raise NotImplementedError


class LifelongMethod(Method):
    """A method that meets domains one after the other."""

    def begin_domain(self, domain):
        """Make room for the identities of `domain` (a ReidData), before its stages run."""
        raise NotImplementedError

    def end_domain(self):
        """Consolidate what was learned, after its stages ran."""


def total(terms, weights):
    """The weighted sum. Terms and weights must name each other."""
    if set(terms) != set(weights):
        raise ValueError(f"expected a weight for each of the terms {sorted(terms)}, found {sorted(weights)}; "
                         f"name every term in the stage's weights.")  # fmt: skip
    return sum(weights[name] * term for name, term in terms.items())


def freeze_all_but(method, groups):
    """Only the groups' parameters get gradients, and only modules that own such a parameter are in training mode.

    What owns none goes with what stands around it: dropout drops in a network that is trained.
    """
    trained = trainable(method, groups)
    for parameter in method.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    set_mode(method)


def trainable(method, groups):
    """{id: parameter} of the groups. A module may list names in `fixed`: parameters that nobody trains, such as a neck's
    bias."""
    fixed = {id(getattr(m, name)) for m in method.modules() for name in getattr(m, "fixed", ())}
    return {id(p): p for group in groups for p in group.parameters() if id(p) not in fixed}


def learnable(method):
    """How many parameters the stages of a method train."""
    groups = [group for stage in method.stages() for group in stage.groups]
    return sum(p.numel() for p in trainable(method, groups).values())


def set_mode(module, around=False):
    own, all_ = list(module.parameters(recurse=False)), list(module.parameters())
    module.training = any(p.requires_grad for p in own or all_) if all_ else around
    for child in module.children():
        set_mode(child, module.training)


@torch.no_grad()
def ema_(teacher, student, decay):
    """teacher <- decay x teacher + (1 - decay) x student, for floating parameters and buffers."""
    pairs = zip(teacher.state_dict().values(), student.state_dict().values())
    floating = [(t, s) for t, s in pairs if t.is_floating_point()]
    torch._foreach_lerp_([t for t, _ in floating], [s.to(t) for t, s in floating], 1 - decay)
