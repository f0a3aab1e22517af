"""One pure function per equation. All compute in float32 (or in the float64 they are given), also under
autocast.

B rows of a batch, D features, C identities, K attributes, M modalities; `pids` and `ids` are (B,) whole
numbers
"""

import torch
import torch.nn.functional as F

from reid_core.precision import in_float32

REDUCTIONS = {"mean": lambda count: count.clamp(min=1), "sum": torch.ones_like}  # over the positives of a row


@in_float32
def identity(logits, pids, smoothing=0.0):
    """Cross-entropy of logits (B, C), a share `smoothing` of the target spread over all C (Szegedy et al.
    2016)."""
    return F.cross_entropy(logits, pids, label_smoothing=smoothing)


@in_float32
def batch_hard_triplet(features, pids, margin=0.3):
    """Hermans et al. 2017 on Euclidean distances of `features` (B, D) as they come. margin None: log(1 +
    exp(.))."""
    near, far = hardest_distances(features, pids)  # (B,) each
    return F.softplus(near - far).mean() if margin is None else F.relu(near - far + margin).mean()


@in_float32
def hardest_distances(features, pids):
    """The farthest row of the same identity (the row itself included) and the nearest of another, (B,) each.

    Masked extremes, so identities may have any number of rows; the published code needs equal numbers.
    """
    squares = features.square().sum(1)  # (B,)
    # (B, B); the clamp keeps the gradient of the root finite at equal rows
    distance = (squares[:, None] + squares - 2 * features @ features.T).clamp(min=1e-12).sqrt()
    same = pids[:, None] == pids  # max and min, not amax and amin: of tied rows one alone gets the gradient
    near = distance.masked_fill(~same, float("-inf"))  # (B, B), candidates for the farthest positive
    far = distance.masked_fill(same, float("inf"))  # (B, B), candidates for the nearest negative
    return near.max(1).values, far.min(1).values


@in_float32
def supervised_contrastive(a, b, a_ids, b_ids, temperature=1.0, cosine=True, reduction="mean"):
    """Each row of `a` (Q, D) against all of `b` (N, D); pairs of one identity are positives. Khosla et al.
    2020; PromptSG Eq. 5-6 (printed without the minus sign and 1/|P|); CLIP-ReID and PAD use raw dot products
    (cosine=False). A row without a positive counts as zero. reduction "sum" adds the positives of a row up,
    as printed, instead of averaging them. KeyError for another reduction.
    """
    positive = (a_ids[:, None] == b_ids).to(a.dtype)  # (Q, N), 1 for a positive
    log_share = similarity(a, b, cosine).div(temperature).log_softmax(1)  # (Q, N)
    count = REDUCTIONS[reduction](positive.sum(1))  # (Q,), at least 1
    return -(positive * log_share).sum(1).div(count).mean()


@in_float32
def pair_contrast(a, b, scale=1.0, cosine=True):
    """Cross-entropy of row i of `a` with row i of `b` among all of `b`, on scale x cosine. HPL Eq. 8-9 (with
    one row per sample, identities repeated); both directions averaged make CLIP's loss."""
    return F.cross_entropy(scale * similarity(a, b, cosine), torch.arange(len(a), device=a.device))


@in_float32
def bank_classification(features, bank, ids, scale=1.0, cosine=True, smoothing=0.0):
    """Cross-entropy of `features` (B, D) against one vector per identity (C, D). HPL Eq. 11 (scale x cosine);
    CLIP-ReID's and PAD's image-to-text term (cosine=False, smoothing 0.1); VLADR's coarse term (bank of the
    batch)."""
    return F.cross_entropy(scale * similarity(features, bank, cosine), ids, label_smoothing=smoothing)


@in_float32
def batch_classification(features, sentences, ids, temperature=1.0):
    """Cross-entropy of `features` (B, D) against one vector per identity *of the batch*, on cosines;
    `sentences` (B, D) holds that of each row's identity. VLADR's coarse term. Rows of one identity count as
    one: no set of identities is asked for, which would make the host wait."""
    count = (ids[:, None] == ids).sum(1)  # (B,)
    logits = similarity(features, sentences) / temperature - count.log()  # (B, B)
    return F.cross_entropy(logits, torch.arange(len(ids), device=ids.device)) - count.log().mean()


