"""Use a trained model: features of anybody's images, and a gallery ranked for an image or a sentence.

N images of a gallery, D width of a feature

python -m reid_core embed RUN IMAGES --out features.npz
python -m reid_core search RUN QUERY GALLERY -k 10 --html page.html
"""

import difflib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.public.files import is_image
from data_prep.public.loose import loose
from reid_core import evaluate
from reid_core.analysis import visuals
from reid_core.analysis.sentences import sentence
from reid_core.data import ReidData
from reid_core.runs.run import OWN, Run

MOST = 20  # names of runs that an error lists


def load_run(name):
    """(method, run): a method with the weights that the training of a run left, ready to embed. `name` is the
    path of a run below its shelf, or of its JSON file. ValueError where there is no such run, or no
    weights."""
    run = run_called(str(name))
    method, _ = visuals.trained(run.spec)
    return method.eval(), run


def run_called(name):
    """The run of a name, as `measure --list` prints it, or in a file."""
    if Path(name).suffix == ".json" and Path(name).is_file():
        return Run.read(name)
    paths = {}  # own runs hide those of the book, which have the same names
    for shelf in (OWN.behind, OWN):
        paths |= {shelf_name(shelf, path): path for path in shelf.folder().glob("*/*/*/*.json")}
    if name not in paths:
        near = difflib.get_close_matches(name, paths, n=3) or list(paths)[:MOST]
        raise ValueError(
            f"expected the name of a run or its JSON file, found {name!r}; choose one, such as "
            f"{', '.join(near) or 'one that python -m reid_core train makes'}."
        )
    return Run.read(paths[name])


def shelf_name(shelf, path):
    return path.relative_to(shelf.folder()).with_suffix("").as_posix()


class Embedded(NamedTuple):
    """Images and their features, which are of unit length: a dot product is a cosine."""

    paths: np.ndarray  # (N,) of the files
    features: np.ndarray  # (N, D) float32
    feature: str  # its name in `Method.features`

    def save(self, out):
        """Write an .npz of these three."""
        np.savez(out, **self._asdict())


def embed(method, images, feature=None, device=None):
    """Embedded of a folder of images, a table of them, or one file; `feature` is that of a gallery item in
    the method's first test unless told."""
    data = ReidData(loose(images))
    evaluate.check_spectra(method, data)
    feature = feature or next(iter(method.retrieval_tasks().values())).gallery
    known = data.without_cameras()  # the model has seen none of these
    found = evaluate.embed_images(method, known, "gallery", {feature}, device)[feature]
    paths = [str(data.manifest.root / path) for path in data.gallery.paths[:, 0]]
    return Embedded(np.array(paths), found.cpu().numpy(), feature)


class Found(NamedTuple):
    """One place of a ranked list."""

    place: int  # from 1
    path: str
    cosine: float


def search(method, query, gallery, k=10, device=None):
    """The `k` nearest images of a gallery, as a list of Found. `query` is the path of an image, or else a
    sentence, which needs a method that reads them."""
    task = task_for(method, query)
    shown = embed(method, gallery, task.gallery, device)
    if not 1 <= k <= len(shown.paths):
        raise ValueError(
            f"expected from 1 to {len(shown.paths)} places, the images in {gallery}, found {k}; correct -k."
        )
    if task.query_type == "text":
        asked = sentence(method, query, task.query, device)
    else:
        asked = embed(method, query, task.query, device).features[0]
    cosines = shown.features @ asked  # (N, D) and (D,) -> (N,)
    order = np.argsort(-cosines, kind="stable")[:k]
    return [Found(n, str(shown.paths[i]), float(cosines[i])) for n, i in enumerate(order, 1)]


def task_for(method, query):
    """The first test of a method with queries of this kind: an image if there is such a file, else words.
    ValueError for a folder, for nothing, and for the path of an image that is not there: no sentence ends so.
    """
    kind = "image" if os.path.isfile(query) else "text"
    found = "a folder" if os.path.isdir(query) else "nothing" if not str(query).strip() else ""
    if kind == "text" and (found or is_image(Path(query).name)):
        raise ValueError(
            f"expected the path of an image or a sentence as the query, found {found or 'no such image'} "
            f"({query}); correct it."
        )
    for task in method.retrieval_tasks().values():
        if task.query_type == kind:
            return task
    raise ValueError(
        f"expected a query that {type(method).__name__} can ask with, which are images, found no file called "
        f"{query!r}; pass the path of an image, or choose a run of a method that reads sentences."
    )
