"""The synthetic world: determinism, streams, walls between its parts, and files that are whole or not
there."""

import hashlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from data_prep import unfinished
from data_prep.world import build, cast, layouts, people, vehicles
from data_prep.world.streams import between, near, pick, stream


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FEW", 0)
    said = []
    for name, workers in (("one", 1), ("three", 3)):
        build.build(tmp_path / name, "smoke", 3, "world_h", (64, 32), workers, said.append)
    assert digest(tmp_path / "one") == digest(tmp_path / "three")
    assert len(list((tmp_path / "three").rglob("*.jpg"))) == 24 and said == ["world_h: 24 shots rendered"] * 2


def test_a_renderer_that_stops_leaves_no_world(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FEW", 0)
    real = build.single_threaded
    monkeypatch.setattr(
        build, "single_threaded", lambda: real() | {"PYTHONPATH": "", "PYTHONHOME": "nowhere"}
    )
    with pytest.raises(OSError, match="found a renderer that stopped"):
        build.build(tmp_path / "world", "smoke", 0, "world_h", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_a_renderer_ends_with_the_program_that_started_it(tmp_path):
    code = """
import subprocess, sys, time
from data_prep.world import build
build.FEW = 0
build.build(sys.argv[1], "laptop", 0, "world_market", workers=1 + 1)
"""
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "world")])
    renderers = wait_for(lambda: children(parent.pid), 60)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(map(unfinished.is_alive, renderers)), 30)