@in_float32
def similarity_distribution_matching(images, texts, ids, temperature=0.02, eps=1e-8):
    """SDM (IRRA; HPL Eq. 2): KL of the softmax of cosines from the share of each match, both directions
    summed."""
    same = (ids[:, None] == ids).to(images.dtype)  # (B, B)
    target = (same / same.sum(1, keepdim=True) + eps).log()  # (B, B), symmetric: it serves both directions
    logits = similarity(images, texts) / temperature  # (B, B), images in rows
    return sum((s.softmax(1) * (s.log_softmax(1) - target)).sum(1).mean() for s in (logits, logits.T))


@in_float32
def squared_distance(a, b, normalise=True):
    """Mean over rows of the squared Euclidean distance of (B, ...) tensors, of unit length first if
    `normalise`. HPL Eq. 6 (inversion consistency), 10 (prompt alignment) and, without normalising, 12 (CMPR).
    """
    if normalise:
        a = F.normalize(a, dim=-1)
        b = F.normalize(b, dim=-1)
    return (a - b).square().flatten(1).sum(1).mean()  # (B,) before the mean


@in_float32
def centre_l1(features, pids, detach=False, reduction="mean"):
    """Distance of each row (B, D) to the batch mean of its identity: mean over rows of the mean (or "sum")
    over D of the absolute differences. DMPT Sec. 3.5 for one modality."""
    same = (pids[:, None] == pids).to(features.dtype)  # (B, B)
    centres = same / same.sum(1, keepdim=True) @ features  # (B, D), of each row's identity
    difference = (features - (centres.detach() if detach else centres)).abs()  # (B, D)
    return getattr(difference, reduction)(1).mean()


@in_float32
def modality_contrast(features, texts, temperature=0.01):
    """Which modality is it? Features (B, M, D) against the M sentences (M, D); summed over modalities. DMPT
    Eq. 5-6 read as a classification among the M prompts (decision D16)."""
    # (B M,) 0..M-1
    modalities = torch.arange(features.shape[1], device=features.device).repeat(len(features))
    logits = similarity(features.flatten(0, 1), texts) / temperature  # (B M, M)
    return F.cross_entropy(logits, modalities) * features.shape[1]  # the mean over B M, times M: a sum over M


@in_float32
def modality_pull(features, texts):
    """One minus the cosine with one's own sentence, summed over the M modalities of (B, M, D): another
    reading of DMPT Eq. 5-6."""
    return (1 - F.cosine_similarity(features, texts, dim=-1)).mean(0).sum()  # cosines (B, M)


@in_float32
def feature_distillation(student, teacher):
    """Mean squared difference, averaged over pairs of tensors of one shape, (B, D) each. PAD's featKD."""
    return torch.stack([F.mse_loss(s, t.detach()) for s, t in zip(student, teacher)]).mean()


@in_float32
def logit_distillation(student, teacher, temperature):
    """T^2 x KL(teacher || student) of softened rows (B, N), mean over B. PAD's logitKD (T 4) and, on 7 x
    cosines with T 0.07, TEXKD; Hinton et al. 2015."""
    target = (teacher.detach() / temperature).softmax(1)  # (B, N)
    return temperature**2 * F.kl_div((student / temperature).log_softmax(1), target, reduction="batchmean")


@in_float32
def old_class_distillation(student, teacher, temperature=2.0):
    """Learning without forgetting (Li and Hoiem 2016): cross-entropy with the old model's softened rows (B,
    C_old), zero on the classes (C >= C_old) it did not know, times T^2."""
    # (B, C)
    target = F.pad((teacher.detach() / temperature).softmax(1), (0, student.shape[1] - teacher.shape[1]))
    return -(temperature**2) * (target * (student / temperature).log_softmax(1)).sum(1).mean()


@in_float32
def attribute_alignment(features, texts, scale=1.0):
    """Each image's attribute (B, K, D) with its own sentence (B, K, D) among those of the batch, both
    directions, mean over K. VLADR's L_MAlign: cosines, scale 1."""
    pairs = zip(features.unbind(1), texts.unbind(1))  # K times (B, D) with (B, D)
    return torch.stack([matching(v, t, scale) for v, t in pairs]).mean()


