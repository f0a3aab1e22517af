"""What a method is: modules, stages as data, and encoders for retrieval.

A paper's file reads like its method section: recipe, ablations, parts, method. Papers import this file and
the shared parts, never each other.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from reid_core.augment import Augmentation
from reid_core.samplers import generator
from reid_core.schedules import Schedule

# the stream of stages that teach the image tower with P identities x K images: the same for every method
IMAGES = "images"


@contextmanager
def chance_of(part):
    """Draw the initial weights of a part from a stream of its own, which depends on the seed and its name
    alone: methods and rows that share a part begin with the same one, whatever else they have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(torch.initial_seed(), "initial weights", part).integers(2**62)))
        yield


class Losses(NamedTuple):
    """Named *unweighted* terms, and detached tensors for `after_step`."""

    terms: dict
    carry: dict = {}


class Cached(NamedTuple):
    """What a frozen tower says once about every training row: Batch -> (B, ...), seen through `view` (None:
    without pixels), and kept in `dtype`."""

    compute: Callable
    view: Augmentation | None
    dtype: torch.dtype = torch.float32


def nothing(*_):
    """The default of what a stage may do besides computing its loss."""


@dataclass(kw_only=True)
class Stage:
    """Everything the loop needs to know, as data."""

    name: str
    epochs: int
    sampler: Any  # of reid_core.samplers: which rows make a batch
    views: list  # augmentations; empty where only cached tensors are needed
    losses: Callable  # Batch -> Losses
    weights: dict  # term -> weight: the paper's total-loss equation
    groups: list  # of optim.Group; all other parameters are frozen
    schedule: Schedule
    cache: dict = field(default_factory=dict)  # name -> Cached
    captions: Any = None  # a CaptionTable where batches carry sentences
    start: Callable = nothing  # once, before the first step of the first epoch; never when a run is taken up
    prepare: Callable = nothing  # when it begins or is taken up: a pure function of what is frozen in it
    after_step: Callable = nothing  # gets `Losses.carry` after each update: teachers and memories move here
    # of random numbers for draws and augmentations; the stage's name unless told. Equal streams see equal
    # images
    stream: str = ""


class StageLoss(nn.Module):
    """A stage's loss as a module: Batch -> Losses. What compiles or distributes a training wraps this, and
    nothing else."""

    def __init__(self, method, stage):
        super().__init__()
        self.method = method
        self.losses = stage.losses

    def forward(self, batch):
        """Batch -> Losses."""
        return self.losses(batch)


class Task(NamedTuple):
    """One test: which feature of a query is compared with which of a gallery item.

    Names are those of `Method.features`; "f12+fp" stands for two side by side. Sentences are ranked by
    `protocol`, images by the data set's own.
    """

    query: str
    gallery: str
    query_type: str = "image"  # or "text"
    protocol: str = "all"
    rerank: bool = False  # by k-reciprocal neighbours
    without: tuple = ()  # spectra that are taken away from query and gallery
    brief: bool = False  # of its scores, an order's run keeps the summary alone


class Method(nn.Module):
    """A paper. Subclasses build their parts in `__init__` and give `stages`, `features`, `retrieval_tasks`,
    `test_view` and the image `size` (H, W)."""

    multispectral = False  # whether a shot may be several images, one for each spectrum
    spectra_needed = None  # how many they must be; None: whatever the method was built for

    def __init__(self, recipe):
        super().__init__()
        self.recipe = recipe

    def stages(self):
        """A list of Stage, run in order."""
        raise NotImplementedError

    def features(self, batch, names):
        """At least {name: (B, D)} for each of `names`, not normalised, computed once for all of them."""
        raise NotImplementedError

    def embed(self, batch, name):
        """One feature (B, D), or several side by side where `name` joins them with "+"."""
        return side_by_side(self.features(batch, name.split("+")), name)

    def retrieval_tasks(self):
        """{name: Task}; the first is the paper's own."""
        raise NotImplementedError

    def test_view(self):
        """How test images are resized and normalised."""
        raise NotImplementedError

    def readers(self, name):
        """[(module, token)] of what reads the image to make the feature `name`: the tower first, then modules
        that read its tokens with queries of their own; `token` is the place in the module's output that
        answers. A module with `goes_on` reads them as one more block of the tower would. Explanations follow
        them."""
        return [(self.image, 0)]

    def constants(self):
        """Names of parameters that follow from the recipe and its weights file and that no stage trains: no
        checkpoint holds them. A text tower is one unless a stage trains it."""
        trained = {id(p) for stage in self.stages() for group in stage.groups for p in group.parameters()}
        text = getattr(self, "text", None)
        told = text.named_parameters(prefix="text") if isinstance(text, nn.Module) else ()
        return [name for name, p in told if id(p) not in trained]


