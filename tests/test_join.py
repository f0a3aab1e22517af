"""Joint training sets: one label per person, and nobody of a test among the training images."""

import json
import warnings
from dataclasses import replace

import pytest
from trees import picture, table, tree

from data_prep import catalogue, public
from data_prep.join import join, joint_training
from data_prep.world.build import cached


def read(name, root):
    return public.read(name, root, allow_count_mismatch=True)


@pytest.fixture
def pair(tmp_path):
    """CUHK-PEDES and Market-1501: person 1 of the one is person 1 of the other, both in training; person 4 of
    CUHK-PEDES is tested there, under Market-1501's number 3, which is tested too."""
    return read("cuhk_pedes", tree("cuhk_pedes", tmp_path / "words")), read(
        "market1501", tree("market1501", tmp_path / "market")
    )


def labels(joint, word):
    return set(joint.table[joint.table.path.str.contains(word)].pid)


def test_a_person_of_both_sets_has_one_label(pair):
    joint = joint_training(*pair)
    assert len(labels(joint, "/0001_c")) == 1 and len(labels(joint, "/0003_c")) == 1
    assert labels(joint, "/0001_c") != labels(joint, "/0003_c") != labels(joint, "CUHK01")
    assert "1 training identities occur in all of the sets" in joint.notes[-1]


def test_training_images_of_people_whom_the_other_set_tests_are_removed(pair, tmp_path):
    path = "Market/0004_c2s1_000451_03.jpg"  # Market-1501 tests this person, CUHK-PEDES trains on it
    picture(tmp_path / "words" / "imgs" / path)
    records = json.loads((tmp_path / "words" / "reid_raw.json").read_text())
    records.append({**records[0], "id": 9, "file_path": path})
    (tmp_path / "words" / "reid_raw.json").write_text(json.dumps(records))
    with pytest.warns(UserWarning, match="WATCH OUT: cuhk_pedes: 1 of 3 training images removed"):
        joint = joint_training(read("cuhk_pedes", tmp_path / "words"), pair[1])
    assert not joint.table[joint.table.split == "train"].path.str.contains("/0004_c").any()


def test_identities_that_meet_in_a_third_name_are_one(pair, tmp_path):
    """Two numbers of CUHK-PEDES with images of one person of Market-1501 are one person."""
    for image, number in (("Market/0001_c5s1_000451_03.jpg", 77), ("CUHK03/77_1.jpg", 77)):
        picture(tmp_path / "words" / "imgs" / image)
        records = json.loads((tmp_path / "words" / "reid_raw.json").read_text())
        records.append({**records[0], "id": number, "file_path": image})
        (tmp_path / "words" / "reid_raw.json").write_text(json.dumps(records))
    joint = joint_training(read("cuhk_pedes", tmp_path / "words"), pair[1])
    assert labels(joint, "CUHK03/77_1") == labels(joint, "/0001_c")


def test_icfg_pedes_loses_what_msmt17_tests_and_says_so_loudly(tmp_path):
    words, faces = (read(name, tree(name, tmp_path / name)) for name in ("icfg_pedes", "msmt17"))
    with pytest.warns(UserWarning, match=r"WATCH OUT: icfg_pedes: 1 of 2 training images removed \(50.0%\)"):
        joint = joint_training(words, faces)
    assert any("compare with no published ones" in note for note in joint.notes)
    train = joint.table[joint.table.split == "train"]
    assert len(labels(joint, r"train/0000/0000_000_0[12]")) == 1, "the person whom both train on"
    assert not train.path.str.contains("imgs/test").any()


