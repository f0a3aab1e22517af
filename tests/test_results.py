"""Runs on disk: what they are named, what they keep, which tests they hold."""

import dataclasses
import json

import pytest
import torch
from made_runs import noisy

from reid_core import checkpoint, train
from reid_core.analysis import bench
from reid_core.calibrate import gates
from reid_core.data import load_data
from reid_core.methods import METHODS
from reid_core.report import reported
from reid_core.runs import measure, provenance
from reid_core.runs.run import BOOK, OWN, Run, Spec, as_json


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    return tmp_path / "results"


def test_a_run_written_reads_back_the_same(shelves):
    kept = OWN.write(noisy(3))
    assert OWN.find(kept.spec) == kept
    assert OWN.load(seed=3) == [kept] and OWN.load(seed=4) == []


def test_a_run_of_an_earlier_format_is_read_and_one_of_a_later_refused(shelves):
    run = noisy(0)
    told = dataclasses.asdict(run) | {
        "spec": run.spec._asdict(),
        "format": 1,
        "data": {"label": "world", "name": "toy"},
    }
    scores = {key: value for key, value in run.record().items() if key not in ("data", "task", "after")}
    told["scores"] = {"image to image": scores, "image to image on world_msmt": scores}
    OWN.path(run.spec).parent.mkdir(parents=True)
    OWN.path(run.spec).write_text(json.dumps(told))
    found = OWN.find(run.spec)
    assert found.data == run.data and found.scores[0] == run.scores[0]
    assert found.record("image to image on world_msmt")["data"] == "world_msmt"
    OWN.path(run.spec).write_text(json.dumps({**told, "format": 99}))
    with pytest.raises(ValueError, match="found a file that tells of none .*format 99"):
        OWN.find(run.spec)


def test_a_list_of_numbers_takes_one_line_of_a_file():
    told = {"ap": [0.5, 1e-05, -3], "names": ["a", "b"], "nested": [[1, 2], []], "none": None}
    text = as_json(told)
    assert json.loads(text) == told and ' "ap": [0.5, 1e-05, -3],' in text.splitlines()
    assert "  [1, 2]," in text.splitlines() and '  "a",' in text.splitlines()


def test_a_row_that_nobody_ran_is_none():
    assert BOOK.find(Spec("clip_reid", "baseline", "full", seed=999)) is None


@pytest.mark.parametrize(
    "spec, message",
    [
        (
            Spec("clip_read", "baseline"),
            "a method among clip_reid, promptsg, hpl, dmpt, pad, vladr, lifelong, found 'clip_read'",
        ),
        (Spec("clip_reid", "base"), "a variant of clip_reid among baseline, clip_reid, found 'base'"),
        (
            Spec("clip_reid", "baseline", "ful"),
            "a row of clip_reid's variant baseline among full, zero-shot, .*, found 'ful'",
        ),
        (Spec("clip_reid", "baseline", profile="desk"), "a profile among smoke, laptop, paper, found 'desk'"),
    ],
)
def test_an_unknown_name_is_one_sentence(spec, message):
    with pytest.raises(ValueError, match=message):
        spec.check()


def test_changes_in_a_row_have_the_last_word_and_are_in_its_name():
    spec = Spec("clip_reid", "baseline", "full + stage2_epochs=2 + stage2_milestones=(1,)", profile="smoke")
    assert spec.recipe().stage2_epochs == 2 and spec.recipe().stage2_milestones == (1,)
    assert "stage2_epochs-2" in spec.name and spec.check() is spec


def test_the_papers_numbers_are_there_word_for_word():
    row = {
        "paper": "promptsg",
        "table": "Table 2",
        "method": "Baseline",
        "backbone": "ViT-B/16",
        "dataset": "market1501",
    }
    assert reported.printed({"base": row}) == {("base", "mAP"): 86.4, ("base", "R1"): 93.3}
    with pytest.raises(ValueError, match="found none; correct the words"):
        reported.printed({"base": {**row, "table": "Table 22"}})
    assert len(reported.numbers()) == 2205 and len(reported.hyperparameters()) == 447


