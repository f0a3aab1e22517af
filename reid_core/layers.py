"""The small parts that the papers share.

B vectors or sequences, D width, C identities, Q queries, T tokens, E width of the joint space
"""

import itertools

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from reid_core.precision import attend, in_float32
from reid_core.recipe import one_of
from reid_core.towers import beside, quicken


class Neck(nn.BatchNorm1d):
    """BNNeck (Luo et al. 2019): batch norm of (B, D) whose bias stays 0 unless `bias` frees it."""

    def __init__(self, width, bias=False):
        super().__init__(width)
        self.fixed = () if bias else ("bias",)  # `base.trainable` leaves it out

    forward = in_float32(nn.BatchNorm1d.forward)


class StillNeck(nn.BatchNorm1d):
    """A neck that no loss reads: batch norm of (B, D) without weights, for its running statistics."""

    def __init__(self, width):
        super().__init__(width, affine=False)

    forward = in_float32(nn.BatchNorm1d.forward)


class Head(nn.Module):
    """A neck and a bias-free classifier behind it: (B, D) -> logits (B, C)."""

    def __init__(self, width, classes, std=0.001, bias=False):
        super().__init__()
        self.neck = Neck(width, bias)
        self.classifier = nn.Linear(width, max(classes, 1), bias=False)
        nn.init.normal_(self.classifier.weight, std=std)  # CLIP-ReID's start: nearly equal logits
        if not classes:  # identities come with `grow`
            self.resize(self.classifier.weight.detach()[:0])

    def grow(self, classes, std=0.001):
        """Room for `classes` more identities; the classifier rows there are stay as they are."""
        weight = self.classifier.weight.detach()  # (C, D)
        fresh = torch.empty(classes, weight.shape[1], device=weight.device).normal_(std=std)  # (classes, D)
        self.resize(torch.cat([weight, fresh]))

    def resize(self, weight):
        """The classifier with these rows (C, D), however many it had."""
        rows = max(len(weight), 1)  # torch warns where it prepares a matrix without rows
        shape = {"in_features": weight.shape[1], "out_features": rows, "bias": False}
        # no random number is drawn: what is made after it stays the same
        self.classifier = nn.utils.skip_init(nn.Linear, **shape, device=weight.device)
        self.classifier.weight = nn.Parameter(weight)
        self.classifier.out_features = len(weight)

    def _load_from_state_dict(self, state, prefix, *rest):
        """A classifier takes the number of identities that the file holds."""
        name = f"{prefix}classifier.weight"
        if name in state and len(state[name]) != self.classifier.out_features:
            self.resize(torch.empty_like(state[name], device=self.classifier.weight.device))
        super()._load_from_state_dict(state, prefix, *rest)

    @in_float32
    def forward(self, features):
        """(B, D) -> logits (B, C), in float32 whatever autocast says."""
        return self.classifier(self.neck(features))


class Classifier(nn.Linear):
    """(B, D) -> logits (B, C) with a bias and no neck (IRRA): one for images and sentences alike."""

    def __init__(self, width, classes, std=0.001):
        super().__init__(width, classes)
        nn.init.normal_(self.weight, std=std)
        nn.init.zeros_(self.bias)

    forward = in_float32(nn.Linear.forward)


