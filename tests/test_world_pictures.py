"""What is seen of the synthetic world: shapes, masks, cameras, nights and the other spectra."""

import numpy as np
import pytest

from data_prep.world import build, cast, light, people, places, render, truth, vehicles


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
    image = people.instance(0, ("x:2", 0), places.camera(0, "A", 1)) | {
        "carried": "box",
        "heading": 180,
        "hiding": "nothing",
        "passers": "0",
    }
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
        light.develop(picture, c, "rgb", "night", 0).mean((1, 2))
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
