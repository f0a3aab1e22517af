"""Every reader on files that lie as the public sets lie, and on what goes wrong with them."""

import json
import re
import shutil
from pathlib import Path

import pytest
from trees import TREES, msmt17_v2, picture, tree

from data_prep import public, splits
from data_prep.public import counts, lifelong
from data_prep.public.folders import PLACES
from data_prep.world.build import cached
from data_prep.world.layouts import layout_of

FOUND = {  # images of train, val, query and gallery in the small trees; spectra counted one by one
    "market1501": (4, 0, 2, 2),
    "dukemtmc": (4, 0, 2, 2),
    "occluded_duke": (4, 0, 2, 2),
    "lpw": (4, 0, 2, 2),
    "cuhk03": (4, 0, 2, 2),
    "msmt17": (4, 0, 2, 2),
    "veri776": (2, 0, 1, 2),
    "vehicleid": (9, 0, 6, 6),
    "cuhk_pedes": (2, 1, 0, 1),
    "icfg_pedes": (2, 0, 0, 1),
    "rstpreid": (1, 1, 0, 1),
    "rgbnt201": (6, 0, 6, 6),
    "market1501_mm": (3, 0, 3, 6),
    "rgbnt100": (3, 0, 3, 3),
    "msvr310": (3, 0, 3, 6),
    "cuhk_sysu": (2, 0, 1, 1),
    "cuhk01": (0, 0, 32, 32),
    "cuhk02": (0, 0, 12, 12),
    "viper": (0, 0, 80, 80),
    "prid": (0, 0, 21, 21),
    "grid": (0, 0, 9, 9),
    "ilids": (0, 0, 30, 30),
    "sensereid": (0, 0, 2, 2),
}
EXPORTED = (
    "world_market",
    "world_msmt",
    "world_text",
    "world_rgbnt201",
    "world_market_mm",
    "world_rgbnt100",
    "world_msvr310",
    "world_pairs",
)  # one for every layout of the world
LISTED = ("msmt17", "cuhk_pedes", "icfg_pedes", "rstpreid", "vehicleid")  # a list says which images there are


def read(name, root, **options):
    return public.read(name, root, allow_count_mismatch=True, **options)


def numbers(manifest):
    return tuple(len(manifest.split(split)) for split in ("train", "val", "query", "gallery"))


def placed(name):
    """The place of the data set's first variant."""
    return PLACES[name if name in PLACES else f"{name}#{public.VARIANTS[name][0]}"][0]


@pytest.fixture(params=TREES)
def small(request, tmp_path):
    """(name, root) of every small tree."""
    return request.param, tree(request.param, tmp_path / "set")


def test_every_reader_has_a_tree():
    assert set(TREES) == set(public.READERS) - {"pairs", "csv"}, (
        "those two are tested on the world and on tables"
    )


def test_a_tree_is_read_as_its_names_say(small):
    name, root = small
    read_in = read(name, root)
    assert numbers(read_in) == FOUND[name] and read_in.origin == "real"
    assert all((root / path).is_file() for path in read_in.table.path)


@pytest.mark.parametrize("name", TREES)
def test_the_usual_folder_is_found_from_its_parent(name, tmp_path):
    alias = next(iter(placed(name).aliases))
    assert numbers(read(name, tree(name, tmp_path / "sets" / alias).parents[alias.count("/")])) == FOUND[name]


def test_an_unseen_set_is_found_among_the_unseen(tmp_path):
    tree("viper", tmp_path / "Unseen" / "VIPeR")
    assert numbers(read("viper", tmp_path)) == FOUND["viper"]


@pytest.mark.parametrize("name", EXPORTED)
def test_the_worlds_exports_are_read_and_labelled(name, world):
    root = cached(world.manifest.root.parent, "smoke", 0, name)
    read_in = public.read(layout_of(name).reader, root)
    card = json.loads((root / "world.json").read_text())
    assert read_in.origin == "world" and read_in.name == name and read_in.fingerprint == card["fingerprint"]
    for split, number in card["counts"].items():
        assert read_in.split(split).shot.nunique() == number


