"""Sentences with learnable gaps, per-block visual prompts, and tables that grow with the identities.

B sentences, L words, G vectors in a gap, D width of the tower, P prompts, C identities
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from reid_core.recipe import one_of


class Words(NamedTuple):
    """A sentence as the text tower takes it: embeddings (B, L, D) and the position (B,) of the end token."""

    embeddings: torch.Tensor
    end: torch.Tensor


class PromptTemplate(nn.Module):
    """`"A photo of a {identity} person."`: a sentence with named gaps, called with the vectors for each.

    The fixed words are the tower's own embeddings, kept as buffers: they are never trained. A vector (B, D)
    fills a gap with one word, (B, G, D) with G words. ValueError unless every gap gets its vectors.
    """

    def __init__(self, sentence, text, tokenizer):
        super().__init__()
        pieces = re.split(r"\{(\w+)\}", sentence)  # fixed words and names of gaps in turn
        self.sentence = sentence
        self.gaps = pieces[1::2]
        fixed = [tokenizer.encode(piece) for piece in pieces[::2]]  # one more than there are gaps
        fixed[0].insert(0, tokenizer.sot_token_id)
        fixed[-1].append(tokenizer.eot_token_id)
        for k, ids in enumerate(fixed):
            # (words of the piece, D)
            words = text.embed(torch.tensor(ids, dtype=torch.long)).detach().clone()
            self.register_buffer(f"words_{k}", words, persistent=False)

    def forward(self, **vectors):
        """Vectors by gap name -> Words."""
        if set(vectors) != set(self.gaps):
            raise ValueError(
                f"expected vectors for {self.gaps} in {self.sentence!r}, found {sorted(vectors)}."
            )
        # (B, G, D) each, in the order of the sentence
        filling = [vectors[gap] if vectors[gap].dim() == 3 else vectors[gap][:, None] for gap in self.gaps]
        batch = filling[0].shape[0] if filling else 1  # a sentence without gaps is one row
        row = [self.words_0.expand(batch, -1, -1)]
        for k, gap in enumerate(filling):
            row += [gap, getattr(self, f"words_{k + 1}").expand(batch, -1, -1)]
        embeddings = torch.cat(row, 1)  # (B, L, D)
        return Words(embeddings, torch.full((batch,), embeddings.shape[1] - 1, device=embeddings.device))


@dataclass
class ComposedPrompt:
    """Image features (B, E) -> TextTokens of the sentences that they write a word of (PromptSG Sec. 4.1).

    `detach` and `normalised` say what happens to a feature before the inversion reads it. It owns no
    parameters: the method that it belongs to does.
    """

    text: nn.Module
    template: PromptTemplate
    inversion: nn.Module
    detach: bool = False
    normalised: bool = False

    def __call__(self, features):
        features = features.detach() if self.detach else features
        features = F.normalize(features, dim=-1) if self.normalised else features
        words = self.inversion(features)  # (B, count, width of a word)
        return self.text(*self.template(identity=words))


class ShallowPrompts(nn.Module):
    """P vectors that join at the first block and then live among the tokens (VPT-shallow)."""

    def __init__(self, length, width, spread=0.02):
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width).uniform_(-spread, spread))  # (P, D)

    def forward(self, index, x, prompts):
        """A prompter (`towers.no_prompts`): (B, P, D)."""
        return self.table.expand(x.shape[0], -1, -1) if index == 0 else prompts


class DeepPrompts(nn.Module):
    """P fresh vectors for each of the first `blocks` blocks (VPT-deep; MaPLe); later blocks keep the last
    ones."""

    def __init__(self, blocks, length, width, spread=0.02):
        super().__init__()
        # (blocks, P, D)
        self.tables = nn.Parameter(torch.empty(blocks, length, width).uniform_(-spread, spread))

    def forward(self, index, x, prompts):
        """A prompter (`towers.no_prompts`): (B, P, D)."""
        return self.tables[index].expand(x.shape[0], -1, -1) if index < len(self.tables) else prompts


class SpectrumPrompts(nn.Module):
    """Fresh prompts for each block and each of M spectra, for a pass in which the M images of a shot follow
    each other (DMPT Sec. 3.3, Eq. 7-9).

    Semantic prompts S_p are free; `shared` gives all spectra the same. Modality prompts M_p are `count`
    vectors that a map of each block makes of the word of a spectrum: `words` (M, W), or (M, count, W) with a
    word for each vector. `norm` is what the prompts of the first block pass.
    """

    def __init__(self, blocks, spectra, width, *, semantic, spread, words, count=0, shared=False, norm=None):
        super().__init__()
        self.spectra = spectra
        self.width = width
        shape = (blocks, 1 if shared else spectra, semantic, width)
        self.semantic = nn.Parameter(torch.empty(shape).uniform_(-spread, spread))
        self.register_buffer("words", words, persistent=False)
        each = count if words.dim() == 2 else 1  # vectors that a map makes at once
        maps = blocks if count else 0
        self.maps = nn.ModuleList(nn.Linear(words.shape[-1], each * width) for _ in range(maps))
        self.norms = {0: norm or nn.Identity()}  # a dict: it is the tower's, and no module of this one

    def forward(self, index, x, prompts):
        """A prompter (`towers.no_prompts`): x (B M, T, D) -> (B M, P, D)."""
        semantic = self.semantic[index].expand(self.spectra, -1, -1)  # (M, S, D)
        both = [*(made(self.words) for made in self.maps[index : index + 1]), semantic]
        joined = torch.cat([part.reshape(self.spectra, -1, self.width) for part in both], 1)  # (M, P, D)
        normed = self.norms.get(index, nn.Identity())(joined)
        return normed.repeat(len(x) // self.spectra, 1, 1)


class GrowingTable(nn.Module):
    """One row of `shape` per identity. `grow` says what becomes of the rows there are: "trained", "frozen" or
    "dropped"; ValueError for another word."""

    def __init__(self, shape, std=0.02, init=None):
        super().__init__()
        self.shape = tuple(shape)
        self.std = std
        self.init = init or (lambda rows: torch.randn(rows, *self.shape) * self.std)
        self.register_buffer("old", torch.empty(0, *self.shape))  # frozen rows
        self.new = nn.Parameter(torch.empty(0, *self.shape))  # rows that learn

    def grow(self, rows, old):
        """Add `rows` rows, normal(0, std) unless the table has an `init` of its own."""
        # frozen rows move to `old`, dropped ones go, and trained ones stay in front of the fresh ones
        there = self.new.detach()
        if old == "frozen":
            self.old = torch.cat([self.old, there])
        if old == "dropped":
            self.old = self.old[:0]
        kept = one_of({"trained": there, "frozen": there[:0], "dropped": there[:0]}, old, "old")
        self.new = nn.Parameter(torch.cat([kept, self.init(rows).to(there)]))

    def _load_from_state_dict(self, state, prefix, *rest):
        """A table takes the number of rows that the file holds."""
        for name in ("old", "new"):
            if prefix + name in state:
                rows = len(state[prefix + name])
                there = getattr(self, name)
                resized = there.detach().new_empty(rows, *self.shape)
                setattr(self, name, nn.Parameter(resized) if name == "new" else resized)
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, ids=slice(None)):
        """Rows of identities (B,): (B, ...), frozen ones first; all (C, ...) unless told. As long as none is
        frozen, the table is not copied."""
        return (torch.cat([self.old, self.new]) if len(self.old) else self.new)[ids]
