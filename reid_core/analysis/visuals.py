"""Visuals: what is kept of a trained method for the pictures of a page, as arrays: t-SNE and UMAP
coordinates, ranked lists, explanations, and the scores of explanations against the world's masks.

    A queries, G gallery images, D width of a feature, N points of an embedding, K queries with a ranked list
    of S places, Q explained queries with one of P places, M spectra, h x w patches
"""

import io
import zipfile
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from reid_core import checkpoint, evaluate, loading, train
from reid_core.analysis import attributes, explain, pulls, regions, sentences
from reid_core.methods import METHODS
from reid_core.runs import measure
from reid_core.runs.fill import is_shown
from reid_core.runs.intervals import Interval
from reid_core.runs.run import BOOK, OWN, Spec, training_folder

PEOPLE = 60  # in a map of embeddings
FEWEST = 4  # points of a map: t-SNE weighs three neighbours
SAME = 1e-6  # what all features may differ by and still be one point
FAILURES = 4  # ranked lists of the lowest average precision, beside a median one and the best
PLACES = explain.PLACES  # of a ranked list
BESIDE = 5  # of a list that stands beside that of another method
EXPLAINED = 128  # queries, one per person, that are explained and judged
SHOWN = 2  # of those, how many that each of AROUND fills most are shown
AROUND = ("passer-by", "clutter")  # the rarer one first: an image is shown for one reason
HOW = explain.HOW
NONE = np.zeros(0)


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
    # of the explained queries, which are the same for every method; older files keep none
    precision: np.ndarray = NONE  # (Q,) average precision, 0..1
    nearest: np.ndarray = NONE  # (Q, P) positions in the gallery, nearest first
    right: np.ndarray = NONE  # (Q, P) whether they show the person
    missed: np.ndarray = NONE  # (Q,) the rank of the first true match behind them, from 1; 0: there is none
    missed_at: np.ndarray = NONE  # (Q,) its position in the gallery
    # of a method whose class token for sentences is another than that for images: on a gallery with captions
    asked: np.ndarray = NONE  # (K,) which of all sentences: the hardest first, then a median one and the best
    asked_ap: np.ndarray = NONE  # (K,)
    asked_order: np.ndarray = NONE  # (K, S) positions in the gallery, nearest first
    asked_correct: np.ndarray = NONE  # (K, S) whether they show the person
    typed_order: np.ndarray = NONE  # (S,) positions in the gallery for `sentences.TYPED`, nearest first
    typed_cosine: np.ndarray = NONE  # (S,)
    told: np.ndarray = NONE  # (T,) explained images, one per person: positions in the gallery
    sentence: np.ndarray = NONE  # (T,) for which of all sentences
    tokens: np.ndarray = NONE  # (2, 2, T, h, w) maps by HOW and of `sentences.TOKENS`
    looked: np.ndarray = NONE  # (2, 2, T, 2) their shares on `sentences.LOOKED`, NaN where there is none
    looked_chance: np.ndarray = NONE  # (T, 2) of a uniform map
    # of a method that answers sentences and images: what its losses want of the image tower
    pull_terms: np.ndarray = NONE  # (U,) names
    pulls: np.ndarray = NONE  # (B, U, U) scalar products of gradients (`pulls.pulls`)
    # of a method that reads several spectra; the maps above are sums over them
    spectra: np.ndarray = NONE  # (2, Q, M, h, w) maps by HOW, on one scale for the spectra of a shot
    shares: np.ndarray = NONE  # (2, Q, M) of the whole map that lie in each spectrum
    seen: np.ndarray = NONE  # (2, Q, M) of a spectrum's map that lie on the person, NaN without masks
    hours: np.ndarray = NONE  # (Q,) "day", "dusk" or "night"; "" where nobody knows
    # of a method that reads attributes
    attended: np.ndarray = NONE  # (Q, K, h, w) attention of each query
    tsne_by: np.ndarray = NONE  # (K, N, 2) the points by each attribute
    umap_by: np.ndarray = NONE  # (K, N, 2)
    worn: np.ndarray = NONE  # (N, A) what the people of the points wear (`regions.WORN`)
    agrees: np.ndarray = NONE  # (A, 3) how often neighbours wear the same (`attributes.agreements`)
    # of a method with a sentence for each identity, on the training images of the first domain
    sentences: np.ndarray = NONE  # (C, E) of the words that are there
    centres: np.ndarray = NONE  # (C, E) mean feature of each identity's images


