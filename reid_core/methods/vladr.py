"""VLADR (CVPR 2026): lifelong person re-identification by attributes. A description of each image names what
head, upper body, lower body and feet look like; queries read the same from patches; both are aligned, and
what they say of each other is kept from domain to domain.

D0: document and official code differ; both are variants on the same parts. `released` is
zhoujiahuan1991/CVPR2026-VLADR at commit a48c88f: sentences of identities, four part sentences aligned within
the batch, relations of the old model, weights averaged after each domain. `described` is the document's text:
learned prompts that read the description, and a memory of one prototype per attribute and domain. Decisions
D1-D10 are fields of the recipe where they are a choice. Those that leave none: D2 identities are sorted, and
D3 splits are ours (data_prep); D4 one device: batch statistics are of the whole batch; D5 the towers alone
run in bfloat16; D6 counters are not averaged; D7 descriptions are made with any BLIP-2 (data_prep describe);
D8 the last epoch is tested; D9 the joint space has a neck, and no classifier, which no loss would read; D10
the simple baselines have a row with both views (`lifelong`).

    B images of a batch, C identities, K attributes, D width of the image tower, E of the joint space
"""

import copy
import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from reid_core import descriptions, losses
from reid_core.augment import IMAGENET_MEAN, IMAGENET_STD, Augmentation, Erasing
from reid_core.data import still_batches
from reid_core.layers import CrossAttention, Head, PrototypeMemory, StillNeck
from reid_core.loading import TEXT_TOWERS, load_clip, temperature
from reid_core.methods.base import (
    IMAGES,
    Cached,
    LifelongMethod,
    Losses,
    Paper,
    Stage,
    Task,
    Variant,
    chance_of,
    nothing,
    set_mode,
)
from reid_core.methods.baseline import published_strong_view
from reid_core.optim import Group
from reid_core.precision import in_float32
from reid_core.prompts import GrowingTable, PromptTemplate, ReadingPrompts
from reid_core.recipe import Recipe, assumed, one_of, released, stated
from reid_core.samplers import CameraBatches
from reid_core.schedules import warmup_milestones

TESTED = "bn12+bnp"  # class token and joint feature behind their necks, side by side
MODEL = "reid/models/CLIP_ReID/model/make_model_clipreid.py"
DECODER = "reid/models/CrossAttention.py"
TRAINER = "reid/trainer_stage2.py"
LOADER = "lreid_dataset/datasets/get_data_loaders.py:38-74"
STAGE1 = "train_stage1.py:149-174, 314-330"
STAGE2 = "train_stage2.py:194-203, 283-303"
DOCUMENT = "as the document describes, which prints no number"
LOOKED_AT = 32  # queries of a test set whose attributes are compared (`traits`)
CHUNK = 256  # sentences that are encoded at a time, where no gradient is kept


