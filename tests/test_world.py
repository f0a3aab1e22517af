"""The synthetic world: determinism, streams, walls between its parts, and shapes that are what they say."""

import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from data_prep.world import build, cast, layouts, light, people, places, render, truth, vehicles, words
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
    before, draw = people.identity(0, "x:7"), people.draw_identity

    def draw_more(seed, key, wardrobe):
        new = pick(seed, ("left", "right"), "a property that did not exist", *key)
        return {"handedness": new, **draw(seed, key, wardrobe)}

    monkeypatch.setattr(people, "draw_identity", draw_more)
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
    dice = [near(0, 100, 10, "y", k) for k in range(400)]
    assert all(abs(value - 100) <= 20 for value in dice) and abs(np.mean(dice) - 100) < 1.5


@pytest.mark.parametrize("name", cast.SETS)
def test_every_set_is_made_of_numbers_and_words(name):
    plan = cast.plan(name, "smoke", 0)
    assert plan and json.loads(json.dumps(plan)) == plan
    files = [path for k, one in enumerate(plan) for path in layouts.layout_of(name).files(one, k)]
    assert len(files) == len(set(files)), "two shots would be written to one file"


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


def test_held_out_pairs_of_words_are_never_shown_in_pretraining():
    garments = [(c, g) for c in people.COLOURS for g in words.GARMENTS]
    held = [pair for pair in garments if people.is_held_out(*pair)]
    assert 0.10 < len(held) / len(garments) < 0.20
    assert not any(
        people.wears_held_out(cast.person(0, f"P:{k}", "mixed", "pretraining")) for k in range(300)
    )
    assert not any(
        people.wears_held_out(places.draw_passer(0, ("passer", "P:1", k), "P")) for k in range(300)
    )
    assert any(people.wears_held_out(places.draw_passer(0, ("passer", "A:1", k), "A")) for k in range(100))
    assert any(people.wears_held_out(people.identity(0, f"A:{k}", "summer")) for k in range(60))


def colour_told(sentence, thing):
    """The word for a colour or shade in front of a thing, or None."""
    told = re.search(rf"([\w-]+) (?:striped |checked |dotted )?{thing}\b", sentence)
    return told[1] if told and told[1] in {*people.COLOURS, *words.SHADES.values()} else None


def test_sentences_agree_with_the_attributes_but_for_few():
    camera, told, sentences = places.camera(0, "A", 1), [], []
    for pid in range(400):
        person, image = people.identity(0, f"x:{pid}"), people.instance(0, (f"x:{pid}", 0), camera)
        for sentence in map(words.plain, words.captions(0, person, image, (f"x:{pid}", 0))):
            sentences.append(sentence)
            for part in ("upper", "lower"):
                colour = person[f"{part} colour"]
                said = colour_told(sentence, person[part])
                told += [said in (colour, words.SHADES[colour])] if said else []
            for thing in ("backpack", "hat"):
                assert colour_told(sentence, thing) in (None, person[thing]) and (
                    thing not in sentence or person[thing]
                )
            assert "short" not in sentence.replace("shorts", "") or person["hair length"] == "short"
    assert len(told) > 300 and 0.005 < 1 - np.mean(told) < 0.06
    assert not any(re.search(r"build|height|metre|\d", sentence) for sentence in sentences)


def test_one_sentence_in_twenty_that_pretraining_reads_is_wrong():
    writer, wrong, number = words.WITNESSES["writer"], 0, 0
    for pid in range(1500):
        person, image = (
            people.identity(0, f"x:{pid}"),
            people.instance(0, (f"x:{pid}", 0), places.camera(0, "A", 1)),
        )
        told = [
            words.sentence(0, person, image, ("x", pid), "rgb", one)
            for one in (writer, writer._replace(mistaken=10**9))
        ]
        wrong, number = wrong + (told[0] != told[1]), number + 1
    assert 0.03 < wrong / number < 0.07


def test_captions_name_two_to_four_things():
    camera, named = places.camera(0, "A", 1), []
    for pid in range(300):
        person, image = people.identity(0, f"x:{pid}"), people.instance(0, (f"x:{pid}", 0), camera)
        for k in range(2):
            key = (f"x:{pid}", 0, k)
            witness = words.witness(0, key)
            who = words.mistaken(0, person, key, witness)
            sentence = words.sentence(0, person, image, key, "rgb", witness)
            there = [phrase for phrase in words.seen_person(0, who, image, key, witness) if phrase]
            named.append(sum(phrase in sentence for phrase in there))
    assert min(named) == 2 and max(named) <= 5 and np.mean(named) < 3.2


