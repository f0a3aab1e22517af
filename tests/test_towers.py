"""The towers: open_clip and timm inside, tokens and room for prompts outside; and weights from every kind of
file."""

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from reid_core import loading, towers
from reid_core.loading import load_clip, load_file, load_timm, open_model
from reid_core.precision import attend
from reid_core.towers import resize_positions


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return load_clip("tiny", None, (128, 64))


def images(batch=2, size=(128, 64)):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def test_the_image_tower_says_what_open_clip_says():
    torch.manual_seed(0)
    model = open_model("tiny").eval()
    wanted = model.visual(images())
    tower = towers.ClipViT(model.visual, (128, 64)).eval()
    assert torch.allclose(tower.joint_cls(tower(images())), wanted, atol=1e-5)


def test_the_text_tower_says_what_open_clip_says_and_shorter_sentences_change_nothing():
    torch.manual_seed(0)
    model = open_model("tiny").eval()
    tower, ids = (
        towers.TextEncoder(model).eval(),
        open_clip.get_tokenizer("tiny")(["a man in a red coat", "A person."]),
    )
    wanted = model.encode_text(ids)
    assert torch.allclose(tower.sentences(ids), wanted, atol=1e-5)
    assert (
        torch.allclose(tower.sentences(towers.cropped(ids)), wanted, atol=1e-5)
        and towers.cropped(ids).shape[1] == 8
    )


def test_the_resnet_says_what_open_clip_says_when_its_stride_is_put_back():
    torch.manual_seed(0)
    model = open_model("RN50-quickgelu").eval()
    first = model.visual.layer4[0]
    kept = first.avgpool, first.downsample[0]
    with torch.no_grad():
        wanted = model.visual(images(1, (224, 224)))
        tower = towers.ClipResNet(model.visual, (112, 112)).eval()
        tower.layer4[0].avgpool, tower.layer4[0].downsample[0] = kept
        found = tower.joint_cls(tower(images(1, (224, 224))))
    assert tower.widths == (1024, 2048, 1024) and torch.allclose(found, wanted, atol=1e-4)


def test_the_timm_tower_says_what_timm_says():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="token").eval()
    tower = towers.TimmViT(model, (224, 224)).eval()
    with torch.no_grad():
        assert torch.allclose(
            tower(images(1, (224, 224))).tokens[:, 0], model(images(1, (224, 224))), atol=1e-5
        )


def test_a_timm_vit_takes_rectangles_and_has_no_joint_space():
    tower = load_timm("vit_tiny_patch16_224", None, (64, 32))
    assert tower(images(1, (64, 32))).tokens.shape == (1, 9, 192) and tower.joint_width is None


@pytest.mark.parametrize(
    "name, size, stride, grid",
    [
        ("ViT-B-32-quickgelu", (256, 128), None, (8, 4)),
        ("tiny", (256, 128), 12, (21, 10)),
        ("tiny", (384, 128), None, (24, 8)),
    ],
)
def test_any_size_and_stride_gives_its_grid(name, size, stride, grid):
    tower = load_clip(name, None, size, stride).image
    assert tower.grid == grid
    out = tower(images(1, size))
    assert out.tokens.shape[1] == 1 + grid[0] * grid[1] and len(out.hidden) == len(tower.blocks)


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="patches of 16 pixels divide, found 250x128"):
        load_clip("tiny", None, (250, 128))


def test_positions_of_the_right_size_stay_as_they_were_trained():
    table = torch.randn(1 + 24 * 8, 5)
    assert torch.equal(resize_positions(table, (24, 8)), table)


def test_the_first_position_is_copied_and_a_plane_stays_a_plane():
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    table = torch.cat([torch.full((1, 2), 99.0), torch.stack([rows, columns], -1).view(-1, 2)])
    resized = resize_positions(table, (16, 8))
    inner = resized[1:].view(16, 8, 2)[1:-1, 1:-1]
    assert (resized[0] == 99).all() and torch.allclose(
        inner.diff(dim=0)[..., 0], torch.tensor(14 / 16), atol=1e-5
    )


def test_prompts_join_each_block_and_leave_the_sequence_as_it_was(tiny):
    seen = []

    def prompter(index, x, prompts):
        seen.append((index, x.shape[1], prompts.shape[1]))
        return torch.full((len(x), 3, x.shape[2]), 0.1)

    out = tiny.image(images(), prompter=prompter)
    assert seen == [(k, 33, 0 if k == 0 else 3) for k in range(6)]
    assert out.tokens.shape[1] == 33 and out.prompts.shape == (2, 3, 192)
    assert not torch.allclose(out.tokens, tiny.image(images()).tokens, atol=1e-3)


def test_the_place_of_prompts_in_the_sequence_is_immaterial(tiny):
    table = torch.randn(5, 192, generator=torch.Generator().manual_seed(1)) * 0.1
    one, two = (
        tiny.image(images(), prompter=lambda k, x, p, t=t: t.expand(len(x), -1, -1))
        for t in (table, table.flip(0))
    )
    assert torch.allclose(one.tokens, two.tokens, atol=1e-5)