class CrossAttention(nn.Module):
    """Learned queries (Q, D) read from tokens: (B, T, D) -> (B, Q, D), with the maps (B, heads, Q, T) kept
    for looking at when `remember` is set. No norm, no residual (VLADR's attribute decoder)."""

    def __init__(self, *, queries, width, heads, std=0.02):
        super().__init__()
        self.heads = heads
        self.remember = False  # explanations set it: maps cost memory
        self.maps = None
        self.queries = nn.Parameter(torch.randn(queries, width) * std)  # (Q, D)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.proj_out = nn.Linear(width, width)

    def forward(self, tokens):
        queries = self.q_proj(self.queries)[None].expand(tokens.shape[0], -1, -1)  # (B, Q, D)
        q = self.split(queries)  # (B, heads, Q, D / heads)
        k = self.split(self.k_proj(tokens))  # (B, heads, T, D / heads)
        v = self.split(self.v_proj(tokens))  # (B, heads, T, D / heads)
        if self.remember:
            self.maps = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).detach()  # (B, heads, Q, T)
        read = attend(q, k, v)  # (B, heads, Q, D / heads)
        return self.proj_out(read.transpose(1, 2).flatten(2))  # (B, Q, D)

    def split(self, x):
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class PrototypeMemory(nn.Module):
    """What is kept of T earlier domains where no image may be (VLADR as described): a vector (E) for each of
    K attributes and each domain, an average that follows the batches of its domain and is frozen when the
    next begins. ValueError for a file of another K or width."""

    def __init__(self, attributes, width, decay):
        super().__init__()
        self.decay = decay
        self.register_buffer("kept", torch.zeros(0, attributes, width))  # (T, K, E)
        self.register_buffer("moving", torch.zeros(attributes, width))  # (K, E) of the domain that is learned
        self.register_buffer("begun", torch.zeros(()))  # 0 before the domain's first batch, then 1

    def open(self, number):
        """Begin the `number`-th domain, from 1: what moved so far is kept."""
        if number > 1:
            self.kept = torch.cat([self.kept, self.moving[None]])
        self.moving = torch.zeros_like(self.moving)
        self.begun = torch.zeros_like(self.begun)

    def follow(self, mean):
        """After a step: moving <- decay x moving + (1 - decay) x the batch's mean (K, E), which the first
        batch sets."""
        self.moving.lerp_(mean.to(self.moving), 1 - self.decay * self.begun)
        self.begun.fill_(1)

    def _load_from_state_dict(self, state, prefix, *rest):
        """The memory takes the number of domains that the file holds."""
        kept = state.get(prefix + "kept")
        if kept is not None:
            if kept.shape[1:] != self.moving.shape:
                raise ValueError(
                    f"expected a memory of {len(self.moving)} attributes of {self.moving.shape[1]} numbers "
                    f"each, found {tuple(kept.shape[1:])} in the file; take the recipe that made it."
                )
            self.kept = self.kept.new_empty(kept.shape)
        super()._load_from_state_dict(state, prefix, *rest)


ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU}


class Inversion(nn.Module):
    """Image feature -> pseudo-words (PromptSG Sec. 5.1): linear layers of one hidden width, batch norm at the
    end. KeyError for an activation that ACTIVATIONS lacks."""

    def __init__(
        self,
        *,
        width,
        hidden,
        words,
        layers=3,
        count=1,
        activation="ReLU",
        dropout=0.0,
        norm=True,
        gamma=1.0,
    ):
        super().__init__()
        self.count = count
        widths = [width] + [hidden] * (layers - 1)  # of what each linear layer but the last reads
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


class TokenInversion(nn.Module):
    """All tokens that an encoder gives -> pseudo-words (HPL Eq. 4): blocks of self-attention over learned
    queries and the tokens behind them, then a linear map of what answers, whose vectors begin as long as
    words on average (`length`).

    readout "queries": the `count` queries answer. readout "class": without queries, the class or end token of
    the encoder does. ValueError for another readout.
    """

    def __init__(self, *, width, words, count, blocks, heads, std, length, readout="queries", masked=True):
        super().__init__()
        # readout -> (queries, how many of the first tokens are wanted of the last block, what answers)
        ways = {"queries": (count, count, self.of_queries), "class": (0, None, self.of_one)}
        number, self.wanted, self.answers = one_of(ways, readout, "inversion_readout")
        self.hide = one_of({True: self.behind, False: nobody}, masked, "inversion_mask")
        self.queries = nn.Parameter(torch.randn(number, width) * std)  # (Q, D)
        self.blocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, 4.0, act_layer=QuickGELU) for _ in range(blocks)
        )
        quicken(self.blocks)
        init_blocks(self.blocks, width, blocks)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, words)
        nn.init.normal_(self.out.weight, std=length * (width * words) ** -0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens, answering, last):
        """Tokens (B, T, D), the position (B,) of each sequence's class or end token, and of its last token,
        behind which padding is hidden -> (B, Q, word width)."""
        asking = self.queries.expand(len(tokens), -1, -1).to(tokens.dtype)  # (B, Q, D)
        x = torch.cat([asking, tokens], 1)  # (B, Q + T, D)
        mask = self.hide(x, last)
        for block in self.blocks[:-1]:
            x = block(x, attn_mask=mask)
        x = beside(self.blocks[-1], x, self.wanted, mask)
        return self.out(self.norm(self.answers(x, answering)))

    def of_queries(self, x, answering):
        """(B, Q, D): what the queries gathered."""
        return x[:, : len(self.queries)]

    def of_one(self, x, answering):
        """(B, 1, D): the class or end token."""
        return x[torch.arange(len(x), device=x.device), answering][:, None]

    def behind(self, x, last):
        """(B, 1, 1, Q + T), -inf where a token stands behind the last one of its sequence."""
        place = torch.arange(x.shape[1], device=x.device) - len(self.queries)
        hidden = place > last[:, None]  # (B, Q + T)
        return torch.zeros_like(hidden, dtype=x.dtype).masked_fill(hidden, float("-inf"))[:, None, None]


