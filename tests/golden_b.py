"""What the tests of set B share: relative comparison, tiny towers with stored weights; and the files without
a test."""

import json
import re

import numpy as np
import torch
from golden import close
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from timm.models import vision_transformer as timm_vit

from reid_core.loading import tokenizer_of
from reid_core.prompts import PromptTemplate
from reid_core.towers import CameraEmbedding, ClipViT, TextEncoder, TimmViT

TOKENIZER = tokenizer_of("ViT-B-16-quickgelu")
FUSION = "VLADR's growth and fusion of a model between domains come with its chapter"
READER = "the library has no reader for this layout yet"
CAPTIONER = "sentences are read from files; the library neither asks BLIP-2 nor writes its format"
MISSING = "the library has no missing-modality option yet"
NOT_COVERED_B = {
    "demo__missing_modality": MISSING,
    "dmpt__external_interaction": "the PromptIBind layer comes with DMPT",
    "dmpt__param_count": "the trainable parts of DMPT are not complete before the PromptIBind layer",
    "dmpt__promptibind_layer": "the PromptIBind layer comes with DMPT",
    "htt__data_facts": "facts about HTT's own loader, which we do not follow",
    "lifelong__bookkeeping": "the library does not keep books over domains yet",
    "multimodal__missing_modality_facts": MISSING,
    "topreid__angular_distance": "the library ranks by cosine, which gives the same order, and has no "
    "angular distance",
    "topreid__dataset_parse": READER,
    "topreid__rgbnt100_strip": READER,
    "topreid__tpm_crm_missing": "TOP-ReID's permutation and reconstruction are outside the methods being "
    "rebuilt",
    "vladr__blip_assembly": CAPTIONER,
    "vladr__blip_format": CAPTIONER,
    "vladr__head_growth": FUSION,
    "vladr__model_fusion": FUSION,
    "vladr__randaugment_facts": "the library has no RandAugment: it comes with VLADR's strong view",
    "vladr__seen_unseen_average": "the library does not average over seen and unseen sets yet",
}


def load(file):
    """The arrays of a test's `file`, with its `name` and its `settings` (the meta string)."""
    arrays = file()
    arrays.name, arrays.settings = file.name, json.loads(str(arrays["meta"]))
    return arrays


def agree(file, key, found, tolerance, where=...):
    """`found` is the stored array (`where` it counts) up to `tolerance` times its largest magnitude."""
    wanted = np.asarray(file[key], dtype=np.float64)[where]
    scale = np.abs(wanted).max(initial=0) or 1.0
    found = (
        found.detach().double().numpy()
        if isinstance(found, torch.Tensor)
        else np.asarray(found, dtype=np.float64)
    )
    close(found / scale, wanted / scale, tolerance, file.name)


def leaves(file, *keys, dtype=torch.float32):
    """{key: input or weight of that name}, collecting gradients."""
    found = {key: file.tensor(f"in/{key}" if f"in/{key}" in file else f"w/{key}") for key in keys}
    return {key: value.to(dtype).requires_grad_() for key, value in found.items()}


def gradients_agree(file, prefix, scalar, named, tolerance):
    """The gradients of `scalar` for {name: tensor} are those stored under `prefix`name."""
    for name, gradient in zip(named, torch.autograd.grad(scalar, list(named.values()), retain_graph=True)):
        agree(file, prefix + name, gradient.reshape(file[prefix + name].shape), tolerance)


def stored(file, prefix, module, **more):
    """{name: tensor} of the parameters of `module`, and of `more`, whose gradients lie under `prefix`."""
    named = {**dict(module.named_parameters()), **more}
    return {name: tensor for name, tensor in named.items() if prefix + name in file}


def fill(module, state):
    """Load the parameters of `module` by name; `state` may hold more."""
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    return module


def layers_of(state):
    return 1 + max(int(name.split("blocks.")[1].split(".")[0]) for name in state if "blocks." in name)


def clip_vit(file, prefix="w/visual.", heads="heads", **options):
    """A ClipViT with the weights under `prefix`, at the size of the stored images."""
    state, images = file.tensors(prefix), next(value for key, value in file.items() if key in IMAGES)
    width, joint = state["proj"].shape
    size, patch = images.shape[-2:], state["conv1.weight"].shape[-1]
    ratio = mlp_ratio(state, "mlp.c_fc.weight")
    visual = VisionTransformer(
        size,
        patch,
        width,
        layers_of(state),
        file.settings[heads],
        ratio,
        output_dim=joint,
        act_layer=QuickGELU,
    )
    return ClipViT(fill(visual, state), size, **options)


IMAGES = ("in/image", "in/images", "in/weak")


def mlp_ratio(state, name):
    rows, columns = next(value.shape for key, value in state.items() if key.endswith(name))
    return rows / columns


def timm_tower(file):
    """A TimmViT with the stored weights, at the size of the stored images."""
    state, size = file.tensors("w/"), file["in/image"].shape[-2:]
    width, patch = state["cls_token"].shape[-1], state["patch_embed.proj.weight"].shape[-1]
    visual = timm_vit.VisionTransformer(
        size,
        patch,
        num_classes=0,
        embed_dim=width,
        depth=layers_of(state),
        num_heads=file.settings["heads"],
        mlp_ratio=mlp_ratio(state, "mlp.fc1.weight"),
        global_pool="token",
    )
    return TimmViT(fill(visual, state), size)


def camera_embedding(table, coefficient, tokens):
    """A CameraEmbedding with the rows (cameras, 1, D) of `table`."""
    camera = CameraEmbedding(len(table), table.shape[-1], coefficient, tokens)
    camera.table.data = table.flatten(1)
    return camera


def text_tower(file, prefix="w/", heads="heads"):
    """A TextEncoder with the weights under `prefix`; words that the file does not use are zero."""
    state = {name: value for name, value in file.tensors(prefix).items() if not name.startswith("visual.")}
    context, width = state["positional_embedding"].shape
    ids = file.get("in/used_token_ids", np.array([0]))
    text = TextTransformer(
        context,
        int(ids.max()) + 1,
        width,
        file.settings[heads],
        layers_of(state),
        mlp_ratio(state, "mlp.c_fc.weight"),
        output_dim=state["text_projection"].shape[1],
        act_layer=QuickGELU,
    )
    table = torch.zeros(text.vocab_size, width)
    if "token_embedding.rows" in state:
        table[ids] = state["token_embedding.rows"]
    return TextEncoder(fill(text, {**state, "token_embedding.weight": table}))


def template(file, text):
    """The published template as ours: its placeholders x x ... are one gap."""
    ids = [k for k in file["in/template_token_ids"].tolist() if k and k not in TOKENIZER.all_special_ids]
    return PromptTemplate(re.sub(r"\bx( x)*\b", "{identity}", TOKENIZER.decode(ids)), text, TOKENIZER)


SPECTRA = ("r", "n", "t")


def spectra(file, name, dtype=torch.float32):
    """Leaves name_r, name_n, name_t, and the three stacked: (B, M, D)."""
    found = leaves(file, *(f"{name}_{letter}" for letter in SPECTRA), dtype=dtype)
    return found, torch.stack(list(found.values()), 1)


def temperatures(file):
    """The temperatures for which a file holds results."""
    return sorted({key.split("/")[1].removeprefix("tau") for key in file if key.startswith("out/tau")})
