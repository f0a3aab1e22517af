"""Ranking, scores and re-ranking against published code."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import EXACT64, FLOAT64, LOSS, NUMBER, OUTPUT, agree, close, golden, matching

from reid_core.data import Shots
from reid_core.evaluate import score
from reid_core.losses import similarity
from reid_core.metrics import rank
from reid_core.rerank import (
    averaged,
    expanded,
    jaccard_distance,
    membership,
    nearest,
    rerank,
    squared_distances,
)

HALF_PRECISION = 1e-2  # of CLIP-ReID's re-ranking, which holds its tables in float16 (D4)
FLOAT32_RERANKING = 5e-6
PROTOCOL, END_TO_END = 1e-6, 1e-5


def people(file):
    """Identities and cameras as `rank` takes them."""
    return [
        file[f"in/{key}"].astype(np.int64) for key in ("query_pid", "gallery_pid", "query_cam", "gallery_cam")
    ]


def scores_of(file, distance):
    return rank(None, None, *people(file), distance=torch.as_tensor(distance))


def distances(file):
    return (
        file.tensor("in/distmat") if "in/distmat" in file else file.tensor("in/distmat_u16").float() / 2**16
    )


def check_cmc(name, scores, wanted):
    close(scores.cmc(len(wanted)), wanted, LOSS, name)


def sides(file, *names):
    """The columns of queries and of gallery, in turn."""
    return [file[f"in/{side}_{name}"] for name in names for side in "qg"]


def rank_distances(file, *columns):
    return rank(None, None, *sides(file, *columns), distance=file.tensor("in/distmat"))


def check_scores(file, found, tolerance, prefix="out/"):
    """CMC and mean AP of Scores."""
    agree(file, f"{prefix}cmc", found.cmc(len(file[f"{prefix}cmc"])), tolerance)
    agree(file, f"{prefix}mAP", found.mAP, tolerance)


# Scores from distances


@golden("multi__eval_small", "multi__eval_medium")
def test_map_and_cmc_are_those_of_all_published_evaluators(file):
    name, file = file.name, file()
    scores = scores_of(file, distances(file))
    for key, source in matching(file, r"out/(\w+)/mAP"):
        close(scores.mAP, file[key], EXACT64, name)
        check_cmc(name, scores, file[f"out/{source[1]}/cmc"])


@golden("multi__eval_small", "multi__eval_medium")
def test_every_valid_query_has_the_published_precision(file):
    name, file = file.name, file()
    scores = scores_of(file, distances(file))
    close(scores.ap, file["out/fastreid/AP_per_valid_query"], EXACT64, name)
    close(scores.inp, file["out/fastreid/INP_per_valid_query"], EXACT64, name)
    close(scores.mINP, file["out/fastreid/mINP"], EXACT64, name)


@golden("multi__eval_small", "multi__eval_medium")
def test_a_query_whose_matches_are_all_junk_is_skipped(file):
    file = file()
    scores = scores_of(file, distances(file))
    assert np.array_equal(scores.valid, file["out/valid_query_index"])
    assert file["in/query_with_only_junk"] not in scores.valid
    assert scores.skipped == len(file["in/query_pid"]) - len(file["out/valid_query_index"])


@golden("fastreid__roc_mINP")
def test_precision_and_inverse_penalty_agree_with_a_second_library(file):
    """The verification curve and query expansion are left out: no chapter reports them."""
    name, file = file.name, file()
    scores = scores_of(file, distances(file))
    for found, key in ((scores.ap, "AP"), (scores.inp, "INP"), (scores.mAP, "mAP"), (scores.mINP, "mINP")):
        close(found, file[f"out/{key}"], EXACT64, name)
    check_cmc(name, scores, file["out/cmc"])
    close((scores.mAP + scores.cmc()[0]) / 2, file["out/metric_mean_of_mAP_and_rank1"], LOSS, name)


@golden("torchreid__eval_cuhk03")
def test_the_map_of_the_single_shot_protocol_is_the_ordinary_one(file):
    """Its CMC, averaged over random galleries of one image per identity, is left out: no chapter reports
    it."""
    name, file = file.name, file()
    scores = scores_of(file, distances(file))
    for key, _ in matching(file, r"out/numpy_seed\d+/mAP"):
        close(scores.mAP, file[key], EXACT64, name)


@golden("topreid__eval_func")
def test_the_camera_filter_is_the_published_one(file):
    file = file()
    check_scores(file, rank_distances(file, "pid", "cam"), PROTOCOL)


@golden("topreid__eval_func_msrv")
def test_the_scene_filter_is_the_published_one(file):
    file = file()
    check_scores(file, rank_distances(file, "pid", "scene"), PROTOCOL)


@golden("topreid__eval_func_msrv")
def test_the_scene_filter_ignores_cameras(file):
    file = file()
    other = rank_distances(file, "pid", "cam")
    assert abs(other.mAP - file.number("out/mAP")) > 10 * PROTOCOL


@golden("irra__rank")
def test_text_search_leaves_nothing_out_and_scores_as_published(file):
    """Both directions; published values are per cent in float32."""
    name, file = file.name, file()
    similarities, pids = file.tensor("in/similarity"), [file["in/query_pid"], file["in/gallery_pid"]]
    for direction, near, (queries, gallery) in (
        ("t2i", similarities, pids),
        ("i2t", similarities.T, pids[::-1]),
    ):
        cameras = np.zeros(len(queries)), np.ones(len(gallery))
        scores = rank(None, None, queries, gallery, *cameras, distance=-near)
        wanted = {
            key: file[f"out/{direction}/{key}"] / 100 for key in ("cmc", "cmc_topk_path", "mAP", "mINP")
        }
        check_cmc(name, scores, wanted["cmc"])
        check_cmc(name, scores, wanted["cmc_topk_path"])
        close(scores.mAP, wanted["mAP"], LOSS, name)
        close(scores.mINP, wanted["mINP"], LOSS, name)


@golden("hpl__t2i_metrics")
def test_sentences_are_searched_without_a_filter(file):
    file = file()
    query, gallery = file["in/q_id"], file["in/g_id"]
    marks = np.zeros(len(query)), np.ones(len(gallery))
    found = rank(None, None, query, gallery, *marks, distance=-file.tensor("in/similarity"))
    summary = found.summary()
    agree(file, "out/R1_R5_R10", [summary[f"R{k}"] for k in (1, 5, 10)], FLOAT64)
    agree(file, "out/mAP", summary["mAP"], FLOAT64)
    agree(file, "out/mINP", summary["mINP"], FLOAT64)
    agree(file, "out/ap_per_query", found.ap, FLOAT64, found.valid)


@golden("generic__ap_variants")
def test_both_average_precisions_are_as_defined(file):
    """Query by query, for what is relevant and what is junk differs between them."""
    file = file()
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


# Scores from features


def features(file, normalised):
    """Those of the queries, those of the gallery."""
    found = file.tensor("in/features")
    found = F.normalize(found) if normalised else found
    return found.split([file["in/num_query"].item(), len(found) - file["in/num_query"].item()])


def shots(file):
    """The Shots of the queries, those of the gallery."""
    count, total = file.number("in/num_query"), len(file["in/features"])
    none = np.zeros(total, dtype=np.int64)
    columns = [file.get(f"in/{name}", none) for name in ("pid", "cam", "scene")]
    return [
        Shots(none[part], none[part], *(c[part] for c in columns), none[part], none[part])
        for part in (np.s_[:count], np.s_[count:])
    ]


@golden("clipreid__r1_map_eval")
def test_features_are_ranked_as_published(file):
    """Ours ranks by cosine what published code ranks by the squared distance of unit vectors."""
    name, file = file.name, file()
    scores = rank(*features(file, normalised=True), *people(file))
    for key, match in matching(file, r"out/((?:pad_)?normalised)/mAP"):
        close(scores.mAP, file[key], EXACT64, name)
        check_cmc(name, scores, file[f"out/{match[1]}/cmc"])


@golden("clipreid__r1_map_eval")
def test_raw_features_are_ranked_by_distance_as_published(file):
    name, file = file.name, file()
    scores = scores_of(file, squared_distances(*features(file, normalised=False)))
    close(scores.mAP, file["out/raw/mAP"], EXACT64, name)
    check_cmc(name, scores, file["out/raw/cmc"])


@golden("clipreid__r1_map_eval")
def test_distances_are_the_published_ones(file):
    """torchreid's "euclidean" is squared too. The arc cosine is left out: nothing here uses it."""
    name, file = file.name, file()
    raw, unit = features(file, normalised=False), features(file, normalised=True)
    close(squared_distances(*raw), file["out/raw/distmat"], OUTPUT, name)
    close(squared_distances(*raw), file["out/torchreid_euclidean_distance"], OUTPUT, name)
    close(2 - 2 * similarity(*raw), file["out/normalised/distmat"], OUTPUT, name)
    close(1 - similarity(*unit), file["out/torchreid_cosine_distance"], OUTPUT, name)


