"""Tiny towers made of open_clip's and timm's classes and a golden file's weights, which go in by name; every
size is an array's. Around them: CLIP-ReID as the library has it, and PAD's prompt pool as the golden files
describe it."""

import re
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from golden import matching
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from timm.models import vision_transformer as timm_vit
from torch import nn

from reid_core.data import Batch
from reid_core.layers import Head
from reid_core.loading import tokenizer_of
from reid_core.methods.base import Method
from reid_core.methods.clip_reid import RECIPE, ClipReID
from reid_core.prompts import GrowingTable, PromptTemplate
from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder, TimmViT, grid_of

TOKENIZER = tokenizer_of(RECIPE.backbone)
VOCABULARY = 49408  # of CLIP; files that store some rows of its table give their numbers
ADDED = r"va_prompt\.|VPT|_i2i"  # in names of what a published tower has more than CLIP's
IMAGES = ("in/image", "in/images", "in/weak")


def weights(file, prefix):
    """{name: tensor} under `prefix`, without prompts and second class tokens."""
    return {name: value for name, value in file.tensors(prefix).items() if not re.search(ADDED, name)}


def shape_of(state, mlp="mlp.c_fc"):
    """(layers, mlp_ratio) of a transformer."""
    layers = {match[1] for name in state for match in [re.search(r"blocks\.(\d+)\.", name)] if match}
    hidden, width = next(value.shape for name, value in state.items() if name.endswith(f"{mlp}.weight"))
    return len(layers), hidden / width


def fill(module, state):
    """Load the parameters of `module` by name; `state` may hold more."""
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    return module


def stored(file, prefix, module, **more):
    """{name: tensor} of the parameters of `module`, and of `more`, whose gradients lie under `prefix`."""
    named = {**dict(module.named_parameters()), **more}
    return {name: tensor for name, tensor in named.items() if prefix + name in file}


# Image towers


def image_tower(state, size, heads, stride=None, native=None, **options):
    """A ClipViT. `native` is the grid that its position table was made for, that of the image unless told;
    `options` are ClipViT's."""
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
    return ClipViT(visual, tuple(size), stride, **options)


def clip_vit(file, prefix="w/visual.", heads="heads", **options):
    """The ClipViT under `prefix`, at the size of the stored images; `heads` is the name of a setting."""
    images = next(value for key, value in file.items() if key in IMAGES)
    return image_tower(weights(file, prefix), images.shape[-2:], file.settings[heads], **options)


def timm_tower(file):
    """A TimmViT with the stored weights, at the size of the stored images."""
    state, size = file.tensors("w/"), file["in/image"].shape[-2:]
    width, patch = state["cls_token"].shape[-1], state["patch_embed.proj.weight"].shape[-1]
    layers, ratio = shape_of(state, "mlp.fc1")
    visual = timm_vit.VisionTransformer(
        size,
        patch,
        num_classes=0,
        embed_dim=width,
        depth=layers,
        num_heads=file.settings["heads"],
        mlp_ratio=ratio,
        global_pool="token",
    )
    return TimmViT(fill(visual, state), size)


def camera_embedding(table, coefficient, tokens=1):
    """A CameraEmbedding with the rows of `table`: (cameras, D) or (cameras, 1, D)."""
    table = table.flatten(1)
    camera = CameraEmbedding(*table.shape, coefficient, tokens)
    camera.table = nn.Parameter(table.clone())
    return camera


def position_table(file):
    """The stored table of positions and its grid: (1 + rows x columns, D), (rows, columns)."""
    ((key, match),) = matching(file, r"in/positional_embedding_(\d+)x(\d+)")
    return file.tensor(key), (int(match[1]), int(match[2]))


def residual_tower(file):
    """A ClipResNet, entered with the position table of a square image."""
    state = file.tensors("w/visual.")
    state["attnpool.positional_embedding"], (side, _) = position_table(file)
    visual = ModifiedResNet(
        file["in/layers"].tolist(),
        len(state["attnpool.c_proj.bias"]),
        int(file["in/heads"]),
        side * 32,
        int(file["in/width"]),
    )
    visual.load_state_dict(state, strict=False)  # the files leave the batch counters out
    return ClipResNet(visual, file["in/pixels"].shape[2:])


# The text tower and its sentences


def text_tower(file, heads, prefix="w/"):
    """A TextEncoder; of the token embeddings a file may store those rows that it uses, or none."""
    names = r"(token_embedding|positional_embedding|text_projection|transformer\.|ln_final)"
    state = {name: value for name, value in file.tensors(prefix).items() if re.match(names, name)}
    context, width = state["positional_embedding"].shape
    if "token_embedding.weight" not in state:
        table = state["token_embedding.weight"] = torch.zeros(VOCABULARY, width)
        if "token_embedding.rows" in state:
            known = ("in/token_embedding.row_ids", "in/used_token_ids")
            table[file.tensor(next(key for key in known if key in file))] = state.pop("token_embedding.rows")
    layers, ratio = shape_of(state)
    text = TextTransformer(
        context,
        len(state["token_embedding.weight"]),
        width,
        int(heads),
        layers,
        ratio,
        output_dim=state["text_projection"].shape[1],
        act_layer=QuickGELU,
    )
    text.load_state_dict(state)
    return TextEncoder(text)


def template_of(text, sentence, words):
    """The published template, whose x's stand for the `words` that are learned."""
    gap, sentence = " ".join("x" * words), sentence.lower()
    assert gap in sentence
    return PromptTemplate(sentence.replace(gap, "{identity}"), text, TOKENIZER)


def template_in(file, text, words):
    """The template that a file stores as token ids."""
    ids = file["in/template_token_ids"]
    return template_of(text, TOKENIZER.decode(ids[1 : ids.argmax()].tolist()), words)


# Methods


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
