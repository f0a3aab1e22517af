"""Files of weights: nothing in them is run, what they are is told, and what does not fit is one sentence."""

import pickle
import warnings
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reid_core import checkpoint, loading, statedict
from reid_core.loading import load_clip, load_file, load_timm, open_model

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


class Leaf(nn.Module):
    """Every kind of attribute that an archive may hold."""

    def __init__(self):
        super().__init__()
        self.short = nn.Parameter(torch.randn(2, 3).half())
        self.turned = nn.Parameter(torch.randn(3, 4).T)
        self.part = nn.Parameter(torch.randn(8)[2:5])
        self.scalar = nn.Parameter(torch.tensor(2.0).bfloat16())
        self.same = self.part
        self.register_buffer("count", torch.arange(3))
        self.register_buffer("empty", torch.zeros(0), persistent=False)
        self.loose = torch.ones(2)  # no part of the state
        self.sizes, self.told, self.words = [1, 2], {"a": 1}, ["b"]

    def forward(self, x):
        return x + self.loose.sum() + self.sizes[0] + self.told["a"] + len(self.words)


class Tree(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Sequential(Leaf(), nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.leaf = Leaf()
        self.flag = nn.Buffer(torch.tensor(True))

    def forward(self, x):
        return self.leaf(self.items(x))


class Evil(nn.Module):
    """Writes a file when `torch.jit.load` reads it."""

    def __init__(self, target):
        super().__init__()
        self.target = target
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training, self.target

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool, str]):
        self.weight = state[0]
        self.training = state[1]
        self.target = state[2]
        torch.save(state[0], state[2])


def traced(tree):
    del tree.leaf.same, tree.items[0].same  # a traced module shares no parameters
    return torch.jit.trace(tree.eval(), torch.ones(2, 2))


@pytest.mark.parametrize("pack", [torch.jit.script, traced])
def test_an_archive_gives_the_state_dict_of_torch_to_the_bit(tmp_path, pack):
    torch.manual_seed(0)
    pack(Tree()).save(str(tmp_path / "tree.pt"))
    wanted = torch.jit.load(tmp_path / "tree.pt").state_dict()
    found, quick_gelu = statedict.read_torch(tmp_path / "tree.pt")
    assert list(found) == list(wanted) and "items.0.short" in found and quick_gelu is None
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def test_nothing_of_an_archive_is_run(tmp_path):
    target = tmp_path / "written"
    torch.jit.script(Evil(str(target))).save(str(tmp_path / "evil.pt"))
    with pytest.raises(ValueError, match="expected weights in .*evil.pt, found"):
        load_clip("tiny", str(tmp_path / "evil.pt"), (64, 32))
    assert not target.exists()
    torch.jit.load(tmp_path / "evil.pt")
    assert target.exists()  # so it would have been


class Call:
    def __init__(self, function, *arguments):
        self.told = function, arguments

    def __reduce__(self):
        return self.told


@pytest.mark.parametrize(
    "data, found",
    [
        (pickle.dumps(Call(open, "/nowhere/x", "w"), 2), "names .*open, which no tensor needs"),
        (pickle.dumps(Call(open, "/nowhere/x", "w"), 4), "asks for (FRAME|SHORT_BINUNICODE|STACK_GLOBAL)"),
        (pickle.dumps(Call(torch.jit.load, "x"), 2), "names torch.jit._serialization.load"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "makes room for 2147483647 objects"),
        (b"\x80\x02ctorch\nFloatStorage\n.", "vars"),
        (b"", "pickle exhausted"),
    ],
    ids=["a function", "a newer pickle", "of torch's", "much room", "no module", "nothing"],
)
def test_a_pickle_with_more_than_tensors_is_refused(tmp_path, data, found):
    with zipfile.ZipFile(tmp_path / "odd.pt", "w") as file:
        file.writestr("odd/data.pkl", data)
        file.writestr("odd/code/x.py", "")
    with pytest.raises(ValueError, match=f"odd.pt, found a file that cannot be read .*{found}"):
        loading.read(tmp_path / "odd.pt")


def test_an_archive_that_unfolds_to_far_more_than_its_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb/data.pkl", bytes(20_000_000))
        file.writestr("bomb/code/x.py", "")
    with pytest.raises(ValueError, match="data.pkl in it unfolds to 20 MB"):
        loading.read(tmp_path / "bomb.pt")


def test_a_checkpoint_with_an_object_is_refused_without_advice_to_trust_it(tmp_path):
    torch.save({"state_dict": open_model("tiny").state_dict(), "args": Call(print, "run")}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="more in it than tensors, numbers and texts") as refused:
        loading.read(tmp_path / "w.pt")
    assert "weights_only" not in str(refused.value)