def gradients(loss, module):
    """{name: gradient} of what the loss reaches."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def alike(one, two):
    """Whether two of these differ by rounding alone; some gradients, as of a key's bias, are nothing else."""
    largest = max(g.norm() for g in one.values())
    off = [(one[n] - two[n]).norm() / (one[n].norm() + 1e-3 * largest) for n in one.keys() & two.keys()]
    return one.keys() == two.keys() and max(off) < 1e-4


WAYS = {  # prompters, and towers
    "plain": ({}, towers.no_prompts),
    "with prompts": ({}, lambda k, x, p: 0.1 * x[:, :3]),
    "two class tokens": ({"extra_tokens": 1}, towers.no_prompts),
    "isolated": ({"extra_tokens": 1, "isolated": True}, towers.no_prompts),
}


@pytest.mark.parametrize("kind", WAYS)
def test_class_tokens_alone_are_what_they_are_among_all_tokens(kind):
    how, prompter = WAYS[kind]
    torch.manual_seed(0)
    tower = load_clip("tiny", None, (128, 64), **how).image
    count = 1 + how.get("extra_tokens", 0)
    found = []
    for read in (None, count):
        out = tower(images(), prompter=prompter, read=read)
        features = *tower.reid_features(out), tower.joint_token(out, count - 1)
        found.append((features, gradients(sum(f.square().sum() for f in features), tower)))
    (whole, by_all), (few, by_few) = found
    assert all(torch.allclose(one, two, rtol=1e-4, atol=1e-5) for one, two in zip(whole, few))
    assert out.tokens.shape[1] == out.hidden[-1].shape[1] == count and out.prompts.shape[1] == 0
    assert alike(by_all, by_few)


def test_any_tower_may_be_asked_for_few_tokens():
    """timm's blocks and the ResNet compute what they always do."""
    torch.manual_seed(0)
    timm_tower = load_timm("vit_tiny_patch16_224", None, (64, 32))
    for tower in (timm_tower, load_clip("RN50-quickgelu", None, (64, 32)).image):
        whole, few = (tower.eval()(images(2, (64, 32)), read=read) for read in (None, 1))
        assert all(map(torch.equal, tower.reid_features(whole), tower.reid_features(few)))
    assert torch.equal(tower.joint_token(few, 0), tower.joint_cls(whole))
    assert few.tokens.shape == whole.tokens.shape
    assert timm_tower(images(2, (64, 32)), read=1).tokens.shape[1] == 1


def test_the_end_token_alone_is_what_it_is_among_all_words(tiny):
    ids = open_clip.get_tokenizer("tiny")(["a man in a red coat", "A person."])
    found = []
    for says in (lambda *words: tiny.text.joint_end(tiny.text(*words)), tiny.text.feature):
        feature = says(tiny.text.embed(ids), ids.argmax(1))
        found.append((feature, gradients(feature.square().sum(), tiny.text)))
    (whole, by_all), (alone, by_end) = found
    assert torch.allclose(whole, alone, atol=1e-5) and alike(by_all, by_end)