def test_captions_have_varied_grammar():
    plan = cast.plan("world_market", "smoke", 0)
    said = [sentence for one in plan for sentence in cast.captions(0, one)]
    openings = {" ".join(sentence.split()[:2]) for sentence in said}
    assert len(openings) >= 6 and 6 < np.mean([len(sentence.split()) for sentence in said]) < 24
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in said)


TEMPLATES = [  # of the five papers; a gap stands for any words
    r"A photo of a .*person", r"A photo of a person", r"A photo of a [\w-]+ and \w+ person", r"A visible photo of a person",
    r"A near-infrared photo of a \w+", r"A thermal-infrared photo of a \w+", r"A visible photo of a vehicle",
    r"A (man|woman) with \w+, \w+ hair, wearing .*\.", r"Wearing \w+ (\w+|t-shirt), \w+", r"Wearing \w+ shoes",
]  # fmt: skip


def test_who_looks_for_a_person_tells_of_both_garments():
    plan = [one for one in cast.plan("world_text", "smoke", 0) if one["kind"] == "person"]
    said = [words.plain(sentence) for one in plan for sentence in cast.captions(0, one)]
    assert all(sum(garment in sentence.split() for garment in words.GARMENTS) == 2
               for sentence in (re.sub(r"[,.]", "", s) for s in said))  # fmt: skip


def test_witnesses_have_words_that_pretraining_never_read_and_each_means_one_thing():
    plan = cast.plan("world_text", "smoke", 0)
    heard, taught = (
        {word for one in shots for said in cast.captions(0, one) for word in words.WORD.findall(said)}
        for shots in (plan, cast.pairs(0, "smoke"))
    )
    assert len(heard & set(words.PLAIN)) > 6 and not taught & set(words.PLAIN)
    assert len(words.PLAIN) == len(words.OWN_WORDS) and not set(words.PLAIN) & set(words.OWN_WORDS)


def test_every_template_of_the_five_papers_is_in_the_grammar():
    plan = cast.pairs(0, "smoke") + [one for k in range(1, 4) for one in cast.pairs(k, "smoke")]
    said = [
        sentence for k, one in enumerate(plan) for sentence in cast.captions(k // 96, one, one["spectrum"])
    ]
    for template in TEMPLATES:
        assert any(re.match(template, sentence) for sentence in said), template


def test_part_descriptions_are_four_sentences_that_agree_with_the_attributes():
    person, image = people.identity(0, "x:1"), people.instance(0, ("x:1", 0), places.camera(0, "A", 1))
    head, upper, lower, foot = words.parts(person, image)
    assert (
        person["hair"] in head
        and person["upper colour"] in upper
        and person["lower"] in lower
        and person["shoes"] in foot
    )


def rays(x=0.0):
    """Rays along y from (x, -5, 0), as local_rays gives them."""
    return np.array([x, -5.0, 0]), [np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 1))]


def test_a_ray_through_the_middle_of_a_shape_hits_its_surface():
    assert render.hit_sphere(*rays(), None).item() == pytest.approx(4)
    assert render.hit_box(*rays(), None).item() == pytest.approx(4)
    assert render.hit_capsule(*rays(), 2.0).item() == pytest.approx(4)
    assert render.hit_sphere(*rays(1.1), None).item() == render.FAR == render.hit_box(*rays(1.1), None).item()


def test_a_capsule_ends_in_half_spheres():
    down = [np.zeros((1, 1)), np.zeros((1, 1)), -np.ones((1, 1))]
    assert render.hit_capsule(np.array([0.5, 0, 9]), down, 2.0).item() == pytest.approx(
        9 - 2 - 0.75**0.5, abs=1e-5
    )


def test_a_part_is_never_cut_by_the_window_it_is_looked_for_in(monkeypatch):
    """The rectangle of rays is a shortcut: looking everywhere must give the same picture."""
    one = cast.plan("world_market", "smoke", 0)[3]
    fast = build.stage(one, 0, (64, 32))[1]
    monkeypatch.setattr(
        render, "window", lambda part, frame, view, rows, columns: (slice(0, rows), slice(0, columns))
    )
    slow = build.stage(one, 0, (64, 32))[1]
    assert np.array_equal(fast.slot, slow.slot) and np.allclose(fast.normal, slow.normal, atol=1e-5)


def test_masks_show_the_parts_that_are_there():
    bare = people.identity(0, "x:2") | {"backpack": "", "hat": ""}
    image = people.instance(0, ("x:2", 0), places.camera(0, "A", 1)) | {"carried": "box", "heading": 180, "hiding": "nothing",
                                                                        "passers": "0"}  # fmt: skip
    one = cast.plan("world_market", "smoke", 0)[0] | {"person": bare, "image": image}
    parts, traced, _ = build.stage(one, 0, (128, 64))
    shown = {truth.REGIONS[truth.region(parts[k])] for k in np.unique(render.seen_slots(traced)) if k >= 0}
    assert {"head", "upper", "lower", "foot", "carried"} <= shown and "backpack" not in shown


