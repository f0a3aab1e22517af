"""The small parts that the papers share.

B vectors or sequences, D width, C identities, Q queries, T tokens
"""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import nn


def in_float32(function):
    """Run a function of tensors in float32, whatever autocast says: distances and log-sums need the digits.
    float64 stays as it is."""

    @functools.wraps(function)
    def wrapped(*args, **options):
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*(widened(a) for a in args), **{name: widened(a) for name, a in options.items()})

    return wrapped


def widened(value):
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


class Neck(nn.BatchNorm1d):
    """BNNeck (Luo et al. 2019): batch norm whose bias stays 0 unless `bias` frees it."""

    def __init__(self, width, bias=False):
        super().__init__(width)
        self.fixed = () if bias else ("bias",)

    forward = in_float32(nn.BatchNorm1d.forward)


class Head(nn.Module):
    """A neck and a bias-free classifier behind it: (B, D) -> logits (B, C)."""

    def __init__(self, width, classes, std=0.001, bias=False):
        super().__init__()
        self.neck = Neck(width, bias)
        self.classifier = nn.Linear(width, classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=std)

    @in_float32
    def forward(self, features):
        return self.classifier(self.neck(features))


class CrossAttention(nn.Module):
    """Learned queries (Q, D) read from tokens: (B, T, D) -> (B, Q, D), with the maps (B, heads, Q, T) kept for
    looking at when `remember` is set. No norm, no residual (VLADR's attribute decoder)."""

    def __init__(self, queries, width, heads, std=0.02):
        super().__init__()
        self.heads, self.remember, self.maps = heads, False, None
        self.queries = nn.Parameter(torch.randn(queries, width) * std)
        self.q_proj, self.k_proj, self.v_proj, self.proj_out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens):
        q = self.split(self.q_proj(self.queries)[None].expand(len(tokens), -1, -1))
        k, v = self.split(self.k_proj(tokens)), self.split(self.v_proj(tokens))
        if self.remember:
            self.maps = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).detach()
        return self.proj_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU}


class Inversion(nn.Module):
    """Image feature -> pseudo-words (PromptSG Sec. 5.1): linear layers of one hidden width, batch norm at the end."""

    def __init__(
        self, width, hidden, words, layers=3, count=1, activation="ReLU", dropout=0.0, norm=True, gamma=1.0
    ):
        super().__init__()
        self.count, widths = count, [width] + [hidden] * (layers - 1)
        parts = []
        for one, two in itertools.pairwise(widths):
            parts += [nn.Linear(one, two), ACTIVATIONS[activation](), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*parts, nn.Linear(widths[-1], count * words))
        self.norm = nn.BatchNorm1d(count * words) if norm else nn.Identity()
        if norm:
            nn.init.constant_(self.norm.weight, gamma)

    @in_float32
    def forward(self, features):
        """(B, D) -> (B, count, word width)."""
        return self.norm(self.layers(features)).unflatten(1, (self.count, -1))