MASKS = {"none": None, "causal": torch.full((9, 9), -torch.inf).triu(1)} | {
    "by row": torch.zeros(2, 1, 1, 9).index_fill(3, torch.tensor([7, 8]), -torch.inf)
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_under_autocast_is_off_by_its_rounded_inputs_and_result_alone(name):
    """Logits as large as those of a trained tower, and their gradients, stay in float32."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        q, k, v = (torch.randn(2, 3, 9, 64) for _ in range(3))
        q = q * 25 * 8 / (q @ k.mT).max()  # logits up to 25
        q, k, v = (x.bfloat16().to(dtype).requires_grad_() for x in (q, k, v))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            read = attend(q, k, v, MASKS[name])
        read.float().square().sum().backward()
        found[dtype] = [x.float() for x in (read, q.grad, k.grad, v.grad)]
        assert read.dtype == dtype
    for exact, rounded in zip(*found.values()):
        assert (exact - rounded).norm() < 0.004 * exact.norm()


def test_a_mask_may_be_of_another_precision_than_what_it_masks():
    torch.manual_seed(0)
    q, k, v = (torch.randn(4, 2, 34, 64, dtype=torch.float64) for _ in range(3))
    mask = torch.zeros(4, 1, 1, 34)
    mask[..., 5:] = -torch.inf
    wanted = (q @ k.mT / 8 + mask).softmax(-1) @ v
    assert torch.allclose(attend(q, k, v, mask), wanted)


def test_an_extra_class_token_starts_as_a_copy():
    torch.manual_seed(0)
    out = load_clip("tiny", None, (128, 64), extra_tokens=1).image(images())
    assert out.tokens.shape[1] == 34 and torch.allclose(out.tokens[:, 0], out.tokens[:, 1], atol=1e-5)


def test_an_isolated_class_token_changes_nothing_for_the_others():
    model = open_model("tiny")
    plain = towers.ClipViT(model.visual, (128, 64))(images()).tokens
    routed = towers.ClipViT(model.visual, (128, 64), extra_tokens=1, isolated=True)(images()).tokens
    assert torch.allclose(routed[:, [0, *range(2, 34)]], plain, atol=1e-5)


def test_the_camera_joins_the_class_token_alone_or_all_tokens():
    x, cameras = torch.zeros(2, 5, 8), torch.tensor([1, 0])
    for tokens, told in ((1, 1), (None, 5)):
        embedding = towers.CameraEmbedding(3, 8, 2.0, tokens)
        out = embedding(x, cameras)
        assert torch.equal(out[:, :told], 2 * embedding.table[cameras][:, None].expand(-1, told, -1))
        assert (out[:, told:] == 0).all() and out.shape == x.shape


def test_an_unseen_camera_receives_the_mean_of_the_table():
    embedding = towers.CameraEmbedding(3, 8, 1.0, 1)
    out = embedding(torch.zeros(1, 2, 8), torch.tensor([-1]))
    assert torch.allclose(out[0, 0], embedding.table.mean(0))


def test_a_tower_that_is_no_clip_is_refused():
    with pytest.raises(ValueError, match="expected an architecture that open_clip knows, found 'ViT-B-61'"):
        load_clip("ViT-B-61")
    with pytest.raises(ValueError, match="a causal text tower|CLIP's ViT or ResNet"):
        load_clip("ViT-B-16-SigLIP", None, (224, 224))


def saved(model, path, kind):
    state = model.state_dict()
    if kind == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path, {"quick_gelu": "true"})
    elif kind == "half precision":
        torch.save({k: v.half() for k, v in state.items()}, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        openai_archive(model, path)
    return path


def openai_archive(model, path):
    """A TorchScript file like OpenAI's: half-precision weights and three numbers as buffers."""

    class Archive(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("input_resolution", torch.tensor(128))
            self.register_buffer("context_length", torch.tensor(77))
            self.register_buffer("vocab_size", torch.tensor(49408))

        def forward(self, x):
            return x

    archive = Archive()
    for key, value in model.state_dict().items():
        *modules, name = key.split(".")
        place = archive
        for step in modules:
            if not hasattr(place, step):
                place.add_module(step, Holder())
            place = getattr(place, step)
        place.register_buffer(name, value.half())
    torch.jit.script(archive).save(str(path))


class Holder(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize("kind", ["safetensors", "half precision", "wrapped", "openai archive"])
def test_weights_load_from_every_kind_of_file(tmp_path, kind):
    torch.manual_seed(1)
    model = open_model("tiny")
    path = saved(model, tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt"), kind)
    other = open_model("tiny")
    load_file(other, "tiny", path)
    for (name, one), two in zip(model.state_dict().items(), other.state_dict().values()):
        tolerance = 0 if kind in ("safetensors", "wrapped") else 2e-3
        assert two.dtype == torch.float32 and torch.allclose(one, two, rtol=tolerance, atol=tolerance), name


def test_a_quick_gelu_mismatch_is_refused(tmp_path, monkeypatch):
    path = saved(open_model("tiny"), tmp_path / "w.pt", "openai archive")
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: {"quick_gelu": False})
    with pytest.raises(ValueError, match="found the other activation; use tiny-quickgelu"):
        load_file(open_model("tiny"), "tiny", path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = saved(open_model("tiny"), tmp_path / "w.safetensors", "safetensors")
    with pytest.raises(
        ValueError, match="expected .* for ViT-B-32-quickgelu, found .* name the architecture"
    ):
        load_file(open_model("ViT-B-32-quickgelu"), "ViT-B-32-quickgelu", path)


def test_a_file_that_is_not_there_or_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="found neither; put the file there"):
        load_clip("tiny", str(tmp_path / "nothing.pt"))
    (tmp_path / "broken.pt").write_bytes(b"PK not really")
    with pytest.raises(
        ValueError, match=r"expected weights in .*broken.pt, found a file that cannot be read"
    ):
        load_clip("tiny", str(tmp_path / "broken.pt"))


def test_weights_that_cannot_be_fetched_are_asked_for_in_one_sentence(monkeypatch):
    monkeypatch.setenv("REID_FETCH", "yes")

    def unreachable(*_, **__):
        raise RuntimeError("Failed to download weights\nand a long story")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(
        ValueError, match="found that they cannot be fetched .Failed to download weights.; put the file here"
    ):
        open_model("ViT-B-16-quickgelu", "openai")


def test_weights_that_are_named_win_over_the_variable_which_stands_for_tags(tmp_path, monkeypatch):
    one = tmp_path / "one.pt"
    one.touch()
    monkeypatch.setenv("REID_WEIGHTS", str(one))
    assert loading.locate("/w/two.pt") == "/w/two.pt" and loading.locate("two.bin") == "two.bin"
    assert loading.locate("openai") == str(one)
    assert loading.locate(None) is None and loading.locate("random") is None
    monkeypatch.setenv("REID_WEIGHTS", " ")
    assert loading.locate("openai") == "openai"
