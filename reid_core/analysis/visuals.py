"""Visuals: what is kept of a trained method for the pictures of a page, as arrays: t-SNE and UMAP
coordinates, ranked lists, explanations, and the scores of explanations against the world's masks.

    A queries, G gallery images, D width of a feature, N points of an embedding, K queries with a ranked list
    of S places, Q explained queries, h x w patches
"""

import io
import zipfile
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import safe_open
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from data_prep.catalogue import build_folder
from data_prep.world.truth import Masks
from reid_core import checkpoint, evaluate, loading, train
from reid_core.analysis import explain
from reid_core.data import Batch, Columns, still
from reid_core.methods import METHODS
from reid_core.runs import measure
from reid_core.runs.intervals import Interval
from reid_core.runs.run import BOOK, OWN, Spec

PEOPLE = 60  # in a map of embeddings
FAILURES = 4  # ranked lists of the lowest average precision, beside a median one and the best
PLACES = 8  # of a ranked list
EXPLAINED = 128  # queries, one per person, that are explained and judged
SHOWN = 4  # of those, how many that each of AROUND fills most are shown
AROUND = ("passer-by", "clutter")  # the rarer one first: an image is shown for one reason
TOGETHER = 32  # images explained in one pass
HOW = {"relevance": explain.relevance, "grad_cam": explain.grad_cam}


class Visuals(NamedTuple):
    """Positions count in the query split; those of `points` go on into the gallery. Maps are uint8, from 0 to
    255 each."""

    key: str  # of the run that it belongs to
    points: np.ndarray  # (N,) positions
    pids: np.ndarray  # (N,)
    tsne: np.ndarray  # (N, 2)
    umap: np.ndarray  # (N, 2)
    queries: np.ndarray  # (K,) positions: the hardest first, then a median one and the best
    ap: np.ndarray  # (K,) average precision, 0..1
    order: np.ndarray  # (K, S) positions in the gallery, nearest first
    correct: np.ndarray  # (K, S) whether they show the person
    rows: np.ndarray  # (Q,) explained queries
    why: np.ndarray  # (Q,) the one of AROUND that it is shown for, or ""
    share: np.ndarray  # (Q,) of the image that this fills
    relevance: np.ndarray  # (Q, h, w), or none for a tower without attention
    grad_cam: np.ndarray  # (Q, h, w)
    judged: np.ndarray  # (2, Q, scores) of the maps above, NaN without masks; columns: explain.SCORES
    chance: np.ndarray  # (Q, scores) of a uniform map


def visualise(method, data, key="", maps=("tsne", "umap")):
    """Visuals of a method in its present state, from its first test with image queries. An embedding that
    `maps` does not name stays empty (UMAP compiles for ten seconds)."""
    method.eval()
    task = task_of(method)
    query, gallery = embed(method, data, task)
    scores = evaluate.score(query, gallery, data.query, data.gallery, data.manifest.protocol)
    return Visuals(
        key,
        **coordinates(query, gallery, data, maps),
        **ranked_lists(query, gallery, data, data.manifest.protocol, scores),
        **explanations(method, data, task, query, gallery, scores.valid),
    )


def task_of(method):
    """A method's first test with image queries."""
    return next(task for task in method.retrieval_tasks().values() if task.query_type == "image")


def embed(method, data, task):
    """Features of the query split (A, D) and of the gallery (G, D), of unit length."""
    sides = ((task.query, "query"), (task.gallery, "gallery"))
    return [evaluate.embed_images(method, data, split, {name})[name] for name, split in sides]


def coordinates(query, gallery, data, maps):
    """Embeddings in the plane of all images of the first PEOPLE of the query split."""
    pids = np.concatenate([data.query.pids, data.gallery.pids])
    points = np.flatnonzero(np.isin(pids, np.unique(data.query.pids)[:PEOPLE]))
    features = torch.cat([query, gallery])[points].cpu().numpy()
    found = {
        name: draw(features) if name in maps else np.zeros((0, 2), np.float16) for name, draw in MAPS.items()
    }
    return {"points": points.astype(np.int32), "pids": pids[points].astype(np.int32), **found}