def nobody(x, last):
    """The mask that hides nothing."""


class Interaction(nn.Module):
    """The multimodal interaction module of PromptSG (Sec. 4.2, Eq. 7): cross-attention from a sentence to the
    tokens of an image, then blocks of self-attention. The maps (B, heads, Q, T) are kept for looking at when
    `remember` is set.

    mode "pool": the blocks see what the words gathered, and z is the last, the end token. mode "reweight":
    every token is scaled by T times the attention that it received, the blocks see all T of them, and z is
    the first. ValueError for another mode.
    """

    def __init__(self, *, width, head_width, blocks, mlp_ratio, mode, projection, residual, norms=True):
        super().__init__()
        heads = max(1, width // head_width)
        self.heads = heads
        self.remember = False
        self.maps = None
        kind = nn.LayerNorm if norms else nn.Identity
        self.norm_sentence = kind(width)
        self.norm_tokens = kind(width)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width) if projection else nn.Identity()
        # mode -> (how the tokens are read, which words the residual adds, the token that is z)
        ways = {"pool": (self.pool, slice(None), -1), "reweight": (self.reweight, slice(-1, None), 0)}
        self.gather, self.added, self.answer = one_of(ways, mode, "mim_mode")
        self.residual = 1.0 if residual else 0.0  # no residual in Eq. 7 (D8)
        self.blocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, mlp_ratio, act_layer=QuickGELU) for _ in range(blocks)
        )
        quicken(self.blocks)
        self.norm = nn.LayerNorm(width)
        init_as_clip(self, width, max(1, blocks))

    def forward(self, query, tokens):
        """Sentences (B, Q, E) and tokens (B, T, E) -> z (B, E)."""
        # (B, Q, E) what the words gathered, or (B, T, E) re-weighted tokens
        x = self.gather(self.norm_sentence(query), self.norm_tokens(tokens))
        x = x + self.residual * query[:, self.added]  # the end token alone where all T tokens stay
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, self.answer])  # (B, E)

    def attention(self, query, tokens):
        """(values (B, heads, T, E / heads), how much of its attention each head pays to each token (B, heads,
        Q, T))."""
        q = self.split(self.q_proj(query))  # (B, heads, Q, E / heads)
        k = self.split(self.k_proj(tokens))  # (B, heads, T, E / heads)
        v = self.split(self.v_proj(tokens))  # (B, heads, T, E / heads)
        share = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)  # (B, heads, Q, T), each row sums to 1
        self.maps = share if self.remember else None
        return v, share

    def pool(self, query, tokens):
        """Eq. 7: (B, Q, E)."""
        values, share = self.attention(query, tokens)
        gathered = share.to(values.dtype) @ values  # (B, heads, Q, E / heads)
        return self.out_proj(gathered.transpose(1, 2).flatten(2))

    def reweight(self, query, tokens):
        """Fig. 2 and 3: (B, T, E)."""
        values, share = self.attention(query, tokens)
        weight = tokens.shape[1] * share.mean((1, 2))[..., None]  # (B, T, 1), 1 on average over the tokens
        return self.out_proj(weight.to(values.dtype) * values.transpose(1, 2).flatten(2))

    def split(self, x):
        """(B, T, E) -> (B, heads, T, E / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def readers(self):
        """[(module, token)] for explanations: the token `answer` of this module is z."""
        return [(self, self.answer)]


class NoInteraction(nn.Module):
    """PromptSG Table 3 row d: the image's own feature stands for z, and no loss looks at it."""

    def forward(self, query, tokens):
        """Sentences (B, Q, E) and tokens (B, T, E) -> the first token (B, E)."""
        return tokens[:, 0]

    def readers(self):
        return []


