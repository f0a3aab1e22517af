"""Parts of the methods written down once more, as their equations say and as slowly: what a method computes
is held to them. Nothing here uses the library's own layers or losses; weights are those of a method's towers,
in float64."""

import math

import torch
from torch.nn import functional as F

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


def called(method, words):
    """Sentences (C, E) of identities with these words (C, n, W): a photo of a ... person."""
    before, after = (words_of(method.text, method.tokenizer, part) for part in ("A photo of a", "person."))
    rows = [torch.cat([before[:-1], own, after[1:]]) for own in words]
    return torch.stack([sentence(method.text, row) for row in rows])


def gradients(method, loss):
    """{name: gradient} of the parameters of a method that a loss teaches."""
    there = {name: value for name, value in method.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(loss, there.values(), retain_graph=True, allow_unused=True)
    return {name: grad for name, grad in zip(there, found) if grad is not None and grad.abs().sum() > 0}


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