@dataclass(frozen=True)
class VLADRRecipe(Recipe):
    """Places are files and lines of the official code, and sections of the document."""

    backbone: str = released("ViT-B-16-quickgelu", MODEL, "backbone")
    pretrained: str = released("openai", MODEL, "weights")
    text_tower: str = released("pretrained", f"{MODEL}; a control row takes 'random'")
    image_height: int = released(256, LOADER, "pixels")
    image_width: int = released(128, LOADER, "pixels")
    norm_mean: tuple = released(IMAGENET_MEAN, LOADER)
    norm_std: tuple = released(IMAGENET_STD, LOADER)
    weak_flip_p: float = released(0.5, LOADER)
    weak_pad: int = released(10, LOADER, "pixels")
    weak_random_erasing_p: tuple = released((0.5, 0.3), f"{LOADER}: one after the other")
    weak_random_erasing_area: tuple = released((0.02, 0.4), LOADER)
    weak_random_erasing_aspect: tuple = released((0.3, 1 / 0.3), f"{LOADER}: drawn uniformly")
    strong_view: bool = released(True, f"{TRAINER}: a second view with losses of its own; a row has none")
    strong_reflect_padding: int = released(16, LOADER, "pixels")
    strong_randaugment_n: int = released(2, "lreid_dataset/datasets/ShrinkMatchTransfer.py")
    strong_randaugment_m: int = released(10, "lreid_dataset/datasets/ShrinkMatchTransfer.py")
    strong_cutout: int = released(64, "lreid_dataset/datasets/ShrinkMatchTransfer.py: grey", "pixels")
    attributes_K: int = released(4, f"{DECODER}:7: head, upper, lower, foot")
    decoder_heads: int = released(8, f"{DECODER}:7")
    query_init_std: float = released(0.02, f"{DECODER}:29")
    query_init: str = assumed("normal", 'nearly equal in the code; "orthogonal" in a row, of unit length')
    parts: tuple = released(descriptions.PARTS, f"{TRAINER}: all of them; rows align one alone")
    descriptions: str = assumed("own", 'controls: "another\'s", "degraded", "swapped"')
    ctx_tokens: int = released(4, f"{MODEL}:204-249")
    ctx_init_std: float = released(0.02, f"{MODEL}:204-249")
    prompt_template: str = released("A photo of a {identity} person.", f"{MODEL}:204-249")
    con_temperature: float = released(1.0, "train_stage1.py:244-277: raw dot products")
    new_head_init_std: float = released(0.01, "train_stage2.py: before the class centres take its place")
    stage1_epochs: int = released(120, STAGE1, "epochs")
    stage1_ids: int = released(4, f"{STAGE1}: batch 16 in fours")
    stage1_lr: float = released(3.5e-3, STAGE1, "new lr")
    stage1_weight_decay: float = released(1e-4, STAGE1)
    stage2_epochs: int = released(60, STAGE2, "epochs")
    stage2_ids: int = released(16, f"{STAGE2}: batch 64 in fours")
    images_per_id: int = released(4, "reid/utils/data/sampler.py:79-143")
    stage2_lr: float = released(5e-6, STAGE2, "pretrained lr")
    stage2_lr_new: float = released(5e-6, f"{STAGE2}: of head and projection", "new lr", "stage2_lr")
    stage2_weight_decay: float = released(1e-4, STAGE2)
    stage2_lr_region_attn: float = released(5e-6, STAGE2, "new lr")
    stage2_weight_decay_region_attn: float = released(0.0, STAGE2)
    bias_lr_factor: float = released(2.0, f"{STAGE2}: 1e-5 over 5e-6", row="stage2_lr_bias")
    warmup_steps: float = released(10, STAGE2)
    warmup_factor: float = released(0.01, STAGE2)
    lr_milestone: float = released(30, STAGE2)
    lr_decay_factor: float = released(0.1, STAGE2)
    lr_step_unit: str = assumed("step", 'D1: per iteration, as released; "epoch" as in its lineage')
    stage1_span: tuple = released(
        (120 * 573, 120),
        f"{STAGE1}: in iterations (of Market-1501 at batch 16) and in epochs",
        row="stage1_epochs",
    )
    stage2_span: tuple = released(
        (60 * 143, 60),
        f"{STAGE2}: in iterations (of Market-1501 at batch 64) and in epochs",
        row="stage2_epochs",
    )
    label_smoothing: float = released(0.0, "config/base.yml")
    global_weight: float = released(1.0, f"{TRAINER}:136-145")
    global_temperature: float = released(1.0, f"{TRAINER}:136-145: of cosines")
    malign_weight: float = released(1.0, f"{TRAINER}:113-134")
    malign_temperature: float = released(1.0, f"{TRAINER}:113-134: of cosines")
    dalign_weight: float = released(1.0, f"{TRAINER}:175-186: a sum over attributes")
    dalign_temperature: float = released(0.005, f"{TRAINER}:100-109; the option is not read")
    dalign_reads: str = assumed("attributes", 'rows: "global", the joint feature in their place')
    fusion_alpha_new: float = released(0.6, "train_stage2.py:216-218")
    text_reads: str = stated(
        "attributes",
        'Key Designs 2; rows: "global" aligns with the global prompt, "identities" with learned words',
    )
    partition: str = stated("learned", 'Ablation Study; "random": each prompt sees a part of the words')
    prompt_tokens: int = assumed(4, f"of each prompt; {DOCUMENT}")
    prompt_init_std: float = assumed(0.02, f"as for words of identities; {DOCUMENT}")
    orthogonality_weight: float = assumed(1.0, f"of the Attribute Orthogonality Loss; {DOCUMENT}")
    memory_decay: float = assumed(0.99, f"Key Designs 3, EMA; {DOCUMENT}", "decay")
    memory_pulls: str = assumed("batch mean", '"each image" pulls every person to one point')


class Seen(NamedTuple):
    """What the tower says of one view."""

    last: torch.Tensor  # (B, D) class token after the last block
    joint: torch.Tensor  # (B, E) class token in the joint space
    attributes: torch.Tensor  # (B, K, E) of length one; (B, 0, E) where nobody asked