@golden("vladr__eval_market")
def test_unit_features_rank_by_cosine_as_by_distance(file):
    file = file()
    query, gallery = (F.normalize(file.tensor(f"in/{side}_feat")) for side in "qg")
    found = rank(query, gallery, *sides(file, "pid", "cam"))
    check_scores(file, found, PROTOCOL)
    same = file["in/q_pid"][:, None] == file["in/g_pid"]
    matches = same & (file["in/q_cam"][:, None] != file["in/g_cam"])
    assert found.skipped == (~matches.any(1)).sum()
    agree(file, "out/distmat", 2 - 2 * query @ gallery.T, PROTOCOL)


@golden("topreid__r1_map_eval")
def test_topreid_scores_from_features_to_map(file):
    file = file()
    found = score(*features(file, normalised=True), *shots(file), "market")
    check_scores(file, found, END_TO_END, "out/norm/")


@golden("topreid__r1_map_eval")
def test_features_of_any_length_rank_by_a_given_distance(file):
    """`score` is for unit features only; without normalising, the distances are given."""
    file = file()
    (query, gallery), (one, two) = features(file, normalised=False), shots(file)
    distance = torch.cdist(query.double(), gallery.double()).square()
    found = rank(None, None, one.pids, two.pids, one.camids, two.camids, distance=distance)
    check_scores(file, found, END_TO_END, "out/nonorm/")


