"""Tiny towers made of open_clip's classes and a golden file's weights, which go in by name; every size is an
array's. Around them: CLIP-ReID as the library has it, and PAD's prompt pool as the golden files describe it.
"""

import re
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from torch import nn

from reid_core.data import Batch
from reid_core.layers import Head
from reid_core.loading import tokenizer_of
from reid_core.methods.base import Method
from reid_core.methods.clip_reid import RECIPE, ClipReID
from reid_core.prompts import GrowingTable, PromptTemplate
from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder, grid_of

VOCABULARY = 49408  # of CLIP; files that store some rows of its table give their numbers


def weights(file, prefix):
    """{name: tensor} under `prefix`, without PAD's prompt pool."""
    return {name: value for name, value in file.tensors(prefix).items() if not name.startswith("va_prompt.")}


def shape_of(state, blocks="transformer.resblocks"):
    """(layers, mlp_ratio) of a transformer."""
    layers = len({name.split(".")[2] for name in state if name.startswith(blocks)})
    hidden, width = state[f"{blocks}.0.mlp.c_fc.weight"].shape
    return layers, hidden / width


def image_tower(state, size, heads, stride=None, native=None, camera=None):
    """A ClipViT. `native` is the grid that its position table was made for, that of the image unless told."""
    width, _, patch, _ = state["conv1.weight"].shape
    layers, ratio = shape_of(state)
    rows, columns = native or grid_of(size, patch, stride or patch)
    visual = VisionTransformer(
        (rows * patch, columns * patch),
        patch,
        width,
        layers,
        int(heads),
        ratio,
        output_dim=state["proj"].shape[1],
        act_layer=QuickGELU,
    )
    visual.load_state_dict(state)
    return ClipViT(visual, tuple(size), stride, camera)


def camera_table(table, coefficient):
    camera = CameraEmbedding(*table.shape, coefficient, tokens=1)
    camera.table = nn.Parameter(table.clone())
    return camera


def residual_tower(file):
    """A ClipResNet, entered with the position table of a square image."""
    state = file.tensors("w/visual.")
    state["attnpool.positional_embedding"] = file.tensor("in/positional_embedding_7x7")
    side = round((len(state["attnpool.positional_embedding"]) - 1) ** 0.5)
    visual = ModifiedResNet(
        file["in/layers"].tolist(),
        len(state["attnpool.c_proj.bias"]),
        int(file["in/heads"]),
        side * 32,
        int(file["in/width"]),
    )
    visual.load_state_dict(state, strict=False)  # the files leave the batch counters out
    return ClipResNet(visual, file["in/pixels"].shape[2:])


def text_tower(file, heads, prefix="w/"):
    """A TextEncoder; token embeddings may be stored as the rows that are used."""
    names = r"(token_embedding|positional_embedding|text_projection|transformer\.|ln_final)"
    state = {name: value for name, value in file.tensors(prefix).items() if re.match(names, name)}
    if "token_embedding.rows" in state:
        rows = state.pop("token_embedding.rows")
        state["token_embedding.weight"] = torch.zeros(VOCABULARY, rows.shape[1])
        state["token_embedding.weight"][file.tensor("in/token_embedding.row_ids")] = rows
    (words, width), context = state["token_embedding.weight"].shape, len(state["positional_embedding"])
    layers, ratio = shape_of(state)
    text = TextTransformer(
        context,
        words,
        width,
        int(heads),
        layers,
        ratio,
        output_dim=state["text_projection"].shape[1],
        act_layer=QuickGELU,
    )
    text.load_state_dict(state)
    return TextEncoder(text)


PUBLISHED = {  # CLIP-ReID's and PAD's names -> ours
    "cv_embed": "image.camera.table",
    "classifier.": "heads.0.classifier.",
    "classifier_proj.": "heads.1.classifier.",
    "bottleneck.": "heads.0.neck.",
    "bottleneck_proj.": "heads.1.neck.",
    "visual.va_prompt.": "prompts.",
    "visual.": "image.",
    "image_encoder.": "image.",
    "prompt_learner.cls_ctx": "words.new",
    "text_encoder.": "text.",
}


def our_name(name):
    """Ours for a published parameter or buffer."""
    start = next(start for start in PUBLISHED if name.startswith(start))
    return PUBLISHED[start] + name.removeprefix(start)


class GivenTowers(ClipReID):
    """CLIP-ReID as the library has it, around towers and a data set's numbers that a golden file gives."""

    neck_bias = False

    def __init__(self, recipe, labels, classes, image=None, text=None, words=None):
        Method.__init__(self, recipe)
        self.data = SimpleNamespace(labels=labels, classes=classes, train=labels)
        if image is not None:
            self.image, (_, *widths) = image, image.widths
            self.heads = nn.ModuleList(Head(width, classes, bias=self.neck_bias) for width in widths)
        if text is not None:
            self.text = text
        words = torch.empty(classes, 0, 0) if words is None else words
        self.words = GrowingTable(words.shape[1:])
        self.words.new = nn.Parameter(words.clone())
        self.register_buffer("bank", None, persistent=False)

    def load(self, state):
        """Take tensors under their published names; every one must have a place."""
        missing = self.load_state_dict({our_name(name): value for name, value in state.items()}, strict=False)
        assert not missing.unexpected_keys

    def batch(self, pixels, pids, cameras=None):
        return Batch(index=torch.arange(len(pids)), labels=pids, cameras=cameras, views=[pixels[:, None]])


class PoolPrompts(nn.Module):
    """PAD's prompt pool, as the golden files describe it: per block, general vectors g for everybody and the
    k slots of e whose keys are nearest to the mean of the tokens. `accumulate`: prompts stay, and their
    successors join them."""

    def __init__(self, state, k, accumulate=False):
        super().__init__()
        self.k, self.accumulate, self.chosen = k, accumulate, []  # chosen: (B, k) per block
        for name in ("active_sizes", "frozen_masks", "trainable_masks"):
            self.register_buffer(name, state[name])
        for name in ("g_prompt", "e_prompt", "e_key"):
            setattr(
                self,
                name,
                nn.ParameterList(state[f"{name}.{i}"].clone() for i in range(len(self.active_sizes))),
            )
        for slots, frozen in zip(self.e_prompt, self.frozen_masks):
            slots.register_hook(lambda grad, frozen=frozen: grad * ~frozen[:, None, None])

    def forward(self, index, x, prompts):
        with torch.no_grad():
            query = torch.cat([x, prompts], 1) if self.accumulate else x
            keys = self.e_key[index][: self.active_sizes[index].item()]
            near = F.normalize(query.mean(1)) @ F.normalize(keys).T
            self.chosen.append(near.topk(min(self.k, len(keys))).indices)
        slots = self.e_prompt[index][self.chosen[-1]].flatten(1, 2)
        new = torch.cat([self.g_prompt[index].expand(len(x), -1, -1), slots], 1)
        return torch.cat([new, prompts], 1) if self.accumulate else new


def template_of(text, sentence, words):
    """The published template, whose X's stand for the `words` that are learned."""
    gap = " ".join("X" * words)
    assert gap in sentence
    return PromptTemplate(sentence.replace(gap, "{identity}"), text, tokenizer_of(RECIPE.backbone))
