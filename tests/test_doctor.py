"""One broken data set per complaint, and the exit status."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trees import msmt17_v2, tree

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
