"""What is measured (`Spec`), what is kept of it (`Run`), and where it lies (`Shelf`).

A run is one JSON file at <shelf>/<method>/<variant>/<row>/<data>-<profile>-s<seed>.json; its visuals lie
beside it in an .npz.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_prep import catalogue
from data_prep.catalogue import ROOT, build_folder
from reid_core import checkpoint, train
from reid_core.data import load_data
from reid_core.methods import METHODS
from reid_core.methods.base import LifelongMethod
from reid_core.recipe import profile_called
from reid_core.runs import averages, provenance, records

FORMAT = 2
SEEDS = 2**63  # of a training: from 0 to this, which is what torch's generator takes
CHANGE = re.compile(r" \+ (?=[A-Za-z_]\w*=)")  # before a change of a row; a value may hold " + " itself
INITIAL = "init_from="  # begins the one change that is no setting: whose weights a training starts from
LONGEST = 60  # characters of a slug that digits follow: file systems allow 255 bytes


class Spec(NamedTuple):
    """What is measured. `row` is an ablation row, possibly with changes: "full + stage2_epochs=2"."""

    method: str
    variant: str
    row: str = "full"
    data: str = "world_market"
    profile: str = "laptop"
    seed: int = 0

    @property
    def same(self):
        """The spec under which this one is measured: rows with the same settings are one run, under the
        name of the first, and a table is named by its whole path."""
        row, *changes = CHANGE.split(self.row)
        alike = first_alike(self.method, self.variant, row)
        data = catalogue.whole_name(self.data)
        return self._replace(row=" + ".join([alike, *changes]), data=data)

    @property
    def name(self):
        """The run's path below its shelf, without the ending. No two specs share one: digits follow a row
        with changes, and data whose name the path cannot hold."""
        declared = self.row in METHODS[self.method].rows
        row = slug(self.row) if declared else distinct(self.row)
        place = "/".join((slug(self.method), slug(self.variant), row))
        data = distinct(catalogue.whole_name(self.data))
        return f"{place}/{data}-{self.profile}-s{self.seed}"

    def check(self):
        """Self; ValueError for an unknown profile, method, variant or row, a seed that no generator takes, a
        setting that the recipe cannot have, and for a row about another backbone in a profile that has its
        own."""
        profile_called(self.profile)
        known(METHODS, self.method, "method")  # first: the other names are those of its paper
        paper = METHODS[self.method]
        row = CHANGE.split(self.row)[0]
        known(paper.variants, self.variant, f"variant of {self.method}")
        known(paper.rows_of(self.variant), row, f"row of {self.method}'s variant {self.variant}")
        own = profile_called(self.profile).backbone  # None in the profile paper
        if own and "backbone" in paper.rows[row]:
            raise ValueError(
                f"expected the profile paper for the row {self.row!r}, which is about another tower, found "
                f"{self.profile}, which has its own ({own}); choose paper or another row."
            )
        in_turn = self.data.startswith(catalogue.LIFELONG)
        if in_turn and not self.lifelong:
            raise ValueError(
                f"expected a lifelong method for the order {self.data}, found {self.variant}, which trains "
                "once; choose another, or join the data sets with +."
            )
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"expected a seed from 0 to {SEEDS - 1}, found {self.seed}; choose another.")
        self.recipe()
        return self

    def recipe(self):
        """The recipe of this row in this profile; changes after " + " are applied last."""
        row, *changes = CHANGE.split(self.row)
        changes = [change for change in changes if not change.startswith(INITIAL)]
        paper = METHODS[self.method]
        recipe = paper.recipe_of(self.variant, row, catalogue.bare(self.data)).at(
            profile_called(self.profile)
        )
        return recipe.told(changes)

    @property
    def initial(self):
        """The run whose weights this one starts from, and digits of them (`runs.initial`), or ""."""
        told = [one for one in CHANGE.split(self.row)[1:] if one.startswith(INITIAL)]
        return told[-1].removeprefix(INITIAL) if told else ""

    @property
    def lifelong(self):
        """Whether the method meets domains one after the other."""
        return issubclass(METHODS[self.method].variants[self.variant].kind, LifelongMethod)

    @property
    def epoch_images(self):
        """How many images an epoch has at least (`train.passes`)."""
        profile = profile_called(self.profile)
        return profile.domain_images if self.lifelong else profile.epoch_images

    @property
    def first_data(self):
        """The name of the data set that a method is built for: the first of an order."""
        in_turn = self.data.startswith(catalogue.LIFELONG)
        return catalogue.order(self.data)[0] if in_turn else self.data

    def build(self, data=None):
        """(method, data) before training, on the CPU, with the initial weights of the spec's seed."""
        recipe = self.check().recipe()
        data = data or load_data(self.first_data, self.profile)
        train.seed_all(self.seed)  # directly before, so that nothing else draws from it
        method = METHODS[self.method].variants[self.variant].kind(recipe, data)
        return method, data


