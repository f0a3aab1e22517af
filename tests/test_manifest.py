"""The contract between data and everything else."""

import pandas as pd
import pytest

from data_prep.manifest import Manifest, from_table, unmatched_queries

ROWS = [  # path, pid, camid, split
    ("a.jpg", 1, 1, "train"),
    ("b.jpg", 1, 2, "train"),
    ("c.jpg", 2, 1, "query"),
    ("d.jpg", 2, 2, "gallery"),
    ("e.jpg", 0, 3, "gallery"),
]


def table(rows=ROWS):
    return pd.DataFrame(rows, columns=["path", "pid", "camid", "split"])


def manifest(tmp_path, rows=ROWS):
    for path, *_ in rows:
        (tmp_path / path).write_bytes(path.encode())
    return from_table("toy", tmp_path, table(rows))


def test_counts_name_identities_images_cameras_and_captions(tmp_path):
    counts = manifest(tmp_path).counts()
    assert counts["train"] == {"identities": 1, "images": 2, "cameras": 2, "captions": 0}
    assert counts["gallery"]["identities"] == 2


def test_a_written_manifest_reads_back_the_same(tmp_path):
    first = manifest(tmp_path)
    first.table.at[0, "captions"] = ("a man, in red.", 'say "hi"')
    first.write(tmp_path / "toy.csv")
    again = Manifest.read(tmp_path / "toy.csv")
    pd.testing.assert_frame_equal(first.table, again.table, check_dtype=False)


def test_the_fingerprint_changes_with_a_label_and_with_a_file(tmp_path):
    before = manifest(tmp_path).fingerprint
    relabelled = [("a.jpg", 3, 1, "train"), *ROWS[1:]]
    assert manifest(tmp_path, relabelled).fingerprint != before
    (tmp_path / "b.jpg").write_bytes(b"longer than before")
    assert from_table("toy", tmp_path, table()).fingerprint != before


@pytest.mark.parametrize(
    "rows, message",
    [
        ([*ROWS, ("f.jpg", 1, 3, "gallery")], "no identity in both train and test, found 1"),
        ([*ROWS, ("f.jpg", 7, 3, "query")], "found 1 without .the first is f.jpg."),
        ([*ROWS, ("a.jpg", 1, 1, "train")], "every image once in a split, found a.jpg"),
        ([*ROWS, ("f.jpg", 9, 1, "trian")], "found 'trian'"),
        ([*ROWS, ("f.jpg", "x", 1, "train")], "whole numbers in the column pid, found 'x'"),
        ([], "expected images, found none"),
    ],
)
def test_what_would_spoil_a_run_is_one_sentence(tmp_path, rows, message):
    for path, *_ in rows:
        (tmp_path / path).touch()
    with pytest.raises(ValueError, match=message):
        from_table("toy", tmp_path, table(rows))


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="add camid"):
        from_table("toy", tmp_path, table().drop(columns="camid"))


def test_a_row_without_its_file_is_named(tmp_path):
    manifest(tmp_path)
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"expected the image b.jpg in .*, found nothing"):
        from_table("toy", tmp_path, table())


def test_a_query_whose_only_match_is_its_own_camera_has_no_match(tmp_path):
    rows = [*ROWS[:3], ("d.jpg", 2, 1, "gallery")]
    manifest(tmp_path)
    with pytest.raises(ValueError, match="from another camera"):
        from_table("toy", tmp_path, table(rows))
    kept = from_table("toy", tmp_path, table(rows), drop_unmatched_queries=True)
    assert not len(kept.split("query"))


def test_without_a_filter_a_query_may_match_in_its_own_camera(tmp_path):
    rows = [*ROWS[:3], ("d.jpg", 2, 1, "gallery")]
    manifest(tmp_path)
    assert unmatched_queries(from_table("toy", tmp_path, table(rows), protocol="all")) == []


def test_person_0_in_training_and_in_a_query_is_one_person_on_both_sides(tmp_path):
    rows = [("a.jpg", 0, 1, "train"), ("c.jpg", 0, 1, "query"), ("d.jpg", 0, 2, "gallery")]
    with pytest.raises(ValueError, match="no identity in both train and test, found 1 .the first is 0."):
        manifest(tmp_path, rows)
    manifest(tmp_path, [rows[0], *ROWS[2:]])  # of whom no query asks, is a distractor


def test_person_0_in_training_and_in_a_gallery_that_sentences_search_is_one_person(tmp_path):
    for path in ("a.jpg", "d.jpg"):
        (tmp_path / path).touch()
    rows = [("a.jpg", 0, 1, "train"), ("d.jpg", 0, 2, "gallery")]
    with pytest.raises(ValueError, match="no identity in both train and test"):
        from_table("toy", tmp_path, table(rows), protocol="all")


def test_of_many_missing_images_it_is_told_how_many_of_how_many_and_from_which_folder(tmp_path):
    (tmp_path / "e.jpg").touch()
    rows = [(f"b/{k}.jpg", 1, k, "train") for k in range(5)] + [("a/0.jpg", 1, 9, "train"), ROWS[4]]
    words = r"the image b/0.jpg in .* \(6 of 7 images are missing, 5 of the 5 in b\), found nothing; add it"
    with pytest.raises(ValueError, match=words):
        from_table("toy", tmp_path, table(rows))


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": ["rgb", "nir", "rgb"], "shot": [0, 0, 1]},  # one spectrum is missing
        {"modality": ["rgb", "rgb", "rgb"], "shot": [0, 0, 1]},  # one is there twice
        {"modality": ["rgb", "nir", "rgb"], "shot": [0, 0, 0]},
        {"modality": ["rgb", "nir"], "shot": [0, 0], "pid": [1, 2]},
        {"modality": ["rgb", "nir"], "shot": [0, 0], "camid": [1, 2]},
    ],
)
def test_a_shot_that_is_not_whole_is_shown(tmp_path, changes):
    number = len(changes["shot"])
    told = {"path": ["a.jpg", "b.jpg", "c.jpg"][:number], "pid": [1] * number, "camid": [1] * number}
    for path in told["path"]:
        (tmp_path / path).touch()
    with pytest.raises(
        ValueError, match="expected every shot of train to be rgb.*, found shot 0|found shot 1"
    ):
        from_table("toy", tmp_path, pd.DataFrame({**told, "split": ["train"] * number, **changes}))
