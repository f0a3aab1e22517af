"""Manifest in, numbers out."""

import warnings

from reid_core import processor

processor.bound_spinning()
processor.guard_tiles()
processor.guard_backend()
warnings.filterwarnings(
    "ignore", message="IProgress not found"
)  # a page needs no progress bars; before tqdm is met
