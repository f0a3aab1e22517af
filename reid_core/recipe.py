"""Hyper-parameters that remember where they came from, and what a profile does to them."""

import ast
import dataclasses
import functools
import re
import sys
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, get_args

STATUSES = ("stated", "released", "assumed")
INFINITE = float("inf")


def stated(value, where, rule=None, row=None, by=None):
    """A value printed in the paper."""
    return origin(value, "stated", where, rule, row, by)


def released(value, where, rule=None, row=None, by=None):
    """A value read in the official code."""
    return origin(value, "released", where, rule, row, by)


def assumed(value, reason, rule=None, row=None, by=None):
    """A value that nobody gives, and why we take it."""
    return origin(value, "assumed", reason, rule, row, by)


def origin(value, status, where, rule, row, by):
    """`rule` is how a profile changes the value: a key of RULES, or "as FIELD" for what keeps its printed
    ratio to another field; `row` the name(s) it has in hyperparameters.csv; by="position": a tuple with a
    value for the first data set of an order, the second, ... and all later ones."""
    told = {"status": status, "where": where, "rule": rule, "row": row, "by": by}
    return dataclasses.field(default=value, metadata=told)


MARKET_IMAGES = 12936  # of the training split of Market-1501


@dataclass(frozen=True)
class Profile:
    """Scale, and what is bound to time. No method is tuned: every method and row is changed by these
    alone."""

    name: str
    time: float  # part of the recipe's epochs
    size: float  # part of the recipe's image height and width
    # factors on the learning rates of pretrained modules and of new ones, which raise them to so much and no
    # higher: Adam's steps have a size, however few there are
    pretrained_lr: float
    highest_pretrained_lr: float
    new_lr: float
    highest_lr: float
    fine: bool  # read schedules per step instead of per epoch
    precision: str
    backbone: str | None  # what stands for CLIP; None: as the recipe says
    data: str  # the default data set
    depth: float  # of the towers, as a share of the paper's
    temperature: float  # of the towers: what they were pretrained to divide cosines by, over CLIP's 0.01
    epoch_images: int  # an epoch of a smaller data set goes through it several times; 0: once, always
    domain_images: int  # the same of a domain of an order, whose epochs add up over domains


# The two factors were found once, for the fine-tuned baseline on the development world (results/gates.json,
# "rates"), and its rate is the end for all pretrained modules. Some papers' new modules start from far higher
# rates than its head does: ten times as much, the ratio that PromptSG prints, is the end for all of them.
PROFILES = {
    "smoke": Profile(
        name="smoke",
        time=1 / 30,
        size=1 / 2,
        pretrained_lr=1.0,
        highest_pretrained_lr=INFINITE,
        new_lr=1.0,
        highest_lr=INFINITE,
        fine=True,
        precision="fp32",
        backbone="tiny",
        data="world_market",
        depth=1 / 2,
        temperature=4.76,
        epoch_images=0,
        domain_images=0,
    ),
    "laptop": Profile(
        name="laptop",
        time=1.0,  # half of them is not enough for what starts from random weights (results/lengths.json)
        size=1 / 2,
        pretrained_lr=64.0,
        highest_pretrained_lr=3.2e-4,  # 64 x 5e-6, with which the factor was found
        new_lr=256.0,
        highest_lr=3.2e-3,  # ten times as much
        fine=True,
        precision="bf16",
        backbone="tiny",
        data="world_market",
        depth=1 / 2,
        temperature=4.76,
        epoch_images=2000,
        domain_images=600,  # one of the world's: all domains learned at once take as many steps as one by one
    ),
    "paper": Profile(
        name="paper",
        time=1.0,
        size=1.0,
        pretrained_lr=1.0,
        highest_pretrained_lr=INFINITE,
        new_lr=1.0,
        highest_lr=INFINITE,
        fine=False,
        precision="bf16",
        backbone=None,
        data="market1501",
        depth=1.0,
        temperature=1.0,
        epoch_images=0,
        domain_images=0,
    ),
}
RULES = {
    "epochs": lambda value, profile: max(1, round(value * profile.time)) if value else 0,
    "pixels": lambda value, profile: round(value * profile.size),
    "pretrained lr": lambda value, profile: raised(
        value, profile.pretrained_lr, profile.highest_pretrained_lr
    ),
    "new lr": lambda value, profile: raised(value, profile.new_lr, profile.highest_lr),
    # per step, of a domain: fewer steps remember as much of the training
    "decay": lambda value, profile: value ** (1 / share_of_steps(profile)),
    # a pair stands beside an image: an epoch of both has as many images as one of images alone
    "pairs": lambda value, profile: value or profile.epoch_images // 2,
    # of cosines between towers: an assumption about CLIP keeps its ratio to what CLIP was pretrained with
    "temperature": lambda value, profile: value * profile.temperature,
    "scale": lambda value, profile: value if value == 1 else value / profile.temperature,  # 1: a plain cosine
    "blocks": lambda value, profile: max(1, round(value * profile.depth)) if value else 0,
    # prompts: as many per patch of the smaller image
    "tokens": lambda value, profile: max(1, round(value * profile.size**2)) if value else 0,
    "backbone": lambda value, profile: profile.backbone or value,
    "weights": lambda value, profile: profile.backbone or value,
    "imagenet": lambda value, profile: f"{profile.backbone}_vit" if profile.backbone else value,
}


