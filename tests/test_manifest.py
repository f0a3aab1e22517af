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
