"""Releases without crops, written by the tests as their authors write them."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data_prep import public
from data_prep.convert import convert


def release(folder, people=(3, 1), empty=((1, 7),)):
    """cuhk-03.mat as HDF5: cells in cells, an image as (3, width, height), an empty cell as two numbers; and
    the two files of the protocol, in which the last person of all is tested and the others train."""
    folder.mkdir(parents=True)
    with h5py.File(folder / "cuhk-03.mat", "w") as file:
        for boxes in ("labeled", "detected"):
            refs = file.create_dataset(boxes, (1, len(people)), h5py.ref_dtype)
            shade, number = 0, 0
            for pair, count in enumerate(people):
                cells = file.create_dataset(f"{boxes} {pair}", (10, count), h5py.ref_dtype)
                refs[0, pair] = cells.ref
                for person in range(count):
                    number += 1
                    for k in range(10):
                        shade += 1
                        void = (number, k) in empty
                        data = np.zeros(2) if void else np.full((3, 4, 6), shade, np.uint8)
                        cells[k, person] = file.create_dataset(f"{boxes} {pair} {person} {k}", data=data).ref
    images = 10 * sum(people) - len(empty)
    last = np.arange(images - 9, images + 1)
    index = {
        "train_idx": np.arange(1, images - 9),
        "query_idx": last[[0, 5]],
        "gallery_idx": np.delete(last, [0, 5]),
    }
    for boxes in ("labeled", "detected"):
        savemat(folder / f"cuhk03_new_protocol_config_{boxes}.mat", {**index, "labels": np.ones((images, 1))})
    return folder


def test_the_indices_of_cuhk03_count_images_and_no_empty_cells(tmp_path):
    convert("cuhk03", release(tmp_path / "release"), tmp_path / "cuhk03")
    for variant in ("labeled", "detected"):
        read = public.read(f"cuhk03#{variant}", tmp_path / "cuhk03", allow_count_mismatch=True)
        counts = read.counts()
        assert (
            counts["train"]["images"] == 29
            and counts["query"]["images"] == 2
            and counts["gallery"]["images"] == 8
        )
        assert set(read.split("query").camid) == {1, 2} and set(read.split("query").pid) == {4}


def test_pixels_of_cuhk03_keep_their_place(tmp_path):
    convert("cuhk03", release(tmp_path / "release"), tmp_path / "cuhk03")
    after_the_gap = tmp_path / "cuhk03" / "labeled" / "bounding_box_train" / "0001_c2_00008.png"
    image = Image.open(after_the_gap)
    assert image.size == (4, 6) and image.getpixel((0, 0)) == (9, 9, 9), "the eighth cell was empty"


def test_a_protocol_of_another_release_is_refused_and_leaves_nothing(tmp_path):
    folder = release(tmp_path / "release")
    savemat(
        folder / "cuhk03_new_protocol_config_labeled.mat",
        {"train_idx": [1], "query_idx": [2], "gallery_idx": [3], "labels": np.ones((40, 1))},
    )
    with pytest.raises(
        ValueError, match="expected the 40 labeled images that the new protocol counts, found 39"
    ):
        convert("cuhk03", folder, tmp_path / "cuhk03")
    assert not (tmp_path / "cuhk03").exists()


def test_a_mat_of_another_format_is_refused(tmp_path):
    (tmp_path / "release").mkdir()
    savemat(tmp_path / "release" / "cuhk-03.mat", {"labeled": [1]})
    with pytest.raises(ValueError, match="expected MATLAB's format 7.3"):
        convert("cuhk03", tmp_path / "release", tmp_path / "out")


def scene(name, box):
    return {"imname": name, "idlocate": np.array([box]) if box else np.zeros((0, 0)), "ishard": 0}


def structures(items):
    """Dictionaries as a MATLAB structure array, which is what the release holds."""
    found = np.empty((1, len(items)), dtype=[(key, object) for key in items[0]])
    for k, item in enumerate(items):
        found[0, k] = tuple(item.values())
    return found


def scenes(folder):
    """Two scenes with two people; person 1 trains, person 2 asks in one scene and is found in the other."""
    for k in (1, 2):
        path = folder / "Image" / "SSM" / f"s{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3) + 50 * k).save(path)
    notes = folder / "annotation" / "test" / "train_test"
    notes.mkdir(parents=True)
    people = np.empty((1, 1), dtype=object)  # a cell around the structure, as in the release
    people[0, 0] = structures(
        [
            {
                "idname": "p1",
                "nAppear": 2,
                "scene": structures([scene("s1.jpg", (5, 2, 10, 20)), scene("s2.jpg", (0, 0, 8, 16))]),
            }
        ]
    )
    savemat(notes / "Train.mat", {"Train": people})
    query = structures([{"idname": "p2", **scene("s1.jpg", (30, 2, 12, 24))}])
    gallery = structures([scene("s2.jpg", (20, 1, 14, 28)), scene("s1.jpg", None)])
    savemat(notes / "TestG50.mat", {"TestG50": structures([{"Query": query, "Gallery": gallery}])})
    return folder


def test_cuhk_sysu_is_cut_from_its_scenes(tmp_path):
    convert("cuhk_sysu", scenes(tmp_path / "release"), tmp_path / "cuhksysu4reid")
    read = public.read("cuhk_sysu", tmp_path, allow_count_mismatch=True)
    assert [len(read.split(split)) for split in ("train", "query", "gallery")] == [2, 1, 1]
    sizes = {
        path.parent.name: Image.open(path).size
        for path in (tmp_path / "cuhksysu4reid").rglob("*.jpg")
        if "00000.jpg" in path.name
    }
    assert sizes == {"train": (10, 20), "query": (12, 24), "gallery": (14, 28)}


def test_what_is_missing_or_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "release").mkdir()
    with pytest.raises(ValueError, match="expected cuhk-03.mat in .*, found none; unpack the whole release"):
        convert("cuhk03", tmp_path / "release", tmp_path / "out")
    with pytest.raises(ValueError, match="a folder that is not there yet, found .*release"):
        convert("cuhk_sysu", tmp_path, tmp_path / "release")
    with pytest.raises(ValueError, match="a conversion among cuhk03, cuhk_sysu, found 'veri776'"):
        convert("veri776", tmp_path, tmp_path / "out")


def spoiled_scenes(folder, **changes):
    """The release with one training scene changed."""
    scenes(folder)
    people = np.empty((1, 1), dtype=object)
    people[0, 0] = structures([{"idname": changes.pop("idname", "p1"), "nAppear": 1, "scene": 0}])
    people[0, 0]["scene"][0, 0] = structures([scene("s1.jpg", (5, 2, 10, 20)) | changes])
    savemat(folder / "annotation" / "test" / "train_test" / "Train.mat", {"Train": people})
    return folder


@pytest.mark.parametrize("outside", ["../../../secret.jpg", "/secret.jpg", "a/../../secret.jpg", ".."])
def test_a_scene_outside_the_release_is_not_read(tmp_path, outside):
    Image.new("RGB", (40, 60)).save(tmp_path / "secret.jpg")
    name = str(tmp_path / "secret.jpg") if outside[0] == "/" else outside
    folder = spoiled_scenes(tmp_path / "release", imname=name)
    with pytest.raises(ValueError, match="names of files in Image/SSM .*, found|a readable image at"):
        convert("cuhk_sysu", folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".jpg"] == ["release"]


@pytest.mark.parametrize(
    "box", [(0, 0, 10**6, 10**6), (5, 2, 0, 20), (5, 2, -1, 20), (60, 0, 5, 5), (1, 2, 3), (np.nan, 0, 1, 1)]
)
def test_a_box_that_is_no_part_of_its_scene_is_shown(tmp_path, box):
    folder = spoiled_scenes(tmp_path / "release", idlocate=np.array([box]))
    with pytest.raises(
        ValueError, match=r"a box \(x, y, width, height\) in the scene s1.jpg of 60 x 40 pixels"
    ):
        convert("cuhk_sysu", folder, tmp_path / "out")


def test_a_box_may_reach_over_the_edge_of_its_scene(tmp_path):
    folder = spoiled_scenes(tmp_path / "release", idlocate=np.array([(-2, -2, 10, 20)]))
    convert("cuhk_sysu", folder, tmp_path / "out")
    assert Image.open(next((tmp_path / "out" / "train").iterdir())).size == (10, 20)


@pytest.mark.parametrize("content", [b"", b"no MATLAB", b"MATLAB 5.0 MAT-file" + b" " * 200])
def test_a_mat_that_cannot_be_read_is_one_sentence(tmp_path, content):
    folder = scenes(tmp_path / "release")
    (folder / "annotation" / "test" / "train_test" / "Train.mat").write_bytes(content)
    with pytest.raises(
        ValueError, match="expected a file of MATLAB's in .*Train.mat, found .*; download it again"
    ):
        convert("cuhk_sysu", folder, tmp_path / "out")


def test_another_content_than_the_releases_is_one_sentence(tmp_path):
    folder = scenes(tmp_path / "release")
    savemat(folder / "annotation" / "test" / "train_test" / "Train.mat", {"Other": 1})
    with pytest.raises(ValueError, match="expected the release of cuhk_sysu in .*, found another content"):
        convert("cuhk_sysu", folder, tmp_path / "out")
    with pytest.raises(ValueError, match="expected people called p1, p2 .*, found 'somebody'"):
        convert("cuhk_sysu", spoiled_scenes(tmp_path / "2", idname="somebody"), tmp_path / "out")


def test_a_grey_scene_of_16_bits_keeps_its_levels(tmp_path):
    folder = scenes(tmp_path / "release")
    for k in (1, 2):
        levels = np.full((40, 60), 20000, np.uint16)
        Image.fromarray(levels).save(folder / "Image" / "SSM" / f"s{k}.jpg", "PNG")
    convert("cuhk_sysu", folder, tmp_path / "out")
    crop = Image.open(next((tmp_path / "out" / "train").iterdir()))
    assert abs(crop.getpixel((5, 5))[0] - (20000 >> 8)) <= 2
