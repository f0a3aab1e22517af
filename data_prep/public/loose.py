"""Images of which nobody knows who they show: to be embedded or searched, not to be tested."""

from pathlib import Path

import pandas as pd

from data_prep.manifest import FIRST_CHECKS, files_exist, files_once, from_table, paths_inside, read_table
from data_prep.public.files import IMAGES, is_image

NOBODY = {"pid": 0, "camid": 0, "split": "gallery"}


def loose(place):
    """A Manifest whose gallery are all images below a folder, in the order of their paths, those that a CSV
    lists in a column `path` (of spectra: also `modality` and `shot`), or one file. ValueError where there is
    none."""
    place = Path(place)
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if is_image(path.name))
        rows = pd.DataFrame({"path": [path.relative_to(place).as_posix() for path in files]})
        root = place
    elif place.suffix.lower() == ".csv" and place.is_file():
        rows, root = read_table(place), place.parent
    elif place.is_file():
        rows, root = pd.DataFrame({"path": [place.name]}), place.parent
    else:
        raise ValueError(
            f"expected a folder of images, a CSV or an image at {place}, found nothing; correct it."
        )
    if "path" not in rows or not len(rows):
        raise ValueError(
            f"expected images in {place} ({', '.join(sorted(IMAGES))}, or a CSV with a column path), found "
            "none; choose another folder."
        )
    tests = (*FIRST_CHECKS, files_once, paths_inside, files_exist)
    return from_table(place.stem or "images", root, rows.assign(**NOBODY), tests=tests)
