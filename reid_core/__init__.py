"""Manifest in, numbers out."""

import warnings

from reid_core import threads, tiles

threads.bound_spinning()
tiles.guard()
warnings.filterwarnings(
    "ignore", message="IProgress not found"
)  # a page needs no progress bars; before tqdm is met
