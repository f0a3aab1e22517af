"""What the world is measured with measures what it says."""

import json

import numpy as np
import pytest
import torch

from data_prep.join import join
from reid_core import checkpoint
from reid_core.calibrate import gates, lengths, oracles, rates
from reid_core.calibrate.gates import GATES, Gate, finding, rows, verdict
from reid_core.data import Batch, ReidData, load_data
from reid_core.methods import baseline, clip_reid
from reid_core.recipe import PROFILES


def test_a_gate_is_met_only_if_every_seed_lies_in_its_band():
    gate = Gate(15, 40, "mAP", "")
    assert verdict(gate, {0: 15.0, 1: 40.0}) == "met"
    assert verdict(gate, {0: 20.0, 1: 40.1}) == "MISSED" and verdict(gate, {}) == "not measured"


def test_the_finding_names_what_was_missed_and_what_was_not_measured():
    found = {name: {0: gate.low + 1} for name, gate in GATES.items()} | {"zero-shot": {0: 2.0}}
    del found["forgetting"]
    said = finding(found)
    assert said.endswith("; missed: zero-shot; not measured: forgetting") and said.startswith(
        f"{len(GATES) - 2} of {len(GATES)}"
    )


def test_the_table_shows_every_gate_with_its_band_and_its_values():
    lines = {line[0]: line for line in rows({"zero-shot": {1: 20.04, 0: 30.0}}, GATES)}
    assert lines["zero-shot"][3:] == ["15 to 40", "30.0 · 20.0", "met"]
    assert lines["identities per caption"][3] == "3 or more" and lines["forgetting"][5] == "not measured"


def test_no_run_is_kept_before_every_gate_is_met_on_every_seed(monkeypatch):
    met = {name: dict.fromkeys(gates.SHOWN, gate.low + 1) for name, gate in GATES.items()}
    monkeypatch.setattr(gates, "kept", lambda profile: None)
    monkeypatch.setattr(gates, "values", lambda done, profile: met)
    gates.require()
    met["zero-shot"][2] = 2.0
    del met["forgetting"][1]
    with pytest.raises(ValueError, match="found open: zero-shot, forgetting; run python -m reid_core gates"):
        gates.require()


@pytest.fixture
def few_measures(tmp_path, monkeypatch):
    """Gates that write into a folder of the test's own and measure words alone."""
    calls = []

    def words(world):
        calls.append(world.seed)
        return {"known pairs": 50.0, "held-out pairs": 40.0}

    monkeypatch.setattr(gates, "place", lambda profile: tmp_path / "gates.json")
    monkeypatch.setattr(gates, "MEASURES", {"words": ("world_market",)})
    monkeypatch.setattr(gates.World, "words", words)
    return calls, tmp_path / "gates.json"


def test_what_was_measured_is_not_measured_again(few_measures, world):
    calls, place = few_measures
    gates.measure((0,), "smoke", log=lambda text: None)
    gates.measure((0,), "smoke", log=lambda text: None)
    kept = json.loads(place.read_text())["measured"]["words of seed 0"]
    assert calls == [0] and kept["values"] == {"known pairs": 50.0, "held-out pairs": 40.0} and kept["commit"]


def test_a_measure_of_other_weights_is_stale(few_measures, world, monkeypatch):
    calls, _ = few_measures
    gates.measure((0,), "smoke", log=lambda text: None)
    assert gates.values(gates.kept("smoke"), "smoke")["known pairs"] == {0: 50.0}
    monkeypatch.setattr(gates.loading, "fingerprint", lambda name: "others")
    assert gates.values(gates.kept("smoke"), "smoke") == {}, (
        "no page shows what was measured with other weights"
    )
    gates.measure((0,), "smoke", log=lambda text: None)
    assert calls == [0, 0]


def test_a_training_of_a_gate_that_other_code_began_is_not_resumed(world, tmp_path, monkeypatch):
    """Its number would claim a commit that did not make it."""
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    keys = []
    monkeypatch.setattr(gates.train, "fit", lambda *_, key, **__: keys.append(key))
    for code in ("of Monday", "of Tuesday"):
        monkeypatch.setattr(gates.provenance, "code", lambda code=code: code)
        gates.World(0, "smoke", log=lambda text: None).trained(clip_reid.Baseline, world, "see")
    assert len(set(keys)) == 2


