"""A file of weights as tensors by name, whoever packed it and however: a state dict, a checkpoint around one,
safetensors, OpenAI's TorchScript archive. Nothing of a file is ever run."""

import functools
import io
import math
import pickle
import pickletools
import re
import zipfile

import torch
from safetensors import safe_open

VOCABULARY = 49408  # of CLIP's tokenizer
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")  # around a state dict
PREFIXES = ("base_model", "clip_model", "clip", "model", "network", "net", "state_dict")  # before all names
PACKED = ("module", "_orig_mod")  # what DataParallel and torch.compile add, at any depth of a name
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # numbers that only OpenAI's files carry


def read(path):
    """(state dict in float32, whether QuickGELU was used or None if the file does not tell). ValueError for a
    file that cannot be read or holds no tensors by name."""
    try:
        state, quick_gelu = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
        tensors = by_name(state)
    except Exception as error:
        raise ValueError(
            f"expected weights in {path}, found a file that cannot be read ({first_line(error)}); fetch it "
            "again, or save a state dict of tensors."
        ) from error
    if any(key in tensors for key in OPENAI_EXTRAS):
        quick_gelu = True  # all of OpenAI's models
    tensors = {key: value.float() for key, value in tensors.items() if key not in OPENAI_EXTRAS}
    return tensors, quick_gelu


def by_name(state):
    """The tensors of a state dict under their plain names; numbers and texts beside them are left out."""
    tensors = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            name = strip(key)
            if name in tensors:
                raise ValueError(f"two tensors are called {name}, one of them as {key}")
            tensors[name] = value
    if not tensors:
        raise ValueError(f"no tensors by name, but {', '.join(map(str, list(state)[:3])) or 'nothing'}")
    return tensors


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
    table = drawn_words(seed, rows.shape[1]).clone()  # (words, D)
    table[ids] = rows  # (stored words, D)
    return table


@functools.lru_cache(
    maxsize=1
)  # drawing 25 MB takes longer than reading the file, which some methods do twice
def drawn_words(seed, width):
    """A row for every word as it was before training, (words, D), from a seed. Shared: not to be changed."""
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY, width, generator=chance) * 0.02


def read_torch(path):
    """A plain state dict, one wrapped in a checkpoint, or OpenAI's TorchScript archive; nothing of the file
    is run."""
    if is_torchscript(path):
        with zipfile.ZipFile(path) as file:
            return Archive(file).state_dict(), None
    try:
        return unwrap(torch.load(path, map_location="cpu", weights_only=True)), None
    except pickle.UnpicklingError:  # torch would advise to trust the file
        raise ValueError("none of torch's, or one with more in it than tensors, numbers and texts") from None


def unwrap(state):
    """The state dict in a checkpoint, however deep it lies."""
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__}, no state dict")
    inner = [state[key] for key in WRAPPERS if isinstance(state.get(key), dict)]
    return unwrap(inner[0]) if inner else state


def is_torchscript(path):
    """TorchScript archives are zip files with code in them; state dicts have none."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any("/code/" in name for name in file.namelist())


def strip(key):
    """The name of a tensor without what was put around its model."""
    parts = [part for part in key.split(".") if part not in PACKED]
    while parts and parts[0] in PREFIXES:
        parts = parts[1:]
    return ".".join(parts)


STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
OPCODES = set(  # of pickle: what tensors in modules need
    "PROTO GLOBAL NEWOBJ REDUCE BUILD BINPERSID MARK STOP BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE "
    "NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS".split()
)
UNFOLDED = 2**24  # bytes that a compressed part of an archive may take: the code of a model is far smaller
DECLARED = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*)\]\n  __buffers__ = \[(.*)\]$", re.M
)


class Attributes:
    """A module of an archive: what it holds, and nothing that it can do."""


class Archive(pickle.Unpickler):
    """A TorchScript archive, of which tensors are read and nothing is run: `torch.jit.load` would call the
    `__setstate__` of its modules, which may write files."""

    def __init__(self, file):
        self.file = file  # a ZipFile
        self.root = next(name for name in file.namelist() if re.fullmatch("[^/]+/data.pkl", name))[:-8]
        data = self.part("data.pkl")
        refuse_more_than_tensors(data)
        super().__init__(io.BytesIO(data))
        self.storages = {}

    def part(self, name):
        """The bytes of one part; ValueError where few bytes would fill the memory."""
        told = self.file.getinfo(self.root + name)
        if told.file_size > max(told.compress_size, UNFOLDED):
            raise ValueError(f"{name} in it unfolds to {told.file_size / 1e6:.0f} MB")
        return self.file.read(told)

    def find_class(self, module, name):
        """What stands for a class or function that the archive names: never that itself."""
        if module.startswith("__torch__"):
            return type("Attributes", (Attributes,), {"origin": f"{module}.{name}"})
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle":  # marks the kind of a list or dictionary
            return self.unmarked
        known = {("torch._utils", "_rebuild_tensor_v2"): self.tensor, ("collections", "OrderedDict"): dict}
        if (module, name) not in known:
            raise ValueError(f"it names {module}.{name}, which no tensor needs")
        return known[module, name]

    def unmarked(self, value, kind=None):
        return value

    def tensor(self, storage, offset, size, stride, *_):
        """A tensor as part of a storage (numbers,); hooks and gradients are left out."""
        if math.prod(size) > len(storage):
            raise ValueError("a tensor in it is larger than its storage")
        return storage.as_strided(size, stride, offset)

    def persistent_load(self, told):
        """The storage (numbers,) of a tensor, from ("storage", type, name of its part, device, length)."""
        _, dtype, name, *_ = told
        if name not in self.storages:
            data = bytearray(self.part(f"data/{name}"))
            self.storages[name] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[name]

    def state_dict(self):
        """{name: tensor} of all parameters and buffers, as the module's own state dict names them."""
        return dict(named_tensors(self.load(), self.declared()))

    def declared(self):
        """{class: names of its parameters and buffers}, from the archive's code; other tensors are no
        state."""
        found = {}
        for name in self.file.namelist():
            part = name.removeprefix(self.root)
            if part.startswith("code/") and part.endswith(".py"):
                module = part[5:-3].replace("/", ".")
                for kind, *lists in DECLARED.findall(self.part(part).decode()):
                    found[f"{module}.{kind}"] = re.findall('"([^"]*)"', "".join(lists))
        return found


def named_tensors(module, declared, prefix=""):
    """(name, tensor) of a module of an archive and of all within it."""
    for name, value in vars(module).items():
        if isinstance(value, Attributes):
            yield from named_tensors(value, declared, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor) and name in declared.get(type(module).origin, ()):
            yield prefix + name, value


def refuse_more_than_tensors(data):
    """ValueError for a pickle that asks for more than tensors in modules need."""
    for opcode, value, _ in pickletools.genops(data):
        if opcode.name not in OPCODES:
            raise ValueError(f"its pickle asks for {opcode.name}, which no tensor needs")
        if opcode.name == "LONG_BINPUT" and value > len(data):  # the reader makes room for as many objects
            raise ValueError(f"its pickle has {len(data)} bytes and makes room for {value} objects")


def first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
