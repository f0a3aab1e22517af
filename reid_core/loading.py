"""From the name of an architecture and a file of weights to towers; and the small models that come with the
project."""

import functools
import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import open_clip
import timm
import torch
from safetensors import safe_open
from torch import nn

from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder, TimmViT

FOLDER = Path(__file__).parent / "weights"
VOCABULARY = 49408  # of CLIP's tokenizer
OWN = ("tiny", "tiny_vit")  # models of the project's own
PREFIXES = ("module.", "base_model.")
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # numbers that only OpenAI's files carry


def register():
    """Let open_clip know the architectures of this project: they are small JSON files beside this one."""
    if "tiny" not in open_clip.list_models():
        open_clip.add_model_config(FOLDER)


def read(path):
    """(state dict in float32, whether QuickGELU was used or None if the file does not tell)."""
    try:
        state, quick_gelu = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    except Exception as error:
        raise ValueError(
            f"expected weights in {path}, found a file that cannot be read ({first_line(error)}); fetch it "
            "again."
        ) from error
    if any(key in state for key in OPENAI_EXTRAS):
        quick_gelu = True  # all of OpenAI's models
    tensors = {strip(key): value.float() for key, value in state.items() if key not in OPENAI_EXTRAS}
    return tensors, quick_gelu


def read_safetensors(path):
    with safe_open(path, "pt") as file:
        told = file.metadata() or {}
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if "token_embedding.rows" in state:
        state["token_embedding.weight"] = token_table(state, int(told["token_seed"]))
    return state, told.get("quick_gelu") and told["quick_gelu"] == "true"


def token_table(state, seed):
    """The token table of our own models: rows that training saw are stored, the others follow from the
    seed."""
    ids = state.pop("token_embedding.ids").long()
    rows = state.pop("token_embedding.rows").float()
    chance = torch.Generator().manual_seed(seed)
    table = torch.randn(VOCABULARY, rows.shape[1], generator=chance) * 0.02  # (words, D)
    table[ids] = rows  # (stored words, D)
    return table


def read_torch(path):
    """A plain state dict, one wrapped in a checkpoint, or OpenAI's TorchScript archive."""
    if is_torchscript(path):
        archive = torch.jit.load(path, map_location="cpu")
        return archive.state_dict(), True
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        state = state.get(wrapper, state)
    return state, None


def is_torchscript(path):
    """TorchScript archives are zip files with code in them; state dicts have none."""
    return zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist())


def strip(key):
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def locate(name):
    """What `pretrained` stands for: "random" for no weights, a model of the project's own by its name if it
    is there, a path as it is, or a tag of open_clip's. $REID_WEIGHTS names a local file to use instead of a
    tag; empty, it counts as unset."""
    if name == "random":
        return None
    if name in OWN:
        own = FOLDER / f"{name}.safetensors"
        return own if own.exists() else None
    if name and is_path(name):
        return name
    return os.environ.get("REID_WEIGHTS", "").strip() or name


def is_path(name):
    """Whether a name of weights is that of a file: open_clip's tags have neither an ending nor folders."""
    path = Path(name)
    return path.is_file() or bool(path.suffix) or len(path.parts) > 1


def fingerprint(name):
    """Sixteen digits of a weights file, or the words that say where the weights come from."""
    found = locate(name)
    if found is None:
        return "random"
    return digits(found, os.stat(found).st_mtime_ns) if Path(found).exists() else str(found)


@functools.lru_cache(maxsize=8)
def digits(path, changed):
    """Of a file as it was at a time: a page asks for every number that it prints."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def temperature(name, first=0.07):
    """What a model divided its cosines by when its pretraining ended; CLIP's `first` one where there are no
    weights."""
    found = locate(name)
    # the file holds log(1 / temperature)
    return first if found is None else float(read(Path(found))[0]["logit_scale"].neg().exp())


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

    `pretrained` is None (random weights), a tag of open_clip's, or a local file: OpenAI's TorchScript
    archive, a plain state dict or safetensors. With `cameras`, a camera embedding with coefficient `sie`
    joins the first `sie_tokens` tokens (all of them: None).
    """
    model = open_model(name, locate(pretrained))
    if hasattr(model.visual, "attnpool") and (cameras or stride not in (None, 16)):
        raise ValueError(
            f"expected {name} without camera embeddings and with stride 16, found {cameras} cameras and "
            f"stride {stride}; both are for a tower of patches, such as ViT-B-16-quickgelu."
        )
    camera = CameraEmbedding(cameras, width_of(model.visual), sie, sie_tokens, sie_std) if cameras else None
    if hasattr(model.visual, "attnpool"):
        image = ClipResNet(model.visual, size)
    elif hasattr(model.visual, "conv1") and model.visual.attn_pool is None:
        image = ClipViT(model.visual, size, stride, camera, **extra)
    else:
        raise ValueError(
            f"expected an architecture with CLIP's ViT or ResNet, found {type(model.visual).__name__} in "
            f"{name}; choose another, such as ViT-B-16-quickgelu."
        )
    return Clip(image, TextEncoder(model), tokenizer_of(name))


def random_text(name):
    """The text tower of an architecture as it was before it read anything: the control of a method that
    credits language. The rng of the rest of the program are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return TextEncoder(open_model(name))


TEXT_TOWERS = {"pretrained": lambda text, name: text, "random": lambda text, name: random_text(name)}


def width_of(visual):
    """Width of a ViT's tokens; a ResNet has none, and takes no camera embedding."""
    return visual.proj.shape[0] if hasattr(visual, "proj") else 1


def open_model(name, pretrained=None):
    """An open_clip model with weights that fit it, in float32 on the CPU."""
    register()
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
        raise ValueError(
            f"expected the weights {tag!r} of {name} on the hub that open_clip asks, found that they cannot "
            f"be fetched ({first_line(error)}); put the file here and name it in $REID_WEIGHTS."
        ) from error


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
        raise ValueError(
            f"expected weights for {name} at {path} or a tag of open_clip's, found neither; put the file "
            "there."
        )
    state, quick_gelu = read(path)
    if quick_gelu is not None:
        refuse_other_activation(name, quick_gelu)
    wanted = model.state_dict()  # what the file has beyond it is left out
    for key, value in wanted.items():
        found = tuple(state[key].shape) if key in state else "nothing"
        if found != tuple(value.shape):
            raise ValueError(
                f"expected {key} of shape {tuple(value.shape)} for {name}, found {found} in {path}; name "
                "the architecture that the file was made for."
            )
    model.load_state_dict({key: state[key] for key in wanted})


def refuse_other_activation(name, quick_gelu):
    config = open_clip.get_model_config(name)
    if config.get("quick_gelu", False) != quick_gelu:
        right = name + "-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
        raise ValueError(
            f"expected weights trained with {'QuickGELU' if not quick_gelu else 'GELU'} for {name}, found "
            f"the other activation; use {right}."
        )


def tokenizer_of(name):
    return open_clip.get_tokenizer(name)


def load_timm(name, pretrained=None, size=(256, 128), stride=None, cameras=0, sie=1.0, sie_tokens=None):
    """A timm VisionTransformer, or "tiny_vit", the project's own; `pretrained` is None, True (timm's own
    weights), the name of a model of ours or a local file."""
    if name == "tiny_vit":
        model = own_vit()
    else:
        model = timm.create_model(name, pretrained=pretrained is True, num_classes=0)
    local = None if pretrained in (None, True) else locate(pretrained)  # None: timm has done it
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
