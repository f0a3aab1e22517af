"""Manifest in, numbers out."""

import warnings

from reid_core import processor

processor.bound_spinning()
processor.guard_tiles()
processor.guard_backend()
# numpy before 2.4 says so of `precision`'s setting
warnings.filterwarnings("ignore", message="The value of the smallest subnormal")
warnings.filterwarnings(
    "ignore", message="IProgress not found"
)  # a page needs no progress bars; before tqdm is met