def test_a_wrong_root_is_one_sentence(small, tmp_path):
    name, _ = small
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a folder, found nothing at .*; pass"):
        read(name, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found an empty folder; pass the folder that holds them"):
        read(name, tmp_path / "empty")


def test_another_data_set_in_the_folder_is_recognised(tmp_path):
    with pytest.raises(ValueError, match="found cam_a, cam_b; this looks like viper or prid: check it"):
        read("rgbnt201", tree("viper", tmp_path / "set"))


def test_a_missing_part_is_named(small):
    name, root = small
    lost = list(placed(name).folders.values())[-1]
    shutil.rmtree(root / lost) if (root / lost).is_dir() else (root / lost).unlink()
    with pytest.raises(ValueError, match=rf"expected .*{lost}.*found "):
        read(name, root)


def test_what_the_operating_system_leaves_in_folders_is_passed_over(small):
    name, root = small
    for folder in [path for path in root.rglob("*") if path.is_dir()]:
        (folder / "Thumbs.db").write_bytes(b"no image")
        (folder / "._hidden.jpg").write_bytes(b"no image")
    assert numbers(read(name, root)) == FOUND[name]


def test_endings_in_capitals_are_images_too_or_not_what_the_list_says(small):
    name, root = small
    for path in [path for path in root.rglob("*") if path.suffix in (".jpg", ".png", ".bmp", ".jpeg")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    if name in LISTED and name != "vehicleid":
        with pytest.raises(ValueError, match="expected the image .* found nothing; add it"):
            read(name, root)
    else:
        assert numbers(read(name, root)) == FOUND[name]


@pytest.mark.parametrize("name", [name for name in TREES if name not in (*LISTED, "viper")])
def test_a_name_that_does_not_parse_is_shown(name, tmp_path):
    root = tree(name, tmp_path / "set")
    some = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png", ".jpeg"))[0]
    for twin in root.rglob(some.name):  # in all spectra
        shutil.copy(twin, twin.with_name(f"somebody{twin.suffix}"))
    with pytest.raises(
        ValueError,
        match=f"expected a file name like .*, found somebody{some.suffix} in .*; rename or remove it",
    ):
        read(name, root)


def test_people_of_viper_go_by_their_place_in_the_folder(tmp_path):
    root = tree("viper", tmp_path / "set")
    picture(root / "cam_a" / "somebody.bmp")
    with pytest.raises(ValueError, match="as many images in cam_a as in cam_b, found 41 and 40"):
        read("viper", root)


def test_a_folder_without_images_is_named(small):
    name, root = small
    folder = root / next(folder for folder in placed(name).folders.values() if (root / folder).is_dir())
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
    with pytest.raises(
        ValueError, match="expected images, found none in|expected the image .* found nothing"
    ):
        read(name, root)


@pytest.mark.parametrize("name", ["rgbnt201", "market1501_mm", "msvr310"])
def test_an_image_without_one_of_its_spectra_is_named(name, tmp_path):
    root = tree(name, tmp_path / "set")
    next(path for path in sorted(root.rglob("*.jpg")) if path.parent.name in ("TI", "th")).unlink()
    with pytest.raises(
        ValueError, match="expected .* in (RGB, NI, TI|vis, ni, th), found no .*; add the file or remove"
    ):
        read(name, root)


SENTENCES = {
    "cuhk_pedes": ("reid_raw.json", "file_path"),
    "icfg_pedes": ("ICFG-PEDES.json", "file_path"),
    "rstpreid": ("data_captions.json", "img_path"),
}


@pytest.mark.parametrize("name", SENTENCES)
@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda records, key: {"images": records},
            "a list of records with split, id, .*, found another schema",
        ),
        (
            lambda records, key: [{**records[0], key: records[0][key]} | {"id": "seven"}],
            "whole numbers as id .* found 'seven'",
        ),
        (
            lambda records, key: [records[0] | {"split": "trian"}],
            "a split among train, val, test .* found 'trian'",
        ),
        (
            lambda records, key: [records[0] | {"captions": "a man"}],
            "a list of sentences as captions .* found 'a man'",
        ),
        (
            lambda records, key: [*records, records[0] | {key: records[0][key] + "x"}],
            "expected the image .*x in .*, found nothing",
        ),
        (
            lambda records, key: [*records, records[0] | {key: "../../secret.jpg"}],
            "paths below .*secret.jpg, which leaves it|file name like",
        ),
    ],
)
def test_an_annotation_that_is_not_the_releases_is_refused(name, change, words, tmp_path):
    root, (file, key) = tree(name, tmp_path / "set"), SENTENCES[name]
    records = json.loads((root / file).read_text())
    (root / file).write_text(json.dumps(change(records, key)))
    with pytest.raises(ValueError, match=words):
        read(name, root)