def raised(rate, factor, highest):
    """A learning rate times a factor, but no higher than `highest`, unless it was higher before."""
    return max(rate, min(rate * factor, highest))


def share_of_steps(profile):
    """Steps of a training on a domain in a profile, as a share of the paper's on Market-1501."""
    return profile.time * (profile.domain_images / MARKET_IMAGES if profile.domain_images else 1)


def ruled(rule, value, profile):
    """A value, or every value of a (nested) tuple, as a rule of RULES makes it in a profile."""
    if isinstance(value, tuple):
        return tuple(ruled(rule, one, profile) for one in value)
    return RULES[rule](value, profile)


def profile_called(name):
    if name not in PROFILES:
        raise ValueError(f"expected a profile among {', '.join(PROFILES)}, found {name!r}; correct it.")
    return PROFILES[name]


def one_of(choices, word, field):
    """The entry of a dict of choices that a field of a recipe names."""
    if word not in choices:
        raise ValueError(
            f"expected {field} among {', '.join(map(str, choices))}, found {word!r}; correct it."
        )
    return choices[word]


RANGES = (  # what the name of a field says of its numbers: pattern, lowest, highest; the first that fits
    (r"^image_(height|width)$", 1, 1024),  # more than any paper's; a thousand times that fills every memory
    (r"epochs$", 0, 1000),  # the number of a checkpoint has room for so many
    (r"^stride$|batch|images_per_id$|span$|_heads$|head_width$|hidden_dim$", 1, sys.maxsize),
    (r"_p$|dropout|smoothing|_area_|alpha|decay_factor$", 0, 1),  # probabilities and shares
    (r"temperature$|^norm_std$|aspect$", 1e-6, sys.float_info.max),  # divided by
    (r"", 0, sys.float_info.max),  # nothing is below zero, infinite or no number
)
KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def check(field, value):
    """ValueError unless a value is of a recipe field's kind, as its type and default tell, and each of its
    numbers within the field's RANGES. None stands for random weights in `pretrained`, and nowhere else."""
    if value is None and field.name == "pretrained":
        return
    if not fits(field, value):
        raise ValueError(
            f"expected {field.name} to be {kind_of(field)}, found {value!r:.60}; correct the value (numbers "
            "have a decimal point, never a comma)."
        )
    low, high = range_of(field.name)
    for number in leaves(value):
        if isinstance(number, (int, float)) and not low <= number <= high:  # NaN is in no range
            raise ValueError(
                f"expected {field.name} from {low:g} to {high:g}, found {number!r:.60}; correct the value."
            )


def fits(field, value):
    """Whether a value is of a field's kind; a tuple of numbers with a decimal point keeps its length."""
    if not isinstance(field.default, tuple):
        return is_of(value, field.type)
    by_position = field.metadata["by"]  # then one value may stand alone, for one data set of an order
    inner = type(leaves(field.default)[0])
    if not isinstance(value, tuple) and not by_position:
        return False
    if inner is float and not by_position and len(value) != len(field.default):
        return False
    return all(is_of(leaf, inner) for leaf in leaves(value))


