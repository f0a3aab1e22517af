"""What every method is compared with: CLIP's image tower fine-tuned with identity and triplet losses, and the
same idea for sentences and for spectra, with which the gates of the world are measured.

The recipe is CLIP-ReID's, whose code holds the baseline of all five papers (train.py).
"""

import copy
import dataclasses
import hashlib

import torch
from torch import nn

from data_prep.join import join
from reid_core import loading
from reid_core.augment import Augmentation, Erasing
from reid_core.data import CaptionTable, ReidData
from reid_core.layers import Head
from reid_core.loading import load_clip
from reid_core.losses import (
    batch_hard_triplet,
    feature_distillation,
    identity,
    old_class_distillation,
    similarity_distribution_matching,
)
from reid_core.methods.base import (
    IMAGES,
    LifelongMethod,
    Losses,
    Method,
    Stage,
    Task,
    chance_of,
    ema_,
    nothing,
)
from reid_core.optim import Group
from reid_core.randaugment import RandAugment
from reid_core.samplers import CaptionShuffle, IdentityBatches
from reid_core.schedules import warmup_milestones

TESTED = "f12+fp"  # the test feature: class token and joint feature side by side, before the necks


def published_train_view(recipe):
    """The training images of CLIP-ReID's code (datasets/make_dataloader.py): flipped, padded, cropped,
    erased."""
    r = recipe
    area = (r.random_erasing_area_min, r.random_erasing_area_max)
    erasing = Erasing(r.random_erasing_p, area, r.random_erasing_aspect)
    return Augmentation(r.train_interpolation, r.norm_mean, r.norm_std, r.flip_p, r.pad, erasing=(erasing,))


def published_strong_view(recipe):
    """The second view of VLADR's training (ShrinkMatchTransfer.py): flipped, cropped with reflected borders,
    RandAugment with a cut-out, and no erasing."""
    r = recipe
    chance = RandAugment(
        r.strong_randaugment_n, r.strong_randaugment_m, cutout=r.strong_cutout / r.image_height
    )
    pad = r.strong_reflect_padding
    return Augmentation("bicubic", r.norm_mean, r.norm_std, 0.5, pad, "reflect", randaugment=chance)


class PublishedViews:
    """How CLIP-ReID's code augments training images and resizes test images (datasets/make_dataloader.py);
    PromptSG takes it over."""

    def train_view(self):
        return published_train_view(self.recipe)

    def test_view(self):
        r = self.recipe
        return Augmentation(r.test_interpolation, r.norm_mean, r.norm_std)  # without flip and crop


def reid_terms(heads, features, labels, recipe):
    """L_ID summed over the two heads, which read f12 and fp, and L_tri over all three features, (B, D) each
    (CLIP-ReID, loss/make_loss.py; PAD, pad/losses.py)."""
    logits = [head(feature) for head, feature in zip(heads, features[1:])]  # (B, C) each
    by_identity = [identity(z, labels, recipe.label_smoothing) for z in logits]
    by_triplet = [batch_hard_triplet(f, labels, recipe.triplet_margin) for f in features]
    return {"identity": sum(by_identity), "triplet": sum(by_triplet)}


