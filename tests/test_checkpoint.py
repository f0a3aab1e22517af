"""Training state on disk."""

import errno
import platform
import subprocess
import sys

import pytest
import torch

from reid_core import checkpoint


def state(number):
    return {"number": number, "tensor": torch.full((3,), float(number))}


def test_the_newest_is_read_and_two_are_kept(tmp_path):
    for number in range(4):
        checkpoint.save(tmp_path, number, state(number))
    assert checkpoint.latest(tmp_path)["number"] == 3 and len(checkpoint.saved(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: data[:200] + b"x" + data[201:], lambda _: b""]
)
def test_a_damaged_one_is_reported_and_the_one_before_is_used(tmp_path, damage):
    for number in range(2):
        checkpoint.save(tmp_path, number, state(number))
    last, said = checkpoint.saved(tmp_path)[-1], []
    last.write_bytes(damage(last.read_bytes()))
    assert checkpoint.latest(tmp_path, said.append)["number"] == 0
    assert f"found {last.name} truncated or altered" in said[0]


def test_a_full_disk_leaves_the_old_ones(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 0, state(0))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(ValueError, match="expected room for .* No space left on device; free some"):
        checkpoint.save(tmp_path, 1, state(1))
    assert checkpoint.latest(tmp_path)["number"] == 0 and not list(tmp_path.glob("*.part"))


def test_without_any_there_is_none(tmp_path):
    assert checkpoint.latest(tmp_path) is None


def test_an_interrupted_run_of_another_recipe_makes_room_and_is_kept(tmp_path):
    """`make results` would otherwise stop at the first run whose recipe changed while it was interrupted."""
    said, place = [], tmp_path / "s0"
    for number in (1, 2):
        checkpoint.save(made(place), number, {"key": f"recipe {number}"})
        checkpoint.set_aside_other_run(place, f"recipe {number}", said.append)
        assert place.exists() and not said
        checkpoint.set_aside_other_run(place, "recipe of now", said.append)
        assert (
            not place.exists()
            and checkpoint.latest(tmp_path / f"s0-interrupted-{number}")["key"] == f"recipe {number}"
        )
        assert f"found one of recipe {number}; it now lies in s0-interrupted-{number}." in said.pop()
    checkpoint.set_aside_other_run(place, "recipe of now")


def made(folder):
    folder.mkdir()
    return folder


def test_two_trainings_of_one_run_are_refused_and_a_dead_one_holds_nothing(tmp_path):
    code = (
        "from pathlib import Path; from reid_core import checkpoint\nwith "
        f"checkpoint.alone(Path({str(tmp_path)!r}), 'trains'): print('up', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "up\n"
    with (
        pytest.raises(
            ValueError, match="expected nobody else here who trains .*, found another program that does"
        ),
        checkpoint.alone(tmp_path, "trains"),
    ):
        pytest.fail("two at once")
    holder.kill()
    holder.wait()
    with checkpoint.alone(tmp_path, "trains"):
        pass


WRITER = """
import sys
from pathlib import Path
from reid_core import checkpoint
for k in range(200):
    checkpoint.write(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)
"""


def test_two_writers_of_one_file_never_mix_and_never_fail(tmp_path):
    path = tmp_path / "same"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 100_000
            seen.add(frozenset(data))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {frozenset(b"a"), frozenset(b"b")} and not list(tmp_path.glob("*.part"))


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".file.{platform.node()}-{dead.pid}-1.part"
    left.write_bytes(b"half")
    checkpoint.write(tmp_path / "file", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
