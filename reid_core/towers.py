"""CLIP's two towers opened up: tokens, hidden states and room for prompts. open_clip and timm stay untouched.

    B images, T tokens (class tokens, then h x w patches row by row), P prompts, L words,
    D width of a tower, E width of the joint space

Parameters keep the names of OpenAI, open_clip and timm, so that published weights load by name.
"""

from typing import NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from torch import nn


class ImageTokens(NamedTuple):
    """What an image tower says. `hidden[i]` is the raw residual stream after block i."""

    hidden: tuple  # of (B, T, D)
    tokens: torch.Tensor  # (B, T, D) after the final norm, class tokens first
    prompts: torch.Tensor  # (B, P, D), the prompts of the last block after the final norm


class TextTokens(NamedTuple):
    tokens: torch.Tensor  # (B, L, D) after the final norm
    end: torch.Tensor  # (B,) position of the end token


def no_prompts(index, x, prompts):
    """The prompter that adds nothing.

    A prompter is called before every block with the block's index, the tokens x (B, T, D) and the prompts
    (B, P, D) as the previous block left them. It returns the prompts that join the block: new ones (deep
    prompts), the same (shallow), or both (accumulating). Their place in the sequence is immaterial: attention
    has no order and prompts carry no positions.
    """
    return prompts


class CameraEmbedding(nn.Module):
    """Side information (TransReID; CLIP-ReID 'SIE'): coefficient x table[camera], added before the positions.

    A camera that training never saw has index -1 and receives the mean of the table; without cameras nothing
    is added.
    """

    def __init__(self, cameras, width, coefficient, tokens, std=0.02):
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(cameras, width), std=std))
        self.coefficient, self.tokens = coefficient, tokens

    def forward(self, x, cameras):
        if cameras is None:
            return x
        known = self.table[cameras.clamp(min=0)]
        side = (
            self.coefficient * torch.where((cameras < 0)[:, None], self.table.mean(0), known)[:, None]
        )  # (B, 1, D)
        told = x[:, : self.tokens] + side
        return torch.cat([told, x[:, told.shape[1] :]], 1)


class NoCamera(nn.Module):
    def forward(self, x, cameras):
        return x


class QuickGELU(nn.Module):
    """CLIP's x sigmoid(1.702 x), as a scaled SiLU: half as many passes over memory as open_clip's three
    operations."""

    def forward(self, x):
        return F.silu(1.702 * x) / 1.702


def quicken(transformer):
    """Put the QuickGELU above in the place of open_clip's."""
    for block in transformer.resblocks:
        if isinstance(block.mlp.gelu, open_clip.transformer.QuickGELU):
            block.mlp.gelu = QuickGELU()
    return transformer


def embed_patches(images, weight, bias, stride):
    """(B, 3, H, W) -> (B, N, D): each patch times the kernel (D, 3, P, P), as one product.

    A convolution computes the same; its gradient takes twenty times as long in bfloat16 on a processor.
    """
    patch = weight.shape[-1]
    cut = images.unfold(2, patch, stride).unfold(3, patch, stride)  # (B, 3, rows, columns, P, P)
    flat = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, N, 3 P P)
    return F.linear(flat, weight.flatten(1), bias)


class TokenEncoder(nn.Module):
    """The block loop that all transformer towers share."""

    joint_width = None  # a tower without a joint space says so

    def forward(self, images, cameras=None, prompter=no_prompts):
        """(B, 3, H, W) -> ImageTokens."""
        x, hidden = self.embed(images, cameras), []
        count, prompts = x.shape[1], x[:, :0]
        for index, block in enumerate(self.blocks):
            prompts = prompter(index, x, prompts)
            joined = torch.cat([x, prompts], 1) if prompts.shape[1] else x
            joined = block(joined, attn_mask=self.mask)
            x, prompts = joined[:, :count], joined[:, count:]
            hidden.append(x)
        final = self.final_norm(joined)
        return ImageTokens(tuple(hidden), final[:, :count], final[:, count:])

    def reid_features(self, out):
        """The three vectors that CLIP-ReID and its heirs supervise: class token before the last block (raw),
        after the last block (normed), and in the joint space. Widths: `self.widths`. (PAD's code takes block
        min(11, depth) for the first; the towers of the papers have twelve blocks, where that is the same.)"""
        return out.hidden[-2][:, 0], out.tokens[:, 0], self.joint_cls(out)


