"""Parts of the methods written down once more, as their equations say and as slowly: what a method computes
is held to them. Nothing here uses the library's own layers or losses; weights are those of a method's towers,
in float64."""

import math

import torch
from torch.nn import functional as F

from reid_core.optim import make_optimisers

EXACT = {"rtol": 1e-8, "atol": 1e-8}  # what float64 leaves between two ways to compute the same

# Transformers


def norm(x, layer):
    """Layer norm over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    spread = torch.sqrt((centred**2).mean(-1, keepdim=True) + layer.eps)
    return centred / spread * layer.weight + layer.bias


def attention(asking, asked, layer, heads, hidden=None):
    """Multi-head attention of tokens `asking` (B, Q, D) on tokens `asked` (B, T, D); `hidden` (Q, T) is true
    where a token is not seen."""
    width = asking.shape[-1]
    to_q, to_k, to_v = layer.in_proj_weight.split(width)
    bias_q, bias_k, bias_v = layer.in_proj_bias.split(width)
    q, k, v = asking @ to_q.T + bias_q, asked @ to_k.T + bias_k, asked @ to_v.T + bias_v
    read = []
    for head in torch.arange(width).split(width // heads):
        scores = q[..., head] @ k[..., head].mT / math.sqrt(len(head))
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        read.append(scores.softmax(-1) @ v[..., head])
    return torch.cat(read, -1) @ layer.out_proj.weight.T + layer.out_proj.bias


def block(x, layer, hidden=None):
    """A block of CLIP: x (B, T, D) -> (B, T, D)."""
    normed = norm(x, layer.ln_1)
    x = x + attention(normed, normed, layer.attn, layer.attn.heads, hidden)
    inner = norm(x, layer.ln_2) @ layer.mlp.c_fc.weight.T + layer.mlp.c_fc.bias
    inner = inner * torch.sigmoid(1.702 * inner)  # QuickGELU
    return x + inner @ layer.mlp.c_proj.weight.T + layer.mlp.c_proj.bias


def embedded(tower, images):
    """What enters the first block of an image tower: images (B, 3, H, W) -> (B, 1 + patches, D)."""
    patches = F.conv2d(images, tower.conv1.weight, stride=tower.stride).flatten(2).mT
    classes = tower.class_embedding.expand(len(images), 1, -1)
    return norm(torch.cat([classes, patches], 1) + tower.positional_embedding, tower.ln_pre)


def sentence(text, vectors):
    """The feature (E,) that a text tower has of one sentence of word vectors (L, W), the last of which ends
    it."""
    x = (vectors + text.positional_embedding[: len(vectors)])[None]
    later = torch.ones(len(vectors), len(vectors), dtype=torch.bool).triu(1)
    for layer in text.transformer.resblocks:
        x = block(x, layer, later)
    return norm(x, text.ln_final)[0, -1] @ text.text_projection


def words_of(text, tokenizer, said):
    """Word vectors (L, W) of a sentence, its first and its last sign included."""
    ids = [tokenizer.sot_token_id, *tokenizer.encode(said), tokenizer.eot_token_id]
    return text.token_embedding.weight[ids]


def batch_norm(x, layer):
    """Batch norm in training."""
    spread = torch.sqrt(x.var(0, unbiased=False) + layer.eps)
    return (x - x.mean(0)) / spread * layer.weight + layer.bias


# Losses


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def contrast(one, other, labels, temperature, cosine):
    """Supervised contrast from rows of `one` to rows of `other`, (B, E) both."""
    if cosine:
        one, other = unit(one), unit(other)
    chance = (one @ other.T / temperature).log_softmax(1)
    rows = [-chance[i, labels == label].mean() for i, label in enumerate(labels)]
    return torch.stack(rows).mean()


def cross_entropy(logits, labels, smoothing=0.0):
    chance = logits.log_softmax(1)
    own = torch.stack([chance[i, label] for i, label in enumerate(labels)])
    return -((1 - smoothing) * own + smoothing * chance.mean(1)).mean()


def triplet(features, labels, margin=None):
    """Batch-hard triplet loss on Euclidean distances; without a margin, softplus."""
    rows = []
    for one, label in zip(features, labels):
        away = (features - one).norm(dim=1)
        gap = away[labels == label].max() - away[labels != label].min()
        rows.append(torch.log1p(gap.exp()) if margin is None else (gap + margin).clamp(min=0))
    return torch.stack(rows).mean()


def divergence(student, teacher, temperature=1.0):
    """T^2 KL(teacher || student) of logits, mean over rows."""
    told = (teacher / temperature).softmax(1)
    gap = (teacher / temperature).log_softmax(1) - (student / temperature).log_softmax(1)
    return temperature**2 * (told * gap).sum(1).mean()


# Methods, away from where they began


def called(method, words, what="person"):
    """Sentences (C, E) of identities with these words (C, n, W): a photo of a ... person (or vehicle)."""
    before, after = (words_of(method.text, method.tokenizer, part) for part in ("A photo of a", f"{what}."))
    rows = [torch.cat([before[:-1], own, after[1:]]) for own in words]
    return torch.stack([sentence(method.text, row) for row in rows])


def gradients(method, loss):
    """{name: gradient} of the parameters of a method that a loss teaches."""
    there = {name: value for name, value in method.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(loss, there.values(), retain_graph=True, allow_unused=True)
    return {name: grad for name, grad in zip(there, found) if grad is not None and grad.abs().sum() > 0}


def same_gradients(method, stage, found, wanted):
    """Two dicts of a stage's terms teach every trained parameter the same, in float64."""
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad and p.numel()}
    how = {"inputs": list(trained.values()), "allow_unused": True, "materialize_grads": True}
    one, other = (
        torch.autograd.grad(sum(weight * terms[name] for name, weight in stage.weights.items()), **how)
        for terms in (found, wanted)
    )
    for name, *pair in zip(trained, one, other):
        torch.testing.assert_close(*pair, **EXACT, msg=lambda said, name=name: f"{name}: {said}")


