"""The synthetic world: determinism, streams, shapes that are what they say."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.world import build, people, render, words
from data_prep.world.streams import between, near, pick, stream


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path):
    plan = build.market_plan("smoke", 3)[:40]
    for name, workers in (("one", 1), ("three", 3)):
        for folder in ("bounding_box_train", "query", "bounding_box_test"):
            (tmp_path / name / folder).mkdir(parents=True)
        for number in range(workers):
            build.render_share(plan, tmp_path / name, 3, (64, 32), number, workers)
    assert digest(tmp_path / "one") == digest(tmp_path / "three")


def test_another_seed_is_another_world():
    plans = [build.market_plan("smoke", seed) for seed in (0, 1)]
    cards = [build.describe(plan, "smoke", seed, (128, 64)) for seed, plan in enumerate(plans)]
    assert cards[0]["fingerprint"] != cards[1]["fingerprint"]


def test_a_new_property_changes_no_old_one():
    before = people.identity(0, 7)
    pick(0, ("left", "right"), "a property that did not exist", 7)
    assert people.identity(0, 7) == before


def test_streams_depend_on_every_part_of_their_name():
    draws = {
        tuple(stream(*name).integers(1 << 30, size=3))
        for name in ((0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1))
    }
    assert len(draws) == 4


def test_weights_of_a_choice_are_kept():
    found = [pick(0, {"often": 90, "seldom": 10}, "test", k) for k in range(2000)]
    assert 0.87 < found.count("often") / 2000 < 0.93


def test_whole_numbers_stay_in_their_bounds():
    assert {between(0, 3, 5, "x", k) for k in range(200)} == {3, 4, 5}
    assert all(abs(near(0, 100, 10, "y", k) - 100) <= 20 for k in range(200))


def test_two_people_of_one_world_differ_and_one_person_does_not():
    assert people.identity(0, 1) == people.identity(0, 1) != people.identity(0, 2)


def test_sentences_say_nothing_that_is_not_so():
    for pid in range(40):
        person, image = people.identity(0, pid), people.instance(0, pid, 0)
        for sentence in words.captions(0, person, image, pid, 0):
            assert person["noun"] in sentence.split()
            for part in ("upper", "lower"):
                if f" {person[part]}" in sentence:
                    assert person[f"{part} colour"] in sentence
            assert "backpack" not in sentence or person["backpack"] in sentence


def test_a_ray_through_the_middle_of_a_sphere_hits_its_surface():
    origin, direction = torch.tensor([[[0.0, -5, 0]]]), torch.tensor([[[0.0, 1, 0]]])
    assert render.hit_sphere(origin, direction, None).item() == pytest.approx(4)
    assert render.hit_box(origin, direction, None).item() == pytest.approx(4)
    assert render.hit_capsule(origin, direction, torch.tensor([2.0])).item() == pytest.approx(4)
    assert render.hit_sphere(origin + torch.tensor([1.1, 0, 0]), direction, None).item() == render.FAR


def test_a_capsule_ends_in_half_spheres():
    down, half = torch.tensor([[[0.0, 0, -1]]]), torch.tensor([2.0])
    above = torch.tensor([[[0.5, 0.0, 9]]])
    assert render.hit_capsule(above, down, half).item() == pytest.approx(9 - 2 - 0.75**0.5, abs=1e-5)


def test_an_interrupted_world_is_not_there(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "render_all", stop)
    with pytest.raises(KeyboardInterrupt):
        build.build(tmp_path / "world", "smoke")
    assert not (tmp_path / "world").exists()


def test_the_same_world_is_not_made_twice_and_another_is_not_overwritten(market):
    before = digest(market)
    build.build(market, "smoke", 0)
    assert digest(market) == before
    with pytest.raises(ValueError, match="found another world .world_market, seed 0."):
        build.build(market, "smoke", 1)


def test_other_files_in_the_way_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="found other files"):
        build.build(tmp_path, "smoke")
    assert (tmp_path / "thesis.tex").exists()


def test_the_card_counts_what_lies_there(world):
    root = world.manifest.root
    card = json.loads((root / "world.json").read_text())
    assert card["label"] == "world" and card["counts"]["train"] == len(
        list((root / "bounding_box_train").iterdir())
    )


def test_the_picture_has_the_asked_size_and_a_person_in_the_middle(world):
    path = world.manifest.root / world.train.paths[0, 0]
    assert Image.open(path).size == (64, 128)
    plan = build.market_plan("smoke", 0)[:4]
    slots = render.render(build.scene(plan, 0), 128, 64).slot
    body = (slots >= 0) & (slots < len(people.SLOTS))
    assert (body.float().mean((1, 2)) > 0.12).all()
    assert np.isfinite(render.render(build.scene(plan, 0), 64, 32).colour.numpy()).all()