class VisualPath(PublishedViews, Method):
    """What the baseline and CLIP-ReID share: the image tower, two necks with classifiers, and the features
    f11, f12 (class tokens before and after the last block) and fp (joint space)."""

    def __init__(self, recipe, data):
        super().__init__(recipe)
        r = recipe
        cameras = len(data.cameras) if r.sie else 0  # a coefficient of 0 makes no embedding
        self.size = (r.image_height, r.image_width)
        self.data = data
        self.image, self.text, self.tokenizer = load_clip(
            r.backbone, r.pretrained, self.size, r.stride, cameras=cameras, sie=r.sie, sie_std=r.sie_init_std
        )
        _, last, joint = self.image.widths  # f11 has no head
        with chance_of("heads"):
            self.heads = nn.ModuleList(
                Head(width, data.classes, r.classifier_init_std) for width in (last, joint)
            )

    def encode(self, batch):
        """f11, f12, fp of the first view, (B, D) each."""
        return self.encode_view(batch, batch.images)

    def encode_view(self, batch, images):
        """The same of one view (B, M, 3, H, W) of the batch, M = 1."""
        return self.image.reid_features(self.image(images.flatten(0, 1), batch.cameras, read=1))

    def train_views(self):
        """The views of a training image."""
        return [self.train_view()]

    def visual_losses(self, features, labels):
        """L_ID and L_tri of f11, f12 and fp (`reid_terms`)."""
        return reid_terms(self.heads, features, labels, self.recipe)

    def visual_stage(self, name, losses, weights, prepare=nothing, start=nothing):
        """Stage 2 of CLIP-ReID, which is all there is to the baseline."""
        r = self.recipe
        decay = {"weight_decay": r.stage2_weight_decay, "bias_factor": r.stage2_bias_lr_factor}
        return Stage(
            name=name,
            epochs=r.stage2_epochs,
            # P x K
            sampler=IdentityBatches(self.data.labels, r.stage2_ids_per_batch, r.stage2_images_per_id),
            views=self.train_views(),
            losses=losses,
            weights=weights,
            groups=[
                Group(members=[self.image], lr=r.stage2_lr, **decay),
                Group(members=[self.heads], lr=r.stage2_head_lr, **decay),
            ],
            schedule=warmup_milestones(
                r.stage2_span,
                r.stage2_warmup_epochs,
                r.stage2_warmup_factor,
                r.stage2_milestones,
                r.stage2_lr_decay_factor,
            ),
            start=start,
            prepare=prepare,
            stream=IMAGES,
        )

    def features(self, batch, names):
        """f11, f12, fp, (B, D) each."""
        return dict(zip(("f11", "f12", "fp"), self.encode(batch)))

    def retrieval_tasks(self):
        return {
            "image to image": Task(TESTED, TESTED),
            "image to image, re-ranked": Task(TESTED, TESTED, rerank=True),
        }


