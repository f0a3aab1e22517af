"""One broken data set per complaint, and the exit status."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import msmt17_v2, table, tree

from data_prep import doctor

ROOT = Path(__file__).resolve().parents[1]


def check(name, root, **options):
    return doctor.check(name, root, allow_count_mismatch=True, **options)


def only(report):
    """The one complaint of a report."""
    assert len(report.complaints) == 1, report.complaints
    assert doctor.READY not in report.lines
    return report.complaints[0]


@pytest.fixture
def people(tmp_path):
    return tree("market1501", tmp_path / "set")


def test_a_healthy_tree_is_ready(people):
    report = check("market1501", people, decode=True, hashes=True)
    assert report.healthy and report.lines[-1] == doctor.READY and "fingerprint" in report.lines[0]


def test_a_world_is_ready_and_needs_no_permission(world):
    assert doctor.check("market1501", world.manifest.root, decode=True, hashes=True).healthy


def test_a_count_that_differs_is_the_complaint_of_those_who_do_not_know_why(people):
    assert "expected 751 train identities (recounted" in only(doctor.check("market1501", people))


@pytest.mark.parametrize(
    "content, found", [(b"", "found an empty file at"), (b"x" * 99, "cannot identify image file")]
)
def test_a_file_that_is_no_image(people, content, found):
    (people / "query" / "0003_c1s1_000451_03.jpg").write_bytes(content)
    assert found in only(check("market1501", people)) and "replace or remove it" in only(
        check("market1501", people)
    )


def test_several_unreadable_files_are_one_complaint(people):
    for path in (people / "query").iterdir():
        path.write_bytes(b"")
    assert "(2 such files)" in only(check("market1501", people))


def test_a_truncated_image_is_found_by_decoding(people):
    path = people / "query" / "0003_c1s1_000451_03.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    assert check("market1501", people).healthy
    assert "truncated" in only(check("market1501", people, decode=True))


def test_an_identity_on_both_sides(people):
    path = people / "bounding_box_train" / "0001_c1s1_000451_03.jpg"
    path.rename(path.with_name("0003_c1s1_000451_03.jpg"))
    assert "no identity in both train and test, found 1 (the first is 3)" in only(check("market1501", people))


def test_a_query_without_a_match(people):
    (people / "bounding_box_test" / "0003_c2s1_000451_03.jpg").unlink()
    assert "found 1 without" in only(check("market1501", people))
    assert check("market1501", people, drop_unmatched_queries=True).healthy


def test_a_training_image_under_another_name_in_the_test(people):
    shutil.copy(
        people / "bounding_box_train" / "0001_c1s1_000451_03.jpg",
        people / "bounding_box_test" / "0004_c3s1_000451_03.jpg",
    )
    assert check("market1501", people).healthy
    assert "no training image among the test images, found 1" in only(
        check("market1501", people, hashes=True)
    )


def test_a_copy_of_a_query_in_the_gallery(people):
    query = people / "query" / "0003_c1s1_000451_03.jpg"
    shutil.copy(query, people / "bounding_box_test" / "0003_c1s1_000451_03.jpg")
    assert check("market1501", people, hashes=True).healthy, "the camera filter leaves this one out"
    shutil.copy(query, people / "bounding_box_test" / "0003_c3s1_000451_03.jpg")
    assert "no copy of a query in its gallery, found 1" in only(check("market1501", people, hashes=True))


def test_queries_that_are_the_gallery_are_no_copies(tmp_path):
    for name in ("rgbnt201", "msvr310", "vehicleid", "viper"):
        root = tree(name, tmp_path / name)
        if name == "msvr310":  # its query folder repeats gallery images, in the same scene
            for path in (root / "query3").rglob("*.jpg"):
                shutil.copy(path, root / "bounding_box_test" / path.relative_to(root / "query3"))
        assert check(name, root, hashes=True).healthy, name


def test_both_versions_of_msmt17_in_one_folder(tmp_path):
    root = tree("msmt17", tmp_path / "set")
    msmt17_v2(root)
    assert "found both; move one elsewhere" in only(check("msmt17", root))


def test_a_missing_image_of_a_list(tmp_path):
    root = tree("cuhk_pedes", tmp_path / "set")
    (root / "imgs" / "CUHK01" / "0363004.png").unlink()
    assert "expected the image imgs/CUHK01/0363004.png" in only(check("cuhk_pedes", root, hashes=True))


def test_what_the_reader_cannot_pass_is_the_only_complaint(people, tmp_path):
    shutil.rmtree(people / "query")
    assert "found no query; unpack the whole archive" in only(check("market1501", people))
    assert "expected a dataset among" in only(check("market", tmp_path))


def test_several_things_wrong_are_several_complaints(people):
    (people / "bounding_box_test" / "0003_c2s1_000451_03.jpg").unlink()
    (people / "query" / "0004_c1s1_000451_03.jpg").write_bytes(b"")
    assert len(check("market1501", people).complaints) == 2


def python(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "data_prep", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_exit_status_says_whether_training_may_start(people):
    good = python("check", "market1501", people, "--allow-count-mismatch", "--decode", "--hash")
    assert good.returncode == 0 and good.stdout.strip().endswith(doctor.READY) and not good.stderr
    bad = python("check", "market1501", people)
    assert (
        bad.returncode == 1
        and bad.stderr.startswith("data_prep: market1501: expected 751")
        and "Traceback" not in bad.stderr
    )


def test_a_variant_is_checked_under_its_name(tmp_path):
    done = python("check", "viper#pad_jul", tree("viper", tmp_path / "set"), "--allow-count-mismatch")
    assert done.returncode == 0 and "20 draws of PAD's loaders of July" in done.stdout


def test_a_reader_writes_its_table_where_its_paths_are_true(people, tmp_path):
    done = python("market1501", people, "--allow-count-mismatch", "--out", tmp_path / "mine.csv")
    assert done.returncode == 0, done.stderr
    again = doctor.check("csv", tmp_path / "mine.csv")
    assert again.healthy and json.dumps(again.lines).count("4 images") == 1
    (tmp_path / "else").mkdir()
    done = python("market1501", people, "--allow-count-mismatch", "--out", tmp_path / "else" / "mine.csv")
    assert done.returncode and "expected a file in" in done.stderr


def test_pictures_with_other_endings_are_counted(people):
    for name in ("0003_c3s1_1.webp", "0003_c4s1_1.TIF", "0003_c5s1_1.tif", "list.txt", "odd"):
        (people / "bounding_box_test" / name).touch()
    lines = check("market1501", people).lines
    assert "files passed over beside the images: 2 .tif, 1 .txt, 1 .webp, 1 without an ending" in lines


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_images_that_exif_asks_to_turn_are_named(tmp_path, ending):
    path = table(tmp_path, ("1.png", 1, 1, "train"), ("2.png", 2, 1, "query"), ("3.png", 2, 2, "gallery"))
    for turn in range(1, 9):
        mark = Image.Exif()
        mark[0x0112] = turn
        Image.new("RGB", (8, 16)).save(tmp_path / f"turn{turn}.{ending}", exif=mark)
    rows = [f"turn{turn}.{ending},1,2,train" for turn in range(1, 9)]
    path.write_text(path.read_text() + "\n".join(rows))
    for decode in (False, True):
        said = only(doctor.check("csv", path, decode=decode))
        assert "found 7 images with an EXIF orientation" in said and f"turn1.{ending}" not in said
        assert all(f"turn{turn}.{ending}" in said for turn in range(2, 9))


def test_a_turn_behind_the_pixels_of_a_png_is_found_by_decoding(tmp_path):
    path = table(tmp_path, ("1.png", 1, 1, "train"), ("2.png", 2, 1, "query"), ("3.png", 2, 2, "gallery"))
    mark = Image.Exif()
    mark[0x0112] = 6
    Image.new("RGB", (8, 16)).save(tmp_path / "1.png", exif=mark)
    written = (tmp_path / "1.png").read_bytes()
    start = written.index(b"eXIf") - 4  # of its chunk: length, name, content, check sum
    chunk = written[start : start + 12 + int.from_bytes(written[start : start + 4])]
    (tmp_path / "1.png").write_bytes(
        written[:start] + written[start + len(chunk) : -12] + chunk + written[-12:]
    )
    assert doctor.check("csv", path).healthy
    assert "found 1 images with an EXIF orientation" in only(doctor.check("csv", path, decode=True))


def test_levels_of_32_bits_are_unreadable_and_those_of_16_are_not(tmp_path):
    path = table(tmp_path, ("1.png", 1, 1, "train"), ("2.png", 2, 1, "query"), ("3.png", 2, 2, "gallery"))
    Image.fromarray(np.full((16, 8), 20000, np.uint16)).save(tmp_path / "1.png")
    assert doctor.check("csv", path, decode=True).healthy
    Image.fromarray(np.full((16, 8), 0.5, np.float32)).save(tmp_path / "1.png", "TIFF")
    assert "found levels of 32 bits" in only(doctor.check("csv", path, decode=True))


def test_empty_sentences_are_counted(tmp_path):
    root = tree("rstpreid", tmp_path / "set")
    records = json.loads((root / "data_captions.json").read_text())
    records[0]["captions"] = ["a man", "", "  "]
    (root / "data_captions.json").write_text(json.dumps(records))
    assert "2 of 7 sentences are empty, and ask nothing" in check("rstpreid", root).lines


@pytest.mark.parametrize("place", ["", "CUHK-SYSU"])
@pytest.mark.parametrize(
    "name, there, words",
    [
        ("cuhk_pedes", "caption_all.json", "it has no split: add reid_raw.json"),
        ("cuhk03#detected", "cuhk-03.mat", "python -m data_prep convert cuhk03 SOURCE OUT"),
        ("cuhk_sysu", "Image/SSM", "python -m data_prep convert cuhk_sysu SOURCE OUT"),
    ],
)
def test_a_release_in_another_form_is_recognised(tmp_path, name, there, words, place):
    root = tmp_path / place if name == "cuhk_sysu" else tmp_path
    (root / there).mkdir(parents=True)
    (root / "imgs").mkdir()
    assert f"found {there}; " in only(check(name, tmp_path)) and words in only(check(name, tmp_path))


def test_a_set_without_training_images_is_ready_for_testing(tmp_path):
    assert check("viper", tree("viper", tmp_path / "set")).lines[-1] == doctor.TESTING


@pytest.mark.parametrize("name", ["query", "captions.json"])
def test_a_file_for_a_folder_or_the_other_way_round_is_one_sentence(people, name):
    if (people / name).is_dir():
        shutil.rmtree(people / name)
        (people / name).touch()
    else:
        (people / name).mkdir()
    assert f"{name} to be a place that can be read and written, found: " in only(check("market1501", people))