class EachLinear(nn.Module):
    """A linear map of its own for each of M spectra, as one batched product."""

    def __init__(self, spectra, into, out, std=0.02):
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(spectra, out, into), std=std))
        self.bias = nn.Parameter(torch.zeros(spectra, out))

    def forward(self, x):
        """(M, ..., into) -> (M, ..., out)."""
        flat = torch.baddbmm(self.bias[:, None], x.flatten(1, -2), self.weight.mT)  # (M, N, out)
        return flat.unflatten(1, x.shape[1:-1])


class EachNorm(nn.Module):
    """Layer norm of (M, B, T, D) with a scale and a shift of its own for each of M spectra."""

    def __init__(self, spectra, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(spectra, width))
        self.bias = nn.Parameter(torch.zeros(spectra, width))

    def forward(self, x):
        normed = F.layer_norm(x, x.shape[-1:])
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class SpectrumAttention(nn.Module):
    """Self-attention within each of M spectra, with weights of its own (DMPT Eq. 15).

    `norm`: "pre", x + A(norm x); "post", norm(x + A(x)); "none", A(x) alone, as printed (D8). `fused`: every
    spectrum reads the tokens of all (the paper's Fig. 1a). ValueError for another norm.
    """

    goes_on = True  # with the tower's own tokens, in their order (`Method.readers`)

    def __init__(self, spectra, width, *, heads, norm="pre", std=0.02, fused=False):
        super().__init__()
        self.heads = heads
        self.query = EachLinear(spectra, width, width, std)
        self.keys = EachLinear(spectra, width, 2 * width, std)  # and values
        self.out = EachLinear(spectra, width, width, std)
        ways = {"pre": self.after_norm, "post": self.before_norm, "none": self.read}
        self.way = one_of(ways, norm, "sa_norm")
        self.norm = nn.Identity() if norm == "none" else EachNorm(spectra, width)
        self.shown = every_spectrum if fused else itself

    def forward(self, x, first=None):
        """(M, B, T, D) -> (M, B, Q, D): the first Q = `first` tokens, all for None, after they have read all
        T. What is not asked for is not computed."""
        return self.way(x, slice(first))

    def after_norm(self, x, some):
        return x[:, :, some] + self.read(self.norm(x), some)

    def before_norm(self, x, some):
        return self.norm(x[:, :, some] + self.read(x, some))

    def read(self, x, some):
        q = self.split(self.query(x[:, :, some]))  # (M, B, heads, Q, D / heads)
        k, v = (self.split(self.shown(part)) for part in self.keys(x).chunk(2, -1))
        # a shot's spectra side by side, as in the tower
        q, k, v = (part.transpose(0, 1).flatten(0, 1) for part in (q, k, v))  # (B M, heads, T, D / heads)
        found = attend(q, k, v).transpose(1, 2).flatten(2)  # (B M, Q, D)
        return self.out(found.unflatten(0, (-1, len(x))).transpose(0, 1))

    def split(self, x):
        """(M, B, T, D) -> (M, B, heads, T, D / heads)."""
        return x.unflatten(3, (self.heads, -1)).transpose(2, 3)


def itself(x):
    """(M, B, T, D): to each spectrum its own tokens."""
    return x


def every_spectrum(x):
    """(M, B, T, D) -> (M, B, M T, D): to each spectrum the tokens of all."""
    return x.transpose(0, 1).flatten(1, 2).expand(len(x), -1, -1, -1)


