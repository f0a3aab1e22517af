"""What runs show, in files beside their numbers: a page that trains nothing can show it, too.

A file of Looks lies at <run>.npz beside <run>.json, names its run, and is under 300 kB.
"""

import hashlib
import io
import json
import zipfile

import numpy as np
from safetensors.torch import safe_open

from reid_core import checkpoint, results, weights
from reid_core.data import build_folder
from reid_core.looks import Looks, look

LIMIT = 300_000  # bytes of a file
ROWS = ("full", "Training w/o composed")  # the rows that pages show pictures of
UNTRAINED = "not trained"


def key_of(run):
    """What a file of Looks and a run have in common: a digest of the run's spec, data and scores."""
    told = [run.spec.name, run.data["fingerprint"], [scores["ap"] for scores in run.scores.values()]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def path_of(spec, committed=True):
    return results.folder(committed) / f"{spec.same.name}.npz"


def keep(method, data, run, committed=True):
    """Look at the method that a run trained, and write it down beside the run."""
    found, buffer = look(method, data, key_of(run)), io.BytesIO()
    np.savez_compressed(buffer, **found._asdict())
    if buffer.tell() > LIMIT:
        raise ValueError(f"expected under {LIMIT // 1000} kB to keep of {run.spec.name}, found {buffer.tell() // 1000} kB; "
                         f"explain fewer queries.")  # fmt: skip
    checkpoint.write(path_of(run.spec, committed), buffer.getvalue())
    return found


def find(spec, committed=True):
    """The Looks of a run, or None: "not run"; committed=False: of a reader's own, or else of the book's. Those of another run
    of that name are refused."""
    for place in results.places(committed):
        run, path = results.at(spec, place), path_of(spec, place)
        if run and path.exists():
            return belonging(read(path), run)
    return None


def belonging(found, run):
    """Looks, if they are those of the run."""
    if found.key != key_of(run):
        raise ValueError(f"expected what the run {run.spec.name} shows ({key_of(run)}), found what another one showed "
                         f"({found.key}); run python -m reid_core looks.")  # fmt: skip
    return found


def read(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in Looks._fields}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"expected a whole file at {path.name}, found one that cannot be read ({error}); run "
                         f"python -m reid_core looks.") from error  # fmt: skip
    return Looks(**{**kept, "key": str(kept["key"])})


def measure(spec, *, committed=False, **options):
    """As `results.measure`, and what the trained method shows is kept, too, if a page of the book shows pictures of it."""
    run = results.measure(spec, committed=committed, **options)
    if is_shown(run.spec) and (committed or spec.profile != "smoke") and can_be_shown(run):
        keep(*trained(run.spec), run, committed)
    return run


def can_be_shown(run):
    """Pictures are of queries that are images."""
    return "query" in run.data["counts"]


def is_shown(spec):
    return spec.seed == 0 and spec.row in ROWS


def trained(spec):
    """(method, data) of a spec with the weights that its training left in the build folder."""
    method, data = results.build(spec)
    path = build_folder() / "runs" / spec.name / "weights.safetensors"
    if not path.exists():
        raise ValueError(f"expected the weights of {spec.name} in {path.parent}, found none; train it again with "
                         f"python -m reid_core train.")  # fmt: skip
    with safe_open(path, "pt") as file:
        key, state = file.metadata()["key"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if key != results.run_key(spec, method, data):
        raise ValueError(f"expected weights of {results.run_key(spec, method, data)}, found those of {key}; train it again "
                         f"with python -m reid_core train.")  # fmt: skip
    method.load_state_dict(state, strict=False)  # a text tower that no stage trains is not among them
    return method, data


def fill(log=print):
    """Keep what the runs of the pages show, wherever that is missing and their weights are still there."""
    for run in results.load(seed=0):
        place = build_folder() / "runs" / run.spec.name / "weights.safetensors"
        if place.exists() and is_shown(run.spec) and can_be_shown(run) and not is_kept(run):
            log(f"{run.spec.name}: looked at")
            keep(*trained(run.spec), run)


def is_kept(run):
    path = path_of(run.spec)
    return path.exists() and read(path).key == key_of(run)


def for_page(page, wanted):
    """({label: Looks or None}, data) of {label: (method, variant, row)}, as they were kept beside the committed runs, or of runs
    that are trained now. Where there is none at all, CLIP's tower as it comes is looked at now, under the label UNTRAINED."""
    specs = {
        label: results.Spec(*parts, page.data, page.profile, page.seed) for label, parts in wanted.items()
    }
    for spec in specs.values() if page.retrain and page.profile != "smoke" else ():
        run = results.measure(spec)
        keep(*trained(run.spec), run, committed=False)
    found = {label: find(spec, page.committed) for label, spec in specs.items()}
    method, data = results.build(
        results.Spec("clip_reid", "baseline", "full", page.data, page.profile, page.seed)
    )
    if not any(found.values()):
        found = {UNTRAINED: look(method, data, maps=("tsne",)), **found}
    return found, data


def caveat(page, found):
    """What a caption must add about pictures that come from no run."""
    if UNTRAINED not in found:
        return ""
    recipe = results.Spec("clip_reid", "baseline", profile=page.profile).recipe()
    tower = (
        "a tower of random weights"
        if weights.locate(recipe.pretrained) is None
        else "CLIP's tower as it comes"
    )
    return f" No run is kept for this page: shown is {tower}, not trained to re-identify."
