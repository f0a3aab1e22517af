"""Reading weights from files, and the small models that come with the project."""

import functools
import hashlib
import os
import zipfile
from pathlib import Path

import open_clip
import torch
from safetensors import safe_open

FOLDER = Path(__file__).parent
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
        raise ValueError(f"expected weights in {path}, found a file that cannot be read ({first_line(error)}); "
                         f"fetch it again.") from error  # fmt: skip
    if any(key in state for key in OPENAI_EXTRAS):
        quick_gelu = True
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
    """The token table of our own models: rows that training saw are stored, the others follow from the seed."""
    ids, rows = state.pop("token_embedding.ids").long(), state.pop("token_embedding.rows").float()
    chance = torch.Generator().manual_seed(seed)
    table = torch.randn(VOCABULARY, rows.shape[1], generator=chance) * 0.02
    table[ids] = rows
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
    """What `pretrained` stands for: "random" for no weights, a model of the project's own by its name if it is there, else
    a tag of open_clip's or a path as it is. $REID_WEIGHTS names a local file to use instead of a tag."""
    if name == "random":
        return None
    if name in OWN:
        own = FOLDER / f"{name}.safetensors"
        return own if own.exists() else None
    return os.environ.get("REID_WEIGHTS", name)


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
    """What a model divided its cosines by when its pretraining ended; CLIP's `first` one where there are no weights."""
    found = locate(name)
    return first if found is None else float(read(Path(found))[0]["logit_scale"].neg().exp())