@golden("topreid__r1_map_msvr")
def test_msvr310_is_scored_by_the_scene_protocol(file):
    file = file()
    check_scores(file, score(*features(file, normalised=True), *shots(file), "scene"), END_TO_END)


# Items and sequences: OML


def oml(file):
    """Scores; an item is left out for itself, or for all of its sequence."""
    labels, (query, gallery) = file["in/labels"], (file[f"in/{side}_ids"] for side in ("query", "gallery"))
    marks = file["in/sequence_ids"] if "in/sequence_ids" in file else np.arange(len(labels))
    features = file.tensor("in/embeddings").double()
    distance = torch.cdist(features[query], features[gallery])
    return rank(None, None, labels[query], labels[gallery], marks[query], marks[gallery], distance=distance)


@golden("oml__retrieval", "oml__retrieval_sequence")
def test_items_and_sequences_are_left_out_by_their_mark(file):
    file = file()
    found = oml(file)
    assert found.valid.tolist() == np.flatnonzero(file["out/full/n_relevant"]).tolist()
    agree(file, "out/definition/ap_rectangular_per_query", found.ap, PROTOCOL, found.valid)
    agree(file, "out/definition/ap_trapezoid_per_query", found.ap_trapezoid, PROTOCOL, found.valid)


@golden("oml__retrieval", "oml__retrieval_sequence")
def test_oml_counts_queries_without_a_match_and_we_skip_them(file):
    """So their CMC is ours times the share of valid queries. Their precision at k has no counterpart here."""
    file = file()
    found, ks = oml(file), np.array(file.settings["ks"])
    cmc = found.cmc(max(ks))
    share = len(found.valid) / (len(found.valid) + found.skipped)
    agree(file, "out/full/cmc_at_k_mean", share * cmc[np.minimum(ks, len(cmc)) - 1], PROTOCOL)
    first = (found.first[:, None] <= ks).astype(float)
    agree(file, "out/full/cmc_at_k_per_query", first, PROTOCOL, found.valid)


@golden("oml__retrieval", "oml__retrieval_sequence")
def test_oml_divides_by_the_matches_it_found(file):
    """Its map@k is our AP where all matches lie within k, and another number elsewhere."""
    file = file()
    found, ks = oml(file), file.settings["ks"]
    last = file["out/full/n_relevant"][found.valid] / found.inp
    theirs = file["out/full/map_at_k_per_query"][found.valid]
    whole = last[:, None] <= np.array(ks) + 0.5
    ours = np.broadcast_to(found.ap[:, None], whole.shape)
    if whole.all() or not whole.any():
        pytest.skip(f"{file.name}: within every k of {ks} lie all matches of a query, or of none")
    np.testing.assert_allclose(theirs[whole], ours[whole], rtol=0, atol=PROTOCOL)
    assert np.abs(theirs - ours)[~whole].max() > 0.1