class Baseline(VisualPath):
    """CLIP fine-tune: L = L_ID + L_tri. No sentence is ever read."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        del self.text

    def stages(self):
        weights = {"identity": self.recipe.id_weight_baseline, "triplet": self.recipe.triplet_weight}
        return [self.visual_stage("image encoder", self.losses, weights)]

    def losses(self, batch):
        return Losses(self.visual_losses(self.encode(batch), batch.labels))


class TextBaseline(VisualPath):
    """Both towers fine-tuned with SDM (Jiang and Ye, CVPR 2023) and an identity loss: the least that text
    search needs. SDM divides cosines by what the towers were pretrained with: there 0.02, about what CLIP
    ends with, here more."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.captions = CaptionTable(data.train.captions, self.tokenizer)
        self.temperature = loading.temperature(recipe.pretrained, architecture=recipe.backbone)

    def stages(self):
        r = self.recipe
        curve = warmup_milestones(
            r.stage2_span, r.stage2_warmup_epochs, r.stage2_warmup_factor, r.stage2_milestones
        )
        matching = Stage(
            name="image-text matching",
            epochs=max(1, r.stage2_epochs // 2),  # an epoch of pairs shows every image twice
            sampler=CaptionShuffle(range(len(self.data.train)), self.captions.counts, r.stage1_batch),
            views=[self.train_view()],
            losses=self.losses,
            weights={"matching": 1.0, "identity": 1.0},
            groups=[
                Group(members=[self.image, self.text], lr=r.stage2_lr),
                Group(members=[self.heads[1]], lr=r.stage2_head_lr),
            ],
            schedule=curve,
            captions=self.captions,
            stream="learn to read",  # the stream that the gates were measured with
        )
        return [matching]

    def losses(self, batch):
        image = self.encode(batch)[2]  # fp (B, E)
        text = self.encode_text(batch)  # (B, E): the sampler gives every row a sentence
        logits = [self.heads[1](feature) for feature in (image, text)]  # (B, C) of each, from one head
        matching = similarity_distribution_matching(image, text, batch.labels, self.temperature)
        identities = [identity(z, batch.labels) for z in logits]
        return Losses({"matching": matching, "identity": sum(identities)})

    def encode_text(self, batch):
        """Sentence features (N, E)."""
        return self.text.sentences(batch.text)

    def features(self, batch, names):
        return {"caption": self.encode_text(batch)} if "caption" in names else super().features(batch, names)

    def retrieval_tasks(self):
        return {"text to image": Task("caption", "fp", "text")}


class SpectraBaseline(Baseline):
    """The baseline on some of the spectra: one tower for all of them, features side by side."""

    multispectral = True
    spectra = (0,)  # positions among those of a shot

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        widths = (len(self.spectra) * width for width in self.image.widths[1:])
        self.heads = nn.ModuleList(Head(width, data.classes, recipe.classifier_init_std) for width in widths)

    def encode(self, batch):
        """f11, f12, fp of each of the spectra, side by side: (B, spectra x D) each."""
        images = batch.images[:, list(self.spectra)]  # (B, spectra, 3, H, W)
        found = self.image.reid_features(self.image(images.flatten(0, 1), read=1))  # (B x spectra, D) each
        return tuple(feature.unflatten(0, images.shape[:2]).flatten(1) for feature in found)


class HeatBaseline(SpectraBaseline):
    """The baseline without visible light."""

    spectra = (1, 2)


class Sequential(Baseline, LifelongMethod):
    """The baseline on one domain after the other: what forgetting is measured against. Heads are new in every
    domain; the tower goes on."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.position = 0

    def begin_domain(self, domain, number):
        self.data = domain
        self.position = number
        with chance_of("heads"):
            self.heads = nn.ModuleList(
                Head(width, self.data.classes, self.recipe.classifier_init_std)
                for width in self.image.widths[1:]
            )

    def stages(self):
        weights = {"identity": self.recipe.id_weight_baseline, "triplet": self.recipe.triplet_weight}
        weights |= self.distilled() if self.position > 1 else {}
        return [self.visual_stage("image encoder", self.losses, weights, start=self.remember)]

    def train_views(self):
        """VLADR's strong view beside the own one, where the recipe has it."""
        return [self.train_view(), *[published_strong_view(self.recipe)] * self.recipe.strong_view]

    def losses(self, batch):
        return Losses(self.terms_of_views(batch, self.encode(batch), batch.labels))

    def terms_of_views(self, batch, features, labels):
        """L_ID and L_tri of the first view, whose `features` are given, and of all others, summed."""
        others = [self.encode_view(batch, images) for images in batch.views[1:]]
        each = [self.visual_losses(one, labels) for one in (features, *others)]
        return {term: sum(terms[term] for terms in each) for term in each[0]}

    def distilled(self):
        """Weights of the terms that hold on to earlier domains, from the second on."""
        return {}

    def remember(self):
        """What becomes of the model as it stands before a domain."""


class FeatureDistillation(Sequential):
    """Sequential training whose features stay near those of the model before the domain (mean squared
    difference over f11, f12 and fp, PAD's featKD), on images of the new domain alone."""

    weight = 1.0  # of the term that holds on to what was learned

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.old = copy.deepcopy(self.image)

    def remember(self):
        self.old.load_state_dict(self.image.state_dict())

    def distilled(self):
        return {"feature distillation": self.weight}

    def losses(self, batch):
        features = self.encode(batch)
        terms = self.terms_of_views(batch, features, batch.labels)
        return Losses(terms | self.kept_terms(batch, features))

    def kept_terms(self, batch, features):
        """The terms of `distilled`; none in the first domain."""
        if self.position < 2:
            return {}
        return {"feature distillation": feature_distillation(features, self.old_features(batch))}

    @torch.no_grad()
    def old_features(self, batch):
        """f11, f12, fp of the tower as it was before the domain, (B, D) each."""
        return self.old.reid_features(self.old(batch.images.flatten(0, 1), batch.cameras, read=1))


class LearningWithoutForgetting(FeatureDistillation):
    """LwF (Li and Hoiem 2016): heads grow, and what they say of earlier identities stays what the old heads
    said of the same images, at temperature 2."""

    temperature = 2.0  # Li and Hoiem 2016

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.old_heads = copy.deepcopy(self.heads)

    def begin_domain(self, domain, number):
        if number == 1:
            return super().begin_domain(domain, number)
        self.data = domain
        self.position = number
        with chance_of(f"heads of domain {number}"):
            for head in self.heads:
                head.grow(domain.classes, self.recipe.classifier_init_std)

    def remember(self):
        """The old heads are the new ones without the rows that the domain has added."""
        super().remember()
        self.old_heads.load_state_dict(self.heads.state_dict())
        for head in self.old_heads:
            head.resize(head.classifier.weight.detach()[: -self.data.classes])

    def distilled(self):
        return {"logit distillation": self.weight}

    def losses(self, batch):
        """Labels count from the first row that belongs to the domain."""
        first = self.heads[0].classifier.out_features - self.data.classes  # identities of earlier domains
        features = self.encode(batch)
        terms = self.terms_of_views(batch, features, batch.labels + first)
        return Losses(terms | self.kept_terms(batch, features))

    def kept_terms(self, batch, features):
        if self.position < 2:
            return {}
        sides = zip(self.heads, self.old_heads, features[1:], self.old_features(batch)[1:])
        terms = [
            old_class_distillation(head(new), old_head(old), self.temperature)
            for head, old_head, new, old in sides
        ]
        return {"logit distillation": torch.stack(terms).mean()}


class WeightFusion(FeatureDistillation):
    """Sequential training, after which the tower is averaged with the one before the domain."""

    share = 0.5  # of the new tower

    def distilled(self):
        return {}

    def kept_terms(self, batch, features):
        return {}

    def end_domain(self):
        if self.position > 1:
            ema_(self.image, self.old, self.share)


class Replay(Sequential):
    """Sequential training that also sees exemplars of earlier domains: as many images in all as the recipe
    says, as many of each domain, identities in their order with four images each, the last perhaps fewer."""

    waiting = ("replay_images",)
    each = 4  # images of an identity: K of a batch

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.met = []

    def begin_domain(self, domain, number):
        self.met = [*self.met[: number - 1], domain]
        some = self.recipe.replay_images // max(number - 1, 1)  # of each earlier domain
        earlier = [exemplars(one.manifest, some, self.each) for one in self.met[:-1]]
        joint = ReidData(join([domain.manifest, *earlier])) if earlier else domain
        super().begin_domain(joint, number)


class Joint(Sequential):
    """All domains so far at once, from the pretrained tower: the upper bound, which no lifelong method may
    use."""

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.met = []
        self.pretrained = copy.deepcopy(self.image.state_dict())

    def begin_domain(self, domain, number):
        self.met = [*self.met[: number - 1], domain]
        several = len(self.met) > 1
        joint = ReidData(join([one.manifest for one in self.met])) if several else domain
        super().begin_domain(joint, number)

    def remember(self):
        self.image.load_state_dict(self.pretrained)


def exemplars(manifest, images, each):
    """The manifest cut to `images` training images: identities in their order, with at most `each` images."""
    train = manifest.split("train")
    # whole identities first
    few = train[train.groupby("pid").cumcount() < each].sort_values("pid", kind="stable")
    kept = few.head(images).sort_index()  # in the manifest's order
    print_ = hashlib.sha256(f"{manifest.fingerprint} {images} {each}".encode()).hexdigest()[:16]
    return dataclasses.replace(manifest, table=kept.reset_index(drop=True), scene_fingerprint=print_)


LIFELONG = {  # the simple baselines of lifelong chapters
    "sequential": Sequential,
    "feature distillation": FeatureDistillation,
    "learning without forgetting": LearningWithoutForgetting,
    "weight fusion": WeightFusion,
    "exemplar replay": Replay,
    "joint": Joint,
}
