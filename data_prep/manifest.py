"""The contract between data and everything else: a table with one row per image. These are its columns; all
but the first four have defaults.

path      str    relative to the root
pid       int    person or vehicle; 0 and above. A gallery pid that no query has is a distractor
camid     int    as the dataset prints it; like pid, scene and shot, from 0 to 2^53
split     str    train, val, query or gallery
domain    str    which dataset (or world domain) the image comes from
modality  str    rgb, nir or tir
scene     int    0 where a dataset has none
shot      int    rows of one shot are the spectra of one moment
tile      int    which third of the file's width the image is, from 0; -1 the whole file
captions  tuple  sentences about this image, possibly none
parts     tuple  its part descriptions (head, upper, lower, foot), possibly none
"""

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep.texts import read_csv, sentences_in

SPLITS = ("train", "val", "query", "gallery")
MODALITIES = ("rgb", "nir", "tir")
REQUIRED = ("path", "pid", "camid", "split")
DEFAULTS = {
    "domain": "",
    "modality": "rgb",
    "scene": 0,
    "shot": None,  # a number of its own for every row
    "captions": (),
    "parts": (),
    "tile": -1,
}
COLUMNS = REQUIRED + tuple(DEFAULTS)
LISTS = ("captions", "parts")
BOUNDS = dict.fromkeys(("pid", "camid", "scene", "shot"), (0, 2**53))  # further, tables of others round
BOUNDS["tile"] = (-1, 2)
NONE = -2  # for what is no number: outside all bounds
PROTOCOLS = {  # name -> the column that a gallery image must not share with a query of its own identity
    "market": "camid",
    "scene": "scene",
    "all": None,
}


class Trials(NamedTuple):
    """A test that is a mean over several draws of queries and gallery from the same images."""

    words: str  # whose draws these are, and how many
    draws: tuple  # pairs of positions: in the query split, in the gallery split


@dataclass(frozen=True)
class Manifest:
    """What is on disk. `origin` is "real" or "world", and every number made from the data carries it."""

    name: str
    root: Path
    table: pd.DataFrame
    origin: str = "real"
    protocol: str = "market"
    seed: int | None = None
    notes: tuple = ()
    scene_fingerprint: str = field(default="", compare=False)
    trials: Trials | None = None
    # the file of anybody's own table: two such sets are strangers, even where their files have one name
    place: Path | None = field(default=None, compare=False)
    parts: tuple = field(default=(), compare=False)  # the manifests that a joint one was made of

    def split(self, *names):
        """The rows of the named splits, in table order, with their positions in the table as index."""
        return self.table[self.table.split.isin(names)]

    def counts(self):
        """{split: {"identities", "images", "cameras", "captions"}}; captions are counted one by one."""
        found = {}
        for name in SPLITS:
            rows = self.split(name)
            if len(rows):
                found[name] = {
                    "identities": rows.pid.nunique(),
                    "images": len(rows),
                    "cameras": rows.camid.nunique(),
                    "captions": int(rows.captions.map(len).sum()),
                }
        return found

    @property
    def fingerprint(self):
        """Sixteen hexadecimal digits. A world's is the hash of its integer scene parameters (it knows them);
        any other is the hash of the table and of the file sizes."""
        if self.scene_fingerprint:
            return self.scene_fingerprint
        digest = hashlib.sha256()
        for row in self.table.itertuples(index=False):
            size = (self.root / row.path).stat().st_size
            text = json.dumps([*row, size], default=str)
            digest.update(text.encode())
        if self.trials:
            digest.update(json.dumps(self.trials.draws).encode())
        return digest.hexdigest()[:16]

    def write(self, path):
        """Save as CSV, lists as JSON: anybody's own data can be described this way and read back. Paths in it
        are relative to the CSV, which therefore has to lie at the root or above it; for trials a table has no
        place."""
        if self.trials:
            raise ValueError(
                f"{self.name}: expected one query set and one gallery, found trials ({self.trials.words}); "
                "name the data set itself wherever a CSV is asked for."
            )
        folder = Path(path).resolve().parent
        root = self.root.resolve()
        if not root.is_relative_to(folder):
            raise ValueError(
                f"expected a file in {root} or above it, found {path}; save the table there: its paths are "
                "relative to it."
            )
        table = self.table.copy()
        table["path"] = [str(root.relative_to(folder) / image) for image in table.path]
        for column in LISTS:
            table[column] = table[column].map(json.dumps)
        table.to_csv(path, index=False, encoding="utf-8")

    @classmethod
    def read(cls, path, root=None, name=None):
        """The inverse of `write`; missing optional columns take their defaults."""
        path = Path(path)
        return from_table(name or path.stem, root or path.parent, read_table(path), place=path.resolve())

    def without_unmatched_queries(self):
        """The same data without the queries that no gallery image can answer; trials would count on them."""
        if self.trials:
            return self
        alone = unmatched_queries(self)
        if not alone:
            return self
        asked = len(self.split("query"))
        left = f"{asked - len(alone)} of {asked} queries left: the others have no match in the gallery"
        kept = self.table.drop(index=alone).reset_index(drop=True)
        return replace(self, table=kept, notes=(*self.notes, left))