def test_two_programs_that_measure_one_gate_are_one_and_a_sentence(
    few_measures, world, tmp_path, monkeypatch
):
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    monkeypatch.setattr(gates.World, "data", lambda self, name: world)
    with (
        checkpoint.alone(tmp_path / "gates" / "at words-smoke-0", "measures"),
        pytest.raises(ValueError, match="expected nobody else here who measures"),
    ):
        gates.measure((0,), "smoke", log=lambda text: None)


@pytest.mark.parametrize("one", [7, {}, []])
def test_gates_that_hold_other_things_than_measurements_are_one_sentence(one, few_measures):
    few_measures[1].write_text(json.dumps({"measured": {"words of seed 0": one}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected measurements in .*gates\.json, found other things"):
        gates.kept("smoke")


def test_a_measure_of_another_world_is_stale(few_measures, world, monkeypatch):
    gates.measure((0,), "smoke", log=lambda text: None)
    monkeypatch.setattr(gates, "scenes", lambda profile, names: "others")
    assert gates.values(gates.kept("smoke"), "smoke") == {}


def test_the_mark_of_the_scenes_changes_with_what_is_said_and_with_the_sizes(monkeypatch):
    def mark():
        gates.scenes.cache_clear(), gates.build.planned.cache_clear()
        gates.build.print_of_world.cache_clear()
        return gates.scenes("laptop", ("world_text",))

    before = mark()
    monkeypatch.setitem(gates.cast.SIZES["laptop"], "text", (3, 2, 1, 1, 1, 1))
    smaller = mark()
    monkeypatch.undo()
    monkeypatch.setitem(gates.cast.SIZES["laptop"], "market", (3, 2, 1, 1, 1, 1, 1))  # another set's
    assert mark() == before != smaller
    monkeypatch.undo()
    monkeypatch.setattr(gates.cast, "captions", lambda *shot: ("a person",))
    silent = mark()
    gates.scenes.cache_clear(), gates.build.planned.cache_clear()
    gates.build.print_of_world.cache_clear()
    assert silent not in (before, smaller)


def test_a_baseline_is_trained_from_the_tower_that_it_is_given(world):
    measured = gates.World(0, "smoke", log=lambda text: None)
    first = measured.method(baseline.Baseline, world)
    torch.nn.init.constant_(first.image.conv1.weight, 0.25)
    second = measured.trained(baseline.Baseline, world, "test begin", begin=first)
    assert (second.image.conv1.weight.mean() - 0.25).abs() < 0.02


def test_two_spectra_stand_side_by_side_and_the_others_are_not_looked_at():
    data = load_data("world_rgbnt201", "smoke")
    measured = gates.World(0, "smoke")
    heat = measured.method(baseline.HeatBaseline, data).eval()
    pass

    images = torch.randn(2, 3, 3, *heat.size)
    changed = images.clone()
    changed[:, 0] += 1
    rows_, cameras = torch.arange(2), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        one, two = (
            heat.embed(Batch(index=rows_, labels=rows_, cameras=cameras, views=[views]), "f12+fp")
            for views in (images, changed)
        )
    assert torch.allclose(one, two), "the visible spectrum is not looked at"
    assert one.shape == (2, 2 * sum(heat.image.widths[1:]))


def test_perfect_features_find_everybody_and_constant_ones_nobody(world):
    people = sorted(set(world.query.pids) | set(world.gallery.pids))

    def true(rows):
        return torch.eye(len(people))[[people.index(pid) for pid in rows.pids]]

    assert oracles.by_feature(world, true) == pytest.approx(100.0)
    assert oracles.by_feature(world, lambda rows: torch.ones(len(rows), 3)) < 50


def test_the_attribute_table_solves_the_world(world):
    assert oracles.by_feature(world, lambda rows: oracles.attributes(world, rows)) > 95


def test_the_colour_histogram_is_of_unit_mass_per_stripe(world):
    found = oracles.colours(world, world.query, stripes=4).square().view(len(world.query), 4, -1).sum(2)
    assert torch.allclose(found, found[0, 0].expand_as(found), rtol=1e-4), "every stripe has as many pixels"


def test_a_sentence_agrees_best_with_the_image_that_it_was_said_of():
    shots = [one for one in gates.cast.plan("world_text", "smoke", 0) if one["split"] == "test"]
    own_is_best = []
    for one in shots:
        for number, said in enumerate(map(oracles.words.plain, gates.cast.captions(0, one))):
            key = (one["who"], one["index"], number)
            agree = [oracles.agreement(0, other, key, said) for other in shots]
            own_is_best.append(agree[shots.index(one)] == max(agree))
    first, agreeing = oracles.caption_oracle(0, "smoke")
    assert np.mean(own_is_best) > 0.9 and 1 / len(shots) < first.mean() <= 1 <= agreeing.min()


def test_only_night_images_are_left():
    dark = oracles.only_at_night(load_data("world_rgbnt201", "smoke"))
    table = oracles.truth.attributes(dark.manifest.root)
    assert {table[path]["when"] for path in dark.query.paths[:, 0]} == {"night"}


def test_a_joint_set_has_everybody_once_and_nobody_twice():
    parts = [load_data(f"world_{name}", "smoke") for name in "ab"]
    joint = ReidData(join([part.manifest for part in parts]))
    assert joint.classes == sum(part.classes for part in parts)
    assert len(joint.cameras) == sum(len(part.cameras) for part in parts)
    assert len(joint.train) == sum(len(part.train) for part in parts)
    assert np.isin(joint.query.pids, joint.gallery.pids).all()


class Knowing(torch.nn.Module):
    """A tower whose class token is the colour of a garment, and one that knows nothing."""

    size = (128, 64)

    def __init__(self, data, knows):
        super().__init__()
        table = oracles.truth.attributes(data.manifest.root)
        found = [oracles.told(table, rows, "upper colour") for rows in (data.train, data.gallery)]
        names = sorted(set(np.concatenate(found)))
        self.answers = [torch.tensor([[float(n == word) for n in names] for word in some]) for some in found]
        self.knows = knows

    def forward(self, images):
        known = self.answers.pop(0)
        assert len(known) == len(images)
        noise = torch.randn(len(known), known.shape[1], generator=torch.Generator().manual_seed(0))
        return type("Out", (), {"tokens": (known + 0.01 * noise if self.knows else noise)[:, None]})


def test_what_a_tower_knows_can_be_read_off_it_and_what_it_does_not_know_cannot(world):
    known = oracles.read_off(Knowing(world, True), world)["upper colour"]
    unknown = oracles.read_off(Knowing(world, False), world)["upper colour"]
    table = oracles.truth.attributes(world.manifest.root)
    trained = set(oracles.told(table, world.train, "upper colour"))
    can_be_known = np.mean([word in trained for word in oracles.told(table, world.gallery, "upper colour")])
    assert known[0] == pytest.approx(100 * can_be_known) and unknown[0] < 50 and known[1] == unknown[1]


@pytest.fixture
def few_rates(tmp_path, monkeypatch):
    """Rates that are tried on one thing which is done in no time: the mAP is the sum of the factors."""
    base = gates.clip_reid.RECIPE.stage2_lr
    monkeypatch.setattr(gates, "place", lambda profile: tmp_path / "gates.json")
    monkeypatch.setattr(rates, "TRIED", {"images": (None, "world_market", "mAP")})
    monkeypatch.setattr(
        rates,
        "try_on",
        lambda world, name, *what: round((world.recipe.stage2_lr + world.recipe.stage2_head_lr) / base),
    )


def test_factors_are_tried_once_for_the_weights_at_hand_and_the_best_comes_first(few_rates, monkeypatch):
    said = []
    rates.measure([(64.0, 32.0), (64.0, 64.0)], profile="smoke", log=said.append)
    rates.measure([(64.0, 64.0)], profile="smoke", log=said.append)
    found = rates.tried(gates.kept("smoke"), "smoke")
    assert [one["scores"]["images"] for one in found] == [128, 96] and len(said) == 2 and found[0]["commit"]
    monkeypatch.setattr(rates.loading, "fingerprint", lambda name: "others")
    assert rates.tried(gates.kept("smoke"), "smoke") == []


def test_the_laptop_uses_the_best_of_the_factors_that_were_tried():
    found, used = rates.tried(gates.kept()), gates.PROFILES["laptop"]
    assert not found or found[0]["factors"] == [used.pretrained_lr, used.new_lr]
    assert rates.as_table(gates.kept()).data.count('class="changed"') == bool(found)


class Watched:
    """A recipe that notes which of its fields are read."""

    def __init__(self, recipe):
        self.recipe, self.read = recipe, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.recipe, name)


@pytest.mark.parametrize(
    "Kind, data",
    [
        (clip_reid.Baseline, "world_market"),
        (baseline.TextBaseline, "world_text"),
        (baseline.SpectraBaseline, "world_rgbnt201"),
        (baseline.HeatBaseline, "world_rgbnt201"),
    ],
)
def test_no_baseline_reads_a_rate_that_the_mark_of_a_measure_leaves_out(Kind, data):
    world = gates.World(0, "smoke")
    watched = Watched(world.recipe)
    Kind(watched, world.data(data)).stages()
    assert "stage2_head_lr" in watched.read and not watched.read & set(gates.NOT_READ)


@pytest.fixture
def few_lengths(tmp_path, monkeypatch):
    monkeypatch.setattr(lengths, "place", lambda: tmp_path / "lengths.json")
    monkeypatch.setattr(lengths, "basis", lambda data: {"weights": "w"})
    told = iter([70.0, 70.4, 70.2, 75.0, 75.2, 75.1, 78.0, 78.1, 78.2])
    for share in (0.25, 0.5, 1.0):
        for seed in (0, 1, 2):
            one = lengths.Length("clip_reid", "baseline", "world_market", share, seed)
            lengths.write(one.name, {"mAP": next(told), "images": 64 * 1440 * share, "weights": "w"})


def test_lengths_tell_the_steps_the_mean_and_the_spread_of_seeds(few_lengths):
    found = lengths.points()
    assert list(found) == [("baseline", "world_market")]
    point = found["baseline", "world_market"][0.5]
    assert (point.steps, point.mean, point.seeds) == (720, 75.1, 3) and point.spread == pytest.approx(0.1)
    assert "steady enough: 0.25, 0.5, 1" in lengths.finding(
        found
    ) and "half as many would cost 3.0 to 3.0 points" in lengths.finding(found)
    assert lengths.as_table(found).data.count("<tr>") == 4


def test_a_length_that_spreads_too_much_is_marked_and_not_called_steady(few_lengths):
    wide = lengths.Length("clip_reid", "baseline", "world_market", 0.25, 1)
    lengths.write(wide.name, {"mAP": 72.0, "images": 64 * 360, "weights": "w"})
    found = lengths.points()
    assert (
        "steady enough: 0.5, 1" in lengths.finding(found)
        and lengths.as_table(found).data.count('class="changed"') == 1
    )


def test_two_seeds_do_not_make_a_length_steady(few_lengths):
    path = lengths.place()
    told = json.loads(path.read_text())
    path.write_text(json.dumps({name: one for name, one in told.items() if not name.endswith("s2")}))
    assert "steady" not in lengths.finding(lengths.points())


def test_a_length_of_other_weights_is_due_again(few_lengths, monkeypatch):
    assert len(lengths.wanted()) - len(lengths.due()) == 9
    monkeypatch.setattr(lengths, "basis", lambda data: {"weights": "others"})
    assert lengths.due() == lengths.wanted() and lengths.points() == {}


def test_a_length_is_trained_tested_and_written_down(tmp_path, monkeypatch, world):
    """On the smallest world, in the place of the development world."""
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    monkeypatch.setattr(lengths, "place", lambda: tmp_path / "lengths.json")
    monkeypatch.setattr(lengths, "load_data", lambda name, profile: world)
    monkeypatch.setitem(lengths.PROFILES, "laptop", PROFILES["smoke"])
    one = lengths.Length("clip_reid", "baseline", "world_market", 1 / 60, 0)
    lengths.measure(one, log=lambda text: None)
    told = json.loads((tmp_path / "lengths.json").read_text())[one.name]
    assert 0 < told["mAP"] <= 100 and told["images"] > 0 and told["commit"]