def packed(state, how):
    """A checkpoint as training programs leave it."""
    before = {"compiled": "_orig_mod.", "both": "module._orig_mod.", "turned": "net._orig_mod.module.model."}
    if how in before:
        return {before[how] + key: value for key, value in state.items()}
    if how == "within":
        return {key.replace("visual.", "visual._orig_mod.module."): value for key, value in state.items()}
    if how == "deep":
        return {"epoch": 3, "model": {"state_dict": state, "name": "x"}}
    if how == "beside":
        return {"epoch": 5, "name": "x", **state}
    return {how: state, "optimizer": {"lr": 0.1}}


HOWS = ["compiled", "both", "turned", "within", "deep", "beside", "model_state_dict", "net", "model"]


@pytest.mark.filterwarnings("ignore:expected weights that tell")
@pytest.mark.parametrize("how", HOWS)
def test_weights_load_however_they_were_packed(tmp_path, how):
    state = open_model("tiny").state_dict()
    torch.save(packed(state, how), tmp_path / "w.pt")
    other = open_model("tiny")
    load_file(other, "tiny", tmp_path / "w.pt")
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    "content, found",
    [
        ([torch.ones(1)], "a list, no state dict"),
        ({"student": {"a": torch.ones(1)}, "epoch": 3}, "no tensors by name, but student, epoch"),
        ({}, "no tensors by name, but nothing"),
        (
            {"a": torch.ones(1), "module.a": torch.ones(1)},
            "two tensors are called a, one of them as module.a",
        ),
    ],
)
def test_a_file_without_one_state_dict_says_what_it_holds(tmp_path, content, found):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=found):
        loading.read(tmp_path / "w.pt")


def test_a_checkpoint_that_holds_itself_is_one_sentence(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="found a file that cannot be read .*recursion"):
        loading.read(tmp_path / "w.pt")


def test_a_file_replaces_weights_that_were_never_drawn(monkeypatch):
    """Undrawn memory may hold anything, and no part of a loaded model may keep it."""
    fill = torch.empty

    def spoilt(*shape, **options):
        made = fill(*shape, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", spoilt)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    loaded = loading.open_model("tiny", loading.locate("tiny"))
    assert torch.equal(torch.random.get_rng_state(), before), "nothing was drawn"
    state, _ = statedict.read(Path(loading.locate("tiny")))
    for name, value in loaded.state_dict().items():
        assert not value.isnan().any(), name
        assert name not in state or torch.equal(value, state[name].float()), name


@pytest.mark.parametrize(
    "key, layout",
    [
        ("vision_model.embeddings.position_ids", "transformers' layout of CLIP: take OpenAI's"),
        (
            "module.image_encoder.conv1.weight",
            "a CLIP-ReID that was trained: take the CLIP that it began with",
        ),
        ("blocks.0.attn.qkv.weight", "timm's or DINO's layout.* load_timm takes it"),
        ("backbone.cls_token", "timm's or DINO's layout"),
        ("features.0.weight", "name the architecture that the file was made for"),
    ],
)
def test_a_file_that_does_not_fit_shows_a_name_of_each_side_and_its_layout(tmp_path, key, layout):
    torch.save({key: torch.zeros(1)}, tmp_path / "w.bin")
    shown = key.removeprefix("module.")
    with pytest.raises(ValueError, match=f"expected positional_embedding of .*but {shown}, in .*{layout}"):
        load_clip("tiny", str(tmp_path / "w.bin"), (64, 32))


def test_a_timm_tower_tells_a_file_of_clip(tmp_path):
    torch.save(open_model("tiny").state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="OpenAI's and open_clip's layout: load_clip takes it"):
        load_timm("tiny_vit", str(tmp_path / "w.pt"), (64, 32))


def test_an_activation_that_is_assumed_is_said_and_can_be_recorded(tmp_path):
    plain, telling = tmp_path / "plain.pt", tmp_path / "telling.safetensors"
    state = open_model("tiny").state_dict()
    torch.save(state, plain)
    save_file(state, telling, {"quick_gelu": "true"})
    with pytest.warns(UserWarning, match="tell their activation, found .*plain.pt.* QuickGELU is assumed"):
        load_clip("tiny", str(plain), (64, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_clip("tiny", str(telling), (64, 32))
    assert loading.activation("tiny", str(plain)) == "QuickGELU (assumed; the file does not tell)"
    assert loading.activation("tiny", str(telling)) == "QuickGELU (the file tells)"
    assert loading.activation("tiny", "tiny") == "QuickGELU (the file tells)"
    assert loading.activation("ViT-B-32", "random") == "GELU (random weights)"


def test_an_archive_that_is_not_openais_does_not_tell_its_activation(tmp_path):
    torch.jit.script(Leaf()).save(str(tmp_path / "leaf.pt"))
    assert loading.read(tmp_path / "leaf.pt")[1] is None


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """No weights on this machine, no file for them, and nobody who fetches."""
    monkeypatch.delenv("REID_WEIGHTS", raising=False)
    monkeypatch.delenv("REID_FETCH", raising=False)
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_: None)
    real = open_clip.create_model

    def create(name, pretrained=None, **options):
        assert pretrained is None, "fetched"
        return real(name, **options)

    monkeypatch.setattr(open_clip, "create_model", create)


def test_published_weights_are_fetched_only_with_consent(no_hub, monkeypatch):
    wanted = (
        "'openai' of ViT-B-16-quickgelu on this machine.*REID_WEIGHTS, or set REID_FETCH=yes .*about 0.6 GB"
    )
    with pytest.raises(ValueError, match=wanted):
        load_clip("ViT-B-16-quickgelu", "openai")
    monkeypatch.setenv("REID_FETCH", "yes")
    with pytest.raises(ValueError, match="cannot be fetched .fetched"):
        load_clip("ViT-B-16-quickgelu", "openai")


def test_what_was_fetched_before_needs_no_consent(no_hub, monkeypatch):
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda repository, file: f"/cache/{file}")
    with pytest.raises(ValueError, match="cannot be fetched .fetched"):
        load_clip("ViT-B-16-quickgelu", "openai")


def test_the_variable_names_a_file_and_says_so_where_it_does_not(tmp_path, monkeypatch):
    for value in ("openai", str(tmp_path), str(tmp_path / "nothing.pt")):
        monkeypatch.setenv("REID_WEIGHTS", value)
        for ask in (loading.locate, loading.fingerprint, loading.temperature):
            with pytest.raises(
                ValueError, match="expected a file of weights at .*name a file in .REID_WEIGHTS"
            ):
                ask("openai")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pt").touch()
    monkeypatch.setenv("REID_WEIGHTS", "~/w.pt")
    assert loading.locate("openai") == loading.locate("~/w.pt") == str(tmp_path / "w.pt")


def test_the_variable_does_not_stand_for_a_tag_that_is_misspelt(tmp_path, monkeypatch):
    save_file(open_model("tiny").state_dict(), tmp_path / "w.safetensors", {"quick_gelu": "true"})
    monkeypatch.setenv("REID_WEIGHTS", str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match="expected weights for tiny at opnai or a tag .*, found neither"):
        load_clip("tiny", "opnai")
    assert load_clip("tiny", "openai", (64, 32))


def test_a_tag_is_no_file_of_that_name(tmp_path, monkeypatch):
    """Else the record would hold the digits of a file that was not loaded."""
    monkeypatch.delenv("REID_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").write_bytes(b"x")
    assert loading.fingerprint("openai") == "openai" and loading.locate("openai") == "openai"


def test_a_model_of_the_projects_own_that_is_missing_is_not_replaced_by_chance(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="expected a file of weights at .*tiny.safetensors, found none; git"):
        load_clip("tiny", "tiny")


def test_weights_without_a_temperature_say_so():
    with pytest.raises(
        ValueError, match="expected a CLIP's logit_scale in .*tiny_vit.safetensors, found none"
    ):
        loading.temperature("tiny_vit")


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-100], lambda data: data[:50]])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_weights_that_were_cut_are_one_sentence(tmp_path, damage, kind):
    path, state = tmp_path / f"w.{kind}", {"a": torch.ones(99)}
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"expected weights in .*, found a file that cannot be read"):
        loading.read(path)