def test_a_run_interrupted_before_its_recipe_changed_does_not_stop_the_others(folder, monkeypatch):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    place = folder.parent / "runs" / spec.name
    place.mkdir(parents=True)
    checkpoint.save(place, 1, {"key": "before"})

    def fit(*_, **options):
        assert checkpoint.latest(place) is None and options["key"] != "before"
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        measure.measure(spec, log=lambda text: None)
    assert checkpoint.latest(place.with_name(f"{place.name}-interrupted-1")) == {"key": "before"}


def test_a_run_interrupted_before_its_code_changed_begins_again(folder, monkeypatch):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    place = folder.parent / "runs" / spec.name
    keys = []

    def fit(*_, **options):
        keys.append(options["key"])
        checkpoint.save(place, 1, {"key": options["key"]})
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", fit)
    for code in ("of Monday", "of Monday", "of Tuesday"):
        monkeypatch.setattr(provenance, "code", lambda code=code: code)
        with pytest.raises(KeyboardInterrupt):
            measure.measure(spec, log=lambda text: None)
    assert keys[0] == keys[1] != keys[2]
    assert checkpoint.latest(place)["key"] == keys[2]
    assert checkpoint.latest(place.with_name(f"{place.name}-interrupted-1"))["key"] == keys[0]


def test_an_epoch_that_was_held_up_does_not_count_as_slow():
    def epochs(stage, seconds, images):
        return [{"stage": stage, "seconds": s, "images": images} for s in seconds]

    history = epochs("read", [30.0, 10.0, 10.0, 10.0], 0) + epochs("see", [30.0, 30.0, 900.0, 30.0], 60)
    assert measure.pace(history) == {"training minutes": 3.0, "images per second": 2.0}
    assert measure.pace([]) == {"training minutes": 0.0, "images per second": 0.0}


def test_rows_with_the_same_settings_are_one_run():
    printed = "Training w/ composed"
    assert Spec("promptsg", "promptsg", printed).same == Spec("promptsg", "promptsg", "full")
    changed = Spec("promptsg", "promptsg", printed + " + epochs=2").same
    assert changed.row == "full + epochs=2"
    assert Spec("promptsg", "promptsg", "plain contrast").same.row == "plain contrast"


def test_rows_with_equal_recipes_are_one_run_whatever_their_changes_say():
    assert Spec("promptsg", "promptsg", "lambda 0.5").same.row == "full"
    assert Spec("promptsg", "promptsg", "lambda 1").same.row == "lambda 1"


def test_a_row_of_another_tower_is_refused_where_the_profile_has_its_own():
    with pytest.raises(ValueError, match="expected the profile paper for the row 'RN50'.*found laptop"):
        Spec("promptsg", "promptsg", "RN50").check()
    assert Spec("promptsg", "promptsg", "RN50", profile="paper").check()


def test_a_tower_that_knows_its_cameras_is_tested_where_it_knows_none(monkeypatch):
    """World D has more cameras than A: none of them may be taken for one of A's."""
    method, data = Spec("clip_reid", "baseline", "SIE", profile="smoke").build()
    away = load_data("world_msmt", "smoke")
    assert away.camera_index(away.query.camids).max() >= 0
    assert (away.without_cameras().camera_index(away.query.camids) == -1).all()
    monkeypatch.setattr(measure, "load_data", lambda name, profile: away)
    monkeypatch.setattr(measure, "test_sets", lambda spec: [measure.TestSet("world_msmt", 1)])
    spec = Spec("clip_reid", "baseline", "SIE")
    with torch.no_grad():
        before = measure.tested(method, data, spec, measure.test_sets(spec))
        method.image.camera.table.copy_(
            method.image.camera.table.mean(0).expand_as(method.image.camera.table)
        )
        after = measure.tested(method, data, spec, measure.test_sets(spec))
    assert before == after, "only the mean of the table is used"


