"""CLIP's two towers opened up: tokens, hidden states and room for prompts. open_clip and timm stay untouched.

    B images, T tokens (class tokens, then h x w patches row by row), P prompts, L words,
    D width of a tower, E width of the joint space

Parameters keep the names of OpenAI, open_clip and timm, so that published weights load by name.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import nn

from reid_core.precision import attend


class ImageTokens(NamedTuple):
    """What an image tower says. `hidden[i]` is the raw residual stream after block i. A tower that was asked
    for its first R tokens alone tells no others of the last block, and no prompts."""

    hidden: tuple  # of (B, T, D); the last one (B, R, D)
    tokens: torch.Tensor  # (B, T, D), or (B, R, D), after the final norm, class tokens first
    prompts: torch.Tensor  # (B, P, D), the prompts of the last block after the final norm


class TextTokens(NamedTuple):
    """What a text tower says. One that was asked for end tokens alone tells no others."""

    tokens: torch.Tensor  # (B, L, D), or (B, 1, D), after the final norm
    end: torch.Tensor  # (B,) position of the end token among them


def no_prompts(index, x, prompts):
    """The prompter that adds nothing.

    A prompter is called before every block with the block's index, the tokens x (B, T, D) and the prompts
    (B, P, D) as the previous block left them. It returns the prompts that join the block: new ones (deep
    prompts), the same (shallow), or both (accumulating). Their place in the sequence is immaterial: attention
    has no order and prompts carry no positions.
    """
    return prompts


def among(block, joined, count, mask):
    """Tokens and prompts (B, T + P, D) through a block, each reading all: (B, T + P, D)."""
    return block(joined, attn_mask=mask)


def beside(block, joined, count, mask):
    """The first `count` tokens through a block of open_clip, reading all of (B, T + P, D): (B, T, D).

    A prompter that makes new prompts for every block may name this as its `through`: what `among` makes of
    the prompts is thrown away there, so that keys and values of them are enough. The same holds for patches
    in the last block where class tokens alone are read. A `count` of None stands for all.
    """
    normed = block.ln_1(joined)
    mask = None if mask is None else mask[..., :count, :]
    return read_by(block, joined[:, :count], normed[:, :count], normed, mask)


def read_by(block, x, normed, tokens, mask):
    """Some tokens x (B, Q, D) of a block of open_clip, `normed` (B, Q, D) behind its first norm, which read
    all `tokens` (B, T, D) behind it, with a mask of (..., Q, T): (B, Q, D) behind the block."""
    x = x + block.ls_1(block.attn.read(normed, tokens, mask))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def among_then_first(block, joined, count, mask):
    """What `beside` gives, of any block: all tokens go through, and the first `count` are kept."""
    return among(block, joined, count, mask)[:, :count]


class CameraEmbedding(nn.Module):
    """Side information (TransReID; CLIP-ReID 'SIE'): coefficient x table[camera], added before the positions.

    A camera that training never saw has index -1 and receives the mean of the table; without cameras nothing
    is added. `tokens`: how many of the first tokens receive it, None for all.
    """

    def __init__(self, cameras, width, coefficient, tokens, std=0.02):
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(cameras, width), std=std))
        self.coefficient = coefficient
        self.tokens = tokens

    def forward(self, x, cameras):
        """Tokens (B, T, D) and cameras (B,) or None -> (B, T, D)."""
        if cameras is None:
            return x
        known = self.table[cameras.clamp(min=0)]  # (B, D); rows of unknown cameras are replaced below
        vector = torch.where((cameras < 0)[:, None], self.table.mean(0), known)  # (B, D)
        side = self.coefficient * vector[:, None]  # (B, 1, D)
        told = x[:, : self.tokens] + side  # (B, tokens, D): the first `tokens`, or all for None
        return torch.cat([told, x[:, told.shape[1] :]], 1)  # (B, T, D)


class NoCamera(nn.Module):
    """A tower without side information: tokens (B, T, D) as they are."""

    def forward(self, x, cameras):
        return x


class QuickMLP(nn.Module):
    """The two linear layers of a CLIP block around x sigmoid(1.702 x), which is silu(1.702 x) / 1.702: both
    factors are put into weights, which are fewer than what passes between the layers. It takes over the
    layers of open_clip's block under their names."""

    def __init__(self, published):
        super().__init__()
        self.c_fc = published.c_fc  # (4 D, D)
        self.c_proj = published.c_proj  # (D, 4 D)

    def forward(self, x):
        """(B, T, D) -> (B, T, D)."""
        y = F.silu(F.linear(x, 1.702 * self.c_fc.weight, 1.702 * self.c_fc.bias))  # (B, T, 4 D)
        return F.linear(y, self.c_proj.weight / 1.702, self.c_proj.bias)