TENSORS = {
    "half": torch.randn(2, 3).half(),
    "scalar": torch.tensor(2.0).bfloat16(),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "turned": torch.randn(3, 4).T,
}


def test_trained_weights_come_back_with_their_key(tmp_path):
    checkpoint.save_tensors(tmp_path / "w.safetensors", TENSORS, "a run of the year 2026")
    found, key = checkpoint.read_tensors(tmp_path / "w.safetensors")
    assert key == "a run of the year 2026" and found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


def test_a_bit_that_flipped_in_trained_weights_is_noticed(tmp_path):
    path = tmp_path / "w.safetensors"
    checkpoint.save_tensors(path, TENSORS, "key")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected the weights that a training left in .*altered; remove it"):
        checkpoint.read_tensors(path)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:20]])
def test_trained_weights_that_were_cut_are_one_sentence(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    checkpoint.save_tensors(path, TENSORS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match="expected trained weights in .*cannot be read .*; remove it and train"
    ):
        checkpoint.read_tensors(path)


def test_trained_weights_of_before_the_digest_are_read(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors", {"key": "older"})
    assert checkpoint.read_tensors(tmp_path / "w.safetensors")[1] == "older"


@pytest.mark.parametrize("content", [{"method": Call(print, "run")}, [1, 2]])
def test_a_whole_checkpoint_that_torch_refuses_is_one_sentence(tmp_path, content):
    checkpoint.save(tmp_path, 1, content)
    with pytest.raises(ValueError, match="expected a checkpoint in .*state-000000001-.*; remove it and run"):
        checkpoint.latest(tmp_path)


def test_a_state_of_no_run_is_set_aside(tmp_path):
    place = tmp_path / "s0"
    place.mkdir()
    checkpoint.save(place, 1, {"number": 1})
    checkpoint.set_aside_other_run(place, "now", lambda text: None)
    assert checkpoint.latest(tmp_path / "s0-interrupted-1") == {"number": 1}
