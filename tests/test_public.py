"""Readers on files."""

import pytest

from data_prep import public


def test_market_reads_pid_and_camera_and_keeps_distractors_but_no_junk(market):
    (market / "world.json").unlink()
    (market / "captions.json").unlink()
    (market / "bounding_box_test" / "Thumbs.db").write_bytes(b"not an image")
    some = next((market / "query").iterdir())
    some.rename(some.with_name(some.name + ".jpg"))  # the real set has six files with the ending twice
    read = public.market1501(market, allow_count_mismatch=True)
    assert read.origin == "real"
    assert read.counts()["gallery"]["images"] == 42 and 0 in set(read.split("gallery").pid)
    assert "2 junk images" in read.notes[0] and (read.table.pid >= 0).all()
    assert read.counts()["query"]["images"] == 12


def test_the_usual_folder_is_found_inside_its_parent(market, tmp_path):
    (tmp_path / "sets").mkdir()
    market.rename(tmp_path / "sets" / "Market-1501-v15.09.15")
    assert public.market1501(tmp_path / "sets").counts()["train"]["images"] == 64


def test_a_world_is_labelled_and_brings_its_sentences(market):
    read = public.market1501(market)
    assert read.origin == "world" and read.name == "world_market" and read.seed == 0
    assert read.table.captions.map(len).tolist().count(2) == len(read.table)


def test_a_world_that_lost_an_image_is_refused(market):
    next((market / "bounding_box_train").iterdir()).unlink()
    with pytest.raises(ValueError, match="expected 64 train images, found 63"):
        public.market1501(market)


def test_a_name_that_does_not_parse_is_shown(market):
    (market / "query" / "somebody.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="found somebody.jpg"):
        public.market1501(market)