class Variant(NamedTuple):
    """One reading of a paper: its class, the settings in which it differs, and the rows that mean something
    for it."""

    kind: type
    changes: dict = {}
    rows: tuple | None = None  # None: all of the paper's


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What the rest of the library knows of a paper."""

    recipe: Any
    variants: dict  # name -> Variant
    # ablation row -> {field: value}, as printed or named by us
    rows: dict = field(default_factory=lambda: {"full": {}})
    tables: dict = field(default_factory=dict)  # "Table 3" -> its rows
    # fields that no training reads: rows that differ in them alone are tests of one run
    test_only: tuple = ()
    pictured: tuple = ("full",)  # rows whose trained models are looked at
    # method, variant and row of what is looked at, before its training, where none is trained yet
    untrained: tuple = ("clip_reid", "baseline", "full")
    # the data set that others are trained on unless told -> the one that this paper needs in its place
    instead: dict = field(default_factory=dict)
    complete: bool = True  # whether its losses exist; until then no command runs it

    def takes(self, data):
        """The data set that the paper is trained on where others are on this one."""
        return self.instead.get(data, data)

    def rows_of(self, variant):
        """The ablation rows that mean something for a variant."""
        rows = self.variants[variant].rows
        return self.rows if rows is None else {row: self.rows[row] for row in rows}

    def recipe_of(self, variant, row, data=""):
        """The published recipe of a row of a variant on a data set, before any profile."""
        recipe = self.recipe.on(data).but(**self.variants[variant].changes)
        return recipe.but(**self.rows_of(variant)[row])


def side_by_side(features, name):
    """(B, sum of widths) of {name: (B, D)} and names that "+" joins."""
    return torch.cat([features[part] for part in name.split("+")], 1)


class LifelongMethod(Method):
    """A method that meets domains one after the other; `__init__` begins none."""

    # fields of the recipe that change nothing before the second domain, neither weights nor tests: rows that
    # differ in these alone share the first one
    waiting = ()

    def begin_domain(self, domain, number):
        """Make room for the identities of `domain` (a ReidData), the `number`-th from 1, before its stages
        run. What needs the device or earlier weights belongs into `Stage.start`."""
        raise NotImplementedError

    def traits(self, data):
        """{name: list of numbers} of what the model does with the queries of a test set and that is no score;
        a run keeps it beside the scores."""
        return {}

    def end_domain(self):
        """Consolidate what was learned, after its stages ran; weights are written after this."""


def total(terms, weights):
    """The weighted sum, a scalar. ValueError unless terms and weights name each other."""
    if set(terms) != set(weights):
        raise ValueError(
            f"expected a weight for each of the terms {sorted(terms)}, found {sorted(weights)}; name every "
            "term in the stage's weights."
        )
    return sum(weights[name] * term for name, term in terms.items())


def freeze_all_but(method, groups):
    """Only the groups' parameters get gradients, and only modules that own such a parameter are in training
    mode.

    What owns none goes with what stands around it: dropout drops in a network that is trained.
    """
    trained = trainable(method, groups)  # by id: tensors compare elementwise
    for parameter in method.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    set_mode(method)


def trainable(method, groups):
    """{id: parameter} of the groups. A module may list names in `fixed`: parameters that nobody trains, such
    as a neck's bias."""
    fixed = {id(getattr(m, name)) for m in method.modules() for name in getattr(m, "fixed", ())}
    return {id(p): p for group in groups for p in group.parameters() if id(p) not in fixed}


def learnable(method):
    """How many parameters the stages of a method train."""
    groups = [group for stage in method.stages() for group in stage.groups]
    return sum(p.numel() for p in trainable(method, groups).values())


def set_mode(module, around=False):
    """Training mode where a module's own parameters learn (any within it, where it owns none); a module
    without any parameter is in the mode of the one `around` it."""
    own = list(module.parameters(recurse=False))
    has_some = next(module.parameters(), None) is not None
    module.training = any(p.requires_grad for p in own or module.parameters()) if has_some else around
    for child in module.children():
        set_mode(child, module.training)


@torch.no_grad()
def ema_(teacher, student, decay):
    """teacher <- decay x teacher + (1 - decay) x student, for floating parameters and buffers."""
    pairs = zip(teacher.state_dict().values(), student.state_dict().values())
    floating = [(t, s) for t, s in pairs if t.is_floating_point()]  # counters stay the teacher's own
    targets = [t for t, _ in floating]
    sources = [s.to(t) for t, s in floating]
    torch._foreach_lerp_(targets, sources, 1 - decay)  # one kernel for all of them on a GPU
