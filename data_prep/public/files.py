"""What every reader needs: finding the folder, listing images, parsing names, and checking what was found."""

import json
import os
import re
from pathlib import Path

import pandas as pd

from data_prep.manifest import from_table
from data_prep.public.counts import check_counts, check_shots
from data_prep.public.descriptions import read_descriptions
from data_prep.public.folders import PLACES

IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}
COLUMNS = ["path", "pid", "camid", "split"]


def find_root(root, place):
    """(folder, number of the alternative) where `root`, or a usual folder inside it, holds the data set
    `place` of PLACES. ValueError where it does not."""
    root = Path(root)
    name = place.partition("#")[0]
    if not root.is_dir():
        raise ValueError(
            f"{name}: expected a folder, found nothing at {root}; pass the dataset's own folder."
        )
    for fits in (all, any):  # an incomplete folder is complained of only where no alternative is complete
        for number, (aliases, folders) in enumerate(PLACES[place]):
            for folder in candidates(root, aliases):
                needed = list(wanted(folder, folders).values())
                there = [(folder / one).exists() for one in needed]
                if fits(there):
                    complete(name, folder, needed)
                    return folder, number
    expected = ", ".join(PLACES[place][0].folders.values())
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    raise ValueError(f"{name}: expected {expected} in {root}, found {found}; {advice(root, place)}.")


def candidates(root, aliases):
    """Where a data set may lie below `root`; unseen sets are often gathered in a folder of that name."""
    found = [root]
    for folder in (root, root / "Unseen"):
        found += [folder / alias for alias in aliases]
    return found


def complete(name, folder, needed):
    """ValueError unless everything `needed` lies in `folder`."""
    missing = [one for one in needed if not (folder / one).exists()]
    if missing:
        raise ValueError(
            f"{name}: expected {', '.join(needed)} in {folder}, found no {missing[0]}; unpack the whole "
            "archive."
        )


def advice(root, place):
    """What to do where a folder is not the expected one: it may be another data set."""
    # data sets that are laid out alike fit the same folder, so there may be several
    others = [other for other in PLACES if other != place and looks_like(root, other)]
    if others:
        return f"this looks like {' or '.join(others)}: check it under that name"
    return "pass the folder that holds them"


def looks_like(root, place):
    """Whether everything that a data set needs lies in `root` itself."""
    for option in PLACES[place]:
        if all((root / folder).exists() for folder in option.folders.values()):
            return True  # one of its forms is enough
    return False


def wanted(root, folders):
    """The folders that must be there: a world that is for testing alone has no training images."""
    card = world_card(root)
    needed = dict(folders)  # a copy: PLACES stays as it is
    if card and "train" not in card["counts"]:
        needed.pop("train", None)
    return needed


def world_card(root):
    """What the `world.json` of a synthetic root says, or {} where there is none. ValueError for one that
    cannot be read or is of another version."""
    path = Path(root) / "world.json"
    if not path.exists():
        return {}
    try:
        card = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected a readable world.json in {root}, found {error}; make the world again."
        ) from None
    missing = [key for key in ("name", "seed", "fingerprint", "counts", "reader") if key not in card]
    if missing:
        raise ValueError(
            f"expected {', '.join(missing)} in {path}, found a world of version "
            f"{card.get('version', 'unknown')}; remove the folder and make the world again."
        )
    return card


def images(folder):
    """Image files in name order, whatever the case of their ending; anything else (Thumbs.db, hidden files)
    is passed over."""
    folder = Path(folder)
    names = sorted(name for name in os.listdir(folder) if is_image(name))
    if not names:
        raise ValueError(f"{folder.name}: expected images, found none in {folder}; unpack the archive again.")
    return [folder / name for name in names]


def is_image(name):
    """Whether a file's name is that of an image."""
    ending = os.path.splitext(name)[1].lower()
    return name[0] != "." and ending in IMAGES


def parse(pattern, path, grammar):
    """The integers that `pattern` finds in the name of the file `path`; ValueError, with the `grammar` of
    such names, where it finds none."""
    match = re.match(pattern, path.name)
    if not match:
        raise ValueError(
            f"expected a file name like {grammar}, found {path.name} in {path.parent}; rename or remove it."
        )
    return tuple(map(int, match.groups()))  # leading zeros are allowed


def lines(path, fields, grammar):
    """The fields of every line of a list, split at the last blanks; ValueError for a line that has others."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = line.rsplit(maxsplit=fields - 1)  # a path may hold blanks
        if line.strip() and (len(found) != fields or not found[-1].isdigit()):
            raise ValueError(
                f"expected lines like {grammar} in {path}, found {line.strip()!r} in line {number}; use the "
                "list of the release."
            )
        if line.strip():  # some releases end in an empty line
            yield found


def records(path, keys):
    """The records of an annotation file; ValueError where it is no JSON or a record lacks a key."""
    found = read_json(path)
    # records may have more fields than are read here
    if not isinstance(found, list) or any(key not in record for record in found for key in keys):
        raise ValueError(
            f"expected a list of records with {', '.join(keys)} in {path}, found another schema; use the "
            "annotation file of the release."
        )
    return found


def read_json(path):
    """What a JSON file holds; ValueError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, found {error}; download it again.") from None


def triples(root, half, folders):
    """(name, [visible, near-infrared, thermal] paths) of the images that three folders below root/half share.
    ValueError where an image of the first is missing in another."""
    complete(half, root / half, folders)
    there = {folder: set(os.listdir(root / half / folder)) for folder in folders}  # sets: read once
    for path in images(root / half / folders[0]):
        lost = [folder for folder, names in there.items() if path.name not in names]
        if lost:
            raise ValueError(
                f"expected {path.name} in {', '.join(folders)}, found no {half}/{lost[0]}/{path.name} in "
                f"{root}; add the file or remove the others."
            )
        yield Path(path.name), [f"{half}/{folder}/{path.name}" for folder in folders]


def with_sentences(table, root):
    """Add sentences from captions.json {image path: [sentence, ...]} and part descriptions where there are
    such files."""
    if (root / "captions.json").exists():
        said = read_json(root / "captions.json")
        alone = [path for path in said if not (root / path).exists()]
        if alone and not world_card(root):  # a world counts its images
            raise ValueError(
                f"expected an image for every caption in {root / 'captions.json'}, found none at {alone[0]} "
                f"({len(alone)} such captions); add the image or remove the caption."
            )
        table["captions"] = [tuple(said.get(image, ())) for image in table.path]
    if (root / "blip_descriptions.txt").exists():
        described = read_descriptions(root / "blip_descriptions.txt")
        names = [image.rpartition("/")[2] for image in table.path]  # published files tell no folder
        table["parts"] = [described.get(name, ()) for name in names]
    return table


def table_of(rows, columns=COLUMNS):
    """Tuples, one an image, as a table."""
    return pd.DataFrame(rows, columns=columns)


def finish(name, root, table, variant="", allow_count_mismatch=False, **more):
    """Check counts and contract; name, seed, label and counts come from the `world.json` that every synthetic
    root carries."""
    card = world_card(root)
    if card:  # a world's counts are its own, whatever the data set that it is laid out as
        check_shots(card["name"], root, table, card["counts"])
        more |= {"origin": "world", "seed": card["seed"], "scene_fingerprint": card["fingerprint"]}
        return from_table(card["name"], root, table, **more)
    # allowed differences stand in the notes, which every run of the data keeps
    differences = check_counts(name, variant, root, table, allow_count_mismatch)
    more["notes"] = (*more.get("notes", ()), *differences)
    called = f"{name}#{variant}" if variant else name
    return from_table(called, root, table, **more)
