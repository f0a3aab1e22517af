"""How threads wait, and how many there are."""

import os
import subprocess
import sys

import pytest
import torch

from reid_core import processor


@pytest.mark.parametrize(
    "own", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE"}, {"KMP_BLOCKTIME": "0"}]
)
def test_spinning_is_bounded_unless_the_user_chose(own):
    processor.bound_spinning(environment := dict(own))
    assert environment == (own or {"GOMP_SPINCOUNT": processor.SPINS})


def test_it_is_bounded_before_torch_reads_it():
    """The library is loaded with torch, which no import of the project may load first."""
    code = "import sys, reid_core, os; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    clean = {name: value for name, value in os.environ.items() if name not in processor.OWN}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    assert done.stdout.strip() == processor.SPINS, done.stderr


@pytest.mark.parametrize("named", ["agg", "SVG", "module://matplotlib_inline.backend_inline", "inline", ""])
def test_a_backend_that_exists_is_the_readers_choice(named):
    processor.guard_backend(environment := {"MPLBACKEND": named})
    assert environment == {"MPLBACKEND": named}


def test_a_backend_that_does_not_exist_is_ignored_with_a_word():
    with pytest.warns(
        UserWarning, match="a backend of matplotlib in MPLBACKEND, found 'nonsense'; it is ignored"
    ):
        processor.guard_backend(environment := {"MPLBACKEND": "nonsense"})
    assert not environment


@pytest.mark.parametrize("number", [0, -1, 4096])
def test_a_number_of_threads_that_no_machine_has_is_one_sentence(number):
    with pytest.raises(
        ValueError,
        match=rf"expected from 1 to {os.cpu_count()} threads, .*, found {number}; correct --threads",
    ):
        processor.use_threads(number)


def test_threads_are_set_and_none_leaves_them(monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    processor.use_threads(None)
    processor.use_threads(1)
    assert asked == [1]


@pytest.mark.parametrize("threads", [1, 2])
def test_ranking_leaves_the_number_of_threads_of_the_next_training(threads):
    """numba sets the number of OpenMP, which is also that of torch: later sums would differ in last bits."""
    code = f"""
import numba, torch
from reid_core.metrics import count_not_below
torch.set_num_threads({threads})
count_not_below(torch.rand(4, 9), torch.rand(4, 2))
print(torch.get_num_threads(), numba.get_num_threads())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == [str(threads), str(threads)], done.stderr


def test_numbers_that_take_a_processor_two_hundred_times_as_long_are_zero_in_every_thread():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    code = (
        "import torch, reid_core.precision; torch.set_num_threads(2); "
        "small = torch.full((10**6,), 2**-130); print((small * 1).max().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "0.0", done.stderr
