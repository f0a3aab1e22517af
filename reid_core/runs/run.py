"""What is measured (`Spec`), what is kept of it (`Run`), and where it lies (`Shelf`).

A run is one JSON file at <shelf>/<method>/<variant>/<row>/<data>-<profile>-s<seed>.json, with pictures beside
it in an .npz.
"""

import ast
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_prep.catalogue import ROOT, build_folder
from reid_core import checkpoint, train
from reid_core.data import load_data
from reid_core.methods import METHODS
from reid_core.recipe import profile_called
from reid_core.runs import provenance

FORMAT = 2


class Spec(NamedTuple):
    """What is measured. A row is one of the paper's, possibly with changes: "full + stage2_epochs=2"."""

    method: str
    variant: str
    row: str = "full"
    data: str = "world_market"
    profile: str = "laptop"
    seed: int = 0

    @property
    def same(self):
        """The spec under which this one is measured: rows with the same settings are one run, named by the
        first."""
        row, *changes = self.row.split(" + ")
        return self._replace(row=" + ".join([first_alike(self.method, self.variant, row), *changes]))

    @property
    def name(self):
        place = "/".join(map(slug, (self.method, self.variant, self.row)))
        return f"{place}/{slug(self.data)}-{self.profile}-s{self.seed}"

    def check(self):
        """Raise for a name that nobody knows, and for a row that means nothing here."""
        profile_called(self.profile)
        known(METHODS, self.method, "method")
        paper, row = METHODS[self.method], self.row.split(" + ")[0]
        known(paper.variants, self.variant, f"variant of {self.method}")
        known(paper.rows_of(self.variant), row, f"row of {self.method}'s variant {self.variant}")
        own = profile_called(self.profile).backbone
        if own and "backbone" in paper.rows[row]:
            raise ValueError(
                f"expected the profile paper for the row {self.row!r}, which is about another tower, found "
                f"{self.profile}, which has its own ({own}); choose paper or another row."
            )
        return self

    def recipe(self):
        """The recipe of this row in this profile; changes after " + " have the last word."""
        row, *changes = self.row.split(" + ")
        paper, data = METHODS[self.method], self.data.partition("#")[0]
        recipe = paper.recipe_of(self.variant, row, data).at(profile_called(self.profile))
        return recipe.but(**dict(literal(change) for change in changes))

    def build(self, data=None):
        """(method, data) before training, on the CPU."""
        recipe = self.check().recipe()
        data = data or load_data(self.data, self.profile)
        train.seed_all(self.seed)
        return METHODS[self.method].variants[self.variant].kind(recipe, data), data


@functools.cache
def first_alike(method, variant, row):
    """The first row of a variant that has the same settings as this one."""
    paper = METHODS[method]
    rows = paper.rows_of(variant)
    known(rows, row, f"row of {method}'s variant {variant}")
    wanted = paper.recipe_of(variant, row)
    return next(name for name in rows if paper.recipe_of(variant, name) == wanted)


def known(names, name, what):
    if name not in names:
        raise ValueError(f"expected a {what} among {', '.join(names)}, found {name!r}; correct the name.")


def literal(change):
    """ "name=value" -> (name, value), the value as Python would read it, or a string."""
    name, _, text = change.partition("=")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, text


def slug(text):
    return re.sub(r"[^a-z0-9_]+", "-", str(text).lower()).strip("-")