class ClipViT(TokenEncoder):
    """An open_clip VisionTransformer at any image size and stride.

    `extra_tokens` more class tokens follow the first, each a copy of it at the start (HPL D1); with
    `isolated`, no other token may attend to them (HPL D2).
    """

    def __init__(self, visual, size, stride=None, camera=None, extra_tokens=0, isolated=False):
        super().__init__()
        patch = visual.conv1.kernel_size[0]
        self.size, self.stride = size, stride or patch
        self.grid = grid_of(size, patch, self.stride)
        self.width, self.joint_width = visual.proj.shape
        self.widths = (self.width, self.width, self.joint_width)
        self.conv1, self.class_embedding = visual.conv1, visual.class_embedding
        self.positional_embedding = nn.Parameter(
            resize_positions(visual.positional_embedding.detach(), self.grid, visual.grid_size)
        )
        self.ln_pre, self.transformer = visual.ln_pre, quicken(visual.transformer)
        self.ln_post, self.proj = visual.ln_post, visual.proj
        self.camera = camera or NoCamera()
        self.add_class_tokens(extra_tokens, isolated)
        self.state_widths = dict.fromkeys(("f10", "f11", "f12"), self.width)

    def states(self, out):
        """Class tokens of the last three blocks, {name in a tower of twelve: (B, D)}: f10 and f11 raw, f12
        normed."""
        return {"f10": out.hidden[-3][:, 0], "f11": out.hidden[-2][:, 0], "f12": out.tokens[:, 0]}

    def add_class_tokens(self, number, isolated):
        extra = (
            self.class_embedding.detach().repeat(number, 1),
            self.positional_embedding.detach()[:1].repeat(number, 1),
        )
        for name, value in zip(("extra_embedding", "extra_position"), extra):
            setattr(self, name, nn.Parameter(value)) if number else self.register_buffer(
                name, value, persistent=False
            )
        self.register_buffer("mask", self.hide(number) if isolated else None, persistent=False)

    def hide(self, number):
        """(T, T), -inf where a token may not look: at an extra class token that is not itself."""
        count = 1 + number + self.grid[0] * self.grid[1]
        mask = torch.zeros(count, count)
        mask[:, 1 : 1 + number] = float("-inf")
        return mask.fill_diagonal_(0)

    @property
    def blocks(self):
        return self.transformer.resblocks

    @property
    def final_norm(self):
        return self.ln_post

    def embed(self, images, cameras):
        """(B, 3, H, W) -> (B, T, D): patches, class tokens, camera, positions, first norm."""
        patches = embed_patches(images, self.conv1.weight, None, self.stride)
        first = torch.cat([self.class_embedding[None], self.extra_embedding]).expand(len(images), -1, -1)
        x = self.camera(torch.cat([first.to(patches.dtype), patches], 1), cameras)
        place = self.positional_embedding
        return self.ln_pre(x + torch.cat([place[:1], self.extra_position, place[1:]]).to(x.dtype))

    def joint_cls(self, out):
        """The first class token in the joint space, (B, E), not normalised."""
        return out.tokens[:, 0] @ self.proj

    def joint_tokens(self, out):
        """All tokens in the joint space, (B, T, E), not normalised."""
        return out.tokens @ self.proj


class TimmViT(TokenEncoder):
    """A timm VisionTransformer (DMPT's ImageNet rows). It has no joint space."""

    def __init__(self, visual, size, stride=None, camera=None):
        super().__init__()
        patch = visual.patch_embed.proj.kernel_size[0]
        self.size, self.stride = size, stride or patch
        self.grid = grid_of(size, patch, self.stride)
        self.width = visual.embed_dim
        self.widths = (self.width, self.width)
        self.patch_embed, self.cls_token = nn.Module(), visual.cls_token
        self.patch_embed.proj = visual.patch_embed.proj
        native = visual.patch_embed.grid_size
        self.pos_embed = nn.Parameter(resize_positions(visual.pos_embed.detach()[0], self.grid, native)[None])
        self.blocks, self.norm, self.mask = visual.blocks, visual.norm, None
        self.camera = camera or NoCamera()

    @property
    def final_norm(self):
        return self.norm

    def embed(self, images, cameras):
        kernel = self.patch_embed.proj
        patches = embed_patches(images, kernel.weight, kernel.bias, self.stride)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1).to(patches.dtype), patches], 1)
        return self.camera(x, cameras) + self.pos_embed.to(x.dtype)

    def reid_features(self, out):
        return out.hidden[-2][:, 0], out.tokens[:, 0]