def matching(images, texts, scale=1.0):
    """CLIP's loss: row i of (B, D) with row i of (B, D), both directions averaged, on scale x cosine."""
    return (pair_contrast(images, texts, scale) + pair_contrast(texts, images, scale)) / 2


def attribute_relations(features, temperature=0.005):
    """Softmax over the batch of cosines within each attribute: (B, K, D) -> (K, B, B)."""
    unit = F.normalize(features, dim=-1).transpose(0, 1)  # (K, B, D)
    return (unit @ unit.mT / temperature).softmax(2)


@in_float32
def relation_divergence(new, old, temperature=0.005):
    """How far the relations within a batch moved from the old model's: KL(old || new), mean over rows, summed
    over attributes. VLADR's L_DAlign."""
    now = attribute_relations(new, temperature).clamp(min=1e-8)  # (K, B, B); a logarithm follows
    then = attribute_relations(old.detach(), temperature)  # (K, B, B)
    # a row and an attribute each have a divergence: summed over K and the row's entries, mean over B
    return (torch.xlogy(then, then) - then * now.log()).sum((0, 2)).mean().clamp(min=0)


@in_float32
def orthogonality(features):
    """Mean squared cosine between different attributes of one image, (B, K, D). VLADR as described, stage
    1."""
    unit = F.normalize(features, dim=-1)
    cosine = (unit @ unit.mT).square()  # (B, K, K)
    count = cosine.shape[1]  # K
    # the diagonal, an attribute with itself, does not count
    return (cosine.sum((1, 2)) - cosine.diagonal(dim1=1, dim2=2).sum(1)).mean() / max(count * (count - 1), 1)


@in_float32
def attribute_distance(features, texts):
    """One minus the cosine of each image's attribute (B, K, D) with what its description says of it
    (B, K, D), mean over both. VLADR as described, L_CMA."""
    return (1 - F.cosine_similarity(features, texts, dim=-1)).mean()  # cosines (B, K)


@in_float32
def prototype_distance(features, prototypes):
    """One minus the cosine of each attribute's batch mean (B, K, D) with its memory (K, D), mean over K.
    VLADR as described, L_IDA."""
    return (1 - F.cosine_similarity(features.mean(0), prototypes, dim=-1)).mean()  # cosines (K,)


@in_float32
def image_prototype_distance(features, prototypes):
    """The same for every image of its own, which pulls all people to one point."""
    return (1 - F.cosine_similarity(features, prototypes, dim=-1)).mean()  # cosines (B, K)


@in_float32
def modality_centres_margin(features, pids, margin=1.0, power=2):
    """3M (IEEE; HTT): per identity the largest |margin - distance| between modality centres of (B, M, D),
    summed over identities. power 2: squared Euclidean, 1: mean absolute."""
    centres = torch.stack([features[pids == pid].mean(0) for pid in pids.unique()])  # (identities, M, D)
    pairs = torch.combinations(torch.arange(features.shape[1]))  # (pairs of modalities, 2)
    gaps = centres[:, pairs[:, 0]] - centres[:, pairs[:, 1]]  # (identities, pairs, D)
    distance = gaps.square().sum(-1) if power == 2 else gaps.abs().mean(-1)  # (identities, pairs)
    return (margin - distance).abs().amax(1).sum()


@in_float32
def cross_identity_margin(features, pids, margin=0.5, power=1):
    """CIM (HTT): per pair of identities the largest |margin - distance| over all samples and modalities of
    (B, M, D), mean over pairs (zero where there is one identity). power 1: mean absolute, 2: squared
    Euclidean."""
    groups = [features[pids == pid].flatten(0, 1) for pid in pids.unique()]  # (rows x M, D) of each identity
    largest = []
    for one in range(len(groups)):
        for two in range(one + 1, len(groups)):
            gaps = groups[one][:, None] - groups[two]  # (rows of one, rows of two, D)
            # (rows of one, rows of two)
            distance = gaps.abs().mean(-1) if power == 1 else gaps.square().sum(-1)
            largest.append((margin - distance).abs().max())
    return torch.stack(largest).mean() if largest else features.sum() * 0  # a zero that has a gradient


def similarity(a, b, cosine=True):
    """Cosines, or raw dot products, of all rows of `a` (Q, D) with all rows of `b` (N, D): (Q, N)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T if cosine else a @ b.T