def moved(modules, spread=0.02, seed=0):
    """Every parameter of `modules` away from where it began, by steps of standard deviation `spread`: what
    begins as a copy of another is none."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for module in modules for p in module.parameters()):
            step = torch.rand(parameter.shape, generator=chance) - 0.5  # faster drawn than a normal one
            parameter.add_(spread * math.sqrt(12) * step)


def in_float64(method, stage, batch):
    """A method, what its stage has prepared, and a batch of it, in float64: the batch."""
    method.double()
    stage.prepare()
    batch.views = [view.double() for view in batch.views]
    batch.cached = {name: value.double() for name, value in batch.cached.items()}
    return batch


# Image towers, block by block


def raw_states(tower, images, side=0.0):
    """What each block of an image tower leaves, [(B, T, D)]; `side` (B, D) joins the class token."""
    patches = F.conv2d(images, tower.conv1.weight, stride=tower.stride).flatten(2).mT
    classes = (tower.class_embedding + side).expand(len(images), -1)[:, None]
    x, found = norm(torch.cat([classes, patches], 1) + tower.positional_embedding, tower.ln_pre), []
    for layer in tower.transformer.resblocks:
        x = block(x, layer)
        found.append(x)
    return found


def supervised(tower, images, side=0.0):
    """f11, f12 and fp: the class token before the last block, behind it and its norm, and projected."""
    *_, before, last = raw_states(tower, images, side)
    normed = norm(last[:, 0], tower.ln_post)
    return before[:, 0], normed, normed @ tower.proj


def learning(method, stage):
    """{parameter: (rate, weight decay)} of what a stage teaches."""
    names = {id(p): name for name, p in method.named_parameters()}
    groups = [group for one in make_optimisers(method, stage.groups) for group in one.param_groups]
    return {names[id(p)]: (g["base_lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def rates(stage, group):
    """The rate of a group in each epoch of its stage, where rates change from epoch to epoch."""
    curve, epochs = stage.schedule, stage.epochs
    return [group.lr * curve.factor(curve.position(e, epochs, 0, 10, False)) for e in range(epochs)]


def changed(method, before):
    """Names of what is no longer as it was in a state `before`."""
    state = method.state_dict()
    return {name for name in state if not torch.equal(state[name], before[name])}


def spoken(text, vectors):
    """What a text tower says (N, L, E) of all words (N, L, W) of sentences of one length."""
    x = vectors + text.positional_embedding[: vectors.shape[1]]
    later = torch.ones(vectors.shape[1], vectors.shape[1], dtype=torch.bool).triu(1)
    for layer in text.transformer.resblocks:
        x = block(x, layer, later)
    return norm(x, text.ln_final) @ text.text_projection


# ResNets, at the test


def stirred(module, seed=0):
    """Batch norms of a module away from where they began, what they have seen included."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (
            one for one in module.modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)
        ):
            for value, least in ((layer.running_mean, -0.5), (layer.running_var, 0.5), (layer.weight, 0.5)):
                value.copy_(least + torch.rand(value.shape, generator=chance))