def test_what_is_cached_is_no_image_and_all_that_learns_is_counted(world):
    method, _ = Spec("clip_reid", "clip_reid", profile="smoke").build(world)
    history = [{"images": 0, "seconds": 30.0}, {"images": 600, "seconds": 60.0}]
    cost = measure.what_it_cost(method, history, 120.0)
    assert (cost["minutes"], cost["training minutes"], cost["images per second"]) == (2.0, 1.5, 10.0)
    counted = sum(p.numel() for part in (method.image, method.heads, method.words) for p in part.parameters())
    fixed = sum(getattr(m, name).numel() for m in method.modules() for name in getattr(m, "fixed", ()))
    assert cost["trained parameters"] == counted - fixed


def test_a_run_is_also_tested_where_it_was_not_trained(world, monkeypatch):
    """On the other domain of the same seed, in a record that names it."""
    sets = measure.test_sets(Spec("clip_reid", "baseline", data="world_market#1000"))
    assert sets == [measure.TestSet("world_market#1000"), measure.TestSet("world_msmt#1000", 1)]
    assert measure.test_sets(Spec("clip_reid", "baseline", profile="smoke")) == [
        measure.TestSet("world_market")
    ]
    asked = []
    monkeypatch.setattr(measure, "load_data", lambda name, profile: asked.append(name) or world)
    spec = Spec("clip_reid", "baseline", profile="smoke")
    method, _ = spec.build(world)
    found = measure.tested(method, world, spec, measure.test_sets(spec._replace(profile="laptop")))
    assert [(one["data"], one["task"]) for one in found] == [
        ("world_market", "image to image"),
        ("world_market", "image to image, re-ranked"),
        ("world_msmt", "image to image"),
    ]
    assert asked == ["world_msmt"]


def test_a_joint_set_is_tested_part_by_part_each_with_its_gallery_and_protocol(world):
    spec = Spec("promptsg", "promptsg", data="world_market+world_text", profile="smoke")
    joint = load_data(spec.data, "smoke")
    assert len(joint.train) > len(world.train) and set(joint.train.domains) == {"world_market", "world_text"}
    method, _ = spec.build(joint)
    found = measure.tested(method, joint, spec, measure.test_sets(spec._replace(row="zero-shot")))
    assert [(one["data"], one["task"]) for one in found] == [
        ("world_market", "image to image"),
        ("world_text", "caption to image"),
    ]
    assert "camera left out" in found[0]["protocol"] and "no gallery image left out" in found[1]["protocol"]


def test_the_bench_keeps_what_it_measured_before(shelves):
    bench.keep("one", {"ratio": 1})
    bench.keep("two", {"ratio": 2})
    assert bench.kept("one")["ratio"] == 1 and bench.kept("two")["commit"] and bench.kept("three") is None


def test_what_a_gpu_measured_stands_beside_what_a_cpu_did(shelves, monkeypatch):
    bench.keep("one", {"ratio": 1})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    bench.keep("one", {"ratio": 2})
    assert [bench.kept("one", gpu)["ratio"] for gpu in (False, True)] == [1, 2]


def test_the_full_row_is_tested_in_all_tests_and_other_rows_in_the_first():
    assert measure.test_sets(Spec("promptsg", "promptsg", "full + epochs=1"))[0].number is None
    assert measure.test_sets(Spec("promptsg", "promptsg", "plain contrast"))[0].number == 1


def test_what_a_paper_prints_nothing_of_is_a_dash_and_a_wrong_label_an_error():
    row = {
        "paper": "promptsg",
        "table": "Table 2",
        "method": "Baseline",
        "backbone": "ViT-B/16",
        "dataset": "world_a",
    }
    assert reported.printed({"base": row}) == {}


def test_a_readers_own_run_stands_before_the_books(shelves):
    books, own = noisy(0), noisy(1)
    BOOK.write(books)
    assert OWN.find(books.spec) == books
    own = dataclasses.replace(own, spec=books.spec)
    OWN.write(own)
    assert OWN.find(books.spec) == own and BOOK.find(books.spec) == books