def training_folder(name):
    """Where the training of a run leaves its checkpoints, its log and its weights."""
    return build_folder() / "runs" / name


def changed(row, changes):
    """The name of a row with changes "name=value"; ValueError for one that is none."""
    for change in changes:
        if not CHANGE.match(f" + {change}"):
            raise ValueError(
                f"expected a change FIELD=VALUE of the recipe, found {change!r:.60}; correct it."
            )
    return " + ".join([row, *changes])


@functools.cache
def first_alike(method, variant, row):
    """The first row of a variant with the same settings as this one."""
    paper = METHODS[method]
    rows = paper.rows_of(variant)
    known(rows, row, f"row of {method}'s variant {variant}")
    wanted = paper.recipe_of(variant, row)
    return next(name for name in rows if paper.recipe_of(variant, name) == wanted)  # the row at the latest


def known(names, name, what):
    """ValueError unless `name` is among `names`; `what` says what it names."""
    if name not in names:
        raise ValueError(f"expected a {what} among {', '.join(names)}, found {name!r}; correct the name.")


def distinct(text):
    """A text as part of a path: as it is where it can be, else its slug and eight digits of its hash, since
    other texts may have the same slug."""
    short = slug(text)
    if short == text:
        return short
    return f"{short[-LONGEST:]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


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
        """Why the run is stale, or "", without training anything (`provenance.outdated`); cached."""
        return provenance.outdated(self)

    @functools.cached_property
    def tests(self):
        """The records that a page asks for, the first of which stands for the run: the scores; of an order,
        what is left of it at its end (`averages.of_order`)."""
        in_turn = self.spec.data.startswith(catalogue.LIFELONG)
        return averages.of_order(self.scores, self.data["name"]) if in_turn else self.scores

    @property
    def key(self):
        """A digest of spec, data and scores, which the run's visuals carry too."""
        precisions = [record.get("ap", record["summary"]) for record in self.scores]  # (queries,), or short
        told = [self.spec.name, self.data["fingerprint"], precisions]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    @property
    def machine(self):
        """The processor and its threads, or the GPU; and how many other trainings shared it."""
        told = self.provenance
        name = told.get("processor") or told.get("device", "a machine that it does not name")
        many = told.get("threads")
        if "cores" not in told.get("device", "cores"):  # a GPU
            name = told["device"]
        elif many:
            name += f", {many} thread{'' if many == 1 else 's'}"
        others = told.get("beside")
        return f"{name}, beside {others} other training{'' if others == 1 else 's'}" if others else name

    @classmethod
    def read(cls, path):
        """The run in a file; ValueError, which names it, if it holds none."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(
                f"expected a run at {path}, found no file that can be read ({error.strerror}); move away "
                "what lies there, or let it be read."
            ) from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data, where):
        """The run in bytes of JSON; ValueError with the place `where` they stand, if they hold none, or
        scores that its own queries do not give."""
        try:
            kept = upgraded(records.parse(data))
            records.check_run(kept)
            kept["spec"] = Spec(**kept["spec"])
            known(METHODS, kept["spec"].same.method, "method")  # `same` fails for what no paper has
            return cls(**kept)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"expected a run at {where}, found a file that tells of none ({type(error).__name__}: "
                f"{error}); remove it and measure again."
            ) from error

    def record(self, test=None):
        """The record of a test: "image to image", or "image to image on world_msmt" for another data set
        than the run's own; None: the first. ValueError if the run has no such test."""
        for record in self.tests:  # in their order, so None is the method's first
            if test is None or asked_by(test, record, self.data["name"]):
                return record
        raise ValueError(
            f"expected a test {test!r} in the run {self.spec.name}, found "
            f"{', '.join(map(title_of, self.tests))}; correct the name."
        )

    def has(self, test):
        """Whether the run holds this test."""
        return any(asked_by(test, record, self.data["name"]) for record in self.tests)

    def protocol(self, test=None):
        """The protocol of a test in words; "" in runs older than this field."""
        return self.record(test).get("protocol", "")

    def score(self, metric="mAP", test=None):
        """A number of a test's summary (`Scores.summary`), in per cent."""
        return self.record(test)["summary"][metric]


