"""What every reader needs: finding the folder, listing images, parsing names, and checking what was found."""

import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd
from scipy.io import loadmat

from data_prep import seal
from data_prep.manifest import from_table, leaves
from data_prep.public.counts import check_counts, check_shots
from data_prep.public.descriptions import read_descriptions
from data_prep.public.folders import INSTEAD, PLACES
from data_prep.texts import AGAIN, read_json, read_object, read_text, sentences_in

IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}
OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}  # and hidden files: nobody misses them
RELEASED = "use the annotation file of the release"
MAKE_AGAIN = "remove the folder and make the world again"
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
        another_form(name, root, PLACES[place])
    expected = ", ".join(PLACES[place][0].folders.values())
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    raise ValueError(f"{name}: expected {expected} in {root}, found {found}; {advice(root, place)}.")


def another_form(name, root, places):
    """ValueError where a data set lies in a form that is not read, with what to do about it."""
    form, remedy = INSTEAD.get(name, ("", ""))
    for aliases, folders in places:
        for folder in candidates(root, aliases):
            if form and (folder / form).exists():
                expected = ", ".join(folders.values())
                raise ValueError(f"{name}: expected {expected} in {folder}, found {form}; {remedy}.")


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
    card = read_object(path, MAKE_AGAIN)
    missing = [key for key in ("name", "seed", "fingerprint", "counts", "reader") if key not in card]
    if missing:
        raise ValueError(
            f"expected {', '.join(missing)} in {path}, found a world of version "
            f"{card.get('version', 'unknown')}; {MAKE_AGAIN}."
        )
    if not isinstance(card["counts"], dict) or not isinstance(card["name"], str):
        raise ValueError(f"expected a name and counts by split in {path}, found others; {MAKE_AGAIN}.")
    return card


def images(folder):
    """Image files in name order, whatever the case of their ending; anything else is passed over, and
    `finish` says so."""
    folder = Path(folder)
    names = sorted(name for name in os.listdir(folder) if is_image(name))
    if not names:
        others = endings(others_in(folder))  # perhaps images with endings that are not read
        raise ValueError(
            f"{folder.name}: expected images, found none in {folder}{others and f' but {others}'}; unpack "
            f"the archive again, or save them as one of {', '.join(sorted(IMAGES))}."
        )
    return [folder / name for name in names]


def is_image(name):
    """Whether a file's name is that of an image."""
    ending = os.path.splitext(name)[1].lower()
    return name[0] != "." and ending in IMAGES


def others_in(folder):
    """Names of what a folder of images holds besides, without hidden files and those of the system."""
    others = [name for name in os.listdir(folder) if not is_image(name) and name[0] != "."]
    return [name for name in others if name.lower() not in OF_THE_SYSTEM and (folder / name).is_file()]


def endings(names):
    """How many names have which endings, in words."""
    found = Counter(os.path.splitext(name)[1].lower() or "without an ending" for name in names)
    return ", ".join(f"{number} {ending}" for ending, number in sorted(found.items()))


def passed_over(root, table):
    """A note on the files beside the images that no reader took, or none: a picture with another ending is
    missed here, and nowhere else."""
    taken = set(table.path)
    others = []
    for folder in sorted(set(map(os.path.dirname, taken))):
        if os.path.isdir(root / folder) and not leaves(folder):  # the contract complains of both
            others += [name for name in others_in(root / folder) if f"{folder}/{name}" not in taken]
    return (f"files passed over beside the images: {endings(others)}",) if others else ()


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
    for number, line in enumerate(read_text(path).splitlines(), 1):
        found = line.rsplit(maxsplit=fields - 1)  # a path may hold blanks
        if line.strip() and (len(found) != fields or not re.fullmatch(r"\d{1,18}", found[-1])):
            raise ValueError(
                f"expected lines like {grammar} in {path}, found {line.strip()[:80]!r} in line {number}; use "
                "the list of the release."
            )
        if line.strip():  # some releases end in an empty line
            yield found