@dataclass(frozen=True)
class Run:
    """Everything that is kept of a run.

    `scores` is a list of records {"data", "task", "after", "summary", "ap", "first", "pids", "skipped",
    "protocol"}: the test `task` on the set `data`, in a lifelong run after the domain `after` ("" elsewhere);
    AP in 0..1.
    """

    spec: Spec
    data: dict  # name, origin, fingerprint, seed, counts
    recipe: dict  # every field as used
    changes: dict  # the fields that differ from what is printed
    scores: list
    history: list
    cost: dict  # minutes, images per second, peak memory, parameters
    provenance: dict  # commit, clean, versions, machine, weights, precision
    fingerprint: dict = field(default_factory=dict)  # hashes, and what `train.probe_losses` found

    @functools.cached_property
    def outdated(self):
        """Why it no longer holds, as far as can be told at a glance (`provenance.outdated`): told once, when
        first asked."""
        return provenance.outdated(self)

    @property
    def key(self):
        """What a run and its pictures have in common: a digest of spec, data and scores."""
        told = [self.spec.name, self.data["fingerprint"], [record["ap"] for record in self.scores]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    @classmethod
    def read(cls, path):
        return cls.parse(Path(path).read_bytes(), path)

    @classmethod
    def parse(cls, data, where):
        """The run that bytes of JSON tell of; one sentence with the place where they stand, if they tell of
        none."""
        try:
            kept = upgraded(json.loads(data))
            return cls(**{**kept, "spec": Spec(**kept["spec"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"expected a run at {where}, found a file that tells of none ({type(error).__name__}: "
                f"{error}); remove it and measure again."
            ) from error

    def record(self, test=None):
        """The record of a test: "image to image", "image to image on world_msmt" for another data set than
        its own; None: the first."""
        found = [
            record for record in self.scores if test is None or asked_by(test, record, self.data["name"])
        ]
        if not found:
            raise ValueError(
                f"expected a test {test!r} in the run {self.spec.name}, found "
                f"{', '.join(map(title_of, self.scores))}; correct the name."
            )
        return found[0]

    def has(self, test):
        """Whether the run holds this test."""
        return any(asked_by(test, record, self.data["name"]) for record in self.scores)

    def protocol(self, test=None):
        """What was ranked against what in one test, in words; "" in runs that did not say it yet."""
        return self.record(test).get("protocol", "")

    def score(self, metric="mAP", test=None):
        """A summary number in per cent."""
        return self.record(test)["summary"][metric]


def upgraded(kept):
    """The fields of a run as of today, from a file of any FORMAT there was.

    Before format 2 scores were {"task" or "task on data": scores}, and the origin of the data was its label.
    """
    version = kept.pop("format")
    if version not in (1, FORMAT):
        raise ValueError(f"format {version}, where {FORMAT} is the newest that this version knows")
    if version == FORMAT:
        return kept
    data = {"origin": kept["data"].pop("label"), **kept["data"]}
    records = []
    for name, scores in kept["scores"].items():
        task, _, other = name.partition(" on ")
        records.append({"data": other or data["name"], "task": task, "after": "", **scores})
    return {**kept, "data": data, "scores": records}


def asked_by(test, record, own):
    """Whether the name of a test means this record of a run on the data set `own`."""
    task, _, data = test.partition(" on ")
    return record["task"] == task and record["data"] == (data or own)


def title_of(record):
    return f"{record['task']} on {record['data']}"


def as_json(value):
    """Indented text in which a list of numbers takes one line, so that a new run is read as a few hundred
    lines, not 100,000."""
    text = json.dumps(value, indent=1)
    numbers = re.compile(r"\[\s*(-?[\d.eE+-]+(?:,\s*-?[\d.eE+-]+)*)\s*\]")
    return numbers.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


@dataclass(frozen=True)
class Shelf:
    """A folder of runs. What is not found on it is looked for on the one `behind`."""

    name: str
    place: Callable  # () -> Path
    behind: "Shelf | None" = None

    def folder(self):
        return self.place()

    def path(self, spec):
        return self.folder() / f"{spec.same.name}.json"

    def pictures(self, spec):
        """Where what a run shows lies (`analysis.visuals`)."""
        return self.path(spec).with_suffix(".npz")

    def at(self, spec):
        """The run of a spec on this shelf alone, or None."""
        path = self.path(spec)
        return Run.read(path) if path.exists() else None

    def find(self, spec):
        """The run of a spec here or on the shelf behind, or None: "not run"."""
        return self.at(spec) or (self.behind.find(spec) if self.behind else None)

    def load(self, **wanted):
        """Every run of this shelf whose spec has the values that are named, in order of path."""
        runs = [Run.read(path) for path in sorted(self.folder().glob("*/*/*/*.json"))]
        return [
            run for run in runs if all(getattr(run.spec, name) == value for name, value in wanted.items())
        ]

    def write(self, run):
        """Save a run, whole or not at all, as the very last act of measuring it."""
        path = self.path(run.spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {"format": FORMAT, **dataclasses.asdict(run), "spec": run.spec._asdict()}
        checkpoint.write(path, as_json(told).encode())
        return run


BOOK = Shelf("book", lambda: ROOT / "results")  # the committed runs, which the book prints
OWN = Shelf("own", lambda: build_folder() / "results", behind=BOOK)  # a reader's own