def by_running(x, layer):
    """Batch norm at the test, of rows (B, D) or of maps (B, D, H, W)."""
    scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return x * scale.view(shape) + (layer.bias - layer.running_mean * scale).view(shape)


def bottleneck(x, layer, stride):
    """A block of CLIP's ResNet: where it strides, it averages over squares."""
    inner = torch.relu(by_running(F.conv2d(x, layer.conv1.weight), layer.bn1))
    inner = torch.relu(by_running(F.conv2d(inner, layer.conv2.weight, padding=1), layer.bn2))
    if stride > 1:
        inner, x = F.avg_pool2d(inner, stride), F.avg_pool2d(x, stride)
    if layer.downsample is not None:
        kernel, scale = (layer.downsample[k] for k in (1, 2))
        x = by_running(F.conv2d(x, kernel.weight), scale)
    return torch.relu(by_running(F.conv2d(inner, layer.conv3.weight), layer.bn3) + x)


def residual(tower, images):
    """Means f3 and f4 of the last two stages of CLIP's ResNet, of which the last does not stride, and what
    the mean of the last and each of its places read from all of them (B, T, E)."""
    x = images
    for k in (1, 2, 3):
        x = F.conv2d(x, getattr(tower, f"conv{k}").weight, stride=2 if k == 1 else 1, padding=1)
        x = torch.relu(by_running(x, getattr(tower, f"bn{k}")))
    x, means = F.avg_pool2d(x, 2), []
    for stage, stride in ((tower.layer1, 1), (tower.layer2, 2), (tower.layer3, 2), (tower.layer4, 1)):
        for place, layer in enumerate(stage):
            x = bottleneck(x, layer, stride if place == 0 else 1)
        means.append(x.mean((2, 3)))
    tokens = torch.cat([means[-1][:, None], x.flatten(2).mT], 1) + tower.attnpool.positional_embedding
    return *means[-2:], pooled(tower.attnpool, tokens, tokens, heads=tokens.shape[2] // 64)


def pooled(layer, asking, asked, heads):
    """Attention with a map each for queries, keys and values: tokens `asking` (B, Q, D) on `asked` (B, T, D),
    in the joint space."""
    pairs = ((layer.q_proj, asking), (layer.k_proj, asked), (layer.v_proj, asked))
    q, k, v = (x @ linear.weight.T + linear.bias for linear, x in pairs)
    read = []
    for head in torch.arange(q.shape[2]).split(q.shape[2] // heads):
        share = (q[..., head] @ k[..., head].mT / math.sqrt(len(head))).softmax(-1)
        read.append(share @ v[..., head])
    return torch.cat(read, -1) @ layer.c_proj.weight.T + layer.c_proj.bias