def tsne(features, seed=0):
    """t-SNE (van der Maaten and Hinton 2008) of (N, D) by cosine, initialised by the first principal
    components: (N, 2)."""
    width = min(30, (len(features) - 1) / 3)
    found = TSNE(init="pca", perplexity=width, metric="cosine", random_state=seed, n_jobs=1)
    with threadpool_limits(1):  # the same sums in the same order, and no threads that wait for each other
        return scaled(found.fit_transform(features))


def umap(features, seed=0):
    """UMAP (McInnes et al. 2018) of (N, D) by cosine, initialised by the first principal components: (N,
    2)."""
    from umap import UMAP  # here, since the import compiles for seconds

    neighbours = min(15, len(features) - 1)
    found = UMAP(n_neighbors=neighbours, init="pca", metric="cosine", random_state=seed, n_jobs=1)
    with threadpool_limits(1):
        return scaled(found.fit_transform(features))


def scaled(points):
    """Centred, and divided by the largest coordinate: neither embedding has a unit."""
    points = points - points.mean(0)
    return (points / np.abs(points).max()).astype(np.float16)


MAPS = {"tsne": tsne, "umap": umap}


def ranked_lists(query, gallery, data, protocol, scores):
    """The first PLACES of the ranked lists of a few queries, chosen by their average precision."""
    picked = hardest_median_best(scores.ap, data.query.pids[scores.valid])
    rows = scores.valid[picked]
    near, same = (query[rows] @ gallery.T).cpu().numpy(), data.gallery.pids == data.query.pids[rows, None]
    near[left_out(data, protocol, rows)] = -np.inf
    order = np.argsort(-near, axis=1, kind="stable")[:, :PLACES]
    return {
        "queries": rows.astype(np.int32),
        "ap": scores.ap[picked].astype(np.float32),
        "order": order.astype(np.int32),
        "correct": np.take_along_axis(same, order, 1),
    }


