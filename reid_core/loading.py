"""From the name of an architecture and a file of weights to towers; and the small models that come with the
project."""

import functools
import hashlib
import logging
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import open_clip
import timm
import torch
from huggingface_hub import try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torch import nn
from torch.overrides import TorchFunctionMode

from reid_core.statedict import first_line, read
from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder, TimmViT

FOLDER = Path(__file__).parent / "weights"
OWN = ("tiny", "tiny_vit")  # models of the project's own
LAYOUTS = {  # how a name begins that tells another layout -> what that is, and what to do
    r"(vision_model|text_model)\.": "transformers' layout of CLIP: take OpenAI's or open_clip's file of the "
    "same model",
    r"(image_encoder|prompt_learner)\.": "a CLIP-ReID that was trained: take the CLIP that it began with, "
    "and train here",
    r"((backbone|base)\.)?(cls_token|blocks\.\d+\.attn\.qkv)": "timm's or DINO's layout, an image tower "
    "without words: load_timm takes it under timm's name",
    r"(visual\.|token_embedding)": "OpenAI's and open_clip's layout: load_clip takes it",
}


def register():
    """Let open_clip know the architectures of this project: they are small JSON files beside this one."""
    if "tiny" not in open_clip.list_models():
        open_clip.add_model_config(FOLDER)


def locate(name):
    """What `pretrained` stands for: "random" for no weights (None), a model of the project's own by its name,
    a path as it is, or a tag of open_clip's. $REID_WEIGHTS names a local file to use instead of a tag; empty,
    it counts as unset. ValueError where the project's own model or that file is not there."""
    if name in (None, "random"):
        return None
    if name in OWN:
        return str(there(FOLDER / f"{name}.safetensors", "git checkout brings it back"))
    if is_path(name):
        return str(Path(name).expanduser())
    instead = os.environ.get("REID_WEIGHTS", "").strip()
    if not instead:
        return name
    path = Path(instead).expanduser().absolute()
    return str(there(path, f"name a file in $REID_WEIGHTS, or unset it to use {name}"))


def there(path, remedy):
    if not path.is_file():
        raise ValueError(f"expected a file of weights at {path}, found none; {remedy}.")
    return path


def is_path(name):
    """Whether a name of weights is that of a file, which is to say no tag of open_clip's. A tag stays one
    whatever lies in the current folder: ./openai is a file, openai the published weights."""
    return name not in {tag for _, tag in open_clip.list_pretrained()}


def fingerprint(name):
    """Sixteen digits of a weights file, or the words that say where the weights come from."""
    found = locate(name)
    if found is None:
        return "random"
    return digits(found, os.stat(found).st_mtime_ns) if is_file(found) else found


def is_file(found):
    """Whether what `locate` found is a file that is there, and no tag."""
    return is_path(found) and Path(found).is_file()


@functools.lru_cache(maxsize=8)
def digits(path, changed):
    """Of a file as it was at a time: a page asks for every number that it prints."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def temperature(name, first=0.07, architecture=None):
    """What a model divided its cosines by when its pretraining ended; CLIP's `first` one where there are no
    weights. A tag of open_clip's needs the architecture, too. ValueError for weights of no CLIP."""
    found = locate(name)
    if found is None:
        return first
    state = read(Path(found))[0] if is_path(found) else open_model(architecture, found).state_dict()
    if "logit_scale" not in state:
        raise ValueError(
            f"expected a CLIP's logit_scale in {found}, found none; name weights with both of its towers."
        )
    return float(state["logit_scale"].neg().exp())  # the file holds log(1 / temperature)


def activation(name, pretrained):
    """Which activation an open_clip architecture has, and how it is known to be that of the weights:
    "QuickGELU (the file tells)", "GELU (assumed; the file does not tell)"."""
    register()
    used = activation_of(name)
    found = locate(pretrained)
    if found is None:
        return f"{used} (random weights)"
    if not is_path(found):
        return f"{used} (open_clip tells)"
    told = is_file(found) and tells_activation(found, os.stat(found).st_mtime_ns)
    return f"{used} (the file tells)" if told else f"{used} (assumed; the file does not tell)"


@functools.lru_cache(maxsize=8)
def tells_activation(path, changed):
    """Whether a file of weights as it was at a time tells which activation it was trained with."""
    return read(Path(path))[1] is not None


def activation_of(name):
    """The activation of an architecture in words; GELU for those that open_clip does not know (timm's)."""
    return "QuickGELU" if (open_clip.get_model_config(name) or {}).get("quick_gelu", False) else "GELU"


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
    model = open_model(name, locate(pretrained), size)
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


def open_model(name, pretrained=None, size=None):
    """An open_clip model with weights that fit it, in float32 on the CPU. Positions of a file may also be
    those of images of a `size` (H, W)."""
    register()
    if name not in open_clip.list_models():
        raise ValueError(
            f"expected an architecture that open_clip knows, found {name!r}; see open_clip.list_models()."
        )
    if str(pretrained) in open_clip.list_pretrained_tags_by_model(name):
        refuse_other_activation(name, open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))
        return fetched(name, pretrained)
    if pretrained is None:
        return quietly(open_clip.create_model, name, pretrained=None, precision="fp32")
    with Undrawn():  # drawing random weights takes three times as long as reading the file that replaces them
        model = quietly(open_clip.create_model, name, pretrained=None, precision="fp32")
    load_file(model, name, Path(pretrained), size)
    return model