# Re-ranking


def rerankings(file, folder):
    """(key, k1, k2, weight) of every result under `folder`."""
    pattern = rf"{re.escape(folder)}.*k1_(\d+)_k2_(\d+)_lambda_{NUMBER}"
    return [(key, int(m[1]), int(m[2]), float(m[3])) for key, m in matching(file, pattern)]


@golden("clipreid__reranking")
def test_reranking_equals_the_published_formula_in_either_precision(file):
    name, file = file.name, file()
    query, gallery = file.tensor("in/query"), file.tensor("in/gallery")
    for key, *settings in rerankings(file, "ref64/"):
        close(rerank(query, gallery, *settings), file[key], LOSS, name)
        close(rerank(query.double(), gallery.double(), *settings), file[key], LOSS, name)


@golden("clipreid__reranking")
def test_reranking_is_the_published_one_but_for_its_half_precision(file):
    file = file()
    for key, *settings in rerankings(file, "out/"):
        close(
            rerank(file.tensor("in/query"), file.tensor("in/gallery"), *settings), file[key], HALF_PRECISION
        )


@golden("topreid__k_reciprocal_rerank")
def test_reranking_is_the_published_one_up_to_half_precision(file):
    file = file()
    s = file.settings
    found = rerank(file.tensor("in/q"), file.tensor("in/g"), s["k1"], s["k2"], s["lambda_value"])
    agree(file, "out/dist", found, HALF_PRECISION)


@golden("torchreid__reranking")
def test_reranking_agrees_with_a_second_library_on_plain_distances(file):
    name, file = file.name, file()
    for key, *settings in rerankings(file, "out/from_euclidean/"):
        found = rerank(file.tensor("in/query"), file.tensor("in/gallery"), *settings)
        close(found, file[key], FLOAT32_RERANKING, name)


@golden("torchreid__reranking")
def test_reranking_does_not_square_twice(file):
    """torchreid's engine feeds squared distances, which its re-ranking squares again (D5)."""
    file = file()
    for key, *settings in rerankings(file, "out/from_squared_euclidean/"):
        found = rerank(file.tensor("in/query"), file.tensor("in/gallery"), *settings)
        assert np.abs(found.numpy() - file[key]).max() > 100 * FLOAT32_RERANKING


@golden("clipreid__r1_map_eval")
def test_reranked_map_is_the_published_one_in_full_precision(file):
    name, file = file.name, file()
    query, gallery = (side.double() for side in features(file, normalised=True))
    for key, match in matching(file, rf"ref64/normalised_reranked_(\d+)_(\d+)_{NUMBER}/mAP"):
        distance = rerank(query, gallery, int(match[1]), int(match[2]), float(match[3]))
        close(distance, file[key.replace("ref64", "out").replace("mAP", "distmat")], HALF_PRECISION)
        close(scores_of(file, distance).mAP, file[key], EXACT64, name)


@golden("fastreid__jaccard")
def test_parts_of_reranking_make_the_jaccard_distance_of_a_second_library(file):
    """fast-reid looks at k1 neighbours instead of k1 + 1 and does not scale distances by the farthest."""
    name, file = file.name, file()
    query, gallery = (
        F.normalize(file.tensor("in/query")).double(),
        F.normalize(file.tensor("in/gallery")).double(),
    )
    both = torch.cat([query, gallery])
    for key, match in matching(file, r"out/jaccard/(k1_(\d+)_k2_(\d+))"):
        order, _ = nearest(both, int(match[2]))
        member = membership(both, torch.ones(len(both)), expanded(order, int(match[2])))
        member = averaged(member, order, int(match[3]))
        found = jaccard_distance(member[: len(query)], member[len(query) :].tocsc())
        close(found, file[key], FLOAT32_RERANKING, name)
        for mixed, weight in matching(file, rf"out/mixed_with_cosine_lambda_{NUMBER}/{match[1]}"):
            cosine = 1 - (query @ gallery.T).numpy()
            close(
                (1 - float(weight[1])) * found + float(weight[1]) * cosine,
                file[mixed],
                FLOAT32_RERANKING,
                name,
            )