def is_of(value, kind):
    """Whether a value is of a type or union of types: a whole number is a number, and True is neither."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (isinstance(value, int) and isinstance(0.0, kind))


def kind_of(field):
    """The kind of a field in words."""
    if isinstance(field.default, tuple):
        return f"values like {field.default}"
    kinds = get_args(field.type) or (field.type,)  # of a union, its members
    return " or ".join(KINDS[kind] for kind in kinds)


def leaves(value):
    """The values within a nested tuple, in a list."""
    if not isinstance(value, tuple):
        return [value]
    return [leaf for one in value for leaf in leaves(one)]


@functools.cache
def range_of(name):
    """(lowest, highest) of the numbers of a field."""
    return next((low, high) for pattern, low, high in RANGES if re.search(pattern, name))


def literal(text):
    """What a user typed as a value: a Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


class Line(NamedTuple):
    """One row of a recipe's table."""

    name: str
    printed: object
    status: str
    where: str
    rule: str
    used: object


@dataclass(frozen=True)
class Recipe:
    """A frozen dataclass per paper; every field is made by stated, released or assumed."""

    for_data: ClassVar[dict] = {}  # data set -> {field: value} that the paper uses there

    def but(self, **changes):
        """The same recipe with some values changed: a variant, an ablation row, a user's wish. ValueError for
        an unknown name, and for a value of another kind or out of range (`check`)."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - set(fields))
        if unknown:
            raise ValueError(
                f"expected fields of {type(self).__name__} ({', '.join(fields)}), found {unknown[0]!r:.60}; "
                "correct the name."
            )
        for name, value in changes.items():
            check(fields[name], value)
        return dataclasses.replace(self, **changes)

    def told(self, changes):
        """The same recipe with changes as a user types them: "name=value" each. Text stays text, whatever it
        looks like."""
        kinds = {field.name: field.type for field in dataclasses.fields(self)}
        values = {}
        for change in changes:
            name, _, text = change.partition("=")
            value = literal(text)
            values[name] = text if kinds.get(name) is str and not isinstance(value, str) else value
        return self.but(**values)

    def at(self, profile):
        """What the recipe becomes in a profile: every field follows its rule, nothing else changes."""
        every = {field.name: field.metadata["rule"] for field in dataclasses.fields(self)}
        rules = {name: rule for name, rule in every.items() if rule}
        led = {name: rule.removeprefix("as ") for name, rule in rules.items() if rule.startswith("as ")}
        free = {name: rule for name, rule in rules.items() if name not in led}
        own = {name: ruled(rule, getattr(self, name), profile) for name, rule in free.items()}
        ratios = {name: getattr(self, name) / getattr(self, leader) for name, leader in led.items()}
        following = {name: ratio * own[led[name]] for name, ratio in ratios.items()}
        return self.but(**own, **following)

    def on(self, data, position=None):
        """The recipe on a data set: with the settings that the paper has for it (`for_data`) where nobody has
        changed them, and on the `position`-th (from 1) of an order with one value left of every field by
        position."""
        changed = self.changes()
        own = {name: value for name, value in self.for_data.get(data, {}).items() if name not in changed}
        there = self.but(**own)
        fields = [field.name for field in dataclasses.fields(self) if field.metadata["by"] == "position"]
        return there.but(**{name: at_position(getattr(there, name), position) for name in fields if position})

    def table(self):
        """A Line per field: printed value, origin, place or reason, rule, and the value that this run
        uses."""
        return [
            Line(
                f.name,
                f.default,
                f.metadata["status"],
                f.metadata["where"],
                f.metadata["rule"] or "",
                getattr(self, f.name),
            )
            for f in dataclasses.fields(self)
        ]

    def changes(self):
        """{field: value} where this recipe differs from what is printed."""
        return {line.name: line.used for line in self.table() if line.used != line.printed}


def at_position(values, position):
    """The value of a data set in an order; the last one stands for all later ones. What was picked already
    stays."""
    return values[min(position, len(values)) - 1] if isinstance(values, tuple) else values


def values_of(variant):
    """{field: value} of a variant: a dict whose entries are made by stated, released or assumed."""
    return {name: field.default for name, field in variant.items()}