def records(path, keys):
    """The records of an annotation file; ValueError where it is no JSON or a record lacks a key."""
    found = read_json(path)
    # records may have more fields than are read here
    if not isinstance(found, list) or not all(is_record(one, keys) for one in found):
        raise ValueError(
            f"expected a list of records with {', '.join(keys)} in {path}, found another schema; {RELEASED}."
        )
    return found


def is_record(value, keys):
    """Whether a JSON value is an object with these keys."""
    return isinstance(value, dict) and all(key in value for key in keys)


def read_mat(path):
    """What a file of MATLAB's holds, by name. ValueError where it cannot be read."""
    try:
        return loadmat(path)
    except Exception as error:  # scipy raises many kinds on spoiled files
        raise ValueError(f"expected a file of MATLAB's in {path}, found {error}; {AGAIN}.") from None


def triples(root, half, folders):
    """(name, [visible, near-infrared, thermal] paths) of the images that three folders below root/half share.
    ValueError where an image is missing in one of them."""
    complete(half, root / half, folders)
    images(root / half / folders[0])  # complains of an empty folder
    there = {folder: set(filter(is_image, os.listdir(root / half / folder))) for folder in folders}
    for name in sorted(set.union(*there.values())):
        lost = [folder for folder, names in there.items() if name not in names]
        if lost:
            raise ValueError(
                f"expected {name} in {', '.join(folders)}, found no {half}/{lost[0]}/{name} in {root}; add "
                "the file or remove the others."
            )
        yield Path(name), [f"{half}/{folder}/{name}" for folder in folders]


def read_captions(path):
    """{image path: its sentences} of a captions.json."""
    remedy = 'write it like {"a.jpg": ["a man in red"]}'
    found = read_object(path, remedy)
    what = f"lists of sentences in {path}"
    return {image: sentences_in(said, what, remedy) for image, said in found.items()}


def with_sentences(table, root):
    """The table with sentences from captions.json {image path: [sentence, ...]} and part descriptions where
    there are such files, and notes on these."""
    if (root / "captions.json").exists():
        said = read_captions(root / "captions.json")
        alone = [path for path in said if not (root / path).exists()]
        if alone and not world_card(root):  # a world counts its images
            raise ValueError(
                f"expected an image for every caption in {root / 'captions.json'}, found none at {alone[0]} "
                f"({len(alone)} such captions); add the image or remove the caption."
            )
        table["captions"] = [said.get(image, ()) for image in table.path]
    return with_descriptions(table, root)


def with_descriptions(table, root):
    """The table with part descriptions where there is a file of them, and notes on it."""
    notes = ()
    if (root / "blip_descriptions.txt").exists():
        described = read_descriptions(root / "blip_descriptions.txt")
        names = [image.rpartition("/")[2] for image in table.path]  # published files tell no folder
        table["parts"] = [described.get(name, ()) for name in names]
        if strange := len(described.keys() - set(names)):  # of another release, perhaps
            notes = (f"{strange} of {len(described)} descriptions are of no image here",)
    return table, notes


def table_of(rows, columns=COLUMNS):
    """Tuples, one an image, as a table."""
    return pd.DataFrame(rows, columns=columns)


def finish(name, root, table, variant="", allow_count_mismatch=False, **more):
    """Check counts and contract; name, seed, label and counts come from the `world.json` that every synthetic
    root carries."""
    more["notes"] = (*more.get("notes", ()), *passed_over(root, table))
    card = world_card(root)
    if card:  # a world's counts are its own, whatever the data set that it is laid out as
        seal.check(root, lambda path: not is_image(path))  # images are checked when they are decoded
        check_shots(card["name"], root, table, card["counts"])
        more |= {"origin": "world", "seed": card["seed"], "scene_fingerprint": card["fingerprint"]}
        return from_table(card["name"], root, table, **more)
    # allowed differences stand in the notes, which every run of the data keeps
    differences = check_counts(name, variant, root, table, allow_count_mismatch)
    more["notes"] = (*more["notes"], *differences)
    called = f"{name}#{variant}" if variant else name
    return from_table(called, root, table, **more)