class VLADR(LifelongMethod):
    """What both variants share: parts, domains, the old model (train_stage1.py, train_stage2.py)."""

    of_parts = False  # whether each attribute has the sentence of a part, and its name

    def __init__(self, recipe, data):
        super().__init__(recipe)
        r = recipe
        self.size = (r.image_height, r.image_width)
        self.data = data
        self.position = 0
        self.first = 0  # row of words and classifier where the domain's identities begin
        self.image, text, self.tokenizer = load_clip(r.backbone, r.pretrained, self.size)
        self.text = one_of(TEXT_TOWERS, r.text_tower, "text_tower")(text, r.backbone)
        self.template = PromptTemplate(r.prompt_template, self.text, self.tokenizer)
        self.vanilla = copy.deepcopy(self.image)  # stage 1 of every domain looks with it
        width = self.image.joint_width
        with chance_of("attributes"):
            self.region_attn = CrossAttention(
                queries=r.attributes_K, width=width, heads=r.decoder_heads, std=r.query_init_std
            )
            one_of(QUERIES, r.query_init, "query_init")(self.region_attn.queries)
            self.region_proj = nn.Linear(width, width)
        self.words = GrowingTable((r.ctx_tokens, self.text.width), r.ctx_init_std)  # (C, tokens, width)
        self.head = Head(self.image.width, 0, bias=True)  # no domain yet
        self.joint_neck = StillNeck(width)
        self.old = copy.deepcopy(self.student())  # in no group: it never gets a gradient
        for name in ("bank", "told", "which"):  # what frozen text says of the domain (`prepare` of a stage)
            self.register_buffer(name, torch.zeros(0), persistent=False)
        self.choose()

    def choose(self):
        """What the words of the recipe stand for."""
        r = self.recipe
        self.change = one_of(descriptions.CHANGES, r.descriptions, "descriptions")
        related = {"attributes": lambda seen: seen.attributes, "global": lambda seen: seen.joint[:, None]}
        self.related = one_of(related, r.dalign_reads, "dalign_reads")
        spans = {"step": 0, "epoch": 1}
        self.span = one_of(spans, r.lr_step_unit, "lr_step_unit")

    def constants(self):
        """Also the pretrained tower, which nobody trains."""
        still = [f"vanilla.{name}" for name, _ in self.vanilla.named_parameters()]
        return [*super().constants(), *still]

    # domains

    def student(self):
        """What the fusion averages; the old model is a copy of it."""
        return nn.ModuleDict(
            {
                "image": self.image,
                "region_attn": self.region_attn,
                "region_proj": self.region_proj,
                "head": self.head,
                "joint_neck": self.joint_neck,
            }
        )

    def begin_domain(self, domain, number):
        """Room for the domain's identities; earlier ones keep their rows."""
        self.data = domain
        self.position = number
        self.first = self.head.classifier.out_features
        with chance_of(f"words of domain {number}"):
            self.words.grow(domain.classes, old="frozen")
        with chance_of(f"head of domain {number}"):
            self.head.grow(domain.classes, self.recipe.new_head_init_std)

    @property
    def later(self):
        """Whether there is something to hold on to."""
        return self.position > 1

    def begin_images(self):
        """The old model is the one that stands now; new identities begin at their class centres."""
        self.old.load_state_dict(self.student().state_dict())
        self.old["head"].resize(self.head.classifier.weight.detach()[: self.first].clone())
        self.eval()
        with torch.no_grad():
            self.head.classifier.weight[self.first :] = self.centres()
        set_mode(self)

    def centres(self):
        """(C, D) of the domain's identities: the mean feature behind the neck, of length one."""
        found = []
        labels = []
        for batch in still_batches(self.data, "train", self.size, self.test_view(), self.device):
            found.append(self.head.neck(self.see(batch.images).last))
            labels.append(batch.labels)
        return class_centres(torch.cat(found), torch.cat(labels), self.data.classes)

    def end_domain(self):
        """theta <- alpha theta + (1 - alpha) theta_old, from the second domain on."""
        if self.later:
            fuse_(self.student().state_dict(), self.old.state_dict(), self.recipe.fusion_alpha_new)

    # stages

    def sampler(self, identities):
        images = self.recipe.images_per_id
        shots = self.data.train
        steps = max(len(shots) // (identities * images), 1)  # an epoch looks at every image about once
        return CameraBatches(self.data.labels, shots.camids, identities, images, steps)

    def schedule(self, span):
        r = self.recipe
        return warmup_milestones(
            span[self.span],
            r.warmup_steps,
            r.warmup_factor,
            (r.lr_milestone,),
            r.lr_decay_factor,
            unit=r.lr_step_unit,
        )

    def text_stage(self, name, losses, weights, members, **more):
        """Stage 1: words or prompts learn on what the pretrained tower says."""
        r = self.recipe
        return Stage(
            name=name,
            epochs=r.stage1_epochs,
            sampler=self.sampler(r.stage1_ids),
            views=[],  # its steps read the cache
            losses=losses,
            weights=weights,
            groups=[Group(members=members, lr=r.stage1_lr, weight_decay=r.stage1_weight_decay)],
            schedule=self.schedule(r.stage1_span),
            cache={"image": Cached(self.pretrained_feature, self.test_view())},
            **more,
        )

    def identity_words(self):
        """Stage 1 of CLIP-ReID and of the released code."""
        weights = {"image to text": 1.0, "text to image": 1.0}
        return self.text_stage("stage 1: prompt learning", self.word_losses, weights, [self.words])

    def image_stage(self, name, views, weights, parts, **more):
        """Stage 2. `parts` {term: (batch, Seen) -> {term: loss}} stand beside the ReID terms; what weighs
        nothing is left out."""
        r = self.recipe
        weights = {term: weight for term, weight in weights.items() if weight}
        there = [part for term, part in parts.items() if term in weights]
        return Stage(
            name=name,
            epochs=r.stage2_epochs,
            sampler=self.sampler(r.stage2_ids),
            views=views,
            losses=functools.partial(self.image_losses, there),
            weights=weights,
            groups=self.image_groups(weights),
            schedule=self.schedule(r.stage2_span),
            start=self.begin_images,
            stream=IMAGES,
            **more,
        )

    def image_groups(self, weights):
        """The tower, what is new, and the attribute decoder, where a term reads attributes."""
        r = self.recipe
        decay = {"weight_decay": r.stage2_weight_decay, "bias_factor": r.bias_lr_factor}
        read = "attribute alignment" in weights
        read |= "domain alignment" in weights and r.dalign_reads == "attributes"
        lr = {"lr": r.stage2_lr_region_attn, "weight_decay": r.stage2_weight_decay_region_attn}
        decoder = [Group(members=[self.region_attn], **lr)]
        return [
            Group(members=[self.image], lr=r.stage2_lr, **decay),
            Group(members=[self.head, *[self.region_proj] * read], lr=r.stage2_lr_new, **decay),
            *decoder * read,
        ]

    # views

    def test_view(self):
        return Augmentation("bicubic", self.recipe.norm_mean, self.recipe.norm_std)

    def views(self):
        """Weak: two erasings; strong: a wider crop with reflected borders, RandAugment, and no erasing."""
        r = self.recipe
        fill = {"area": r.weak_random_erasing_area, "aspect": r.weak_random_erasing_aspect}
        fill |= {"log_uniform": False, "tries": 100, "fill": r.norm_mean}
        erasings = tuple(Erasing(p, **fill) for p in r.weak_random_erasing_p)
        weak = Augmentation("bicubic", r.norm_mean, r.norm_std, r.weak_flip_p, r.weak_pad, erasing=erasings)
        return [weak, *[published_strong_view(r)] * r.strong_view]

    # what the towers say

    @property
    def device(self):
        return self.region_proj.weight.device

    def see(self, images):
        """Seen of one view (B, M, 3, H, W) with M = 1, without attributes."""
        out = self.image(images.flatten(0, 1), read=1)
        joint = self.image.joint_cls(out)
        return Seen(out.tokens[:, 0], joint, joint[:, None][:, :0])

    def see_parts(self, images):
        """Seen of one view with its attributes."""
        return attributes_seen(self.image, self.region_attn, self.region_proj, images)

    @torch.no_grad()
    def see_as_before(self, images):
        """The same by the model before this domain."""
        return attributes_seen(*(self.old[name] for name in ("image", "region_attn", "region_proj")), images)

    def pretrained_feature(self, batch):
        """(B, E) what the pretrained tower says of images."""
        return self.vanilla.joint_cls(self.vanilla(batch.images.flatten(0, 1), read=1))

    def features(self, batch, names):
        """f11, f12, fp of the tower; bn12 and bnp behind the necks (B, D) and (B, E); each attribute (B, E)
        by its name, and all of them side by side."""
        asked = any(name in names for name in ("attributes", *self.attribute_names()))
        out = self.image(batch.images.flatten(0, 1), read=None if asked else 1)
        found = dict(zip(("f11", "f12", "fp"), self.image.reid_features(out)))
        found |= {"bn12": self.head.neck(found["f12"]), "bnp": self.joint_neck(found["fp"])}
        if not asked:
            return found
        attributes = self.attributes(out)
        found |= dict(zip(self.attribute_names(), attributes.unbind(1)))
        return {**found, "attributes": attributes.flatten(1)}

    def attributes(self, out):
        """(B, K, E) of what the tower gives."""
        return read_attributes(self.region_attn, self.region_proj, self.image.joint_tokens(out)[:, 1:])

    def attribute_names(self):
        """K names: those of the parts that sentences tell of, or numbers."""
        count = self.recipe.attributes_K
        parts = descriptions.PARTS
        if self.of_parts and count == len(parts):
            return parts
        return tuple(f"attribute {k + 1}" for k in range(count))

    def retrieval_tasks(self):
        each = {f"by {name}": Task(name, name, brief=True) for name in self.attribute_names()}
        return {"image to image": Task(TESTED, TESTED), **each}

    def readers(self, name):
        """An attribute is read from the tower's tokens by its query."""
        names = self.attribute_names()
        asked = [(self.region_attn, names.index(name))] if name in names else []
        return [(self.image, 0), *asked]

    @torch.no_grad()
    def traits(self, data):
        """{"query cosine": [mean cosine between different attributes of one image]} of the first query
        images; 1 where the queries have collapsed."""
        batch = next(still_batches(data, "query", self.size, self.test_view(), self.device, LOOKED_AT))
        read = self.see_parts(batch.images).attributes  # (B, K, E)
        cosine = (read @ read.mT).float().mean(0)  # (K, K)
        count = len(cosine)
        apart = (cosine.sum() - cosine.trace()) / max(count * (count - 1), 1)
        return {"query cosine": [round(apart.item(), 5)]}

    @torch.no_grad()
    def attention(self, images):
        """(B, K, rows, columns) of sum 1: where each attribute is read in one view (B, M, 3, H, W), M = 1."""
        self.region_attn.remember = True
        self.see_parts(images)
        self.region_attn.remember = False
        return self.region_attn.maps.mean(1).unflatten(2, self.image.grid)  # mean over heads

    def say(self, words):
        """Sentence features (n, E) of words (n, tokens, width)."""
        return self.text.feature(*self.template(identity=words))

    @torch.no_grad()
    def fill_bank(self):
        """The sentences (C, E) of the domain's identities: words are frozen in stage 2."""
        self.bank = torch.cat([self.say(words) for words in self.words()[self.first :].split(CHUNK)])

    def part_sentences(self):
        """(S,) the four sentences of each training image, as the row has them."""
        return self.change(descriptions.part_sentences(self.data), self.data.train.pids)

    # losses

    def word_losses(self, batch):
        """L_con of both directions. K images of an identity follow each other: its sentence is read once."""
        each = self.recipe.images_per_id
        text = self.say(self.words(self.first + batch.labels[::each])).repeat_interleave(each, 0)  # (B, E)
        how = (batch.labels, batch.labels, self.recipe.con_temperature, False)
        image = batch.cached["image"]
        return Losses(
            {
                "image to text": losses.supervised_contrastive(image, text, *how),
                "text to image": losses.supervised_contrastive(text, image, *how),
            }
        )

    def image_losses(self, parts, batch):
        """L_ReID of every view, and what else there is for the weak one."""
        weak = self.see_parts(batch.views[0])
        terms = self.reid_terms([weak, *map(self.see, batch.views[1:])], batch.labels + self.first)
        for part in parts:
            terms |= part(batch, weak)
        return Losses(terms, {"read": self.related(weak).detach()})

    def reid_terms(self, views, labels):
        """L_ID of the class token behind its neck, L_tri of the joint feature, for each view."""
        terms = {}
        for seen, name in zip(views, ("", " strong")):
            logits = self.head(seen.last)  # (B, C)
            self.joint_neck(seen.joint)  # no loss reads it, but the test: its running statistics move
            terms[f"identity{name}"] = losses.identity(logits, labels, self.recipe.label_smoothing)
            terms[f"triplet{name}"] = losses.batch_hard_triplet(seen.joint, labels, margin=None)
        return terms


class VLADRReleased(VLADR):
    """Sentences per identity on cached features; then two views, coarse and attribute alignment, relations
    kept."""

    waiting = ("dalign_weight", "dalign_reads", "dalign_temperature", "fusion_alpha_new")
    of_parts = True

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        # places of the parts that are aligned; of one attribute the whole is its only part
        several = enumerate(self.attribute_names())
        self.used = [k for k, name in several if name in recipe.parts or recipe.attributes_K == 1]

    def stages(self):
        r = self.recipe
        aligned = {"attribute alignment": r.malign_weight}
        views = self.views()
        reid = [f"{term}{name}" for name in ("", " strong")[: len(views)] for term in ("identity", "triplet")]
        weights = {**dict.fromkeys(reid, 1.0), "coarse": r.global_weight, **aligned}
        held = {"domain alignment": r.dalign_weight} if self.later else {}
        parts = {
            "coarse": self.coarse,
            "attribute alignment": self.alignment,
            "domain alignment": self.kept_relations,
        }
        images = self.image_stage(
            "stage 2: attribute reinforcement",
            views,
            weights | held,
            parts,
            prepare=self.prepare,
            cache={"parts": Cached(self.parts_said, None)} if r.malign_weight else {},
        )
        return [self.identity_words(), images]

    def prepare(self):
        """Sentences of identities, and of descriptions: each different one is read once."""
        self.fill_bank()
        if self.recipe.malign_weight:
            said = descriptions.as_they_are(self.part_sentences(), self.recipe.attributes_K)
            different, which = descriptions.numbered(said)
            ids = descriptions.tokens(different, self.tokenizer, self.text.context)[:, 0].to(self.device)
            with torch.no_grad():
                self.told = torch.cat([self.text.sentences(some) for some in ids.split(CHUNK)])
            self.which = which.to(self.device)

    def parts_said(self, batch):
        """(B, K, E) what the text tower says of the descriptions of images."""
        return F.normalize(self.told[self.which[batch.index]], dim=-1)

    def coarse(self, batch, seen):
        """L_global: the weak view against the sentences of the batch's identities."""
        r = self.recipe
        text = self.bank[batch.labels]  # (B, E)
        loss = losses.batch_classification(seen.joint, text, batch.labels, r.global_temperature)
        return {"coarse": loss}

    def alignment(self, batch, seen):
        """L_MAlign."""
        read, said = (attributes[:, self.used] for attributes in (seen.attributes, batch.cached["parts"]))
        scale = 1 / self.recipe.malign_temperature
        return {"attribute alignment": losses.attribute_alignment(read, said, scale)}

    def kept_relations(self, batch, seen):
        """L_DAlign: relations within the batch, as the old model has them on the same images."""
        pairs = (self.related(one) for one in (seen, self.see_as_before(batch.views[0])))
        new, old = (features[:, self.kept_parts(features)] for features in pairs)
        temperature = self.recipe.dalign_temperature
        return {"domain alignment": losses.relation_divergence(new, old, temperature)}

    def kept_parts(self, features):
        """Which of (B, K, E) are compared: a feature of the whole image stands alone."""
        return self.used if features.shape[1] > 1 else [0]


class VLADRDescribed(VLADR):
    """Prompts that read the description; then attributes aligned with them and with the memory of earlier
    domains."""

    waiting = ("memory_pulls",)  # with a weight, the memory fills from the first domain on

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        r = recipe
        with chance_of("reading prompts"):  # a global one, then one for each attribute
            self.prompts = ReadingPrompts(
                1 + r.attributes_K, r.prompt_tokens, self.text.width, r.prompt_init_std
            )
        self.text_head = Head(self.image.joint_width, data.classes)  # of stage 1 alone
        rows = {"attributes": r.attributes_K, "global": 1}[r.dalign_reads]
        self.memory = PrototypeMemory(rows, self.image.joint_width, r.memory_decay)
        self.scale = 1 / temperature(r.pretrained, architecture=r.backbone)
        self.partition = one_of(descriptions.PARTITIONS, r.partition, "partition")
        pulls = {"batch mean": losses.prototype_distance, "each image": losses.image_prototype_distance}
        self.pull = one_of(pulls, r.memory_pulls, "memory_pulls")

    def begin_domain(self, domain, number):
        super().begin_domain(domain, number)
        self.memory.open(number)
        with chance_of(f"text head of domain {number}"):
            fresh = torch.empty(domain.classes, self.image.joint_width).normal_(std=0.001)
            self.text_head.resize(fresh.to(self.device))

    def stages(self):
        r = self.recipe
        learn, term, part, more = one_of(
            {
                "attributes": (self.reading, "attribute alignment", self.alignment, self.read_by_prompts()),
                "global": (self.reading, "global alignment", self.global_alignment, self.read_by_prompts()),
                "identities": (
                    self.identity_words,
                    "image to text",
                    self.image_to_text,
                    {"prepare": self.fill_bank},
                ),
            },
            r.text_reads,
            "text_reads",
        )
        weights = {"identity": 1.0, "triplet": 1.0, term: r.malign_weight}
        held = {"domain alignment": r.dalign_weight} if self.later else {}
        parts = {term: part, "domain alignment": self.recalled}
        images = self.image_stage(
            "stage 2: reinforcement",
            self.views()[:1],
            weights | held,
            parts,
            after_step=self.memorise if r.dalign_weight else nothing,
            **more,
        )
        return [learn(), images]

    def reading(self):
        """Stage 1, MTAD: prompts learn to read."""
        weights = dict.fromkeys(("global", "local", "identity", "triplet"), 1.0)
        weights["orthogonality"] = self.recipe.orthogonality_weight
        members = [self.prompts, self.text_head]
        name = "stage 1: disentanglement"
        return self.text_stage(name, self.reading_losses, weights, members, prepare=self.take_down)

    def read_by_prompts(self):
        """Stage 2 of prompts: what they read is frozen, and read once."""
        return {"prepare": self.take_down, "cache": {"said": Cached(self.read, None)}}

    def take_down(self):
        """The domain's descriptions as token ids: for each prompt what it may read (S, 1 + K, L)."""
        room = self.text.context - self.recipe.prompt_tokens
        said = self.partition(self.part_sentences(), self.recipe.attributes_K)
        self.told = descriptions.tokens(said, self.tokenizer, room, cut=True).to(self.device)

    def read(self, batch):
        """(B, 1 + K, E) what the prompts read in the descriptions of images, the global one first."""
        return self.prompts(self.text, self.told[batch.index])

    def reading_losses(self, batch):
        """Text-image matching of the global and of the local prompts, orthogonality, identity, triplet."""
        read = self.read(batch)  # (B, 1 + K, E)
        whole, parts = read[:, 0], read[:, 1:]
        image = batch.cached["image"]
        everywhere = image[:, None].expand(-1, parts.shape[1], -1)  # (B, K, E)
        return Losses(
            {
                "global": losses.matching(image, whole, self.scale),
                "local": losses.attribute_alignment(everywhere, parts, self.scale),
                "orthogonality": losses.orthogonality(parts),
                "identity": losses.identity(self.text_head(whole), batch.labels),
                "triplet": losses.batch_hard_triplet(whole, batch.labels, margin=None),
            }
        )

    def alignment(self, batch, seen):
        """L_CMA."""
        said = batch.cached["said"][:, 1:]
        return {"attribute alignment": losses.attribute_distance(seen.attributes, said)}

    def global_alignment(self, batch, seen):
        """L_CMA without attributes: the joint feature and the global prompt."""
        said = batch.cached["said"][:, :1]
        return {"global alignment": losses.attribute_distance(seen.joint[:, None], said)}

    def image_to_text(self, batch, seen):
        """CLIP-ReID's term, in the baseline's place: the joint feature among all sentences of the domain;
        without label smoothing, as every term of this ladder."""
        loss = losses.bank_classification(seen.joint, self.bank, batch.labels, cosine=False)
        return {"image to text": loss}

    def recalled(self, batch, seen):
        """L_IDA: mean over earlier domains."""
        unit = F.normalize(self.related(seen), dim=-1)
        each = [self.pull(unit, prototypes) for prototypes in self.memory.kept]
        return {"domain alignment": torch.stack(each).mean()}

    def memorise(self, carry):
        """The domain's own prototypes follow its batches."""
        self.memory.follow(F.normalize(carry["read"].float(), dim=-1).mean(0))


def attributes_seen(image, decoder, projection, images):
    """Seen of one view (B, M, 3, H, W), M = 1, with attributes."""
    out = image(images.flatten(0, 1))
    tokens = image.joint_tokens(out)  # (B, T, E)
    read = read_attributes(decoder, projection, tokens[:, 1:])
    return Seen(out.tokens[:, 0], image.joint_cls(out), read)


@in_float32
def read_attributes(decoder, projection, patches):
    """(B, K, E) of length one: what queries read from patches (B, T, E). In float32 (D5): relations at
    temperature 0.005 need the digits."""
    return F.normalize(projection(decoder(patches)), dim=-1)


@torch.no_grad()
def orthogonal_(queries):
    """Queries (K, E) that point apart, of length one: ours, against their collapse."""
    nn.init.orthogonal_(queries)


QUERIES = {"normal": nothing, "orthogonal": orthogonal_}


def class_centres(features, labels, classes):
    """(C, D) mean of the rows of each class (B, D), of length one (initial_classifier). A sum points where
    the mean does."""
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features)
    return F.normalize(sums, dim=-1)


