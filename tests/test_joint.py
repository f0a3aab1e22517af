"""A joint data set from training to search: both stages, a test on each part, pictures of both tokens."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_prep.catalogue import build_folder
from reid_core import evaluate
from reid_core.analysis import explain, live, search, sentences, visuals
from reid_core.contract import interrupted
from reid_core.data import ReidData, load_data
from reid_core.methods import hpl
from reid_core.recipe import PROFILES
from reid_core.runs import measure
from reid_core.runs.run import Spec
from reid_core.samplers import SamplerRng

NAME = "world_text+world_msmt"
SMALL = ("image_height=64", "image_width=32", "batch_t2i_pairs=32", "batch_i2i_images=32")
SPEC = Spec("hpl", "hpl", " + ".join(["full", *SMALL]), NAME, "smoke")
TOLD = "A woman in a red coat carrying a box."


def silent(*_):
    """A log that nobody reads."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A build folder of the test, with the worlds of the project."""
    worlds = [part.manifest.root for part in load_data(NAME, "smoke").parts]
    folder = tmp_path_factory.mktemp("build")
    (folder / "world").symlink_to(worlds[0].parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CACHE", str(build_folder() / "cache"))
        patch.setenv("REID_BUILD", str(folder))
        yield folder


@pytest.fixture(scope="module")
def run(place):
    """The run of a joint training, whose weights are there."""
    return measure.measure(SPEC, log=silent)


@pytest.fixture(scope="module")
def method(run):
    return search.load_run(SPEC.name)[0]


@pytest.fixture(scope="module")
def joint(place):
    return load_data(NAME, "smoke")


@pytest.fixture(scope="module")
def seen(method, joint):
    return visuals.visualise(method, joint, maps=())


def test_each_part_is_tested_on_its_own_gallery_by_its_own_protocol(run, joint):
    found = {(record["data"], record["task"]): record for record in run.scores}
    text, image = found["world_text", "text to image"], found["world_msmt", "image to image"]
    told, shown = (part for part in joint.parts)
    assert text["protocol"] == "sentence queries; no gallery image left out"
    assert image["protocol"].startswith("image queries; gallery images of the query's identity and camera")
    assert len(text["ap"]) == sum(map(len, told.gallery.captions)) and len(image["ap"]) == len(shown.query)
    assert {task for data, task in found if data == "world_text"} == {
        "text to image",
        "text to image by the other token",
    }
    assert run.history[0]["stage"] == "stage 1: prompt construction"


def test_a_joint_run_keeps_what_was_removed(run):
    assert [note.split(":")[0] for note in run.data["notes"][:2]] == ["world_text", "world_msmt"]
    assert all("training images removed" in note for note in run.data["notes"][:2])


def test_the_scores_of_a_part_are_those_of_the_weights(run, method, joint):
    scores = evaluate.run_tests(method, joint.parts[0])["text to image"]
    kept = next(record for record in run.scores if record["task"] == "text to image")
    assert kept["ap"] == np.round(scores.ap, 5).tolist()


def test_a_joint_training_that_was_killed_ends_with_the_same_bits(run, place):
    weights = (visuals.weights_of(SPEC)).read_bytes()
    interrupted(lambda: measure.measure(SPEC, log=silent, checkpoint_every=1), steps=2)
    again = measure.measure(SPEC, log=silent, checkpoint_every=1)
    assert visuals.weights_of(SPEC).read_bytes() == weights
    assert json.dumps(again.scores) == json.dumps(run.scores)


def test_a_leaky_set_is_another_run():
    leaky = SPEC._replace(data=f"leaky:{NAME}")
    assert "leaky-world_text-world_msmt" in leaky.name and leaky.name != SPEC.name
    assert [one.data for one in measure.test_sets(leaky)] == ["world_text", "world_msmt"]


def test_a_sentence_is_answered_by_the_first_token_and_an_image_by_the_second(method, joint):
    folder = joint.parts[1].manifest.root / "test"
    asked = search.sentence(method, TOLD, "caption")
    by_first, by_second = (search.embed(method, folder, name) for name in ("c1", "c2"))
    found = search.search(method, TOLD, folder, k=3)
    assert [one.cosine for one in found] == pytest.approx(np.sort(by_first.features @ asked)[:-4:-1].tolist())
    assert found[0].path in by_first.paths and not np.allclose(by_first.features, by_second.features)
    assert search.search(method, by_first.paths[0], folder, k=1)[0].cosine == pytest.approx(1, abs=1e-5)
    assert search.embed(method, folder).feature == "c2"


def test_pictures_of_a_joint_set_are_of_the_parts_that_have_the_queries(seen, joint, method):
    told, shown = joint.parts
    assert seen.rows.max() < len(shown.query) and len(seen.rows) == len(set(shown.query.pids))
    assert len(seen.told) == len(set(told.gallery.pids)), "one image of each person with a sentence"
    scores = evaluate.run_tests(method, told)["text to image"]
    owner = evaluate.owners(told.gallery)
    assert seen.asked_ap == pytest.approx(scores.ap[seen.asked], abs=1e-6)
    for row, order, correct in zip(seen.asked, seen.asked_order, seen.asked_correct):
        assert correct.tolist() == (told.gallery.pids[order] == told.gallery.pids[owner[row]]).tolist()


def test_maps_of_the_two_tokens_are_those_of_their_features(seen, joint, method):
    """By hand: the token for sentences, for the nearness to its sentence."""
    told = joint.parts[0]
    rows = torch.from_numpy(seen.told.astype(np.int64))
    said = evaluate.embed_sentences(method, told.gallery, {"caption"})["caption"][seen.sentence]
    batch = explain.batch_of(method, told, rows, "gallery")
    wanted = explain.stretched(explain.relevance(method, batch, explain.nearness(said), "c1"))
    assert np.abs(seen.tokens[0, 0] / 255 - wanted.numpy()).max() < 0.01
    assert not np.array_equal(seen.tokens[0, 0], seen.tokens[0, 1])


def test_one_class_token_shows_no_second(joint):
    one, _ = SPEC._replace(row="TRT=0;HPL=0;CMPR=0").build(joint)
    assert not sentences.has_two_tokens(one)
    baseline = Spec("clip_reid", "baseline", "full", "world_msmt", "smoke").build(joint.parts[1])[0]
    assert not sentences.has_two_tokens(baseline)


@pytest.mark.parametrize(
    "text, named",
    [
        ("A man with a rucksack, looking at a phone.", {"backpack", "carried"}),
        ("A woman under a red umbrella.", {"carried"}),
        ("A woman in black boxer shorts.", set()),
    ],
)
def test_things_that_a_sentence_names_are_found_in_a_mask(text, named):
    assert sentences.things(text) == named
    mask = np.array(
        [[sentences.REGIONS.index(name) for name in ("background", "backpack", "carried", "upper")]]
    )
    things, body = sentences.looked(mask, text)
    assert things.tolist() == [[False, "backpack" in named, "carried" in named, False]]
    assert body.tolist() == [[False, False, False, True]]


def test_of_each_person_the_image_is_explained_that_shows_what_its_sentence_names(joint, monkeypatch):
    """Person 1 names a box that only her second image shows; person 2 names nothing, and comes last."""
    told = joint.parts[0]
    said = [("A man in red.",), ("A woman carrying a box.",), ("In blue.", "With a box.")]
    shots = dataclasses.replace(told.gallery.pick(np.arange(3)), pids=np.array([2, 1, 1]), captions=said)
    seen = dict.fromkeys(shots.paths[:, 0], np.zeros((2, 2), np.uint8))
    seen[shots.paths[2, 0]] = np.full((2, 2), sentences.REGIONS.index("carried"), np.uint8)
    monkeypatch.setattr(explain, "masks_of", lambda _, paths: [seen[path] for path in paths])
    rows, chosen = sentences.explained(SimpleNamespace(gallery=shots), 9)
    assert rows.tolist() == [2, 0] and chosen.tolist() == [3, 0]
    monkeypatch.setattr(explain, "masks_of", lambda *_: [])
    rows, chosen = sentences.explained(SimpleNamespace(gallery=shots), 1)
    assert rows.tolist() == [1] and chosen.tolist() == [1], "of real data, by words alone"


def looking(one, other, chance=0.2):
    """Visuals of two tokens with these shares on the things named, of which a third image shows none."""
    shares = np.full((2, 2, 3, 2), np.nan, np.float16)
    shares[0, 0, :2, 0], shares[0, 1, :2, 0] = one, other
    return SimpleNamespace(looked=shares, looked_chance=np.full((3, 2), chance, np.float16))


def test_a_token_is_compared_with_a_uniform_map_and_with_the_other_image_by_image():
    found = looking([0.5, 0.3], [0.2, 0.2])
    thing = sentences.LOOKED[0]
    assert visuals.looks(found, thing)[0] == pytest.approx(20, abs=0.1)
    assert visuals.looks(found, thing, "images")[0] == pytest.approx(0, abs=0.1)
    assert visuals.leans(found, thing) == pytest.approx((20, 10, 30), abs=0.1)
    assert np.isnan(visuals.leans(found, sentences.LOOKED[1])).all(), "no image shows any"


def test_a_typed_sentence_ranks_the_gallery_of_the_part_with_captions(method, joint, monkeypatch):
    rank = live.ranker(method, joint, places=3)
    text, paths, cosines = rank(TOLD)
    folder = joint.parts[0].manifest.root
    assert text == TOLD and len(paths) == 3 and all(path.is_relative_to(folder) for path in paths)
    assert (np.diff(cosines) <= 0).all()
    scores = search.embed(method, paths[0], "c1").features @ search.sentence(method, TOLD, "caption")
    assert scores[0] == pytest.approx(cosines[0], abs=1e-5)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as where it is not installed
    figure = live.text_search(method, joint, TOLD, places=3)
    assert len(figure.axes) == 3 and TOLD in figure.get_suptitle()
    with pytest.raises(ValueError, match="a sentence as the query, found nothing"):
        rank(" ")


def test_a_typed_sentence_is_answered_where_there_are_widgets(method, joint, monkeypatch, capsys):
    widgets = SimpleNamespace(
        Text=lambda **told: told, VBox=list, interactive_output=lambda show, told: (show, told)
    )
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    shown = []
    monkeypatch.setattr(live, "display", shown.append)
    box, (show, asked) = live.text_search(method, joint, TOLD)
    assert asked == {"text": box} and box["value"] == TOLD
    show(TOLD)
    show("")
    assert len(shown) == 1 and "found nothing" in capsys.readouterr().out


# data that cannot be trained on, one sentence each


def built(data, **changes):
    return hpl.HPL(hpl.RECIPE.at(PROFILES["smoke"]).but(**changes), data)


def with_captions(data, captions):
    other = ReidData(data.manifest)
    other.train = dataclasses.replace(data.train, captions=captions)
    return other


def test_a_joint_set_whose_first_part_has_no_captions_says_so():
    mute = load_data("world_msmt+world_text", "smoke")
    mute = with_captions(
        mute,
        [() if name == "world_msmt" else said for name, said in zip(mute.train.domains, mute.train.captions)],
    )
    with pytest.raises(
        ValueError, match="captions in the training images of world_msmt, found none; name a set"
    ):
        built(mute).stages()


def test_too_few_for_a_batch_names_the_set_and_how_many(joint):
    few = "expected at least 99 identities in the training images of world_msmt for a batch, found 8"
    people = len(set(joint.train.pids[joint.train.domains == "world_msmt"]))
    with pytest.raises(ValueError, match=few.replace("found 8", f"found {people}")):
        built(joint, batch_i2i_images=99 * 2, images_per_id=2).stages()
    with pytest.raises(ValueError, match="at least 9999 captions in the training images of world_text for a"):
        built(joint, batch_t2i_pairs=9999).stages()


def test_a_caption_beyond_the_context_is_cut_and_counted(joint):
    long = with_captions(
        joint, [tuple(f"{text} {'red ' * 99}" for text in said) for said in joint.train.captions]
    )
    method = built(long)
    assert method.captions.shortened == method.captions.counts.sum() > 0
    (note,) = measure.describe(long, SPEC, method)["notes"][-1:]
    assert (
        note
        == f"{method.captions.shortened} of {method.captions.shortened} training sentences cut to 77 tokens"
    )
    assert measure.shortened(built(joint)) == []


def test_an_empty_caption_makes_no_pair(joint):
    said = list(joint.train.captions)
    said[0] = ("", "  ")
    pairs, _ = built(with_captions(joint, said)).halves()
    assert 0 in built(joint).halves()[0] and 0 not in pairs


def test_an_identity_with_one_image_is_drawn_again(joint):
    images = np.flatnonzero(joint.train.domains == "world_msmt")
    lonely = images[joint.train.pids[images] == joint.train.pids[images[0]]]
    keep = np.setdiff1d(np.arange(len(joint.train)), lonely[1:])
    few = ReidData(joint.manifest)
    few.train = joint.train.pick(keep)
    few.pids, few.labels = np.unique(few.train.pids, return_inverse=True)
    method = built(few)
    alone = few.labels[few.train.pids == joint.train.pids[lonely[0]]][0]
    batches = method.groups().groups(method.groups().rows[alone], SamplerRng(0))
    assert [set(rows) for rows in batches] == [{int(np.flatnonzero(few.labels == alone)[0])}]