def visualise(method, data, key="", maps=("tsne", "umap")):
    """Visuals of a method in its present state, from its first test with image queries, and of two class
    tokens also from sentences; of a joint set, on the parts that have them. An embedding that `maps` does not
    name stays empty (UMAP compiles for ten seconds)."""
    method.eval()
    asked = {}
    captioned = part_with_captions(data)
    if captioned is not None and sentences.has_two_tokens(method):
        asked = sentences.visualise(method, captioned, hardest_median_best, EXPLAINED)
    data = part_with_queries(data)
    task = task_of(method)
    query, gallery = embed(method, data, task)
    scores = evaluate.score(query, gallery, data.query, data.gallery, data.manifest.protocol)
    placed = coordinates(query, gallery, data, maps)
    explained = explanations(method, data, task, query, gallery, scores.valid)
    draw = {name: drawer(name, maps) for name in MAPS}
    return Visuals(
        key,
        **placed,
        **ranked_lists(query, gallery, data, data.manifest.protocol, scores),
        **explained,
        **lists_beside(query, gallery, data, data.manifest.protocol, scores),
        **asked,
        **pulls.visualise(method),
        **attributes.visualise(method, data, explained["rows"], placed["points"], draw),
        **named(method, data),
    )


def part_with_queries(data):
    """The first part of a joint set with image queries, whose pictures are shown; a set alone is its own."""
    return next((part for part in data.parts if len(part.query)), data)


def part_with_captions(data):
    """The first part of a joint set with a captioned gallery; None where there is none."""
    return next((part for part in data.parts if any(part.gallery.captions)), None)


def task_of(method):
    """A method's first test with image queries."""
    return next(task for task in method.retrieval_tasks().values() if task.query_type == "image")


def embed(method, data, task):
    """Features of the query split (A, D) and of the gallery (G, D), of unit length."""
    found = []
    for name, split in ((task.query, "query"), (task.gallery, "gallery")):
        features = evaluate.embed_images(method, data, split, {name})
        found.append(features[name])
    return found


def coordinates(query, gallery, data, maps):
    """Embeddings in the plane of all images of the first PEOPLE of the query split."""
    pids = np.concatenate([data.query.pids, data.gallery.pids])  # (A + G,)
    people = np.unique(data.query.pids)[:PEOPLE]  # sorted: the same people for every method
    points = np.flatnonzero(np.isin(pids, people))  # (N,)
    features = torch.cat([query, gallery])[points].cpu().numpy()  # (N, D)
    found = {name: drawer(name, maps)(features) for name in MAPS}
    return {"points": points.astype(np.int32), "pids": pids[points].astype(np.int32), **found}


def drawer(name, maps):
    """(N, D) -> (N, 2) of one of MAPS; nothing, (0, 2), where `maps` does not ask for it or it cannot be."""

    def draw(features):
        drawn = name in maps and spread_out(features)
        return MAPS[name](features) if drawn else np.zeros((0, 2), np.float16)

    return draw


@torch.no_grad()
def named(method, data):
    """Sentences of the identities that the words of a method name now (where old words are dropped, those of
    its last domain), and the mean training feature of each of the first domain's, of unit length; {} for a
    method without."""
    if not hasattr(method, "own_sentences"):
        return {}
    name = method.sentences_read
    features = evaluate.embed_images(method, data, "train", {name})[name].cpu()  # (S, E)
    sums = torch.zeros(data.classes, features.shape[1]).index_add_(0, torch.as_tensor(data.labels), features)
    said = method.own_sentences()[: data.classes].float().cpu()
    return {name: unit(rows) for name, rows in (("sentences", said), ("centres", sums))}