def test_a_backpack_shows_from_behind_and_not_from_the_front():
    laden = people.identity(0, "x:3") | {"backpack": "red"}
    plain = people.instance(0, ("x:3", 0), places.camera(0, "A", 1)) | {
        "carried": "nothing",
        "hiding": "nothing",
        "passers": "0",
    }
    one, seen = cast.plan("world_market", "smoke", 0)[0], {}
    for heading in (0, 180):  # 0: seen from behind, since a person faces away from the camera
        parts, traced, _ = build.stage(
            one | {"person": laden, "image": plain | {"heading": heading}}, 0, (128, 64)
        )
        pack = next(k for k, part in enumerate(parts) if part.name == "backpack")
        seen[heading] = int((render.seen_slots(traced) == pack).sum())
    assert seen[0] > 10 * max(seen[180], 1)


def test_masks_and_attributes_can_be_asked_for_by_path(world):
    root, path = world.manifest.root, world.train.paths[0, 0]
    mask = truth.Masks(root)(path)
    assert mask.shape == (128, 64) and set(truth.attributes(root)) >= {path}
    body = np.isin(mask, [truth.REGIONS.index(name) for name in ("head", "upper", "lower", "foot")])
    assert 0.08 < body.mean() < 0.7


def test_by_night_the_visible_image_is_nearly_black_and_the_others_are_not():
    one = next(one for one in cast.plan("world_rgbnt201", "smoke", 0) if one["when"] == "night")
    night = build.photograph(one, 0, (128, 64), light.SPECTRA)
    day = build.photograph(one | {"when": "day"}, 0, (128, 64), light.SPECTRA)
    assert night["rgb"].mean() < 0.3 * day["rgb"].mean() and np.array_equal(night["tir"], day["tir"])
    assert night["nir"].mean() > 1.2 * night["rgb"].mean()


def test_a_washed_out_camera_keeps_brightness_and_loses_colour():
    picture = np.float32([[[0.9, 0.3, 0.0], [0.2, 0.2, 0.2]]])
    grey, half = light.saturated(picture, 0), light.saturated(picture, 0.5)
    assert np.allclose(grey, [[[0.4] * 3, [0.2] * 3]]) and np.allclose(half, (picture + grey) / 2)
    assert light.saturated(picture, 1) is picture


def test_a_domain_has_a_manner_of_its_own():
    tint = np.array(
        [[places.camera(0, d, c)[f"cast {k}"] for k in range(3)] for d in "BC" for c in range(1, 9)]
    )
    blue, green = tint[:8].mean(0), tint[8:].mean(0)
    assert blue.argmax() == 2 and green.argmax() == 1
    assert "saturation" in places.camera(0, "A", 1) and "saturation" not in places.camera(0, "P", 1)


def test_the_nights_of_a_domain_may_be_darker_than_others():
    picture = np.linspace(0, 1, 64, dtype=np.float32)[:, None, None].repeat(32, 1).repeat(3, 2)
    cam = {**places.camera(0, "N", 1), "grain": 0}
    dark, plain = (
        light.develop(picture, c, "rgb", "night", np.random.default_rng(0)).mean((1, 2))
        for c in (cam | {"night": (cam["night"][0], 0)}, cam | {"night": (places.DARK["night"][0], 0)})
    )
    assert np.ptp(dark) < np.ptp(plain) / 2, "less than half the contrast of another domain's night"


def test_near_infrared_does_not_follow_colour():
    cloth = [people.garment(people.identity(0, f"x:{k}"), "upper") for k in range(200)]
    assert abs(np.corrcoef([sum(c.colour) for c in cloth], [c.nir for c in cloth])[0, 1]) < 0.2


def test_skin_is_warm_bags_are_cold_and_engines_are_hot_or_not():
    car, cam = vehicles.identity(0, "V:1"), places.camera(0, "V", 1)
    hot, cold = (
        vehicles.body(car, vehicles.instance(0, ("V:1", 0), cam) | {"engine": e}) for e in ("hot", "cold")
    )
    heat = lambda parts: max(p.material.heat for p in parts if p.name == "body engine")  # noqa: E731
    assert heat(hot) > 80 > 40 > heat(cold)
    person = people.identity(0, "x:4") | {"backpack": "red"}
    parts = people.body(person, people.instance(0, ("x:4", 0), places.camera(0, "A", 1)))
    by_name = {part.name: part.material.heat for part in parts}
    assert by_name["head face"] > 80 > by_name["upper torso"] > by_name["backpack"]


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