def read_table(path):
    """The rows of a CSV that `Manifest.write` or anybody else wrote. ValueError where it is no CSV or a list
    is no JSON."""
    table = read_csv(path)
    for column in set(LISTS) & set(table.columns):
        table[column] = [told(path, column, text) for text in table[column]]
    return table


def told(path, column, text):
    """The sentences in one cell."""
    try:
        value = json.loads(text or "[]")
    except (ValueError, RecursionError):
        value = text  # which is no list, and shown
    what = f"a JSON list of sentences in the column {column} of {path}"
    return sentences_in(value, what, 'write it like ["a man in red"]')


def from_table(name, root, table, drop_unmatched_queries=False, tests=None, **more):
    """A Manifest that passed `tests` (all of CHECKS unless told). `table` needs path, pid, camid and split;
    the other columns have defaults. ValueError, in one sentence, where a test fails."""
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise ValueError(
            f"{name}: expected the columns {', '.join(REQUIRED)}, found "
            f"{', '.join(map(str, table.columns))[:200]}; add {', '.join(missing)}."
        )
    table = table.reset_index(drop=True).copy()
    if "shot" not in table:
        table["shot"] = list(range(len(table)))
    for column, value in DEFAULTS.items():
        if column not in table:
            table[column] = [value] * len(table)  # a list, as pandas would spread a tuple over rows
    table.loc[table.domain == "", "domain"] = name
    # the fingerprint hashes rows as they stand: in the order of COLUMNS, and no other columns
    manifest = Manifest(name, Path(root), table[list(COLUMNS)], **more)
    if drop_unmatched_queries:
        manifest = manifest.without_unmatched_queries()
    check(manifest, tests)
    return manifest


def check(manifest, tests=None):
    """Raise ValueError, in one sentence, for what would spoil a run."""
    for test in CHECKS if tests is None else tests:
        test(manifest)


def not_empty(manifest):
    if not len(manifest.table):
        raise ValueError(
            f"{manifest.name}: expected images, found none in {manifest.root}; check the folder."
        )


def known_words(manifest):
    for column, words in (("split", SPLITS), ("modality", MODALITIES)):
        unknown = sorted(set(manifest.table[column]) - set(words))
        if unknown:
            raise ValueError(
                f"{manifest.name}: expected the column {column} to hold {', '.join(words)}, found "
                f"{unknown[0]!r}; rename it."
            )


def whole_numbers(manifest):
    for column, (least, most) in BOUNDS.items():
        values = manifest.table[column].to_numpy()
        exact = np.issubdtype(values.dtype, np.integer)
        numbers = values if exact else np.array([whole(value) for value in values], object)
        wrong = np.flatnonzero((numbers < least) | (numbers > most))
        if len(wrong):
            found = values[wrong[:1]].tolist()[0]
            raise ValueError(
                f"{manifest.name}: expected whole numbers in the column {column}, found {found!r} in row "
                f"{wrong[0]}; correct it: they go from {least} to {most}."
            )
        manifest.table[column] = numbers.astype(np.int64)  # watch out: this check also converts


def whole(value):
    """The exact integer that a cell holds, or NONE: floats would make two long numbers one."""
    match = re.fullmatch(r"\s*([+-]?\d{1,20})(\.0*)?\s*", str(value))
    return int(match[1]) if match else NONE


def files_once(manifest):
    twice = manifest.table[manifest.table.duplicated(["path", "modality", "split"])]
    if len(twice):
        raise ValueError(
            f"{manifest.name}: expected every image once in a split, found {twice.path.iloc[0]} again "
            f"({len(twice)} such rows); remove the repetitions."
        )


def paths_inside(manifest):
    for path in manifest.table.path:
        if leaves(path):
            raise ValueError(
                f"{manifest.name}: expected paths below {manifest.root}, found {path}, which leaves it; "
                "correct the list."
            )