class Undrawn(TorchFunctionMode):
    """Inside, random numbers are not drawn: what would hold them keeps whatever its memory held."""

    FILLS = ("normal_", "uniform_")  # how the names of what fills a tensor end, as kaiming_uniform_
    MAKES = {"randn": torch.empty, "rand": torch.empty}

    def __torch_function__(self, function, types, args=(), options=None):
        options = options or {}
        name = getattr(function, "__name__", "")
        if name.endswith(self.FILLS):
            return args[0] if args else options["tensor"]  # as torch.nn.init calls it
        return self.MAKES.get(name, function)(*args, **options)


def fetched(name, tag):
    """An open_clip model with weights that open_clip knows by a tag and fetches where they are missing and
    $REID_FETCH consents."""
    if not is_here(open_clip.get_pretrained_cfg(name, tag)) and os.environ.get("REID_FETCH") != "yes":
        with torch.device("meta"):  # shapes alone
            model = quietly(open_clip.create_model, name, device="meta")
        numbers = sum(p.numel() for p in model.parameters())
        raise ValueError(
            f"expected the weights {tag!r} of {name} on this machine, found none; put the file here and name "
            f"it in $REID_WEIGHTS, or set REID_FETCH=yes to let open_clip fetch it (about "
            f"{4 * numbers / 1e9:.1f} GB), and run the same command again."
        )
    try:
        return open_clip.create_model(name, pretrained=tag, precision="fp32")
    except Exception as error:
        raise ValueError(
            f"expected the weights {tag!r} of {name} on the hub that open_clip asks, found that they cannot "
            f"be fetched ({first_line(error)}); put the file here and name it in $REID_WEIGHTS."
        ) from error


def is_here(published):
    """Whether an earlier fetch left the file of a tag's entry in open_clip on this machine."""
    repository, _, file = published.get("hf_hub", "").rpartition("/")
    if not repository:
        return (Path.home() / ".cache" / "clip" / Path(published.get("url", "")).name).is_file()
    names = (
        [file, str(Path(file).with_suffix(".safetensors"))]
        if file
        else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    )
    return any(isinstance(try_to_load_from_cache(repository, one), str) for one in names)


def quietly(function, *args, **options):
    """open_clip warns of random weights on the root logger; here they are asked for."""
    logging.disable(logging.WARNING)
    try:
        return function(*args, **options)
    finally:
        logging.disable(logging.NOTSET)


def load_file(model, name, path, size=None):
    """Fill `model` from a local file, or say in one sentence why not. A temperature may be missing, as after
    training with a fixed one; positions may be those of images of a `size` (H, W)."""
    if not path.exists():
        raise ValueError(
            f"expected weights for {name} at {path} or a tag of open_clip's, found neither; put the file "
            "there."
        )
    state, quick_gelu = read(path)
    keep_positions(model, state, size)
    wanted = model.state_dict()  # what the file has beyond it is left out
    if "logit_scale" not in state:
        wanted.pop("logit_scale", None)
    for key, value in wanted.items():
        if key not in state or state[key].shape != value.shape:
            raise ValueError(misfit(name, path, key, wanted, state))
    model.load_state_dict({key: state[key] for key in wanted}, strict=False)  # all that is wanted is there
    check_activation(name, quick_gelu, path)


def keep_positions(model, state, size):
    """Give a ViT of open_clip's the grid of a file's positions where they were trained on images of this
    size (H, W), such as those of LUPerson-MLLM: they need no resizing."""
    table = state.get("visual.positional_embedding")  # (1 + h w, D)
    visual = getattr(model, "visual", None)
    if table is None or size is None or not hasattr(visual, "grid_size"):
        return
    grid = tuple(side // visual.conv1.kernel_size[0] for side in size)
    if len(table) == 1 + grid[0] * grid[1] and len(table) != len(visual.positional_embedding):
        visual.positional_embedding = nn.Parameter(torch.empty_like(table))
        visual.grid_size = grid


def check_activation(name, quick_gelu, path):
    """ValueError where a file tells another activation than the architecture's; a warning where it does not
    tell any."""
    if quick_gelu is not None:
        refuse_other_activation(name, quick_gelu)
    elif open_clip.get_model_config(name) is not None:  # timm's models have GELU alone
        warnings.warn(
            f"expected weights that tell their activation, found {path}, which does not; "
            f"{activation_of(name)} is assumed, as {name} has it: name an architecture with the other "
            f"({other_activation(name)}) if they were trained with that.",
            stacklevel=3,
        )


def misfit(name, path, key, wanted, state):
    """The sentence for a file whose tensors do not fit: a name of each side, and its layout if known."""
    remedy = "name the architecture that the file was made for"
    if key in state:
        found = f"{tuple(state[key].shape)}"
    else:
        other = next((one for one in state if one not in wanted), "fewer tensors")
        found = f"no such name, but {other},"
        remedy = layout_of(state, wanted) or remedy
    shape = tuple(wanted[key].shape)
    return f"expected {key} of shape {shape} for {name}, found {found} in {path}; {remedy}."


def layout_of(state, wanted):
    """Which layout of other names than the `wanted` ones it is, and what to do; None if unknown."""
    for begins, told in LAYOUTS.items():
        if any(map(re.compile(begins).match, state)) and not any(map(re.compile(begins).match, wanted)):
            return f"this is {told}"
    return None


def other_activation(name):
    """What open_clip calls the same architecture with the other of GELU and QuickGELU."""
    return name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"


def refuse_other_activation(name, quick_gelu):
    used = activation_of(name)
    if (used == "QuickGELU") != quick_gelu:
        raise ValueError(
            f"expected weights trained with {used} for {name}, found the other activation; use "
            f"{other_activation(name)}."
        )


@functools.lru_cache(maxsize=4)  # each reads the whole vocabulary
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