def test_a_row_that_means_nothing_for_a_variant_is_refused():
    with pytest.raises(ValueError, match="a row of clip_reid's variant baseline among .*found 'no stage 1'"):
        Spec("clip_reid", "baseline", "no stage 1").check()


ALIKE = (  # pairs of specs whose letters and digits are the same
    ({"data": "/фото/t.csv"}, {"data": "/снимки/t.csv"}),
    ({"data": "/x/T.csv"}, {"data": "/x/t.csv"}),
    ({"data": "/a/b/x.csv"}, {"data": "/a/b-x.csv"}),
    ({"data": "world_market#-1"}, {"data": "world_market#1"}),
    ({"row": "full + triplet_weight=-2"}, {"row": "full + triplet_weight=2"}),
    ({"row": "full + stage2_lr=1e-4"}, {"row": "full + stage2_lr=1e+4"}),
)


@pytest.mark.parametrize("one, two", ALIKE)
def test_no_two_specs_have_one_name(one, two):
    names = [Spec("clip_reid", "baseline", **what).name for what in (one, two)]
    assert names[0] != names[1]


def test_a_table_has_another_name_in_every_folder(tmp_path, monkeypatch):
    names = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        names.append(Spec("clip_reid", "baseline", data="my.csv").name)
    assert names[0] != names[1]
    assert Spec("clip_reid", "baseline", data=str(tmp_path / "there" / "my.csv")).name == names[1]


def test_a_long_change_makes_no_name_that_a_disk_refuses():
    row = "full + prompt_template=" + "a photo of a person " * 40
    assert max(map(len, Spec("clip_reid", "baseline", row).name.split("/"))) < 100


def test_declared_rows_have_their_own_names_without_digits():
    for method, paper in METHODS.items():
        for variant in paper.variants:
            names = [Spec(method, variant, row).name for row in paper.rows]
            assert len(set(names)) == len(names)
    assert Spec("promptsg", "promptsg", "lambda 0.1", "world_msmt", seed=3).name == (
        "promptsg/promptsg/lambda-0-1/world_msmt-laptop-s3"
    )


def spoiled(change):
    """The bytes of a committed run after a change of its first record."""
    kept = json.loads(next(BOOK.folder().glob("clip_reid/baseline/full/*.json")).read_bytes())
    change(kept, kept["scores"][0])
    return json.dumps(kept).encode()


SPOILED = {
    "mAP": lambda kept, record: record["summary"].update(mAP=99.9),
    "R1": lambda kept, record: record["summary"].update(R1=99.9),
    "mINP": lambda kept, record: record["summary"].update(mINP=101.0),
    "NaN": lambda kept, record: record["summary"].update(mAP=float("nan")),
    "infinite cost": lambda kept, record: kept["cost"].update(minutes=float("inf")),
    "a text for a number": lambda kept, record: record["summary"].update(mAP="78.7"),
    "AP above one": lambda kept, record: record["ap"].__setitem__(0, 1.5),
    "AP of other queries": lambda kept, record: record["ap"].pop(),
    "no AP": lambda kept, record: record.update(ap=[]),
    "ranks": lambda kept, record: record.update(first=[1] * len(record["first"])),
    "people": lambda kept, record: record.update(pids=["a"] * len(record["pids"])),
    "no people": lambda kept, record: record.pop("pids"),
    "a list for a dict": lambda kept, record: kept.update(provenance=[]),
    "a dict for a list": lambda kept, record: kept.update(scores={}),
    "a history of numbers": lambda kept, record: kept.update(history=[1, 2]),
    "a number for a name": lambda kept, record: kept["data"].update(name=7),
    "a seed of text": lambda kept, record: kept["spec"].update(seed="0"),
    "a method of nobody's": lambda kept, record: kept["spec"].update(method="other"),
    "a row of nobody's": lambda kept, record: kept["spec"].update(row="other"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_run_whose_file_was_spoiled_is_refused_with_its_name(what, tmp_path):
    path = tmp_path / "spoiled.json"
    path.write_bytes(spoiled(lambda kept, record: None))
    assert Run.read(path).score("mAP")
    path.write_bytes(spoiled(SPOILED[what]))
    with pytest.raises(ValueError, match=r"expected a run at .*spoiled\.json, found a file .*; remove it"):
        Run.read(path)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"[" * 100_000, b"\xff\xfe{}", b'{"format": 2}', b'{"format": [2]}']
)
def test_a_file_that_holds_no_run_is_refused_with_its_name(data, tmp_path):
    path = tmp_path / "none.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"expected a run at .*none\.json, found a file that tells of none"):
        Run.read(path)