class SelfAttention(nn.Module):
    """The self-attention of an open_clip block with one product for queries, keys and values, and without
    the copies of `nn.MultiheadAttention`, whose parameters it takes over under their names."""

    def __init__(self, published):
        super().__init__()
        self.heads = published.num_heads
        self.in_proj_weight = published.in_proj_weight  # (3 D, D)
        self.in_proj_bias = published.in_proj_bias  # (3 D,)
        self.out_proj = published.out_proj

    def forward(self, x, keys=None, values=None, need_weights=False, attn_mask=None):
        """x (B, T, D), as open_clip's block calls it, mask (..., T, T) -> ((B, T, D), None)."""
        q, k, v = self.split(x, self.in_proj_weight, self.in_proj_bias)
        return self.answer(q, k, v, attn_mask), None

    def read(self, asking, x, mask=None):
        """What tokens (B, Q, D) read from x (B, T, D), with a mask of (..., Q, T): (B, Q, D)."""
        width = x.shape[2]
        (q,) = self.split(asking, self.in_proj_weight[:width], self.in_proj_bias[:width])
        k, v = self.split(x, self.in_proj_weight[width:], self.in_proj_bias[width:])
        return self.answer(q, k, v, mask)

    def split(self, x, weight, bias):
        """x (B, T, D) times some of queries, keys and values (n D, D): (B, heads, T, D / heads) each."""
        joined = F.linear(x, weight, bias)  # (B, T, n D)
        split = joined.unflatten(2, (-1, self.heads, x.shape[2] // self.heads))  # (B, T, n, heads, D / heads)
        return split.permute(2, 0, 3, 1, 4)

    def answer(self, q, k, v, mask):
        """What queries (B, heads, Q, D / heads) read, (B, Q, D)."""
        read = attend(q, k, v, mask)  # (B, heads, Q, D / heads)
        return self.out_proj(read.transpose(1, 2).flatten(2))


def quicken(blocks):
    """Put the attention and the MLP above in the place of open_clip's; a MLP with another activation
    stays."""
    for block in blocks:
        if isinstance(block.attn, nn.MultiheadAttention):  # not of a tower that was opened before
            block.attn = SelfAttention(block.attn)
        if isinstance(getattr(block.mlp, "gelu", None), QuickGELU):
            block.mlp = QuickMLP(block.mlp)


def embed_patches(images, weight, bias, stride):
    """(B, 3, H, W) -> (B, N, D): each patch times the kernel (D, 3, P, P), as one product.

    A convolution computes the same; its gradient takes twenty times as long in bfloat16 on a processor.
    """
    patch = weight.shape[-1]
    cut = images.unfold(2, patch, stride).unfold(3, patch, stride)  # (B, 3, rows, columns, P, P)
    flat = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, N, 3 P P)
    return F.linear(flat, weight.flatten(1), bias)  # (B, N, D)


class TokenEncoder(nn.Module):
    """The block loop that all transformer towers share."""

    joint_width = None  # a tower without a joint space says so
    last_through = staticmethod(among_then_first)  # how few tokens pass the last block

    def forward(self, images, cameras=None, prompter=no_prompts, read=None):
        """(B, 3, H, W) -> ImageTokens; of the last block the first `read` tokens alone, where that is
        enough."""
        x = self.embed(images, cameras)  # (B, T, D)
        hidden = []
        prompts = x[:, :0]  # (B, 0, D): none before the first block
        for index, (block, through, count) in enumerate(self.ways(prompter, x.shape[1], read)):
            prompts = prompter(index, x, prompts)  # (B, P, D); P may differ from block to block
            joined = torch.cat([x, prompts], 1) if prompts.shape[1] else x  # (B, T + P, D)
            joined = through(block, joined, count, self.mask)
            x = joined[:, :count]  # (B, T, D), of the last block perhaps fewer
            prompts = joined[:, count:]  # (B, P, D), for the next call of the prompter
            hidden.append(x)
        final = self.final_norm(joined)  # (B, T + P, D)
        told = x.shape[1]
        return ImageTokens(tuple(hidden), final[:, :told], final[:, told:])

    def ways(self, prompter, tokens, read):
        """[(block, how tokens and prompts pass it, how many tokens are wanted of it)]: all `tokens` of every
        block, but of the last one `read`, unless that is None."""
        through = getattr(prompter, "through", among)
        *early, last = self.blocks
        way = (last, through, tokens) if read is None else (last, self.last_through, read)
        return [*((block, through, tokens) for block in early), way]

    def reid_features(self, out):
        """The three vectors that CLIP-ReID and its heirs supervise: class token before the last block (raw),
        after the last block (normed), (B, D) both, and in the joint space (B, E); widths: `self.widths`.
        (PAD's code takes block min(11, depth) for the first; with the twelve blocks of the papers' towers
        that is the same.)"""
        return out.hidden[-2][:, 0], out.tokens[:, 0], self.joint_cls(out)


class ClipViT(TokenEncoder):
    """An open_clip VisionTransformer at any image size and stride.

    `extra_tokens` more class tokens follow the first, each a copy of it at the start (HPL D1); with
    `isolated`, no other token may attend to them (HPL D2).
    """

    last_through = staticmethod(beside)

    def __init__(self, visual, size, stride=None, camera=None, extra_tokens=0, isolated=False):
        super().__init__()
        patch = visual.conv1.kernel_size[0]
        self.size = size
        self.stride = stride or patch
        self.grid = grid_of(size, patch, self.stride)
        self.width, self.joint_width = visual.proj.shape  # of the matrix (D, E)
        self.widths = (self.width, self.width, self.joint_width)  # of `reid_features`
        self.conv1 = visual.conv1
        self.class_embedding = visual.class_embedding
        self.positional_embedding = nn.Parameter(
            resize_positions(visual.positional_embedding.detach(), self.grid, visual.grid_size)
        )
        self.ln_pre = visual.ln_pre
        self.transformer = visual.transformer
        quicken(self.transformer.resblocks)
        self.ln_post = visual.ln_post
        self.proj = visual.proj
        self.camera = camera or NoCamera()
        self.add_class_tokens(extra_tokens, isolated)
        self.state_widths = dict.fromkeys(("f10", "f11", "f12"), self.width)  # of `states`

    def states(self, out):
        """Class tokens of the last three blocks, {name in a tower of twelve: (B, D)}: f10 and f11 raw, f12
        normed."""
        return {"f10": out.hidden[-3][:, 0], "f11": out.hidden[-2][:, 0], "f12": out.tokens[:, 0]}

    def add_class_tokens(self, number, isolated):
        """`number` copies of the class token and its position; with `isolated`, the mask that hides them."""
        extra = (
            self.class_embedding.detach().repeat(number, 1),  # (number, D)
            self.positional_embedding.detach()[:1].repeat(number, 1),  # (number, D)
        )
        for name, value in zip(("extra_embedding", "extra_position"), extra):
            if number:
                setattr(self, name, nn.Parameter(value))
            else:  # empty, and no parameter: optimisers and files do not meet it
                self.register_buffer(name, value, persistent=False)
        self.register_buffer("mask", self.hide(number) if isolated else None, persistent=False)

    def hide(self, number):
        """(T, T), -inf where a token may not look: at an extra class token that is not itself."""
        count = 1 + number + self.grid[0] * self.grid[1]  # T
        mask = torch.zeros(count, count)
        mask[:, 1 : 1 + number] = float("-inf")  # the extra tokens stand behind the first class token
        return mask.fill_diagonal_(0)  # each may look at itself

    @property
    def blocks(self):
        return self.transformer.resblocks

    @property
    def final_norm(self):
        return self.ln_post

    def embed(self, images, cameras):
        """(B, 3, H, W) -> (B, T, D): patches, class tokens, camera, positions, first norm."""
        patches = embed_patches(images, self.conv1.weight, None, self.stride)  # (B, h w, D)
        # (B, 1 + extra tokens, D)
        first = torch.cat([self.class_embedding[None], self.extra_embedding]).expand(images.shape[0], -1, -1)
        x = self.camera(torch.cat([first.to(patches.dtype), patches], 1), cameras)  # (B, T, D)
        place = self.positional_embedding  # (1 + h w, D)
        return self.ln_pre(x + torch.cat([place[:1], self.extra_position, place[1:]]).to(x.dtype))

    def joint_cls(self, out):
        """The first class token in the joint space, (B, E), not normalised."""
        return self.joint_token(out, 0)

    def joint_token(self, out, place):
        """The token at `place` in the joint space, (B, E), not normalised."""
        return out.tokens[:, place] @ self.proj

    def joint_tokens(self, out):
        """All tokens that were asked for in the joint space, (B, T, E), not normalised."""
        return out.tokens @ self.proj


class TimmViT(TokenEncoder):
    """A timm VisionTransformer at any image size and stride (DMPT's ImageNet rows). It has no joint space."""

    def __init__(self, visual, size, stride=None, camera=None):
        super().__init__()
        patch = visual.patch_embed.proj.kernel_size[0]
        self.size = size
        self.stride = stride or patch
        self.grid = grid_of(size, patch, self.stride)
        self.width = visual.embed_dim
        self.widths = (self.width, self.width)  # of `reid_features`
        self.patch_embed = nn.Module()  # holds the kernel under timm's name, without timm's check of the size
        self.cls_token = visual.cls_token
        self.patch_embed.proj = visual.patch_embed.proj
        native = visual.patch_embed.grid_size
        self.pos_embed = nn.Parameter(resize_positions(visual.pos_embed.detach()[0], self.grid, native)[None])
        self.blocks = visual.blocks
        self.norm = visual.norm
        self.mask = None  # every token sees every other
        self.camera = camera or NoCamera()

    @property
    def final_norm(self):
        return self.norm

    def embed(self, images, cameras):
        """(B, 3, H, W) -> (B, T, D): patches, class token, camera, positions."""
        kernel = self.patch_embed.proj
        patches = embed_patches(images, kernel.weight, kernel.bias, self.stride)  # (B, h w, D)
        first = self.cls_token.expand(images.shape[0], -1, -1)  # (B, 1, D)
        x = torch.cat([first.to(patches.dtype), patches], 1)  # (B, T, D)
        return self.camera(x, cameras) + self.pos_embed.to(x.dtype)

    def reid_features(self, out):
        """The class token before the last block (raw) and after the final norm, (B, D) each."""
        return out.hidden[-2][:, 0], out.tokens[:, 0]


STEM = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")  # of open_clip's ModifiedResNet, by attribute
STAGES = ("layer1", "layer2", "layer3", "layer4")


class ClipResNet(nn.Module):
    """An open_clip ModifiedResNet with last stride 1 (CLIP-ReID). Camera embeddings, prompts and class tokens
    do not apply: `cameras`, `prompter` and `read` are ignored. D is the width of the last stage."""

    def __init__(self, visual, size):
        super().__init__()
        for name in (*STEM, *STAGES, "attnpool"):
            setattr(self, name, getattr(visual, name))
        self.size = size
        self.grid = grid_of(size, 16, 16)  # the stem halves the sides twice, stages 2 and 3 once each
        first = self.layer4[0]
        first.avgpool = nn.Identity()  # stride 1 instead of 2 in the last stage
        first.downsample[0] = nn.Identity()
        pool = self.attnpool
        pool.positional_embedding = nn.Parameter(
            resize_positions(pool.positional_embedding.detach(), self.grid)
        )
        self.width = pool.k_proj.in_features  # D, of stage 4 and of the pool's tokens
        self.joint_width = pool.c_proj.out_features
        self.widths = (self.width // 2, self.width, self.joint_width)  # of `reid_features`
        self.state_widths = {"f3": self.width // 2, "f4": self.width}

    def states(self, out):
        """Means over the image of stages 3 and 4, {name: (B, channels)}."""
        return {"f3": out.hidden[-2].mean(1), "f4": out.hidden[-1].mean(1)}

    def forward(self, images, cameras=None, prompter=no_prompts, read=None):
        """(B, 3, H, W) -> ImageTokens whose hidden states are the four stages, as (B, h*w, channels), and
        whose tokens are the attention pool's: the mean, then every place."""
        x = images
        hidden = []
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))  # conv1 halves the sides
        x = F.avg_pool2d(x, 2)  # (B, channels, H / 4, W / 4)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)  # (B, channels, rows, columns)
            hidden.append(x.flatten(2).mT)  # (B, rows x columns, channels)
        tokens = torch.cat([hidden[-1].mean(1, keepdim=True), hidden[-1]], 1)  # (B, 1 + h w, D)
        return ImageTokens(tuple(hidden), tokens + self.attnpool.positional_embedding, tokens[:, :0])

    def reid_features(self, out):
        """Mean of stage 3 (B, D / 2), mean of stage 4 (B, D), attention pool (B, E), as CLIP-ReID."""
        return out.hidden[-2].mean(1), out.hidden[-1].mean(1), self.joint_cls(out)

    def joint_cls(self, out):
        """What the mean reads with CLIP's attention pool, (B, E), not normalised."""
        return self.joint_token(out, 0)

    def joint_token(self, out, place):
        """What the token at `place` reads with the attention pool, (B, E), not normalised."""
        return self.pool(out.tokens[:, place : place + 1], out.tokens)[:, 0]

    def joint_tokens(self, out):
        """What every token reads with the attention pool, (B, T, E), not normalised."""
        return self.pool(out.tokens, out.tokens)

    def pool(self, queries, tokens):
        """Multi-head attention of `queries` (B, Q, D) over all tokens, in the joint space (B, Q, E)."""
        pool = self.attnpool
        q = self.split(pool.q_proj(queries))  # (B, heads, Q, D / heads)
        k = self.split(pool.k_proj(tokens))  # (B, heads, T, D / heads)
        v = self.split(pool.v_proj(tokens))  # (B, heads, T, D / heads)
        read = attend(q, k, v)  # (B, heads, Q, D / heads)
        return pool.c_proj(read.transpose(1, 2).flatten(2))

    def split(self, x):
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return x.unflatten(2, (self.attnpool.num_heads, -1)).transpose(1, 2)


# how a text tower projects, by whether it does with a Linear: some of open_clip's hold a matrix. Looked up at
# each use, since `Module.to` may put another parameter in the place of one
PROJECTIONS = {True: lambda linear, x: linear(x), False: lambda matrix, x: x @ matrix}


class TextEncoder(nn.Module):
    """CLIP's causal text tower, entered at word embeddings, so that a sentence may contain learned vectors.

    Nothing after the end token can reach it, so sentences are as long as their longest member: exact, and
    several times cheaper than the full context. ValueError for a text tower without a causal mask.
    """

    def __init__(self, model):
        super().__init__()
        # open_clip's CLIP holds the parts of its text tower itself, its other models in `text`
        text = getattr(model, "text", model)
        mask = getattr(text, "attn_mask", None)
        if mask is None or not hasattr(text, "token_embedding"):
            raise ValueError(
                f"expected a causal text tower like CLIP's, found {type(text).__name__} without a causal "
                "mask; choose another open_clip architecture."
            )
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        quicken(self.transformer.resblocks)
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.register_buffer("attn_mask", mask, persistent=False)  # (context, context)
        self.width = text.positional_embedding.shape[1]  # of the table (context, D)
        self.context = text.positional_embedding.shape[0]
        linear = isinstance(self.text_projection, nn.Linear)
        self.joint_width = self.text_projection.out_features if linear else self.text_projection.shape[1]
        self.projected = PROJECTIONS[linear]

    def embed(self, ids):
        """Token ids (B, L) -> word embeddings (B, L, D), without positions."""
        return self.token_embedding(ids)

    def forward(self, words, end, alone=False):
        """Word embeddings (B, L, D) and the positions (B,) of their end tokens -> TextTokens; `alone`: of the
        end tokens without any other, (B, 1, D), and only for these the last block is computed."""
        length = words.shape[1]
        x = words + self.positional_embedding[:length]  # (B, L, D)
        mask = self.attn_mask[:length, :length]  # (L, L), -inf above the diagonal
        *early, last = self.transformer.resblocks
        for block in early:
            x = block(x, attn_mask=mask)
        if not alone:
            return TextTokens(self.ln_final(last(x, attn_mask=mask)), end)
        normed = last.ln_1(x)  # (B, L, D)
        rows = torch.arange(len(end), device=end.device)
        asking = (tokens[rows, end][:, None] for tokens in (x, normed))  # (B, 1, D) each
        found = read_by(last, *asking, normed, mask[end][:, None, None])
        return TextTokens(self.ln_final(found), torch.zeros_like(end))

    def feature(self, words, end):
        """The end token in the joint space, (B, E), not normalised, of words as `forward` takes them."""
        return self.joint_end(self(words, end, alone=True))

    def project(self, tokens):
        """(..., D) -> (..., E)."""
        return self.projected(self.text_projection, tokens)

    def joint_end(self, out):
        """The end token in the joint space, (B, E), not normalised: CLIP's sentence feature."""
        rows = torch.arange(out.end.shape[0], device=out.end.device)
        return self.project(out.tokens[rows, out.end])

    def joint_tokens(self, out):
        """All tokens in the joint space, (B, L, E), not normalised."""
        return self.project(out.tokens)

    def sentences(self, ids):
        """Token ids (B, L), zero after the end token, -> sentence features (B, E)."""
        return self.feature(self.embed(ids), ids.argmax(1))  # the end token has the largest id


def cropped(ids):
    """Token ids without the columns after the last end token."""
    return ids[:, : int(ids.argmax(1).max()) + 1]


def grid_of(size, patch, stride):
    """(rows, columns) of patches. ValueError where patches without overlap do not tile the image."""
    if stride == patch and (size[0] % patch or size[1] % patch):
        raise ValueError(
            f"expected an image size that patches of {patch} pixels divide, found {size[0]}x{size[1]}; "
            f"choose multiples of {patch}."
        )
    return tuple((side - patch) // stride + 1 for side in size)


def resize_positions(table, grid, native=None):
    """(1 + n, D) -> (1 + h*w, D): the first row kept, the rest resampled bilinearly without antialias, as all
    of the published ReID code does (open_clip and timm use antialiased bicubic).

    `native` is the grid that the table was made for, a square unless told. A table that has the right number
    of rows stays as it is: it was trained at this size.
    """
    if len(table) == 1 + grid[0] * grid[1] and native in (None, tuple(grid)):
        return table.clone()
    rows, columns = native or (round((len(table) - 1) ** 0.5),) * 2
    old = table[1:].view(1, rows, columns, -1).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    resized = F.interpolate(old, tuple(grid), mode="bilinear", align_corners=False)  # (1, D, h, w)
    return torch.cat([table[:1], resized[0].permute(1, 2, 0).flatten(0, 1)])