def leaves(path):
    """Whether a relative path leads out of its root."""
    return path.startswith("/") or ".." in path.split("/")


def files_exist(manifest):
    paths = manifest.table.path.unique()
    lost = [path for path in paths if not os.path.isfile(manifest.root / path)]
    if lost:
        raise ValueError(
            f"{manifest.name}: expected the image {lost[0]} in {manifest.root}{how_many(lost, paths)}, found "
            "nothing; add it or remove its row."
        )


def how_many(lost, paths):
    """In words, where more than one image is missing: how many, of how many, and from which folder."""
    if len(lost) == 1:
        return ""
    listed = Counter(map(os.path.dirname, paths))
    folder, number = Counter(map(os.path.dirname, lost)).most_common(1)[0]
    return (
        f" ({len(lost)} of {len(paths)} images are missing, {number} of the {listed[folder]} in "
        f"{folder or 'the folder itself'})"
    )


def distractors(manifest):
    """Which rows (a boolean column) are nobody: pid 0 in a gallery where no query has it. Where sentences ask
    (protocol "all"), 0 is somebody."""
    table = manifest.table
    asked = manifest.protocol == "all" or 0 in set(manifest.split("query").pid)
    return (table.split == "gallery") & (table.pid == 0) & (not asked)


def shots_are_whole(manifest):
    """Every shot of a split has each of its spectra once, of one person before one camera."""
    for split, rows in manifest.table.groupby("split"):
        spectra = rows.modality.nunique()
        if spectra == 1 and rows.shot.is_unique:
            continue  # most sets
        shots = rows.groupby("shot")
        one = (shots[["pid", "camid", "scene"]].nunique() == 1).all(axis=1)
        whole = one & (shots.size() == spectra) & (shots.modality.nunique() == spectra)
        if not whole.all():
            raise ValueError(
                f"{manifest.name}: expected every shot of {split} to be {', '.join(rows.modality.unique())}, "
                f"once each, of one person and camera, found shot {whole.idxmin()} otherwise; correct the "
                "columns shot and modality."
            )


def nobody_in_train_and_test(manifest):
    tested = manifest.table[manifest.table.split.isin(["query", "gallery"]) & ~distractors(manifest)]
    both = set(manifest.split("train").pid) & set(tested.pid)
    if both:
        raise ValueError(
            f"{manifest.name}: expected no identity in both train and test, found {len(both)} (the first is "
            f"{min(both)}); move each to one side."
        )


def queries_have_a_match(manifest):
    alone = unmatched_queries(manifest)
    if len(alone):
        raise ValueError(
            f"{manifest.name}: expected every query to have a true match from another camera in the "
            f"gallery, found {len(alone)} without (the first is {manifest.table.path[alone[0]]}); add "
            f"gallery images{without_cameras(manifest)} or pass --drop-unmatched-queries."
        )


def without_cameras(manifest):
    """What else can be done, in words, where an own table has nothing that tells cameras apart."""
    column = PROTOCOLS[manifest.protocol]
    tested = manifest.split("query", "gallery")
    if not manifest.place or column is None or tested[column].nunique() > 1:
        return ""
    return f", test {manifest.place.name}#all, since there is one {column} alone,"


def unmatched_queries(manifest):
    """Table positions of queries for which no gallery image is left after the protocol's filter, in any
    draw."""
    query = manifest.split("query")
    gallery = manifest.split("gallery")
    column = PROTOCOLS[manifest.protocol]
    if not manifest.trials:
        return unmatched(query, gallery, column)
    found = set()
    for asked, shown in manifest.trials.draws:
        found.update(unmatched(query.iloc[list(asked)], gallery.iloc[list(shown)], column))
    return sorted(found)


def unmatched(query, gallery, column):
    """Index labels of the queries without a gallery image of their identity and another value in `column`."""
    by_pid = Counter(gallery.pid)
    if column is None:
        return [row.Index for row in query.itertuples() if not by_pid[row.pid]]
    same = Counter(zip(gallery.pid, gallery[column]))  # those that the protocol leaves out
    alone = []
    for row in query.itertuples():
        if by_pid[row.pid] == same[row.pid, getattr(row, column)]:
            alone.append(row.Index)
    return alone


FIRST_CHECKS = (not_empty, known_words, whole_numbers)  # without these, nothing else can be asked
CHECKS = (
    *FIRST_CHECKS,
    files_once,
    paths_inside,
    files_exist,
    shots_are_whole,
    nobody_in_train_and_test,
    queries_have_a_match,
)
