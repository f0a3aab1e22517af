"""What oneDNN is told about AMX tiles."""

import os
import platform
import subprocess
import sys

import pytest

from reid_core import processor

REAL = {(0, 0): 0x20, (0x1D, 0): 1, (0x1D, 1): 0x04002000}  # a processor of 2023, asked on bare metal
PRODUCT = """import torch, reid_core
one = torch.ones(64, 64, dtype=torch.bfloat16)
print(torch.nn.functional.linear(one, one).mean().item())"""


@pytest.mark.parametrize(
    "answers, works",
    [
        (REAL, True),
        ({**REAL, (0, 0): 0x1C}, False),  # what lies behind the last leaf is another one's
        ({**REAL, (0x1D, 0): 0}, False),
        ({**REAL, (0x1D, 1): 0}, False),
    ],
)
def test_tiles_are_left_alone_where_their_sizes_are_told_and_avoided_elsewhere(answers, works, monkeypatch):
    monkeypatch.setattr(processor, "cpuid_eax", lambda: lambda leaf, subleaf: answers[leaf, subleaf])
    environment = {}
    processor.guard_tiles(environment)
    assert environment == ({} if works else {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"})


def test_what_a_reader_set_stays(monkeypatch):
    monkeypatch.setattr(processor, "tiles_described", lambda: False)
    processor.guard_tiles(environment := {"ONEDNN_MAX_CPU_ISA": "DEFAULT"})
    assert environment == {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}


@pytest.mark.parametrize("why", [OSError, ValueError])
def test_a_processor_that_cannot_be_asked_is_kept_from_tiles(why, monkeypatch):
    def refuse():
        raise why

    monkeypatch.setattr(processor, "cpuid_eax", refuse)
    assert not processor.tiles_described()


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="asks x86-64 under Linux"
)
def test_the_processor_answers():
    """Every x86-64 has leaves up to 1, whose eax names its model: never zero, and the same each time."""
    ask = processor.cpuid_eax()
    assert ask(0, 0) >= 1 and ask(1, 0) == ask(1, 0) > 0


def test_a_product_in_bfloat16_is_survived_even_where_torch_came_first():
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run([sys.executable, "-c", PRODUCT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == ["64.0"], done.stderr