def test_an_annotation_that_is_no_json_is_refused(tmp_path):
    root = tree("cuhk_pedes", tmp_path / "set")
    (root / "reid_raw.json").write_text("[{")
    with pytest.raises(ValueError, match="expected JSON in .*reid_raw.json, found .*; download it again"):
        read("cuhk_pedes", root)


def test_blanks_in_a_sentence_are_tidied(tmp_path):
    root = tree("rstpreid", tmp_path / "set")
    records = json.loads((root / "data_captions.json").read_text())
    records[0]["captions"] = [" a  man\n in red ", "一个人"]
    (root / "data_captions.json").write_text(json.dumps(records), encoding="utf-8")
    assert read("rstpreid", root).table.captions[0] == ("a man in red", "一个人")


def test_a_caption_without_an_image_is_refused(tmp_path):
    root = tree("market1501", tmp_path / "set")
    (root / "captions.json").write_text(json.dumps({"query/0009_c1s1_000451_03.jpg": ["a man"]}))
    with pytest.raises(ValueError, match="an image for every caption in .*, found none at query/0009"):
        read("market1501", root)


@pytest.mark.parametrize(
    "line, words",
    [
        (
            "0000/0000_000_01_0303morning_0008_0.jpg",
            "expected lines like <path> <pid> in .*list_query.txt, found",
        ),
        ("0000/nobody.jpg 3", "found nobody.jpg in"),
        (
            "../../0000_000_01_0303morning_0008_0.jpg 3",
            "expected paths below .*, found test/.*, which leaves it",
        ),
        ("0000/0000_000_09_0303morning_0008_0.jpg 0", "expected the image test/0000/0000_000_09"),
    ],
)
def test_a_line_of_a_list_that_leads_nowhere_is_shown(line, words, tmp_path):
    root = tree("msmt17", tmp_path / "set")
    with open(root / "list_query.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=words):
        read("msmt17", root)


def test_both_versions_of_msmt17_are_told_apart(tmp_path):
    first, second = read("msmt17", tree("msmt17", tmp_path / "1")), read("msmt17", msmt17_v2(tmp_path / "2"))
    assert (
        numbers(first) == numbers(second) and "as in V1" in first.notes[0] and "this is V2" in second.notes[0]
    )


def test_list_val_is_left_out_of_training_where_that_is_asked_for(tmp_path):
    assert numbers(read("msmt17#without_val", tree("msmt17", tmp_path / "set"))) == (2, 2, 2, 2)


def test_an_unlisted_image_of_vehicleid_is_named(tmp_path):
    root = tree("vehicleid", tmp_path / "set")
    (root / "image" / "0000003.jpg").unlink()
    with pytest.raises(
        ValueError, match="expected the image 0000003 of .*train_list.txt among the 14 images, found none"
    ):
        read("vehicleid", root)


def test_query_and_gallery_of_cuhk_sysu_have_different_cameras(tmp_path):
    read_in = read("cuhk_sysu", tree("cuhk_sysu", tmp_path / "set"))
    assert set(read_in.split("query").camid) == {2} and set(read_in.split("gallery").camid) == {1}


def test_an_unknown_variant_is_one_sentence(tmp_path):
    with pytest.raises(
        ValueError, match="a variant of viper among standard, split0, pad_jul, pad_jun, found 'pad'"
    ):
        public.read("viper#pad", tmp_path)
    with pytest.raises(ValueError, match="a variant of veri776 among none, found 'x'"):
        public.read("veri776#x", tmp_path)


def test_a_wrong_number_is_an_error_that_says_both_numbers(small):
    name, root = small
    with pytest.raises(
        ValueError, match=r"expected \d+ \w+ (identities|images) .*: .*found \d+ in .*--allow-count-mismatch"
    ):
        public.read(name, root)


def test_an_allowed_difference_stands_in_the_notes(tmp_path):
    notes = read("market1501", tree("market1501", tmp_path / "set")).notes
    assert any(
        "expected 12936 train images (recounted" in note and note.endswith("allowed") for note in notes
    )


def test_expected_counts_have_a_status_and_a_source_and_know_every_data_set():
    table = counts.expected()
    assert set(table.status) <= set(counts.STATUSES) and table["where"].ne("").all()
    assert set(table.dataset) == set(public.READERS) - {"pairs", "csv"}
    for row in table.itertuples():
        assert row.variant in ("any", *public.VARIANTS.get(row.dataset, ("",)))


def test_printed_sizes_are_those_of_the_table():
    """PromptSG's Table 1 gives the images of all splits together."""
    table = counts.expected().query("split in ('train', 'query', 'gallery') and variant in ('any', '')")
    images = table.groupby("dataset").images.sum()
    assert images["msmt17"] == 126441 and images["dukemtmc"] == 36411


UNSEEN_DRAWS = {  # (draws, queries, gallery) of a full-size set
    "cuhk01": {
        "standard": (10, 972, 972),
        "split0": (1, 972, 972),
        "pad_jul": (20, 972, 972),
        "pad_jun": (1, 1942, 1942),
    },
    "viper": {
        "standard": (10, 316, 316),
        "split0": (1, 316, 316),
        "pad_jul": (20, 316, 316),
        "pad_jun": (1, 632, 632),
    },
    "prid": {
        "standard": (10, 100, 649),
        "split0": (1, 100, 649),
        "pad_jul": (10, 100, 464),
        "pad_jun": (1, 385, 749),
    },
    "cuhk02": {
        "standard": (1, 478, 478),
        "split0": (1, 478, 478),
        "pad_jul": (1, 239, 239),
        "pad_jun": (1, 478, 478),
    },
    "ilids": {
        "standard": (10, 60, 60),
        "split0": (1, 60, 60),
        "pad_jul": (10, 60, 60),
        "pad_jun": (1, 119, 357),
    },
}


def both(people, images=1):
    """Shots of people before two cameras."""
    return [("", pid, view) for view in (0, 1) for pid in people for _ in range(images)]


def full_size(name, variant):
    """The draws of a set as large as the real one, without its files."""
    if name == "cuhk01":
        return lifelong.halves(name, both(range(1, 972), 2), variant)
    if name == "viper":
        return lifelong.halves(name, both(range(1, 633)), variant)
    if name == "cuhk02":
        shots = both(range(239), 2)
        return (
            [lifelong.one_of_each(shots, lifelong.random.Random(123))]
            if variant == "pad_jul"
            else [lifelong.against(shots)]
        )
    if name == "ilids":
        return lifelong.ilids_draws([("", pid, k) for pid in range(1, 120) for k in range(4)], variant)
    apart = 1000 * (not variant.startswith("pad"))
    first = [("", pid if pid < 201 else pid + apart, 0) for pid in range(1, 386)]
    return lifelong.prid_draws(
        first + [("", pid if pid < 201 else pid + 2 * apart, 1) for pid in range(1, 750)], variant
    )


@pytest.mark.parametrize("name", UNSEEN_DRAWS)
@pytest.mark.parametrize("variant", lifelong.PROTOCOLS)
def test_draws_of_the_unseen_sets_have_the_published_sizes(name, variant):
    draws = full_size(name, variant)
    found = {(len(asked), len(shown)) for asked, shown in draws}
    assert (len(draws), *found.pop()) == UNSEEN_DRAWS[name][variant] and not found


def test_pads_halves_are_those_that_pythons_generator_shuffles():
    """The first five people tested by PAD's loaders of July on VIPeR, worked out with the generator alone."""
    import random

    people = list(range(1, 633))
    random.Random(123 + 4).shuffle(people)
    asked, shown = full_size("viper", "pad_jul")[9]  # the fifth half, backwards
    assert [k - 632 + 1 for k in asked] == sorted(people[316:]) and [k + 1 for k in shown] == sorted(
        people[316:]
    )


def test_our_splits_are_shipped_as_they_are_made_and_said_to_be_ours():
    assert splits.PATH.read_text() == splits.text() and "ours" in splits.text()
    for name, (people, tested) in splits.PEOPLE.items():
        drawn = splits.ours()[name]
        assert len(drawn) == 10 and all(len(set(one) & set(people)) == tested for one in drawn)


def test_strangers_with_the_same_number_are_kept_apart_in_prid_but_for_pad(tmp_path):
    root = tree("prid", tmp_path / "set")
    honest, pad = read("prid", root), read("prid#pad_jun", root)
    assert honest.table.pid.nunique() == pad.table.pid.nunique() + 2
    assert len(pad.trials.draws[0][0]) == 10 and "June" in pad.trials.words


def test_a_draw_of_vehicleid_shows_every_vehicle_once_and_lets_the_others_ask(tmp_path):
    read_in = read("vehicleid", tree("vehicleid", tmp_path / "set"))
    pids = read_in.split("gallery").pid.to_numpy()
    for asked, shown in read_in.trials.draws:
        assert sorted(pids[list(shown)]) == [103, 104] and not set(asked) & set(shown) and len(asked) == 4
    assert len({shown for _, shown in read_in.trials.draws}) > 1 and read_in.protocol == "all"


def test_every_protocol_of_every_unseen_set_has_answers(tmp_path):
    for name in lifelong.UNSEEN:
        root = tree(name, tmp_path / name)
        for variant in lifelong.PROTOCOLS:
            assert read(f"{name}#{variant}", root).name == f"{name}#{variant}"


def test_a_cap_on_identities_leaves_the_test_alone(tmp_path):
    whole = read("market1501", tree("market1501", tmp_path / "set"))
    capped = lifelong.first_identities(whole, 1, least=2)
    assert set(capped.split("train").pid) == {1} and len(capped.split("query", "gallery")) == 4
    assert not len(lifelong.first_identities(whole, 1, least=3).split("train"))


@pytest.mark.parametrize("name", TREES)
def test_files_beside_the_images_are_counted_by_their_endings(name, tmp_path):
    root = tree(name, tmp_path / "set")
    folder = root / read(name, root).table.path[0].rpartition("/")[0]
    for other in ("a.webp", "b.TIFF", "c.tiff", "Thumbs.db", ".d.webp"):
        (folder / other).touch()
    assert "files passed over beside the images: 2 .tiff, 1 .webp" in read(name, root).notes


def test_a_folder_of_images_with_another_ending_says_which(tmp_path):
    root = tree("market1501", tmp_path / "set")
    for path in (root / "query").iterdir():
        path.rename(path.with_suffix(".webp"))
    with pytest.raises(
        ValueError, match="expected images, found none in .*query but 2 .webp; unpack .* or save"
    ):
        read("market1501", root)


def test_cameras_and_views_have_as_many_digits_as_they_like(tmp_path):
    rgbnt = tree("rgbnt201", tmp_path / "rgbnt")
    for path in (rgbnt / "test").rglob("*_cam2_*"):
        path.rename(path.with_name(path.name.replace("_cam2_", "_cam12_")))
    assert set(read("rgbnt201", rgbnt).split("query").camid) == {1, 12}
    msvr = tree("msvr310", tmp_path / "msvr")
    for path in msvr.rglob("*_v4_*"):
        path.rename(path.with_name(path.name.replace("_v4_", "_v42_")))
    assert set(read("msvr310", msvr).split("gallery").camid) == {3, 42}


@pytest.mark.parametrize("name, old", [("cuhk01", "0001001.png"), ("ilids", "0001001.jpg")])
def test_a_number_too_long_for_its_place_is_not_cut(name, old, tmp_path):
    root = tree(name, tmp_path / "set")
    folder = root / read(name, root).table.path[0].rpartition("/")[0]
    picture(folder / f"00{old}")
    with pytest.raises(ValueError, match=f"expected a file name like .*, found 00{old} in"):
        read(name, root)


def test_an_image_that_the_visible_spectrum_alone_lacks_is_named(tmp_path):
    root = tree("rgbnt201", tmp_path / "set")
    next((root / "test" / "RGB").iterdir()).unlink()
    with pytest.raises(ValueError, match="in RGB, NI, TI, found no test/RGB/.*; add the file or remove"):
        read("rgbnt201", root)


def test_junk_of_every_spectrum_is_counted(tmp_path):
    root = tree("market1501_mm", tmp_path / "set")
    for spectrum in ("RGB", "NI", "TI"):
        picture(root / "gallery" / spectrum / "-1_c1s1_000000_02.jpg")
    assert "3 junk images left out" in read("market1501_mm", root).notes


def test_a_byte_order_mark_spoils_no_list_and_no_sentence(tmp_path):
    mark = b"\xef\xbb\xbf"
    for name, file in (("msmt17", "list_train.txt"), ("rstpreid", "data_captions.json")):
        root = tree(name, tmp_path / name)
        (root / file).write_bytes(mark + (root / file).read_bytes())
        assert numbers(read(name, root)) == FOUND[name]
    root = tree("market1501", tmp_path / "market")
    lines = [
        "0001_c1s1_000451_03.jpg\t\t\ta\t\t\tb\t\t\tc\t\t\td\n",
        "0009_c1.jpg\t\t\ta\t\t\tb\t\t\tc\t\t\td\n",
    ]
    (root / "blip_descriptions.txt").write_bytes(mark + "".join(lines).encode())
    found = read("market1501", root)
    assert found.table.parts[0] == ("a", "b", "c", "d")
    assert "1 of 2 descriptions are of no image here" in found.notes


SPOILED = {
    "nested": b"[" * 100000,
    "nested objects": b'{"a":' * 100000,
    "another encoding": b'{"\xe9": []}',
    "empty": b"",
    "a list": b"[1]",
    "a number": b"5",
    "null": b"null",
    "a text": b'"x"',
    "no sentences": b'{"query/0003_c1s1_000451_03.jpg": null}',
    "a sentence alone": b'{"query/0003_c1s1_000451_03.jpg": "a man"}',
    "an archive": b"PK\3\4",
}


@pytest.mark.parametrize("content", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize(
    "name, file",
    [
        ("cuhk_pedes", "reid_raw.json"),
        ("market1501", "captions.json"),
        ("market1501", "world.json"),
        ("pairs", "captions.json"),
        ("grid", "features_and_partitions.mat"),
    ],
)
def test_a_spoiled_file_is_one_sentence_that_names_it(name, file, content, tmp_path):
    root = tmp_path / "set"
    if name == "pairs":
        picture(root / "images" / "1.png")
    else:
        tree(name, root)
    (root / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"expected .* in .*{file}, found .*; .*[.]$"):
        read(name, root)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"split": ["train"]}, "expected text as split in .*, found ..train"),
        ({"file_path": 5}, "expected text as file_path in .*, found 5"),
        ({"id": True}, "expected whole numbers as id in .*, found True"),
        ({"id": -5}, "whole numbers in the column pid, found -5"),
        ({"id": 10**30}, "whole numbers in the column pid, found 1000"),
        ({"captions": None}, "a list of sentences as captions in .*, found 'None'"),
        ({"file_path": "a\0b"}, "expected the image imgs/a\0b in .*, found nothing"),
        ({"file_path": ""}, "expected the image imgs/ in .*, found nothing"),
    ],
)
def test_a_record_of_another_type_is_shown(change, words, tmp_path):
    root = tree("cuhk_pedes", tmp_path / "set")
    first, *others = json.loads((root / "reid_raw.json").read_text())
    (root / "reid_raw.json").write_text(json.dumps([first | change, *others]))
    with pytest.raises(ValueError, match=words):
        read("cuhk_pedes", root)


def test_text_files_are_read_and_written_in_utf_8_whatever_the_locale():
    bare = re.compile(r"\b(open|read_text|write_text|read_csv|to_csv)\((?!.*encoding=)")
    ours = re.compile(r"(def |import |Image\.|\bP|h5py\.|[^.\w])(open|read_text|read_csv)\(|opened\(")
    for path in Path(public.__file__).parents[1].rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not bare.search(line) or ours.search(line), f"{path.name}: {line.strip()}"
