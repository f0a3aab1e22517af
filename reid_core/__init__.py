"""Manifest in, numbers out."""

import os
import warnings

# Some virtual machines announce AMX tiles and do not describe them: oneDNN then runs into an illegal instruction at the first
# product in bfloat16, and the process dies without a word. Read at oneDNN's first operation; what a reader set stays.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

warnings.filterwarnings(
    "ignore", message="IProgress not found"
)  # a page needs no progress bars; before tqdm is met
