"""Sentences with learnable gaps, per-block visual prompts, and tables that grow with the identities.

B sentences, L words, G vectors in a gap, D width of the tower, P prompts, C identities, E width of the joint
space
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from reid_core.losses import similarity
from reid_core.precision import in_float32
from reid_core.recipe import one_of
from reid_core.towers import beside


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


class ReadingPrompts(nn.Module):
    """Prompts that read a sentence (VLADR as described): each is `length` vectors between the last word and
    the end token. The text tower is causal: in front of the words a prompt could not read them."""

    def __init__(self, count, length, width, std):
        super().__init__()
        self.table = nn.Parameter(torch.randn(count, length, width) * std)  # (prompts, P, D)

    def forward(self, text, ids):
        """Token ids (B, prompts, L), a sentence for each prompt, zero after the end token, with room for the
        prompt within the tower's context -> what each reads (B, prompts, E)."""
        rows = len(ids)
        prompts = self.table.repeat(rows, 1, 1)  # (B prompts, P, D)
        words = self.join(text.embed(ids.flatten(0, 1)), ids.flatten(0, 1).argmax(1), prompts)
        return text.feature(*words).unflatten(0, (rows, -1))

    @staticmethod
    def join(words, end, prompts):
        """Words (N, L, D) whose end token stands at `end` (N,), and prompts (N, P, D) before it -> Words."""
        _, length, width = prompts.shape
        place = torch.arange(words.shape[1] + length, device=words.device)[None]  # (1, L + P)
        behind = place - end[:, None]  # (N, L + P), 0 where the prompt begins
        old = torch.where(behind < 0, place, (place - length).clamp(min=0))  # which word stands there
        new = behind.clamp(0, length - 1)
        wide = [index[..., None].expand(-1, -1, width) for index in (old, new)]
        inside = ((behind >= 0) & (behind < length))[..., None]
        joined = torch.where(inside, prompts.gather(1, wide[1]).to(words.dtype), words.gather(1, wide[0]))
        return Words(joined, end + length)


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


class PromptPool(nn.Module):
    """Prompts of which an image picks some (PAD, VA-prompts; general and expert prompts are DualPrompt's).

    In every block all images get `general` vectors, and those of the `picked` slots of a pool whose keys are
    nearest to the mean of the tokens that enter the block. A domain opens slots, which alone are trained;
    those of earlier domains are picked, but stay as they are. Keys stay as they were drawn: the choice passes
    no gradient on (PAD, D7). A slot that is not open yet waits with its first values.
    """

    through = staticmethod(beside)

    def __init__(self, blocks, width, *, general, each, slots, picked, spread):
        super().__init__()
        self.picked = picked

        def drawn(*shape):
            return torch.empty(blocks, *shape, width).uniform_(-spread, spread)

        self.general = nn.Parameter(drawn(general))  # (blocks, G, D)
        self.register_buffer("waiting", drawn(slots, each))  # (blocks, slots that are not open, P, D)
        self.register_buffer("keys", drawn(slots))  # (blocks, slots, D)
        self.register_buffer("frozen", self.waiting[:, :0].clone())  # of earlier domains
        self.trained = nn.Parameter(self.waiting[:, :0].clone())  # of this domain

    def open(self, slots):
        """Open `slots` more, or as many as there are; those that were trained are frozen."""
        self.frozen = torch.cat([self.frozen, self.trained.detach()], 1)
        self.trained = nn.Parameter(self.waiting[:, :slots].clone())
        self.waiting = self.waiting[:, slots:].clone()

    def opened(self):
        """How many slots are open."""
        return self.frozen.shape[1] + self.trained.shape[1]

    def _load_from_state_dict(self, state, prefix, *rest):
        """Each part takes the number of slots that the file holds."""
        for name in ("frozen", "trained", "waiting"):
            if prefix + name in state:
                there = getattr(self, name)
                resized = there.detach().new_empty(state[prefix + name].shape)
                setattr(self, name, nn.Parameter(resized) if name == "trained" else resized)
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, index, x, prompts):
        """A prompter (`towers.no_prompts`): (B, G + picked x P, D), fresh in every block."""
        return self.joined(index, self.nearest(index, x, self.opened()))

    def picker(self, every):
        """A prompter that says what it picked: among open slots, or among `every` slot of the pool."""
        return Picker(self, every)

    def joined(self, index, picked):
        """General vectors, and those of the slots that each image picked (B, picked): (B, G + picked x P,
        D)."""
        slots = torch.cat([self.frozen[index], self.trained[index], self.waiting[index]])  # (slots, P, D)
        experts = slots[picked].flatten(1, 2)  # (B, picked x P, D)
        return torch.cat([self.general[index].expand(len(picked), -1, -1), experts], 1)

    @torch.no_grad()
    @in_float32
    def nearest(self, index, x, count):
        """Which of the first `count` slots each image picks, nearest first: (B, picked)."""
        keys = self.keys[index, :count]  # (A, D)
        return similarity(self.query(x), keys).topk(min(self.picked, count), 1).indices

    def query(self, x):
        """What is compared with the keys, of tokens (B, T, D): their mean (B, D), class token included."""
        return x.mean(1)


class Picker:
    """A pool as tests read it: with `every`, also slots that no domain has opened (PAD's test script, D8).
    `picked` lists, block by block and batch by batch, which slots (B, picked) the images got."""

    through = staticmethod(beside)

    def __init__(self, pool, every):
        self.pool = pool
        self.among = pool.keys.shape[1] if every else pool.opened()
        self.picked = []

    def __call__(self, index, x, prompts):
        """A prompter (`towers.no_prompts`): (B, G + picked x P, D)."""
        self.picked.append(self.pool.nearest(index, x, self.among))
        return self.pool.joined(index, self.picked[-1])


class NoPool(nn.Module):
    """No prompts, where a row has none."""

    picked = ()  # of `Picker`

    def open(self, slots):
        """Nothing opens."""

    def opened(self):
        """No slot."""
        return 0

    def forward(self, index, x, prompts):
        return prompts

    def picker(self, every):
        """Nothing is picked."""
        return self


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