@torch.no_grad()
def fuse_(new, old, share):
    """new <- share x new + (1 - share) x old, of {name: tensor}, for floating tensors; of what grew, the rows
    that there were (linear_combination). Counters stay (D6)."""
    for name, before in old.items():
        if before.is_floating_point():
            there = new[name][: len(before)]
            there.lerp_(before, 1 - share)


def storage(method):
    """{part: numbers that a domain leaves behind}: prototypes, and words of identities where there are
    any."""
    memory = getattr(method, "memory", None)
    trained = [member for stage in method.stages() for group in stage.groups for member in group.members]
    words = method.words.new.numel() if any(member is method.words for member in trained) else 0
    return {"prototypes": memory.moving.numel() if memory else 0, "words": words}


WITHOUT = {"malign_weight": 0.0, "dalign_weight": 0.0}
PRINTED_ROWS = {  # of the document; cumulative
    "Baseline (CLIP-ReID + LReID): MTAD=0;CMA=0;IDA=0": {"text_reads": "identities", "dalign_weight": 0.0},
    "+ MTAD (Stage 1 only): MTAD=1;CMA=0;IDA=0": {"text_reads": "global", "dalign_weight": 0.0},
    "+ CMA (Cross-modal Alignment): MTAD=1;CMA=1;IDA=0": {"dalign_weight": 0.0},
    "+ IDA (Cross-domain Alignment): MTAD=1;CMA=1;IDA=1": {},
    "Global Representation + IDA (No Disentanglement): MTAD=0;CMA=?;IDA=1": {
        "text_reads": "global",
        "dalign_reads": "global",
    },
    "Random Attribute Partition (Replaces MTAD): MTAD=random;CMA=?;IDA=?": {"partition": "random"},
}
CHOICES = {  # what the released code chooses
    "no strong view": {"strong_view": False},
    "no attribute alignment": {"malign_weight": 0.0},
    "no domain alignment": {"dalign_weight": 0.0},
    "two views and fusion alone": WITHOUT,
    "one view and fusion alone": {**WITHOUT, "strong_view": False},
    "global relations, temperature 0.1": {"dalign_reads": "global", "dalign_temperature": 0.1},
    "global relations, temperature 0.005": {"dalign_reads": "global"},
    "rates per epoch (D1)": {"lr_step_unit": "epoch"},
    "no fusion": {"fusion_alpha_new": 1.0},
    "fusion 0.5": {"fusion_alpha_new": 0.5},
    "fusion 0.7": {"fusion_alpha_new": 0.7},
    "orthogonal queries": {"query_init": "orthogonal"},
}
ATTRIBUTES = {
    "one attribute": {"attributes_K": 1},
    **{f"{part} alone": {"parts": (part,)} for part in descriptions.PARTS},
}
DESCRIPTIONS = {
    "another's descriptions": {"descriptions": "another's"},
    "degraded descriptions": {"descriptions": "degraded"},
    "parts swapped": {"descriptions": "swapped"},
}
CONTROLS = {"control: random text tower": {"text_tower": "random"}}
READINGS_DESCRIBED = {
    "1 attribute prompt": {"attributes_K": 1},
    "2 attribute prompts": {"attributes_K": 2},
    "8 attribute prompts": {"attributes_K": 8},
    "memory pulls each image": {"memory_pulls": "each image"},
    "rates per step": {"lr_step_unit": "step"},
}
DESCRIBED = {  # where the document says otherwise than the code, or nothing
    "strong_view": False,
    "fusion_alpha_new": 1.0,
    "lr_step_unit": "epoch",
    "stage1_epochs": 10,
}
# Prompts of the document all read the whole description: to swap its parts changes the order of words alone.
DESCRIPTIONS_DESCRIBED = {row: new for row, new in DESCRIPTIONS.items() if row != "parts swapped"}
RELEASED_ROWS = {"full": {}, **DESCRIPTIONS, **CONTROLS, **CHOICES, **ATTRIBUTES}
DESCRIBED_ROWS = {"full": {}, **DESCRIPTIONS_DESCRIBED, **CONTROLS, **PRINTED_ROWS, **READINGS_DESCRIBED}
PAPER = Paper(
    recipe=VLADRRecipe(),
    variants={
        "released": Variant(VLADRReleased, rows=tuple(RELEASED_ROWS)),
        "described": Variant(VLADRDescribed, DESCRIBED, rows=tuple(DESCRIBED_ROWS)),
    },
    rows={**RELEASED_ROWS, **DESCRIBED_ROWS},
    tables={"seed: Ablation Study": tuple(PRINTED_ROWS)},
    pictured=("full",),
    untrained=("lifelong", "sequential", "full"),
)