def test_a_folder_in_the_way_of_a_run_is_one_sentence(shelves):
    OWN.path(noisy(0).spec).mkdir(parents=True)
    with pytest.raises(ValueError, match="found no file that can be read .Is a directory.; move away"):
        OWN.find(noisy(0).spec)


def test_a_run_under_the_name_of_another_is_refused(shelves):
    one, two = OWN.write(noisy(0)), noisy(1)
    OWN.path(two.spec).write_bytes(OWN.path(one.spec).read_bytes())
    for asked in (lambda: OWN.find(two.spec), OWN.load):
        with pytest.raises(
            ValueError, match="expected the run that its name tells at .*-s1.json, found .*-s0"
        ):
            asked()


@pytest.mark.parametrize("data", [b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
@pytest.mark.parametrize("name, read", [("bench", lambda: bench.kept("one")), ("gates", gates.kept)])
def test_measurements_that_cannot_be_read_are_one_sentence_with_the_file(name, read, data, shelves):
    assert read() in (None, {"measured": {}})
    (BOOK.folder() / f"{name}.json").write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"expected (a JSON object|JSON|UTF-8) in .*{name}\.json, found .*; (put back|save)"
    ):
        read()


@pytest.mark.parametrize("place", [".", "results", "results/..", "results/more", "link"])
def test_own_runs_are_refused_where_the_books_lie(place, shelves, tmp_path, monkeypatch):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "results").symlink_to(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REID_BUILD", place)
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("it trained"))
    for asked in (lambda: OWN.write(noisy(0)), lambda: measure.measure(noisy(0).spec)):
        with pytest.raises(
            ValueError, match="expected another folder for own runs .* the book's, .* REID_BUILD"
        ):
            asked()
    assert not list(BOOK.folder().rglob("*.json"))


def made(monkeypatch, history, spent):
    """The run of a training that made this history, of which this start did the seconds `spent`."""

    def work(method, data, spec, place, how):
        how["spent"].append(spent)
        monkeypatch.setattr(provenance, "of_code", lambda: {"commit": "later", "clean": True})
        return [], history

    monkeypatch.setattr(measure, "at_once", work)
    return measure.measure(Spec("clip_reid", "baseline", profile="smoke"), log=lambda text: None)


def test_minutes_of_a_run_that_was_taken_up_are_those_of_all_its_starts(world, shelves, monkeypatch):
    monkeypatch.setattr(measure, "load_data", lambda *_: world)
    monkeypatch.setattr("reid_core.runs.run.load_data", lambda *_: world)
    history = [
        {"stage": "see", "seconds": 600.0, "images": 60},
        {"stage": "see", "seconds": 60.0, "images": 6},
    ]
    assert 10 <= made(monkeypatch, history, spent=60.0).cost["minutes"] < 11
    assert made(monkeypatch, history, spent=660.0).cost["minutes"] < 1


def test_a_run_names_the_commit_at_its_beginning(world, shelves, monkeypatch):
    """Whatever is committed while it trains."""
    monkeypatch.setattr("reid_core.runs.run.load_data", lambda *_: world)
    monkeypatch.setattr(provenance, "of_code", lambda: {"commit": "sooner", "clean": True})
    assert made(monkeypatch, [], spent=0.0).provenance["commit"] == "sooner"