PAIRS = [  # names as a paper spells them, and the removed of all training images of both sets, as in `trees`
    ("cuhkpedes+market1501", ["0 of 2", "0 of 4"]),
    ("icfgpedes+msmt17", ["1 of 2", "0 of 4"]),
    ("rstpreid+dukemtmc", ["0 of 1", "0 of 4"]),
]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Small trees of the six sets, where a name finds them."""
    for name in ("cuhk_pedes", "market1501", "icfg_pedes", "msmt17", "rstpreid", "dukemtmc"):
        tree(name, tmp_path / name)
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    monkeypatch.setenv("REID_ALLOW_COUNT_MISMATCH", "1")


@pytest.mark.filterwarnings("ignore:WATCH OUT")
@pytest.mark.parametrize("name, removed", PAIRS)
def test_the_pairs_of_the_paper_are_known_by_name_and_note_what_they_lost(published, name, removed):
    joint = catalogue.read(name)
    for note, part, lost in zip(joint.notes, catalogue.whole_name(name).split("+"), removed):
        assert f"{part}: {lost} training images removed" in note
    assert [part.name for part in joint.parts] == catalogue.parts(catalogue.whole_name(name))
    assert [len(part.split("train")) for part in joint.parts] == [int(lost.split()[-1]) for lost in removed]


@pytest.mark.filterwarnings("ignore:WATCH OUT")
def test_a_leaky_set_keeps_everybody_and_says_so_in_its_name_and_notes(published):
    clean, leaky = (catalogue.read(f"{before}icfg_pedes+msmt17") for before in ("", "leaky:"))
    assert len(leaky.split("train")) == len(clean.split("train")) + 1
    train, tested = (set(leaky.split(*names).pid) for names in (["train"], ["query", "gallery"]))
    assert train & tested, "the person whom one trains on and the other tests has one label"
    assert leaky.name == "leaky:icfg_pedes+msmt17" and leaky.notes[0].startswith("LEAKY: icfg_pedes: 1 of 2")
    assert leaky.fingerprint != clean.fingerprint
    assert catalogue.title(leaky.name) == "ICFG-PEDES + MSMT17 (leaky)"


@pytest.mark.filterwarnings("ignore:WATCH OUT")
@pytest.mark.parametrize("name", ["icfg_pedes+msmt17", "leaky:icfg_pedes+msmt17"])
def test_a_joint_set_has_the_fingerprint_that_its_parts_give(published, name):
    assert catalogue.fingerprint(name) == catalogue.read(name).fingerprint


def test_names_of_joint_sets_are_taken_apart_and_put_together():
    name = "leaky:world_text#7+world_market#7"
    assert catalogue.parts(name) == ["world_text#7", "world_market#7"]
    assert catalogue.bare(name) == "leaky:world_text+world_market" and catalogue.whole_name(name) == name
    assert catalogue.stands_for(name) == "cuhk_pedes+market1501"
    assert catalogue.partner("world_market#7+world_text#7") is None, "a joint set has seen both"
    with pytest.raises(
        ValueError, match="several data sets joined by . after leaky:, found 'world_text' alone"
    ):
        catalogue.read("leaky:world_text", "smoke")


@pytest.mark.filterwarnings("ignore:WATCH OUT")
def test_sets_of_other_spectra_cannot_be_joined(pair, tmp_path):
    many = read("rgbnt201", tree("rgbnt201", tmp_path / "many"))
    with pytest.raises(ValueError, match="of the same spectra, found nir, rgb, tir in rgbnt201 and"):
        joint_training(many, pair[1])


def test_rstpreid_cannot_be_traced_and_nothing_is_removed(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        joint = joint_training(
            *(read(name, tree(name, tmp_path / name)) for name in ("rstpreid", "dukemtmc"))
        )
    assert len(joint.split("train")) == 5 and "0 training identities" in joint.notes[-1]


def test_an_image_of_market_without_its_number_cannot_be_joined(pair, tmp_path):
    path = "Market/somebody.jpg"
    picture(tmp_path / "words" / "imgs" / path)
    records = json.loads((tmp_path / "words" / "reid_raw.json").read_text())
    (tmp_path / "words" / "reid_raw.json").write_text(
        json.dumps([*records, {**records[0], "id": 9, "file_path": path}])
    )
    with pytest.raises(
        ValueError,
        match="expected the pid of Market-1501 at the beginning of the name, found imgs/Market/somebody",
    ):
        joint_training(read("cuhk_pedes", tmp_path / "words"), pair[1])


def test_the_worlds_pair_shares_people_and_leaks_nothing(world):
    words = public.cuhk_pedes(cached(world.manifest.root.parent, "smoke", 0, "world_text"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joint = joint_training(words, world.manifest)
    train, test = (
        set(joint.table[joint.table.split.isin(s)].pid) - {0}
        for s in (["train"], ["query", "gallery", "val"])
    )
    assert not train & test and joint.origin == "world"
    assert len(joint.table) < len(words.table) + len(world.manifest.table), "somebody was removed"


def test_cameras_and_shots_of_joined_sets_stay_apart(pair):
    for joint in (join(pair), joint_training(*pair)):
        cameras = {domain: set(rows.camid) for domain, rows in joint.table.groupby("domain")}
        assert not set.intersection(*cameras.values()) and joint.table.shot.is_unique


def test_the_first_person_of_two_sets_that_count_from_zero_stays_two(tmp_path):
    joint = join([read("msmt17", tree("msmt17", tmp_path / str(k))) for k in range(2)])
    assert joint.split("train").pid.nunique() == 4


@pytest.mark.filterwarnings("ignore:WATCH OUT")
def test_a_world_and_photographs_are_never_joined(pair, world):
    with pytest.raises(ValueError, match="data sets of one kind, found real and world"):
        joint_training(pair[0], world.manifest)


def strangers(folder, name, pid=5):
    """The own table of a folder, about one person to train on and another to search."""
    rows = [("1.png", pid, 1, "train"), ("2.png", pid, 2, "train")]
    return table(folder, *rows, ("q.png", 90, 1, "query"), ("g.png", 90, 2, "gallery"), name=name)


@pytest.mark.parametrize(
    "names", [("my.csv", "my.csv"), ("one.csv", "two.csv"), ("market1501.csv", "my.csv")]
)
def test_two_tables_are_strangers_whatever_their_files_are_called(tmp_path, names):
    paths = [strangers(tmp_path / str(k), name) for k, name in enumerate(names)]
    joint = joint_training(*(public.read("csv", path) for path in paths))
    assert joint.split("train").pid.nunique() == joint.split("query").pid.nunique() == 2


def test_a_table_loses_no_training_image_to_a_stranger_of_the_same_number(tmp_path):
    paths = [strangers(tmp_path / "a", "my.csv", pid=5), strangers(tmp_path / "b", "my.csv", pid=90)]
    path = paths[1]
    path.write_text(path.read_text().replace(",90,1,query", ",5,1,query").replace(",90,2,gal", ",5,2,gal"))
    assert len(joint_training(*(public.read("csv", one) for one in paths)).split("train")) == 4


def test_variants_of_a_set_show_the_same_people_and_worlds_of_two_seeds_others(tmp_path, world, market):
    boxes = [read(f"cuhk03#{kind}", tree("cuhk03", tmp_path / kind)) for kind in ("labeled", "detected")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joint = joint_training(*boxes)
        two = joint_training(world.manifest, replace(public.market1501(market), seed=1))
    assert joint.split("train").pid.nunique() == 2
    assert two.split("train").pid.nunique() == 2 * world.classes


def test_person_0_is_somebody_where_a_query_asks_for_it(tmp_path):
    rows = [("1.png", 4, 1, "train"), ("2.png", 0, 1, "query"), ("3.png", 0, 2, "gallery")]
    sets = [public.read("csv", table(tmp_path / name, *rows)) for name in ("s", "t")]
    for joint in (join(sets), joint_training(*sets)):
        assert joint.split("query").pid.nunique() == 2 and (joint.split("query").pid > 0).all()


def test_distractors_stay_nobody_where_sets_are_joined(pair, tmp_path):
    rows = [("1.png", 4, 1, "train"), ("2.png", 7, 1, "query"), ("3.png", 7, 2, "gallery")]
    sets = [
        public.read("csv", table(tmp_path / name, *rows, ("4.png", 0, 2, "gallery"))) for name in ("s", "t")
    ]
    for joint in (join(sets), joint_training(*sets)):
        assert (joint.table.pid == 0).sum() == 2 and joint.split("query").pid.nunique() == 2
