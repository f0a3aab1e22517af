"""What is kept of attribute queries and of sentences of identities, and its pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from reid_core.analysis import attributes, regions, visuals
from reid_core.data import load_data
from reid_core.report import pool, queries
from reid_core.report.notebook import figure
from reid_core.runs.run import Spec

WHICH = {"tsne": visuals.drawer("tsne", ("tsne",)), "umap": visuals.drawer("umap", ())}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    return load_data("world_a", "smoke")


def begun(method, variant, data, row="full"):
    found, _ = Spec(method, variant, row, "world_a", "smoke").build(data)
    found.begin_domain(data, 1)
    return found.eval()


@pytest.fixture(scope="module")
def vladr(data):
    return begun("vladr", "released", data)


@pytest.fixture(scope="module")
def kept(vladr, data):
    points = np.arange(len(data.query) + len(data.gallery))
    return attributes.visualise(vladr, data, np.arange(3), points, WHICH)


def test_each_query_leaves_a_map_and_a_plane(kept, vladr, data):
    count = len(data.query) + len(data.gallery)
    assert kept["attended"].shape == (3, 4, *vladr.image.grid) and kept["attended"].max() == 255
    assert kept["tsne_by"].shape == (4, count, 2) and kept["umap_by"].shape == (4, 0, 2)
    assert kept["worn"].shape == (count, 4) and kept["agrees"].shape == (4, 3)


def test_people_wear_what_the_world_says_of_them(kept, data):
    pids = attributes.pids_of(data)
    for pid in np.unique(pids):
        assert len(np.unique(kept["worn"][pids == pid], axis=0)) == 1  # on every image the same
    sentence = data.train.parts[0]  # hair, upper, lower, shoes
    worn = regions.worn(data, data.train.paths[:1, 0])[0]
    assert all(word in said for word, said in zip(worn, sentence))


def test_a_method_without_attributes_keeps_nothing_of_them(data):
    method, _ = Spec("clip_reid", "baseline", "full", "world_a", "smoke").build(data)
    assert attributes.visualise(method, data, np.arange(3), np.arange(9), WHICH) == {}
    assert visuals.named(method, data) == {}


def test_queries_of_another_number_have_no_part_of_their_own(data):
    two = begun("vladr", "released", data)
    two.attribute_names = lambda: ("attribute 1", "attribute 2", "attribute 3", "attribute 4")
    two.features = lambda batch, names: {name: torch.rand(len(batch.images), 5) for name in names}
    assert "worn" not in attributes.visualise(two, data, np.arange(2), np.arange(9), WHICH)


def test_neighbours_of_other_people_are_compared(monkeypatch):
    monkeypatch.setattr(attributes, "NEAREST", 1)
    features = np.array([[1, 0], [1, 0], [0.9, 0.1], [0, 1.0]])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    worn = np.array(["red", "red", "red", "blue"])
    near, chance = attributes.agreement(features, worn, np.array([1, 1, 2, 3]))
    # the nearest of another person: 2, 2, 0 and 2; of ten ordered pairs of different people four agree
    assert near == pytest.approx(3 / 4) and chance == pytest.approx(4 / 10)


def shown(kept, data):
    """Stands for an Explanations whose only method keeps this."""
    one = SimpleNamespace(rows=np.arange(3), why=np.array([""] * 3), share=np.zeros(3), **kept)
    return SimpleNamespace(there={"ours": one}, data=data, chosen=[0, 1], figure=figure)


def test_maps_that_are_alike_are_called_so(kept, data):
    told = queries.maps(shown(kept, data), "ours").data
    assert "have a mean correlation of" in told and "3 people" in told
    same = np.repeat(np.random.default_rng(0).random((2, 1, 3, 3)), 4, axis=1)
    assert queries.likeness(same) == pytest.approx(1)
    opposite = np.stack([same[:, 0], 1 - same[:, 0]], 1)
    assert queries.likeness(opposite) == pytest.approx(-1)


def test_the_plane_of_each_attribute_tells_what_neighbours_wear(kept, data):
    told = queries.plane(shown(kept, data), "ours").data
    assert all(name in told for name in regions.WORN) and "by chance" in told
    assert "not run" in queries.plane(shown(kept, data), "ours", "umap").data  # it was not drawn
    assert "not run" in queries.plane(shown(kept, data), "another").data
    assert "not run" in queries.maps(shown(kept, data), "another").data


def test_colours_of_the_world_can_be_drawn(data):
    drawn = queries.scatters(np.zeros((1, 2, 2)), np.array([["blonde"], ["navy"]]), "tsne")
    first, second = drawn.axes[0].collections[0].get_facecolors()[:, :3]
    assert first[0] > first[2] and second[2] > second[0]


@pytest.mark.parametrize("variant", ["released", "described"])
def test_sentences_and_means_of_the_first_domain_are_kept(variant, data):
    method = begun("pad", variant, data)
    found = visuals.named(method, data)
    assert found["sentences"].shape == found["centres"].shape == (data.classes, method.text.joint_width)
    assert np.linalg.norm(found["centres"].astype(float), axis=1) == pytest.approx(1, abs=1e-2)
    said = torch.nn.functional.normalize(method.own_sentences().detach(), dim=1).numpy()
    assert found["sentences"].astype(float) == pytest.approx(said, abs=1e-3)


def test_drift_counts_whose_sentence_is_nearest(monkeypatch):
    monkeypatch.setattr(visuals, "umap", lambda rows: rows[:, :2])
    said = np.eye(4, dtype=np.float16)
    then = SimpleNamespace(sentences=said, centres=said)
    now = SimpleNamespace(sentences=visuals.NONE, centres=said[[0, 1, 3, 2]])
    looks = SimpleNamespace(there={"first": then, "last": now}, figure=figure)
    told = pool.PADChapter.drift(None, looks, "first", "last").data
    assert "100 % of the first domain" in told and "50 % after the last" in told
    assert "cosine distance of 0.50" in told
    assert "not run" in pool.PADChapter.drift(None, looks, "first", "none").data
