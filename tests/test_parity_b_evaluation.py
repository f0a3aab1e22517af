"""Evaluation against published code, set B: TOP-ReID, VLADR, OML; and definitions in float64."""

import numpy as np
import torch
import torch.nn.functional as F
from golden import golden
from golden_b import agree, load

from reid_core.data import Shots
from reid_core.evaluate import score
from reid_core.metrics import rank
from reid_core.rerank import rerank

PROTOCOL, END_TO_END, FLOAT64 = 1e-6, 1e-5, 1e-9


def check(file, found, tolerance, prefix="out/"):
    """CMC and mean AP of Scores."""
    agree(file, f"{prefix}cmc", found.cmc(len(file[f"{prefix}cmc"])), tolerance)
    agree(file, f"{prefix}mAP", found.mAP, tolerance)


def sides(file, *names):
    """The columns of queries and of gallery, in turn."""
    return [file[f"in/{side}_{name}"] for name in names for side in "qg"]


# --- TOP-ReID (DeMo's and HTT's are the same) and VLADR


@golden("topreid__eval_func")
def test_the_camera_filter_is_the_published_one(file):
    file = load(file)
    check(file, rank_distances(file, "pid", "cam"), PROTOCOL)


@golden("topreid__eval_func_msrv")
def test_the_scene_filter_is_the_published_one(file):
    file = load(file)
    check(file, rank_distances(file, "pid", "scene"), PROTOCOL)


@golden("topreid__eval_func_msrv")
def test_the_scene_filter_ignores_cameras(file):
    file = load(file)
    other = rank_distances(file, "pid", "cam")
    assert abs(other.mAP - file.number("out/mAP")) > 10 * PROTOCOL


def rank_distances(file, *columns):
    return rank(None, None, *sides(file, *columns), distance=file.tensor("in/distmat"))


@golden("vladr__eval_market")
def test_unit_features_rank_by_cosine_as_by_distance(file):
    file = load(file)
    query, gallery = (F.normalize(file.tensor(f"in/{side}_feat")) for side in "qg")
    found = rank(query, gallery, *sides(file, "pid", "cam"))
    check(file, found, PROTOCOL)
    assert found.skipped
    agree(file, "out/distmat", 2 - 2 * query @ gallery.T, PROTOCOL)


@golden("topreid__r1_map_eval")
def test_topreid_scores_from_features_to_map(file):
    file = load(file)
    query, gallery, rows = split(file)
    check(file, score(F.normalize(query), F.normalize(gallery), *rows, "market"), END_TO_END, "out/norm/")


@golden("topreid__r1_map_eval")
def test_features_of_any_length_rank_by_a_given_distance(file):
    """`score` is for unit features only; without normalising, the distances are given."""
    file = load(file)
    query, gallery, (one, two) = split(file)
    distance = torch.cdist(query.double(), gallery.double()).square()
    found = rank(None, None, one.pids, two.pids, one.camids, two.camids, distance=distance)
    check(file, found, END_TO_END, "out/nonorm/")


@golden("topreid__r1_map_msvr")
def test_msvr310_is_scored_by_the_scene_protocol(file):
    file = load(file)
    query, gallery, rows = split(file)
    check(file, score(F.normalize(query), F.normalize(gallery), *rows, "scene"), END_TO_END)


def split(file):
    """Query features, gallery features, and the Rows of both."""
    count, features = file.number("in/num_query"), file.tensor("in/features")
    none = np.zeros(len(features), dtype=np.int64)
    columns = [file.get(f"in/{name}", none) for name in ("pid", "cam", "scene")]
    rows = (
        Shots(none[part], none[part], *(c[part] for c in columns), none[part], none[part])
        for part in (np.s_[:count], np.s_[count:])
    )
    return features[:count], features[count:], tuple(rows)


@golden("topreid__k_reciprocal_rerank")
def test_reranking_is_the_published_one_up_to_half_precision(file):
    file = load(file)
    s = file.settings
    found = rerank(file.tensor("in/q"), file.tensor("in/g"), s["k1"], s["k2"], s["lambda_value"])
    agree(file, "out/dist", found, 1e-2)


# --- OML, and average precision as it is defined