def children(parent):
    """The processes that this one started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


def wait_for(what, seconds):
    """What `what` answers, once it answers yes."""
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def test_two_processes_may_make_the_same_world(tmp_path, monkeypatch):
    real = build.render_all

    def another_is_faster(*some):
        monkeypatch.setattr(build, "render_all", real)
        build.build(tmp_path / "world", "smoke", 0, "world_h")
        real(*some)

    monkeypatch.setattr(build, "render_all", another_is_faster)
    build.build(tmp_path / "world", "smoke", 0, "world_h")
    assert len(list((tmp_path / "world").rglob("*.jpg"))) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["world"], "nothing half-made is left"


def card(name="world_market", seed=0, profile="smoke", size=build.SIZE):
    plan = cast.plan(name, profile, seed)
    paths = [layouts.layout_of(name).files(one, k) for k, one in enumerate(plan)]
    return build.describe(name, plan, paths, profile, seed, size)


def test_another_seed_set_or_size_is_another_world():
    prints = [card(), card(seed=1), card("world_a"), card(size=(256, 128))]
    assert len({one["fingerprint"] for one in prints}) == 4 and card() == card()


def test_a_new_property_changes_no_old_one(monkeypatch):
    before, draw = people.identity(0, "x:7"), people.draw_told

    def draw_more(seed, key, wardrobe):
        new = pick(seed, ("left", "right"), "a property that did not exist", *key)
        return {"handedness": new, **draw(seed, key, wardrobe)}

    monkeypatch.setattr(people, "draw_told", draw_more)
    after = people.identity(0, "x:7")
    assert after.pop("handedness") in ("left", "right") and after == before


def test_streams_depend_on_every_part_of_their_name():
    names = ((0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1))
    assert len({tuple(stream(*name).integers(1 << 30, size=3)) for name in names}) == 4


def test_weights_of_a_choice_are_kept():
    found = [pick(0, {"often": 90, "seldom": 10}, "test", k) for k in range(2000)]
    assert 0.87 < found.count("often") / 2000 < 0.93


def test_whole_numbers_stay_in_their_bounds():
    assert {between(0, 3, 5, "x", k) for k in range(200)} == {3, 4, 5}
    rng = [near(0, 100, 10, "y", k) for k in range(400)]
    assert all(abs(value - 100) <= 20 for value in rng) and abs(np.mean(rng) - 100) < 1.5


@pytest.mark.parametrize("name", cast.SETS)
def test_every_set_is_made_of_numbers_and_words(name):
    plan = cast.plan(name, "smoke", 0)
    assert plan and json.loads(json.dumps(plan)) == plan
    files = [path for k, one in enumerate(plan) for path in layouts.layout_of(name).files(one, k)]
    assert len(files) == len(set(files)), "two shots would be written to one file"


def test_a_market_set_of_the_real_size_can_be_planned():
    plan = cast.plan("world_market", "full", 0)
    sizes = {split: sum(one["split"] == split for one in plan) for split in ("train", "query", "gallery")}
    assert len({one["pid"] for one in plan if one["split"] == "train"}) == 751
    for split, real in {"train": 12936, "query": 3368, "gallery": 19732}.items():  # Market-1501
        assert sizes[split] == pytest.approx(real, rel=0.12)


def test_evaluation_shares_no_tuple_camera_or_domain_with_pretraining():
    tuples, places_ = {}, {}
    for side, names in (
        ("pretraining", ["world_pairs"]),
        ("evaluation", [n for n in cast.SETS if n != "world_pairs"]),
    ):
        shots = [one for name in names for one in cast.plan(name, "smoke", 0)]
        tuples[side] = {told(one) for one in shots}
        places_[side] = {one["domain"] for one in shots}
    assert (
        not tuples["pretraining"] & tuples["evaluation"]
        and not places_["pretraining"] & places_["evaluation"]
    )
    learned = [cast.person(0, f"P:{k}", "mixed", "pretraining") for k in range(300)]
    assert {people.bucket_of(person) for person in learned} == {"pretraining"}
    cars = [cast.car(0, f"P:{k}", "pretraining") for k in range(300)]
    assert {people.side_of(vehicles.told(car)) for car in cars} == {"pretraining"}


def told(one):
    if one["kind"] == "vehicle":
        return vehicles.told(one["person"])
    return tuple(one["person"][key] for key in people.TOLD)


def test_one_in_five_people_of_the_text_set_is_in_its_partner():
    plan = cast.plan("world_text", "laptop", 0)
    shared = {one["pid"] for one in plan if one["market"]}
    sides = {one["who"].split(":")[1][:4] for one in plan if one["market"]}
    assert 0.15 < len(shared) / len({one["pid"] for one in plan}) < 0.22 and sides == {"trai", "test"}
    partner = {(one["who"], one["pid"]) for one in cast.plan("world_market", "laptop", 0)}
    assert {(one["who"], one["market"]) for one in plan if one["market"]} <= partner


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
    with pytest.raises(
        ValueError, match=rf"found another world \(world_market, seed 0, version {build.VERSION}\)"
    ):
        build.build(market, "smoke", 1)


def test_other_files_in_the_way_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="found other files"):
        build.build(tmp_path, "smoke")
    assert (tmp_path / "thesis.tex").exists()


def test_too_little_disk_is_said_before_a_pixel_is_rendered(tmp_path, monkeypatch):
    usage = build.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: type(usage)(usage.total, usage.used, 1000))
    with pytest.raises(ValueError, match=r"expected 0.00 GB of free disk for 120 images, found 0.00 GB"):
        build.build(tmp_path / "world", "smoke")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"seed": "seven"}, "a whole number as the seed of a world, found 'seven'"),
        ({"name": "world_moon"}, "a data set among world_market, .*, found 'world_moon'"),
        ({"profile": "desk"}, "a profile among smoke, laptop, full, found 'desk'"),
        (
            {"profile": "full", "name": "world_text"},
            "world_market in the profile full, .*, found 'world_text'",
        ),
        ({"workers": 0}, "at least one worker, found 0"),
    ],
)
def test_an_unknown_name_or_seed_is_one_sentence(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        build.build(tmp_path / "world", **{"profile": "smoke", **arguments})


def test_the_card_counts_what_lies_there(world):
    root = world.manifest.root
    told = json.loads((root / "world.json").read_text())
    assert told["label"] == "world" and told["counts"]["train"] == len(
        list((root / "bounding_box_train").iterdir())
    )
    assert Image.open(root / world.train.paths[0, 0]).size == (64, 128)