def unit(rows):
    """(C, E) of length one, in half precision."""
    return torch.nn.functional.normalize(rows, dim=1).numpy().astype(np.float16)


def spread_out(features):
    """Whether a map of (N, D) can be drawn: at least FEWEST points, and not all of them the same (a collapsed
    model, copies of one image), of which t-SNE ends the process and UMAP makes NaN."""
    return len(features) >= FEWEST and np.ptp(features, axis=0).max() > SAME


def tsne(features, seed=0):
    """t-SNE (van der Maaten and Hinton 2008) of (N, D) by cosine, initialised by the first principal
    components: (N, 2)."""
    from sklearn.manifold import TSNE  # here, since the import takes half a second

    width = min(30, (len(features) - 1) / 3)  # the usual 30, or what so few points allow
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
    return (points / np.abs(points).max()).astype(np.float16)  # to three digits: more than a plot shows


MAPS = {"tsne": tsne, "umap": umap}


def ranked_lists(query, gallery, data, protocol, scores):
    """The first PLACES of the ranked lists of a few queries, chosen by their average precision."""
    picked = hardest_median_best(scores.ap, data.query.pids[scores.valid])
    rows = scores.valid[picked]
    order, match = ranked(query, gallery, data, protocol, rows)
    return {
        "queries": rows.astype(np.int32),
        "ap": scores.ap[picked].astype(np.float32),
        "order": order[:, :PLACES],
        "correct": match[:, :PLACES],
    }


def ranked(query, gallery, data, protocol, rows):
    """(K, G) positions in the gallery for the queries `rows`, nearest first and what the protocol leaves out
    last, and whether each is a true match."""
    near = (query[rows] @ gallery.T).cpu().numpy()  # (K, D) and (G, D) -> cosines (K, G)
    out = left_out(data, protocol, rows)
    near[out] = -np.inf
    matches = (data.gallery.pids == data.query.pids[rows, None]) & ~out  # (K, G)
    order = np.argsort(-near, axis=1, kind="stable").astype(np.int32)
    return order, np.take_along_axis(matches, order, 1)


def lists_beside(query, gallery, data, protocol, scores):
    """The first BESIDE places for the explained queries, and the first true match behind them."""
    picked = firsts(data.query.pids[scores.valid])
    order, match = ranked(query, gallery, data, protocol, scores.valid[picked])
    behind = match[:, BESIDE:]  # (Q, G - P)
    first = BESIDE + behind.argmax(1) if behind.size else np.zeros(len(picked), int)
    there = behind.any(1)
    return {
        "precision": scores.ap[picked].astype(np.float32),
        "nearest": order[:, :BESIDE],
        "right": match[:, :BESIDE],
        "missed": np.where(there, first + 1, 0).astype(np.int32),
        "missed_at": order[np.arange(len(picked)), first],
    }


def firsts(pids):
    """Positions of the first query of each person, of EXPLAINED at most: the same for every method."""
    _, first = np.unique(pids, return_index=True)
    return np.sort(first)[:EXPLAINED]