@golden("oml__retrieval", "oml__retrieval_sequence")
def test_items_and_sequences_are_left_out_by_their_mark(file):
    file = load(file)
    found = oml(file)
    assert found.valid.tolist() == np.flatnonzero(file["out/full/n_relevant"]).tolist()
    agree(file, "out/definition/ap_rectangular_per_query", found.ap, PROTOCOL, found.valid)
    agree(file, "out/definition/ap_trapezoid_per_query", found.ap_trapezoid, PROTOCOL, found.valid)


@golden("oml__retrieval", "oml__retrieval_sequence")
def test_oml_counts_queries_without_a_match_and_we_skip_them(file):
    """So their CMC is ours times the share of valid queries. Their precision at k has no counterpart here."""
    file = load(file)
    found, ks = oml(file), np.array(file.settings["ks"])
    cmc = found.cmc(max(ks))
    share = len(found.valid) / (len(found.valid) + found.skipped)
    agree(file, "out/full/cmc_at_k_mean", share * cmc[np.minimum(ks, len(cmc)) - 1], PROTOCOL)
    first = (found.first[:, None] <= ks).astype(float)
    agree(file, "out/full/cmc_at_k_per_query", first, PROTOCOL, found.valid)


@golden("oml__retrieval", "oml__retrieval_sequence")
def test_oml_divides_by_the_matches_it_found(file):
    """Its map@k is our AP where all matches lie within k, and another number elsewhere."""
    file = load(file)
    found, ks = oml(file), file.settings["ks"]
    last = file["out/full/n_relevant"][found.valid] / found.inp
    theirs = file["out/full/map_at_k_per_query"][found.valid]
    whole = last[:, None] <= np.array(ks) + 0.5
    ours = np.broadcast_to(found.ap[:, None], whole.shape)
    assert whole.any() and not whole.all()
    np.testing.assert_allclose(theirs[whole], ours[whole], rtol=0, atol=PROTOCOL)
    assert np.abs(theirs - ours)[~whole].max() > 0.1


def oml(file):
    """Scores; an item is left out for itself, or for all of its sequence."""
    labels, (query, gallery) = file["in/labels"], (file[f"in/{side}_ids"] for side in ("query", "gallery"))
    marks = file["in/sequence_ids"] if "in/sequence_ids" in file else np.arange(len(labels))
    features = file.tensor("in/embeddings").double()
    distance = torch.cdist(features[query], features[gallery])
    return rank(None, None, labels[query], labels[gallery], marks[query], marks[gallery], distance=distance)


@golden("generic__ap_variants")
def test_both_average_precisions_are_as_defined(file):
    """Query by query, for what is relevant and what is junk differs between them."""
    file = load(file)
    near, kept = file.tensor("in/similarity"), np.flatnonzero(file["out/n_relevant"])
    each = [
        rank(None, None, [1], relevant.astype(int), [0], np.ones(len(relevant)), junk, -row[None])
        for row, relevant, junk in zip(near, file["in/relevant"], file["in/junk"])
    ]
    assert [k for k, one in enumerate(each) if not one.skipped] == kept.tolist()
    for name in ("rectangular", "trapezoid"):
        ap = np.concatenate([one.ap if name == "rectangular" else one.ap_trapezoid for one in each])
        agree(file, f"out/ap_{name}", ap, 1e-12, kept)
        agree(file, f"out/map_{name}_over_valid", ap.mean(), 1e-12)


@golden("hpl__t2i_metrics")
def test_sentences_are_searched_without_a_filter(file):
    file = load(file)
    query, gallery = file["in/q_id"], file["in/g_id"]
    marks = np.zeros(len(query)), np.ones(len(gallery))
    found = rank(None, None, query, gallery, *marks, distance=-file.tensor("in/similarity"))
    summary = found.summary()
    agree(file, "out/R1_R5_R10", [summary[f"R{k}"] for k in (1, 5, 10)], FLOAT64)
    agree(file, "out/mAP", summary["mAP"], FLOAT64)
    agree(file, "out/mINP", summary["mINP"], FLOAT64)
    agree(file, "out/ap_per_query", found.ap, FLOAT64, found.valid)
