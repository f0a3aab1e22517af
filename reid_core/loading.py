"""From the name of an architecture and a file of weights to towers."""

import logging
from pathlib import Path
from typing import NamedTuple

import open_clip
import timm
import torch
from torch import nn

from reid_core import weights
from reid_core.clip import CameraEmbedding, ClipResNet, ClipViT, TextEncoder, TimmViT


class Clip(NamedTuple):
    """Two towers and the tokenizer that belongs to them."""

    image: nn.Module
    text: nn.Module
    tokenizer: object


def load_clip(
    name,
    pretrained=None,
    size=(256, 128),
    stride=None,
    cameras=0,
    sie=1.0,
    sie_tokens=1,
    sie_std=0.02,
    **extra,
):
    """The towers of an open_clip architecture.

    `pretrained` is None (random weights), a tag of open_clip's, or a local file: OpenAI's TorchScript archive, a plain
    state dict or safetensors. With `cameras`, a camera embedding with coefficient `sie` joins the first `sie_tokens`
    tokens (all of them: None).
    """
    model = open_model(name, weights.locate(pretrained))
    if hasattr(model.visual, "attnpool") and (cameras or stride not in (None, 16)):
        raise ValueError(f"expected {name} without camera embeddings and with stride 16, found {cameras} cameras and stride "
                         f"{stride}; both are for a tower of patches, such as ViT-B-16-quickgelu.")  # fmt: skip
    camera = CameraEmbedding(cameras, width_of(model.visual), sie, sie_tokens, sie_std) if cameras else None
    if hasattr(model.visual, "attnpool"):
        image = ClipResNet(model.visual, size)
    elif hasattr(model.visual, "conv1") and model.visual.attn_pool is None:
        image = ClipViT(model.visual, size, stride, camera, **extra)
    else:
        raise ValueError(f"expected an architecture with CLIP's ViT or ResNet, found {type(model.visual).__name__} in "
                         f"{name}; choose another, such as ViT-B-16-quickgelu.")  # fmt: skip
    return Clip(image, TextEncoder(model), tokenizer_of(name))


def random_text(name):
    """The text tower of an architecture as it was before it read anything: the control of a method that credits
    language. The dice of the rest of the program are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return TextEncoder(open_model(name))


TEXT_TOWERS = {"pretrained": lambda text, name: text, "random": lambda text, name: random_text(name)}


def width_of(visual):
    """Width of a ViT's tokens; a ResNet has none, and takes no camera embedding."""
    return visual.proj.shape[0] if hasattr(visual, "proj") else 1


def open_model(name, pretrained=None):
    """An open_clip model with weights that fit it, in float32 on the CPU."""
    weights.register()
    if name not in open_clip.list_models():
        raise ValueError(
            f"expected an architecture that open_clip knows, found {name!r}; see open_clip.list_models()."
        )
    if str(pretrained) in open_clip.list_pretrained_tags_by_model(name):
        refuse_other_activation(name, open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))
        return fetched(name, pretrained)
    model = quietly(open_clip.create_model, name, pretrained=None, precision="fp32")
    if pretrained is not None:
        load_file(model, name, Path(pretrained))
    return model


def fetched(name, tag):
    """An open_clip model with weights that open_clip knows by a tag and fetches where they are missing."""
    try:
        return open_clip.create_model(name, pretrained=tag, precision="fp32")
    except Exception as error:
        raise ValueError(f"expected the weights {tag!r} of {name} on the hub that open_clip asks, found that they cannot be "
                         f"fetched ({weights.first_line(error)}); put the file here and name it in $REID_WEIGHTS.") from error  # fmt: skip


def quietly(function, *args, **options):
    """open_clip warns of random weights on the root logger; here they are asked for."""
    logging.disable(logging.WARNING)
    try:
        return function(*args, **options)
    finally:
        logging.disable(logging.NOTSET)


def load_file(model, name, path):
    """Fill `model` from a local file, or say in one sentence why not."""
    if not path.exists():
        raise ValueError(f"expected weights for {name} at {path} or a tag of open_clip's, found neither; put the file "
                         f"there.")  # fmt: skip
    state, quick_gelu = weights.read(path)
    if quick_gelu is not None:
        refuse_other_activation(name, quick_gelu)
    wanted = model.state_dict()
    for key, value in wanted.items():
        found = tuple(state[key].shape) if key in state else "nothing"
        if found != tuple(value.shape):
            raise ValueError(f"expected {key} of shape {tuple(value.shape)} for {name}, found {found} in {path}; name "
                             f"the architecture that the file was made for.")  # fmt: skip
    model.load_state_dict({key: state[key] for key in wanted})


def refuse_other_activation(name, quick_gelu):
    config = open_clip.get_model_config(name)
    if config.get("quick_gelu", False) != quick_gelu:
        right = name + "-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
        raise ValueError(f"expected weights trained with {'QuickGELU' if not quick_gelu else 'GELU'} for {name}, found "
                         f"the other activation; use {right}.")  # fmt: skip


def tokenizer_of(name):
    return open_clip.get_tokenizer(name)


def load_timm(name, pretrained=None, size=(256, 128), stride=None, cameras=0, sie=1.0, sie_tokens=None):
    """A timm VisionTransformer, or "tiny_vit", the project's own; `pretrained` is None, True (timm's own weights), the
    name of a model of ours or a local file."""
    model = (
        timm.create_model(name, pretrained=pretrained is True, num_classes=0)
        if name != "tiny_vit"
        else own_vit()
    )
    local = None if pretrained in (None, True) else weights.locate(pretrained)
    if local:
        load_file(model, name, Path(local))
    camera = CameraEmbedding(cameras, model.embed_dim, sie, sie_tokens) if cameras else None
    return TimmViT(model, size, stride, camera)


def own_vit():
    """The shape of the tiny CLIP's image tower, as timm builds it."""
    shape = {
        "img_size": (128, 64),
        "patch_size": 16,
        "embed_dim": 192,
        "depth": 6,
        "num_heads": 3,
        "num_classes": 0,
    }
    return timm.models.VisionTransformer(**shape)
