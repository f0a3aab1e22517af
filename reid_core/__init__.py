"""Manifest in, numbers out."""

import warnings

warnings.filterwarnings(
    "ignore", message="IProgress not found"
)  # a page needs no progress bars; before tqdm is met