def hardest_median_best(ap, pids):
    """Positions of the FAILURES lowest average precisions, one per person, then of a median one and the
    best."""
    order = np.argsort(ap, kind="stable")  # the hardest first
    _, first = np.unique(pids[order], return_index=True)  # the hardest of each person
    hardest = order[np.sort(first)][:FAILURES]
    return np.concatenate([hardest, order[[len(order) // 2, -1]]])


def left_out(data, protocol, rows):
    """(K, G), true for what the protocol leaves out of each query's list: its identity on the same camera (or
    scene), and junk (pid -1)."""
    query = data.query
    gallery = data.gallery
    column = evaluate.column_of(protocol)
    junk = np.broadcast_to(gallery.pids == -1, (len(rows), len(gallery)))  # (G,) -> (K, G)
    if column is None:
        return junk
    same_place = getattr(gallery, column) == getattr(query, column)[rows, None]  # (K, G)
    same_person = gallery.pids == query.pids[rows, None]
    return junk | (same_person & same_place)


def explanations(method, data, task, query, gallery, valid):
    """Maps of the first query of each person for its cosine to the mean of its true matches, and their scores
    against the masks."""
    rows = valid[firsts(data.query.pids[valid])]  # (Q,)
    same = data.gallery.pids == data.query.pids[rows, None]  # (Q, G)
    matches = same & ~left_out(data, data.manifest.protocol, rows)
    # (Q, G) and (G, D) -> (Q, D); the sum points where the mean does, and only its direction counts
    targets = torch.from_numpy(matches).to(gallery) @ gallery
    masks = masks_of(data, rows)
    found = {
        name: explain.all_of(how, method, data, "query", rows, targets, task.query)
        for name, how in HOW.items()
    }
    maps = {name: explain.as_bytes(of_shots(one)) for name, one in found.items()}
    by_chance = judge(np.ones((len(rows), 1, 1)), masks)  # a map of one patch is uniform
    judged = np.stack([judge(found, masks) for found in maps.values()])
    why, share = reasons(masks, data.query.pids[rows])
    return {
        "rows": rows.astype(np.int32),
        "why": why,
        "share": share,
        **maps,
        "judged": judged,
        "chance": by_chance,
        **(by_spectrum(data, rows, list(found.values()), masks) if data.query.paths.shape[1] > 1 else {}),
    }


def of_shots(maps):
    """(Q, h, w) as it is; (Q, M, h, w) of M spectra as their sum."""
    return maps.sum(1) if maps.ndim == 4 else maps


def by_spectrum(data, rows, maps, masks):
    """What Visuals keep of the maps (Q, M, h, w) of each spectrum, one for each of HOW."""
    sums = np.stack(maps).sum((3, 4))  # (2, Q, M)
    told = np.stack([np.stack([judge(one[:, m], masks) for m in range(one.shape[1])], 1) for one in maps])
    return {
        "spectra": np.stack(list(map(explain.as_bytes, maps))),
        "shares": (sums / np.maximum(sums.sum(2, keepdims=True), 1e-12)).astype(np.float16),
        "seen": told[..., explain.SCORES.index("person")],
        "hours": np.array(explain.hours_of(data, data.query.paths[rows, 0])),
    }


def masks_of(data, rows):
    """Masks of some queries of a world; none for real data."""
    return explain.masks_of(data, data.query.paths[rows, 0])


def persons(data, rows):
    """(H, W) of truth for each of some queries of a world, where it shows the person; none for real data."""
    return [explain.group(mask, "person") for mask in masks_of(data, rows)]


def judge(maps, masks):
    """Scores (Q, scores) of maps (Q, h, w) against the masks; NaN without masks or without maps."""
    if not len(masks) or not len(maps):
        # as many rows as there are queries, so that both kinds of map fit one array
        return np.full((max(len(maps), len(masks)), len(explain.SCORES)), np.nan, np.float16)
    found = []
    for one, mask in zip(maps, masks):
        scores = explain.judge(one, mask)
        found.append([scores[name] for name in explain.SCORES])  # the order of the columns
    return np.array(found, np.float16)


def reasons(masks, pids):
    """(why, share) of the explained queries: the one of AROUND that a query is shown for, or "", and how much
    of the image that fills. The choice is by rule (`explain.fullest`), not by eye."""
    why = np.full(len(pids), "", "U12")
    share = np.zeros(len(pids), np.float32)
    if not len(masks):
        return why, share
    for name in AROUND:
        picked = explain.fullest(masks, name, SHOWN, pids)
        fresh = (why[picked.rows] == "") & (picked.share > 0)  # the first reason stands
        rows = picked.rows[fresh]
        why[rows] = name
        share[rows] = picked.share[fresh]
    return why, share


def shown(found):
    """Positions of the explained queries that are shown: group by group of AROUND, the SHOWN fullest first;
    without masks, the first ones."""
    fullest = np.argsort(-found.share, kind="stable")
    picked = []
    for name in AROUND:
        picked += [int(k) for k in fullest if found.why[k] == name][:SHOWN]
    return picked or list(range(min(len(AROUND) * SHOWN, len(found.rows))))


def telling(one, other=None):
    """{position: why} of the explained queries whose ranked lists are shown: of the largest gain and loss in
    average precision of `one` over `other`, where that is given; the hardest, and one of median precision."""
    order = np.argsort(one.precision, kind="stable")  # the hardest first
    reasons = {"hardest": order[0], "median": order[len(order) // 2], "best": order[-1]}
    if other is not None:
        gain = one.precision - other.precision
        reasons = {"largest gain": gain.argmax(), "largest loss": gain.argmin(), **reasons}
    first = {}
    for why, k in reasons.items():
        first.setdefault(int(k), why)  # one line for each query
    return dict(list(first.items())[: len(AROUND) * SHOWN])


def beside_chance(found, how="relevance", score="person"):
    """The Interval of a score minus that of a uniform map, image by image, in points."""
    column = explain.SCORES.index(score)
    judged = found.judged[list(HOW).index(how)]  # (2, Q, scores) -> (Q, scores)
    return mean(judged[:, column] - found.chance[:, column])


def looks(found, region, token="sentences", how="relevance"):
    """The Interval of a class token's share of a map on one of `sentences.LOOKED` minus that of a uniform
    map, image by image, in points; the token is one of `sentences.TOKENS`."""
    return mean(known(looked_by(found, region, token, how) - of_region(found.looked_chance, region)))


def leans(found, region, how="relevance"):
    """The Interval of the share on a region of the token for sentences minus that of the token for images,
    image by image, in points."""
    one, other = (looked_by(found, region, token, how) for token in sentences.TOKENS)
    return mean(known(one - other))


def looked_by(found, region, token, how):
    """The shares (T,) of a token's maps on a region."""
    return of_region(found.looked[list(HOW).index(how), sentences.TOKENS.index(token)], region)


def of_region(shares, region):
    """(T, regions) -> (T,)"""
    return shares[:, sentences.LOOKED.index(region)].astype(np.float64)


def known(values):
    """Those that are no NaN: images on which the region is seen."""
    return values[~np.isnan(values)]


def mean(values, draws=2000):
    """Mean of one score (Q,) in per cent, with the interval of a bootstrap over the queries, one per person;
    NaN without any."""
    if not len(values):
        return Interval(*[np.nan] * 3)
    values = 100 * np.asarray(values, np.float64)  # kept in half precision, in which sums lose digits
    picks = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    means = values[picks].mean(1)  # (draws, Q) -> (draws,)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(values.mean(), low, high)


LIMIT = 300_000  # bytes of a file
UNTRAINED = "not trained"


def keep(method, data, run, shelf=BOOK):
    """Compute the Visuals of the method that a run trained, and write them beside the run. ValueError for a
    file of more than LIMIT bytes."""
    found = visualise(method, data, run.key)
    buffer = io.BytesIO()  # in memory first: a file that is too large is never written
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
    run = shelf.at(spec)
    path = shelf.pictures(spec)
    if run and path.exists():
        return belonging(read(path), run)
    if shelf.behind:
        return find(spec, shelf.behind)
    return None


def belonging(found, run):
    """The Visuals `found`; ValueError unless they are those of the run."""
    if found.key != run.key:
        raise ValueError(
            f"expected what the run {run.spec.name} shows ({run.key}), found what another one showed "
            f"({found.key}); run python -m reid_core visuals."
        )
    return found


LATER = Visuals._field_defaults  # what files of earlier versions lack


def read(path):
    """The Visuals in a file; ValueError if it is not whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in Visuals._fields if name in file or name not in LATER}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(
            f"expected a whole file at {path.name}, found one that cannot be read ({error}); run python -m "
            "reid_core visuals."
        ) from error
    kept["key"] = str(kept["key"])  # saved as an array of no dimension
    return Visuals(**kept)


def measured(spec, **options):
    """`measure.measure`; of a lifelong run also what the truth of the world says (`regions.traits_of`)."""
    return measure.measure(spec, traits_of=regions.traits_of, **options)


def measure_and_keep(spec, *, shelf=OWN, told=lambda run: None, **options):
    """`measured`, then `told` with the run, and then `keep` if a page of the book shows pictures of it
    (`is_shown`). Whatever becomes of the pictures, the run is there."""
    run = measured(spec, shelf=shelf, **options)
    told(run)
    if is_shown(run) and (shelf is BOOK or spec.profile != "smoke"):
        keep_or_tell(run, shelf)
    return run


def keep_or_tell(run, shelf, log=print):
    """`keep` with the weights that the training left; a line in the log where that fails."""
    try:
        keep(*trained(run.spec), run, shelf)
    except Exception as error:
        log(f"no pictures of {run.spec.name} ({type(error).__name__}: {error}); its scores are kept.")


def weights_of(spec):
    """Where a training leaves the weights of its run."""
    return training_folder(spec.name) / train.WEIGHTS


def trained(spec):
    """(method, data) of a spec, with the weights that its training left in the build folder; ValueError if
    there are none, or those of other settings."""
    method, data = spec.build()
    path = weights_of(spec)
    if not path.exists():
        raise ValueError(
            f"expected the weights of {spec.name} in the build folder, found none; train it again with "
            "python -m reid_core train."
        )
    state, key = checkpoint.read_tensors(path)
    expected = measure.run_key(spec, method, data)
    if key != expected:
        raise ValueError(
            f"expected weights of {expected}, found those of {key}; train it again with python -m reid_core "
            "train."
        )
    train.load_state(method, state, path)
    return method, data


def fill(log=print):
    """`keep` the visuals of the book's runs where they are missing and the trained weights are still
    there."""
    for run in BOOK.load(seed=0):
        if weights_of(run.spec).exists() and is_shown(run) and BOOK.lacks_pictures(run):
            log(f"{run.spec.name}: looked at")
            keep_or_tell(run, BOOK, log)


def fresh(spec, shelf):
    """The Visuals of a run that is not stale, or None: a map of an older world would lie on images that it
    does not explain."""
    found = find(spec, shelf)
    runs = filter(None, [one.at(spec) for one in (shelf, shelf.behind) if one])
    return found if any(run.key == found.key and not run.outdated for run in runs if found) else None


def for_page(page, wanted):
    """({label: Visuals or None}, data) of `wanted` (`specs_of`): those beside the fresh runs of the
    page's shelf; with `page.retrain`, of runs that are trained now. Where there are none at all, those of the
    image tower before training (zero-shot) are computed, under the label UNTRAINED."""
    specs = specs_of(page, wanted)
    if page.retrain and page.profile != "smoke":
        for spec in specs.values():
            run = measured(spec)
            keep(*trained(run.spec), run, OWN)
    found = {label: fresh(spec, page.shelf) for label, spec in specs.items()}
    *_, (last, *_) = wanted.values()
    untrained = Spec(*METHODS[last].untrained, page.data, page.profile, page.seed)
    method, data = untrained.build()
    if not any(found.values()):
        untrained_visuals = visualise(method, data, maps=("tsne",))
        found = {UNTRAINED: untrained_visuals, **found}  # first, as the page draws them in this order
    return found, part_with_queries(data)


def specs_of(page, wanted):
    """{label: Spec} of {label: (method, variant, row)} in the profile, on the data and with the seed of a
    page; a fourth part names other data, whose queries are the same."""
    return {
        label: Spec(*parts[:3], *(parts[3:] or (page.data,)), page.profile, page.seed)
        for label, parts in wanted.items()
    }


def caveat(page, found):
    """What a caption must add where the pictures come from no run; "" elsewhere."""
    if UNTRAINED not in found:
        return ""
    recipe = Spec("clip_reid", "baseline", profile=page.profile).recipe()
    if loading.locate(recipe.pretrained) is None:
        tower = "a tower of random weights"
    else:
        tower = "CLIP's tower, zero-shot"
    return f" No run of this version is kept for this page: shown is {tower}, not trained to re-identify."