class ClipResNet(nn.Module):
    """An open_clip ModifiedResNet with last stride 1 (CLIP-ReID). Camera embeddings and prompts do not
    apply."""

    def __init__(self, visual, size):
        super().__init__()
        for name in (
            "conv1",
            "bn1",
            "conv2",
            "bn2",
            "conv3",
            "bn3",
            "layer1",
            "layer2",
            "layer3",
            "layer4",
            "attnpool",
        ):
            setattr(self, name, getattr(visual, name))
        self.size, self.grid = size, grid_of(size, 16, 16)
        first = self.layer4[0]
        first.avgpool, first.downsample[0] = nn.Identity(), nn.Identity()
        pool = self.attnpool
        pool.positional_embedding = nn.Parameter(
            resize_positions(pool.positional_embedding.detach(), self.grid)
        )
        self.width, self.joint_width = pool.k_proj.in_features, pool.c_proj.out_features
        self.widths = (self.width // 2, self.width, self.joint_width)
        self.state_widths = {"f3": self.width // 2, "f4": self.width}

    def states(self, out):
        """Means over the image of stages 3 and 4, {name: (B, channels)}."""
        return {"f3": out.hidden[-2].mean(1), "f4": out.hidden[-1].mean(1)}

    def forward(self, images, cameras=None, prompter=no_prompts):
        """(B, 3, H, W) -> ImageTokens whose hidden states are the four stages, as (B, h*w, channels), and
        whose tokens are the attention pool's: the mean, then every place."""
        x, hidden = images, []
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))
        x = F.avg_pool2d(x, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            hidden.append(x.flatten(2).mT)
        tokens = torch.cat([hidden[-1].mean(1, keepdim=True), hidden[-1]], 1)
        return ImageTokens(tuple(hidden), tokens + self.attnpool.positional_embedding, tokens[:, :0])

    def reid_features(self, out):
        """Mean of stage 3, mean of stage 4, attention pool."""
        return out.hidden[-2].mean(1), out.hidden[-1].mean(1), self.joint_cls(out)

    def joint_cls(self, out):
        return self.pool(out.tokens[:, :1], out.tokens)[:, 0]

    def joint_tokens(self, out):
        return self.pool(out.tokens, out.tokens)

    def pool(self, asking, tokens):
        """Multi-head attention of `asking` (B, Q, D) over all tokens, in the joint space (B, Q, E)."""
        pool = self.attnpool
        q, k, v = (
            layer(x).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
            for layer, x in ((pool.q_proj, asking), (pool.k_proj, tokens), (pool.v_proj, tokens))
        )
        return pool.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TextEncoder(nn.Module):
    """CLIP's causal text tower, entered at word embeddings, so that a sentence may contain learned vectors.

    Nothing after the end token can reach it, so sentences are as long as their longest member: exact, and
    several times cheaper than the full context.
    """

    def __init__(self, model):
        super().__init__()
        text = getattr(model, "text", model)
        mask = getattr(text, "attn_mask", None)
        if mask is None or not hasattr(text, "token_embedding"):
            raise ValueError(
                f"expected a causal text tower like CLIP's, found {type(text).__name__} without a causal "
                "mask; choose another open_clip architecture."
            )
        self.token_embedding, self.positional_embedding = text.token_embedding, text.positional_embedding
        self.transformer, self.ln_final = quicken(text.transformer), text.ln_final
        self.text_projection = text.text_projection
        self.register_buffer("attn_mask", mask, persistent=False)
        self.width, self.context = text.positional_embedding.shape[1], text.positional_embedding.shape[0]
        linear = isinstance(self.text_projection, nn.Linear)
        self.joint_width = self.text_projection.out_features if linear else self.text_projection.shape[1]
        self.project = self.text_projection.forward if linear else self.text_projection.__rmatmul__

    def embed(self, ids):
        """Token ids (B, L) -> word embeddings (B, L, D), without positions."""
        return self.token_embedding(ids)

    def forward(self, words, end):
        """Word embeddings (B, L, D) and the positions (B,) of their end tokens -> TextTokens."""
        length = words.shape[1]
        x, mask = words + self.positional_embedding[:length], self.attn_mask[:length, :length]
        for block in self.transformer.resblocks:
            x = block(x, attn_mask=mask)
        return TextTokens(self.ln_final(x), end)

    def joint_end(self, out):
        """The end token in the joint space, (B, E), not normalised: CLIP's sentence feature."""
        return self.project(out.tokens[torch.arange(len(out.end), device=out.end.device), out.end])

    def joint_tokens(self, out):
        return self.project(out.tokens)

    def sentences(self, ids):
        """Token ids (B, L), zero after the end token, -> sentence features (B, E)."""
        return self.joint_end(self(self.embed(ids), ids.argmax(1)))


def cropped(ids):
    """Token ids without the columns after the last end token."""
    return ids[:, : int(ids.argmax(1).max()) + 1]


def grid_of(size, patch, stride):
    """(rows, columns) of patches."""
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
    old = table[1:].view(1, rows, columns, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(old, tuple(grid), mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized[0].permute(1, 2, 0).flatten(0, 1)])