def hardest_median_best(ap, pids):
    """Positions of the FAILURES lowest average precisions, one per person, then of a median one and the
    best."""
    order = np.argsort(ap, kind="stable")
    first = np.unique(pids[order], return_index=True)[1]
    return np.concatenate([order[np.sort(first)][:FAILURES], order[[len(order) // 2, -1]]])


def left_out(data, protocol, rows):
    """(K, G), true for what the protocol leaves out of each query's list: its identity on the same camera (or
    scene), and junk (pid -1)."""
    query, gallery, column = data.query, data.gallery, evaluate.column_of(protocol)
    out = np.broadcast_to(gallery.pids == -1, (len(rows), len(gallery)))
    if column is None:
        return out
    marks = getattr(gallery, column) == getattr(query, column)[rows, None]
    return out | ((gallery.pids == query.pids[rows, None]) & marks)


def explanations(method, data, task, query, gallery, valid):
    """Maps of the first query of each person for its cosine to the mean of its true matches, and their scores
    against the masks."""
    rows = valid[np.sort(np.unique(data.query.pids[valid], return_index=True)[1])][:EXPLAINED]
    matches = (data.gallery.pids == data.query.pids[rows, None]) & ~left_out(
        data, data.manifest.protocol, rows
    )
    targets = torch.from_numpy(matches).to(gallery) @ gallery  # the sum points where the mean does
    masks = masks_of(data, rows)
    maps = {name: explain_all(how, method, data, task, rows, targets) for name, how in HOW.items()}
    by_chance = judge(np.ones((len(rows), 1, 1)), masks)
    judged = np.stack([judge(found, masks) for found in maps.values()])
    why, share = reasons(masks, data.query.pids[rows])
    return {
        "rows": rows.astype(np.int32),
        "why": why,
        "share": share,
        **maps,
        "judged": judged,
        "chance": by_chance,
    }


def explain_all(how, method, data, task, rows, targets):
    """Maps (Q, h, w) uint8; none for the relevance of a tower without attention."""
    if how is explain.relevance and not hasattr(method.image, "blocks"):
        return np.zeros((0, *method.image.grid), np.uint8)
    parts = torch.arange(len(rows)).split(TOGETHER)
    found = [
        how(
            method,
            batch_of(method, data, torch.from_numpy(rows[part])),
            explain.nearness(targets[part]),
            task.query,
        )
        for part in parts
    ]
    return (255 * explain.stretched(torch.cat(found))).round().byte().cpu().numpy()


def batch_of(method, data, rows):
    """A Batch of some queries, unaugmented as in testing; `rows` is a tensor of positions in the query
    split."""
    view, device = method.test_view(), next(method.parameters()).device
    told = Columns(data, "query", device).at(rows.to(device))
    store = data.store("query", method.size, view.filter)
    return Batch(**told, views=[still(view, store, rows.numpy(), told["present"])])


def masks_of(data, rows):
    """Masks of some queries of a world, ray-traced again; none for real data."""
    if data.origin != "world":
        return []
    trace = Masks(data.manifest.root)
    return [trace(path) for path in data.query.paths[rows, 0]]


def judge(maps, masks):
    """Scores (Q, scores) of maps (Q, h, w) against the masks; NaN without masks or without maps."""
    if not len(masks) or not len(maps):
        return np.full((max(len(maps), len(masks)), len(explain.SCORES)), np.nan, np.float16)
    found = [explain.judge(one, mask) for one, mask in zip(maps, masks)]
    return np.array([[scores[name] for name in explain.SCORES] for scores in found], np.float16)


def reasons(masks, pids):
    """(why, share) of the explained queries: the one of AROUND that a query is shown for, or "", and how much
    of the image that fills. The choice is by rule (`explain.fullest`), not by eye."""
    why, share = np.full(len(pids), "", "U12"), np.zeros(len(pids), np.float32)
    for name in AROUND if len(masks) else ():
        picked = explain.fullest(masks, name, SHOWN, pids)
        fresh = (why[picked.rows] == "") & (picked.share > 0)
        why[picked.rows[fresh]], share[picked.rows[fresh]] = name, picked.share[fresh]
    return why, share


def shown(found):
    """Positions of the explained queries that are shown: group by group of AROUND, the fullest first; without
    masks, the first ones."""
    picked = [k for k in range(len(found.why)) if found.why[k]]
    by_rule = sorted(picked, key=lambda k: (AROUND.index(found.why[k]), -found.share[k]))
    return by_rule or list(range(min(len(AROUND) * SHOWN, len(found.rows))))


def beside_chance(found, how="relevance", score="person"):
    """The Interval of a score minus that of a uniform map, image by image, in points."""
    column = explain.SCORES.index(score)
    return mean(found.judged[list(HOW).index(how)][:, column] - found.chance[:, column])


def mean(values, draws=2000):
    """Mean of one score (Q,) in per cent, with the interval of a bootstrap over the queries, one per
    person."""
    values = 100 * np.asarray(values, np.float64)
    picks = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    return Interval(values.mean(), *np.quantile(values[picks].mean(1), (0.025, 0.975)))


LIMIT = 300_000  # bytes of a file
UNTRAINED = "not trained"


def keep(method, data, run, shelf=BOOK):
    """Compute the Visuals of the method that a run trained, and write them beside the run. ValueError for a
    file of more than LIMIT bytes."""
    found, buffer = visualise(method, data, run.key), io.BytesIO()
    np.savez_compressed(buffer, **found._asdict())
    if buffer.tell() > LIMIT:
        raise ValueError(
            f"expected under {LIMIT // 1000} kB to keep of {run.spec.name}, found {buffer.tell() // 1000} "
            "kB; explain fewer queries."
        )
    checkpoint.write(shelf.pictures(run.spec), buffer.getvalue())
    return found


def find(spec, shelf=BOOK):
    """The Visuals of a run, or None: "not run". ValueError if they are those of another run of that name."""
    run, path = shelf.at(spec), shelf.pictures(spec)
    if run and path.exists():
        return belonging(read(path), run)
    return find(spec, shelf.behind) if shelf.behind else None


def belonging(found, run):
    """The Visuals `found`; ValueError unless they are those of the run."""
    if found.key != run.key:
        raise ValueError(
            f"expected what the run {run.spec.name} shows ({run.key}), found what another one showed "
            f"({found.key}); run python -m reid_core visuals."
        )
    return found


def read(path):
    """The Visuals in a file; ValueError if it is not whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in Visuals._fields}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(
            f"expected a whole file at {path.name}, found one that cannot be read ({error}); run python -m "
            "reid_core visuals."
        ) from error
    return Visuals(**{**kept, "key": str(kept["key"])})


def measure_and_keep(spec, *, shelf=OWN, **options):
    """`measure.measure`, and then `keep` if a page of the book shows pictures of the row (`is_shown`)."""
    run = measure.measure(spec, shelf=shelf, **options)
    if is_shown(run.spec) and (shelf is BOOK or spec.profile != "smoke") and can_be_shown(run):
        keep(*trained(run.spec), run, shelf)
    return run


def can_be_shown(run):
    """Whether the run's data has image queries, of which visuals are made."""
    return "query" in run.data["counts"]


def is_shown(spec):
    """Whether the book shows pictures of this row: seed 0 of the rows that its paper lists as `pictured`."""
    return spec.seed == 0 and spec.row in METHODS[spec.method].pictured


def trained(spec):
    """(method, data) of a spec, with the weights that its training left in the build folder; ValueError if
    there are none, or those of other settings."""
    method, data = spec.build()
    path = build_folder() / "runs" / spec.name / "weights.safetensors"
    if not path.exists():
        raise ValueError(
            f"expected the weights of {spec.name} in {path.parent}, found none; train it again with python "
            "-m reid_core train."
        )
    with safe_open(path, "pt") as file:
        key, state = file.metadata()["key"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if key != measure.run_key(spec, method, data):
        raise ValueError(
            f"expected weights of {measure.run_key(spec, method, data)}, found those of {key}; train it "
            "again with python -m reid_core train."
        )
    train.load_state(method, state, path)
    return method, data


def fill(log=print):
    """`keep` the visuals of the book's runs where they are missing and the trained weights are still
    there."""
    for run in BOOK.load(seed=0):
        place = build_folder() / "runs" / run.spec.name / "weights.safetensors"
        if place.exists() and is_shown(run.spec) and can_be_shown(run) and not is_kept(run):
            log(f"{run.spec.name}: looked at")
            keep(*trained(run.spec), run)


def is_kept(run):
    """Whether the visuals beside a run of the book are its own."""
    path = BOOK.pictures(run.spec)
    return path.exists() and read(path).key == run.key


def for_page(page, wanted):
    """({label: Visuals or None}, data) of {label: (method, variant, row)}: those beside the runs of the
    page's shelf; with `page.retrain`, of runs that are trained now. Where there are none at all, those of the
    image tower before training (zero-shot) are computed, under the label UNTRAINED."""
    specs = {label: Spec(*parts, page.data, page.profile, page.seed) for label, parts in wanted.items()}
    for spec in specs.values() if page.retrain and page.profile != "smoke" else ():
        run = measure.measure(spec)
        keep(*trained(run.spec), run, OWN)
    found = {label: find(spec, page.shelf) for label, spec in specs.items()}
    method, data = Spec("clip_reid", "baseline", "full", page.data, page.profile, page.seed).build()
    if not any(found.values()):
        found = {UNTRAINED: visualise(method, data, maps=("tsne",)), **found}
    return found, data


def caveat(page, found):
    """What a caption must add where the pictures come from no run; "" elsewhere."""
    if UNTRAINED not in found:
        return ""
    recipe = Spec("clip_reid", "baseline", profile=page.profile).recipe()
    tower = (
        "a tower of random weights"
        if loading.locate(recipe.pretrained) is None
        else "CLIP's tower as it comes"
    )
    return f" No run is kept for this page: shown is {tower}, not trained to re-identify."