def upgraded(kept):
    """The fields of a run as of today, from a file of any FORMAT.

    Before format 2 scores were {"task" or "task on data": scores}, and the data's origin was called label.
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
    """Whether the name of a test means this record, in a run trained on the data set `own`."""
    task, _, data = test.partition(" on ")
    return record["task"] == task and record["data"] == (data or own)


def title_of(record):
    return f"{record['task']} on {record['data']}"


def as_json(value):
    """Indented JSON with every list of numbers on one line, so that a run takes a few hundred lines."""
    text = json.dumps(value, indent=1)
    # innermost brackets with numbers alone: a list with a name, a list or NaN in it stays as it is
    numbers = re.compile(r"\[\s*(-?[\d.eE+-]+(?:,\s*-?[\d.eE+-]+)*)\s*\]")
    return numbers.sub(on_one_line, text) + "\n"


def on_one_line(found):
    """The match of a list of numbers in JSON, without its line breaks."""
    return "[" + re.sub(r"\s+", " ", found[1]) + "]"


@dataclass(frozen=True)
class Shelf:
    """A folder of runs. `find` tries the shelf `behind` for what is not on this one."""

    name: str
    place: Callable  # () -> Path
    behind: "Shelf | None" = None

    def folder(self):
        return self.place()

    def path(self, spec):
        return self.folder() / f"{spec.same.name}.json"

    def pictures(self, spec):
        """The file of a run's visuals (`analysis.visuals`)."""
        return self.path(spec).with_suffix(".npz")

    def lacks_pictures(self, run):
        """Whether no visuals of a run lie beside it, or those of another run of its name."""
        try:
            return records.key_of(self.pictures(run.spec)) != run.key
        except ValueError:
            return True

    def at(self, spec):
        """The run of a spec on this shelf alone, or None."""
        path = self.path(spec)
        return self.read(path) if path.exists() else None

    def read(self, path):
        """The run in a file of this shelf; ValueError if it is one of another name."""
        run = Run.read(path)
        names = (run.spec.name, run.spec.same.name)
        if path not in [self.folder() / f"{name}.json" for name in names]:
            raise ValueError(
                f"expected the run that its name tells at {path}, found {run.spec.name}; move it there, or "
                "measure again."
            )
        return run

    def find(self, spec):
        """The run of a spec here or on the shelf behind, or None: "not run"."""
        here = self.at(spec)
        if here or not self.behind:
            return here
        return self.behind.find(spec)

    def load(self, **wanted):
        """Every run of this shelf whose spec has the `wanted` values, in order of path."""
        runs = [self.read(path) for path in sorted(self.folder().glob("*/*/*/*.json"))]
        for name, value in wanted.items():
            runs = [run for run in runs if getattr(run.spec, name) == value]
        return runs

    def check_place(self):
        """ValueError if a reader's own runs would go where those of the shelf behind lie."""
        here = self.folder().resolve()
        if self.behind and here.is_relative_to(self.behind.folder().resolve()):
            raise ValueError(
                f"expected another folder for own runs than {self.behind.folder()}, which holds the "
                f"{self.behind.name}'s, found {self.folder()}; set REID_BUILD to another, or use --into-book."
            )

    def write(self, run):
        """Save a run, whole or not at all, as the last step of measuring it. Visuals of an older run of its
        name go first: a page would refuse them."""
        self.check_place()
        path = self.path(run.spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.lacks_pictures(run):
            self.pictures(run.spec).unlink(missing_ok=True)
        told = {"format": FORMAT, **dataclasses.asdict(run)}
        told["spec"] = run.spec._asdict()  # JSON would make a list of a tuple
        checkpoint.write(path, as_json(told).encode())
        return run


# functions, since tests and readers set $REID_BUILD after the import
BOOK = Shelf("book", lambda: ROOT / "results")  # the committed runs, which the book prints
OWN = Shelf("own", lambda: build_folder() / "results", behind=BOOK)  # what a reader trains