class InverseBind(nn.Module):
    """The prompts of M spectra read what they have in common (DMPT Sec. 3.4, Eq. 11-14): their mean in a
    shared space is the bind, key and value at once, in one head."""

    def __init__(self, spectra, width, std=0.02):
        super().__init__()
        self.into = EachLinear(spectra, width, width, std)  # W°
        self.query = EachLinear(spectra, width, width, std)  # W_m
        self.shared = nn.Linear(width, width)  # W_b
        nn.init.trunc_normal_(self.shared.weight, std=std)
        nn.init.zeros_(self.shared.bias)

    def bind(self, prompts, present=None):
        """Eq. 11: (M, B, S, D) -> (B, S, D), the mean over the spectra that are `present` (M, B), all for
        None."""
        mapped = self.into(prompts)  # (M, B, S, D)
        if present is None:
            return mapped.mean(0)
        weight = present[..., None, None].to(mapped.dtype)  # (M, B, 1, 1)
        return (mapped * weight).sum(0) / weight.sum(0).clamp(min=1)

    def common(self, prompts, present):
        """What all prompts read, before `shared`: (B, S, D)."""
        return self.bind(prompts, present)

    def forward(self, prompts, present=None):
        """(M, B, S, D) -> the same shape (Eq. 13, 14): the residual is the prompt as it came."""
        key = self.shared(self.common(prompts, present))  # (B, S, D)
        share = (self.query(prompts) @ key.mT / key.shape[-1] ** 0.5).softmax(-1)  # (M, B, S, S)
        return prompts + share.to(key.dtype) @ key


class DirectExchange(InverseBind):
    """Without a bind: the prompts of each spectrum read those of all one by one."""

    def common(self, prompts, present):
        """(B, M S, D); what is not `present` stays in: DMPT has no such row for missing spectra."""
        return self.into(prompts).transpose(0, 1).flatten(1, 2)


class NoExchange(nn.Module):
    """Prompts that read no others."""

    def __init__(self, spectra, width, std=0.02):
        super().__init__()

    def forward(self, prompts, present=None):
        return prompts


class PromptBinding(nn.Module):
    """PromptIBind: the semantic prompts of the spectra exchange, then each spectrum reads its own tokens
    (DMPT Eq. 11-16).

    `exchange`: "bind", through their mean; "prompts", directly; "tokens", not at all, and every spectrum
    reads the tokens of all. ValueError for another word.
    """

    def __init__(self, spectra, width, *, heads, norm="pre", std=0.02, exchange="bind"):
        super().__init__()
        kinds = {"bind": InverseBind, "prompts": DirectExchange, "tokens": NoExchange}
        self.external = one_of(kinds, exchange, "interaction")(spectra, width, std)
        fused = exchange == "tokens"
        self.internal = SpectrumAttention(spectra, width, heads=heads, norm=norm, std=std, fused=fused)

    def forward(self, x, prompts, first=None, present=None):
        """Tokens (M, B, T, D), whose last `prompts` are the semantic ones -> (M, B, T, D), or the `first`
        tokens alone."""
        start = x.shape[2] - prompts
        bound = self.external(x[:, :, start:], present)  # (M, B, S, D)
        return self.internal(torch.cat([x[:, :, :start], bound], 2), first)


def init_as_clip(module, width, depth):
    """CLIP's own initialisation of a transformer of that width and depth (D8)."""
    into = width**-0.5
    out = width**-0.5 * (2 * depth) ** -0.5
    # what writes to the residual stream starts smaller the deeper the network is
    for layer in (module.q_proj, module.k_proj, module.v_proj):
        nn.init.normal_(layer.weight, std=into)
        nn.init.zeros_(layer.bias)
    for layer in module.out_proj.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=out)
            nn.init.zeros_(layer.bias)
    init_blocks(module.blocks, width, depth)


def init_blocks(blocks, width, depth):
    """CLIP's own initialisation of the blocks of a transformer of that width and depth."""
    out = width**-0.5 * (2 * depth) ** -0.5
    for block in blocks:
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=out)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=out)
