"""PAD (CVPR 2026): lifelong person re-identification with sentences as anchors. The text tower never changes;
identities get learned words (TA-prompts), images get prompts of a pool that grows (VA-prompts), and a
teacher that follows the student as an average holds its features.

Document and official code differ; both are variants on the same parts. `released` is zu-zi/PAD at commit
ca2b557: two stages per domain, sentences first. `described` is the paper's text: one stage, words of earlier
identities kept. Decisions D1-D34 are listed on the book's page of decisions; where one is a choice it is a
field of the recipe. Those that leave no choice: D3 the contrast is a stage of its own in `released`, and a
term of the only one in `described`; D7 keys are never trained; D9 CUHK-SYSU's gallery is another camera, D10,
D11 and D11b unseen sets have protocols, D12 and D34 folders and names, D20 whole sets or 500 identities, D23
LPW for Duke (data_prep); D13 rates are those that the code uses; D15 the text tower is never trained; D16 new
slots join student and teacher alike; D17 and D18 settings by data set and by place in the order (`for_data`,
`by`); D21, D22 and D28 are measured (`storage`, bench); D24 the student is tested; D25 and D33b slots are
chosen and distances taken in float32; D26 positions are resized bilinearly; D27 the ablations are those of
the document; D29 determinism is an option of the run; D30 stage 1 caches features under random prompts; D31
strengths of distillation are ours; D32 erasing as in timm; D33 the place of prompts in the sequence is
immaterial.

    B images of a batch, C identities of the domain, T tokens, D width of the image tower, E of the joint
    space
"""

import copy
import re
from dataclasses import dataclass

import torch
from torch import nn

from reid_core.augment import HALF
from reid_core.data import still_batches
from reid_core.layers import Head
from reid_core.loading import TEXT_TOWERS, load_clip
from reid_core.losses import (
    bank_classification,
    feature_distillation,
    logit_distillation,
    similarity,
    squared_distance,
    supervised_contrastive,
)
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
    ema_,
    nothing,
)
from reid_core.methods.baseline import TESTED, PublishedViews, published_train_view, reid_terms
from reid_core.optim import Group
from reid_core.precision import in_float32
from reid_core.prompts import GrowingTable, NoPool, PromptPool, PromptTemplate
from reid_core.recipe import Recipe, assumed, one_of, released, stated
from reid_core.samplers import IdentityBatches, Shuffle
from reid_core.schedules import warmup_cosine, warmup_milestones

CONFIG = "configs/pad.yml"
MODEL = "pad/model.py"
LOSSES = "pad/losses.py"
LOADER = "pad/data/loader.py"
CHUNK = 256  # sentences that are encoded at a time, where no gradient is kept (D28)


@dataclass(frozen=True)
class PADRecipe(Recipe):
    """Settings of the first and of later domains where they differ (D18: by position). Places are files and
    lines of the official code, zu-zi/PAD, and sections of the document."""

    backbone: str = stated("ViT-B-16-quickgelu", "Loss & Training", "backbone")
    pretrained: str = stated("openai", f"{MODEL}, _load_clip", "weights")
    text_tower: str = stated("pretrained", "Key Designs 1; a control row takes 'random'")
    sentences_moved: int = assumed(0, "a control row gives everybody the sentence of another identity")
    image_height: int = stated(256, "Loss & Training", "pixels")
    image_width: int = stated(128, "Loss & Training", "pixels")
    flip_p: float = released(0.5, LOADER)
    pad: int = released(10, LOADER, "pixels")
    norm_mean: tuple = released(HALF, LOADER)
    norm_std: tuple = released(HALF, LOADER)
    train_interpolation: str = released("bicubic", LOADER)
    test_interpolation: str = released("bilinear", LOADER)
    random_erasing_p: float = released(0.5, f"{CONFIG}: 0.6 on CUHK03")
    random_erasing_area_min: float = released(
        0.02, f"{LOADER}, timm's default (D32)", row="random_erasing_area"
    )
    random_erasing_area_max: float = released(
        1 / 3, f"{LOADER}, timm's default (D32)", row="random_erasing_area"
    )
    random_erasing_aspect: tuple = released((0.3, 1 / 0.3), f"{LOADER}, timm's default (D32)")
    va_prompts: bool = stated(True, "Key Designs 3; rows S0 and S1 have none")
    general_tokens_per_layer: int = stated(6, "Key Designs 3", "tokens")
    expert_tokens_per_slot: int = stated(6, "Key Designs 3: of a slot, in the code", "tokens")
    pool_size: int = stated(36, "Key Designs 3")
    top_k: int = stated(4, "Key Designs 3")
    new_slots: int = released(8, f"{CONFIG}: 8 a domain, and the 4 that are left for the fifth")
    prompt_init_uniform: float = released(0.02, f"{MODEL}, VAPromptPool._init")
    eval_active_slots: str = assumed(
        "opened", 'D8: the test script takes "all" of the pool, which differs before the last domain'
    )
    prompt_template: str = released("A photo of a {identity} person.", f"{MODEL}, TAPromptLearner")
    ta_tokens_per_class: int = released(4, f"{CONFIG}:63")
    ta_init_std: float = released(0.02, f"{MODEL}, TAPromptLearner")
    freeze_policy: str = assumed("last blocks", 'D19: learn from the second domain on; "none": all do')
    unfrozen_blocks: int = released(4, f"{CONFIG}:77", "blocks")
    bn_bias_trainable: bool = assumed(True, "D14: frozen when built, freed by stage 2")
    classifier_init_std: float = released(0.001, MODEL)
    stage1_epochs: tuple = released(
        (20, 12), f"{CONFIG}:106 and 38: first domain, later domains", "epochs", by="position"
    )
    stage1_span: tuple = released(
        (20, 12), f"{CONFIG}:106 and 38: epochs of the schedule", row="stage1_epochs", by="position"
    )
    stage1_batch: int = released(64, f"{CONFIG}:34; 48 on CUHK03")
    stage1_warmup_epochs: float = released(3, f"{CONFIG}:40")
    stage1_warmup_init_lr: float = released(1e-5, f"{CONFIG}:41")
    stage1_min_lr: float = released(1e-6, f"{CONFIG}:42")
    stage2_epochs: tuple = released(
        (30, 25), f"{CONFIG}:107 and 48: first domain, later domains", "epochs", by="position"
    )
    stage2_span: tuple = released(
        (30, 25), f"{CONFIG}:107 and 48: epochs of the schedule", row="stage2_epochs", by="position"
    )
    stage2_milestones: tuple = released(
        ((18, 26), (14, 22)), f"{CONFIG}:107 and 50: first domain, later domains", by="position"
    )
    stage2_warmup_epochs: float = released(10, f"{CONFIG}:52")
    stage2_warmup_factor: float = released(0.1, f"{CONFIG}:53")
    stage2_lr_decay_factor: float = released(0.1, CONFIG)
    ids_per_batch: int = released(16, f"{CONFIG}:44 and 24: batch 64 in fours; 12 on CUHK03 (D17)")
    images_per_id: int = released(4, f"{CONFIG}:24")
    lr_backbone: float = stated(5e-6, "Loss & Training", "pretrained lr")
    lr_head: float = released(5e-6, f"{CONFIG}:46", "new lr")
    lr_va_prompt: tuple = released(
        (2e-3, 5e-3),
        f"{CONFIG}:110 and 80: first domain, later domains; also of the words (D13)",
        "new lr",
        by="position",
    )
    weight_decay: float = released(1e-4, f"{CONFIG}:47")
    weight_decay_prompts: float = released(0.0, CONFIG)
    label_smoothing: float = released(0.1, LOSSES)
    triplet_margin: float = released(0.3, LOSSES)
    supcon_weight: float = stated(1.0, "Loss & Training: of the contrast")
    id_weight: float = released(0.25, f"{CONFIG}:8")
    triplet_weight: float = released(1.0, f"{CONFIG}:9")
    i2t_weight: float = released(1.0, f"{CONFIG}:10")
    supcon_temperature: float = released(1.0, f"{LOSSES}, SupConLoss")
    supcon_normalise: bool = assumed(False, "D2: raw dot products; the text normalises")
    lambda_text: float = stated(0.5, "Loss & Training")
    lambda_feat: float = stated(0.5, "Loss & Training")
    lambda_logit: float = stated(0.5, "Loss & Training")
    texkd_teacher: str = assumed(
        "fresh_init", 'D1: first words of the new identities; "previous": of earlier ones; "ema" follows'
    )
    texkd_temperature: float = stated(0.07, LOSSES)
    texkd_gamma: float = stated(7.0, LOSSES)
    texkd_gamma_learnable: bool = assumed(False, "D5: constant in the code")
    texkd_negatives: int = released(256, "pad/engine.py, do_train_stage1")
    texkd_image_gradient: bool = assumed(
        False, "Key Designs 2: TEXKD teaches words; the images are cached in the code"
    )
    featkd_reduction: str = assumed("mean", 'D4: over channels, too; "unit": squared, of unit vectors')
    logitkd_temperature: float = stated(4.0, LOSSES)
    ema_alpha: float = stated(0.997, "Key Designs 4 (D6: forgets within epochs)", "decay")


PADRecipe.for_data = {  # D17, D18
    "msmt17": {
        "stage1_epochs": (20, 15),
        "stage1_span": (20, 15),
        "stage2_epochs": (30, 32),
        "stage2_span": (30, 32),
        "stage2_milestones": ((18, 26), (18, 28)),
    },
    "cuhk03": {
        "stage1_epochs": (20, 10),
        "stage1_span": (20, 10),
        "stage1_batch": 48,
        "stage2_epochs": (30, 28),
        "stage2_span": (30, 28),
        "stage2_milestones": ((18, 26), (16, 24)),
        "ids_per_batch": 12,
        "random_erasing_p": 0.6,
    },
}


class PAD(PublishedViews, LifelongMethod):
    """What both variants share: towers, words, pool, heads and teacher (pad/model.py, pad/engine.py).
    ValueError for a field of the recipe that names no choice."""

    waiting = (  # what holds on to earlier domains
        "lambda_text",
        "lambda_feat",
        "lambda_logit",
        "texkd_teacher",
        "freeze_policy",
        "unfrozen_blocks",
    )
    old_words = "dropped"  # what becomes of the words of earlier identities (GrowingTable)
    own_teacher = "fresh_init"  # in words, where it does not follow the student (`known_words`)
    sentences_read = "fp"  # the feature that sentences are compared with

    def __init__(self, recipe, data):
        super().__init__(recipe)
        r = recipe
        self.size = (r.image_height, r.image_width)
        self.data = data
        self.position = 0
        self.first = 0  # row of the table of words where the domain's identities begin
        self.anchors = {}  # domain -> (C, E) its sentences as its end left them; looked at alone
        self.image, text, self.tokenizer = load_clip(r.backbone, r.pretrained, self.size)
        if r.unfrozen_blocks > len(self.image.blocks):
            raise ValueError(
                f"expected at most {len(self.image.blocks)} unfrozen_blocks, as many as the tower has, found "
                f"{r.unfrozen_blocks}; lower the number."
            )
        self.text = one_of(TEXT_TOWERS, r.text_tower, "text_tower")(text, r.backbone)
        self.template = PromptTemplate(r.prompt_template, self.text, self.tokenizer)
        with chance_of("prompts"):
            self.prompts = self.make_pool() if r.va_prompts else NoPool()
        shape = (r.ta_tokens_per_class, self.text.width)
        self.words = GrowingTable(shape, r.ta_init_std)
        self.teacher_words = GrowingTable(shape)  # what TEXKD holds on to
        self.gamma = nn.Parameter(torch.tensor(float(r.texkd_gamma)), r.texkd_gamma_learnable)
        with chance_of("heads"):  # each domain will have new classifiers; f11 has none
            heads = [Head(width, data.classes, bias=r.bn_bias_trainable) for width in self.image.widths[1:]]
        self.heads = nn.ModuleList(heads)
        self.teacher = copy.deepcopy(self.image)  # in no group: it never gets a gradient
        self.teacher_prompts = copy.deepcopy(self.prompts)
        for name in ("bank", "teacher_bank"):  # (C, E) of the domain, and what the text teacher says
            self.register_buffer(name, torch.zeros(0, self.text.joint_width), persistent=False)
        self.choose()

    def make_pool(self):
        r = self.recipe
        if r.new_slots > r.pool_size:
            raise ValueError(
                f"expected at most {r.pool_size} slots, found {r.new_slots}; lower new_slots or enlarge "
                "pool_size."
            )
        return PromptPool(
            len(self.image.blocks),
            self.image.width,
            general=r.general_tokens_per_layer,
            each=r.expert_tokens_per_slot,
            slots=r.pool_size,
            picked=r.top_k,
            spread=r.prompt_init_uniform,
        )

    def choose(self):
        """What the remaining words of the recipe stand for."""
        r = self.recipe
        self.every_slot = one_of({"opened": False, "all": True}, r.eval_active_slots, "eval_active_slots")
        one_of(dict.fromkeys(("last blocks", "none")), r.freeze_policy, "freeze_policy")
        reductions = {"mean": feature_distillation, "unit": unit_distillation}
        self.feature_gap = one_of(reductions, r.featkd_reduction, "featkd_reduction")
        teachers = {
            self.own_teacher: (self.remembered_sentences, nothing),
            "ema": (self.teacher_sentences, self.follow_words),
        }
        self.teacher_says, self.move_words = one_of(teachers, r.texkd_teacher, "texkd_teacher")

    # domains

    def begin_domain(self, domain, number):
        """New words and classifiers for the domain's identities, and new slots; necks go on."""
        r = self.recipe
        self.anchors = {**self.anchors, self.domain_of(self.data): self.own_sentences()} if number > 1 else {}
        self.data = domain
        self.position = number
        self.first = len(self.words()) if self.old_words == "trained" else 0
        with chance_of(f"words of domain {number}"):
            self.words.grow(domain.classes, old=self.old_words)
        with chance_of(f"heads of domain {number}"):
            for head in self.heads:
                fresh = torch.empty(domain.classes, head.classifier.in_features)
                device = head.classifier.weight.device
                head.resize(fresh.normal_(std=r.classifier_init_std).to(device))
        self.prompts.open(self.settings.new_slots)
        self.teacher_prompts = copy.deepcopy(self.prompts)
        self.teacher_words.old = self.known_words().detach().clone()

    def known_words(self):
        """The words that the text teacher holds on to."""
        raise NotImplementedError

    @staticmethod
    def domain_of(data):
        """The name of a domain, whichever part or protocol of it."""
        return re.split("[@#]", data.manifest.name)[0]

    def own_sentences(self):
        """(C, E) of the domain's identities, as they are."""
        return in_chunks(self.sentences, len(self.words()), self.bank.device)[self.first :]

    @property
    def settings(self):
        """The recipe at this position of the order: first domain or later ones (D18)."""
        return self.recipe.on(self.data.manifest.name.partition("#")[0], max(self.position, 1))

    @property
    def later(self):
        """Whether there is something to hold on to."""
        return self.position > 1

    def adapting(self):
        """The visual modules that learn in this domain, and the teacher's beside them."""
        pairs = [(self.image, self.teacher)]
        if self.later and self.recipe.freeze_policy == "last blocks":
            frozen = len(self.image.blocks) - self.recipe.unfrozen_blocks
            pairs = list(zip(self.image.blocks[frozen:], self.teacher.blocks[frozen:]))
        return pairs

    def meet_teacher(self):
        """The teacher of a domain starts as the student stands when the images' stage begins."""
        self.teacher.load_state_dict(self.image.state_dict())
        self.teacher_prompts.load_state_dict(self.prompts.state_dict())

    def follow_student(self, _):
        """After each step: teacher <- alpha teacher + (1 - alpha) student (Key Designs 4), of what learns."""
        for student, teacher in (*self.adapting(), (self.prompts, self.teacher_prompts)):
            ema_(teacher, student, self.recipe.ema_alpha)

    @torch.no_grad()
    def follow_words(self, _=None):
        """The row in which the text teacher is an average, too."""
        self.teacher_words.old.lerp_(self.known_words(), 1 - self.recipe.ema_alpha)

    # stages

    def visual_groups(self):
        """First domain: everything visual; later: the last blocks, heads and prompts (`adapting`)."""
        r = self.settings
        decay = {"weight_decay": r.weight_decay}
        prompts = Group(members=[self.prompts], lr=r.lr_va_prompt, weight_decay=r.weight_decay_prompts)
        return [
            Group(members=[student for student, _ in self.adapting()], lr=r.lr_backbone, **decay),
            Group(members=[self.heads], lr=r.lr_head, **decay),
            *([prompts] if r.va_prompts else []),
        ]

    def words_group(self):
        """The words, and gamma where it learns (D5)."""
        r = self.settings
        members = [self.words, *([self.gamma] if r.texkd_gamma_learnable else [])]
        return Group(members=members, lr=r.lr_va_prompt, weight_decay=r.weight_decay_prompts)

    def visual_stage(self, name, losses, weights, groups, **more):
        r = self.settings
        return Stage(
            name=name,
            epochs=r.stage2_epochs,
            sampler=IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
            views=[self.train_view()],
            losses=losses,
            weights=weights,
            groups=groups,
            schedule=warmup_milestones(
                r.stage2_span,
                r.stage2_warmup_epochs,
                r.stage2_warmup_factor,
                r.stage2_milestones,
                r.stage2_lr_decay_factor,
            ),
            stream=IMAGES,
            **more,
        )

    def train_view(self):
        return published_train_view(self.settings)

    def held(self, **weights):
        """{term: weight} of terms that hold on to earlier domains: none in the first, none that all weigh
        nothing."""
        return weights if self.later and any(weights.values()) else {}

    @property
    def visual_held(self):
        r = self.settings
        return self.held(**{"feature distillation": r.lambda_feat, "logit distillation": r.lambda_logit})

    @property
    def words_held(self):
        return self.held(**{"text distillation": self.settings.lambda_text})

    # what the towers say

    def encode(self, batch):
        """f11, f12, fp of the student, (B, D), (B, D) and (B, E)."""
        return seen(self.image, self.prompts, batch)

    @torch.no_grad()
    def taught(self, batch):
        """The same of the teacher, on the same images."""
        return seen(self.teacher, self.teacher_prompts, batch)

    def features(self, batch, names):
        """f11, f12, fp of the student, (B, D) each; no sentence is read (D22)."""
        prompter = self.prompts.picker(self.every_slot)
        return dict(zip(("f11", "f12", "fp"), seen(self.image, prompter, batch)))

    def traits(self, data):
        """{"slots": per cent of all picks, over query images and blocks, that fall on the slots of each
        domain so far (nothing without a pool), "anchor cosine": [mean over query images of the largest cosine
        with a sentence of their domain, as it was at that domain's end]} (of a domain that was learned)."""
        features, picked = self.looked_at(data)
        there = {**self.anchors, self.domain_of(self.data): self.own_sentences()}
        anchors = there.get(self.domain_of(data))
        found = {} if anchors is None else {"anchor cosine": nearness(features, anchors)}
        return found | ({"slots": self.shares_of(picked)} if self.recipe.va_prompts else {})

    @torch.no_grad()
    def looked_at(self, data):
        """fp (Q, E) of the query images as they are tested, and which slots (B, picked) each picks, batch by
        batch and block by block."""
        prompter = self.prompts.picker(self.every_slot)
        batches = still_batches(data, "query", self.size, self.test_view(), self.bank.device)
        features = [seen(self.image, prompter, batch)[2] for batch in batches]
        return torch.cat(features), prompter.picked

    def shares_of(self, picked):
        """Per cent of picked slots that each domain so far has opened."""
        domains = torch.cat([one.flatten() for one in picked]) // self.recipe.new_slots  # from 0
        counts = domains.bincount(minlength=self.position).float()
        return (100 * counts / counts.sum()).tolist()

    def retrieval_tasks(self):
        return {"image to image": Task(TESTED, TESTED)}

    def say(self, words):
        """Sentence features (n, E) of words (n, tokens, width)."""
        return self.text.feature(*self.template(identity=words))

    def sentences(self, ids):
        """Sentence features (n, E) of rows of the table of words."""
        return self.say(self.words(ids))

    @torch.no_grad()
    def teacher_sentences(self, ids):
        """What the text teacher says of rows that it holds on to, (n, E)."""
        return self.say(self.teacher_words(ids))

    def remembered_sentences(self, ids):
        """The same of a teacher that does not move: it was asked once (`fill_teacher_bank`)."""
        return self.teacher_bank[ids]

    def fill_teacher_bank(self):
        self.teacher_bank = in_chunks(self.teacher_sentences, len(self.teacher_words()), self.bank.device)

    # losses

    def contrast(self, image, text, labels):
        """L_supcon, both directions, of images (B, E) and their sentences (B, E)."""
        how = (labels, labels, self.recipe.supcon_temperature, self.recipe.supcon_normalise)
        return {
            "image to text": supervised_contrastive(image, text, *how),
            "text to image": supervised_contrastive(text, image, *how),
        }

    def text_distillation(self, image, sentences, ids):
        """L_TEXKD: which of the sentences (n, E) of rows `ids` an image is near, as the teacher says it."""
        r = self.recipe
        image = image if r.texkd_image_gradient else image.detach()
        both = (sentences, self.teacher_says(ids))
        return cosine_distillation(image, *both, self.gamma, r.texkd_temperature)

    def held_features(self, batch, features, bank):
        """L_featKD, and L_logitKD on the domain's sentences (C, E), against the teacher."""
        taught = self.taught(batch)
        temperature = self.recipe.logitkd_temperature
        return {
            "feature distillation": self.feature_gap(features, taught),
            "logit distillation": anchored_distillation(features[2], taught[2], bank, temperature),
        }


class PADReleased(PAD):
    """Two stages per domain: words on cached features, then the image tower (pad/engine.py)."""

    def known_words(self):
        """Those with which the domain begins: words of earlier identities are gone (D1)."""
        return self.words()

    def stages(self):
        return [self.prompt_learning(), self.image_learning()]

    def prompt_learning(self):
        r = self.settings
        held = self.words_held
        return Stage(
            name="stage 1: prompt learning",
            epochs=r.stage1_epochs,
            sampler=Shuffle(range(len(self.data.train)), r.stage1_batch),
            views=[],  # its steps read the cache
            losses=self.held_prompt_losses if held else self.prompt_losses,
            weights={"image to text": r.supcon_weight, "text to image": r.supcon_weight, **held},
            groups=[self.words_group()],
            schedule=warmup_cosine(
                r.stage1_span,
                r.lr_va_prompt,
                r.stage1_min_lr,
                r.stage1_warmup_epochs,
                r.stage1_warmup_init_lr,
            ),
            cache={"image": Cached(lambda batch: self.encode(batch)[2], self.test_view())},
            prepare=self.fill_teacher_bank if held else nothing,
            after_step=self.move_words if held else nothing,
        )

    def image_learning(self):
        r = self.settings
        weights = {"identity": r.id_weight, "triplet": r.triplet_weight, "image to text": r.i2t_weight}
        held = self.visual_held
        return self.visual_stage(
            "stage 2: image encoder",
            self.held_image_losses if held else self.image_losses,
            weights | held,
            self.visual_groups(),
            start=self.meet_teacher,
            prepare=self.fill_bank,
            after_step=self.follow_student if held else nothing,
        )

    def prompt_losses(self, batch):
        """Stage 1 of the first domain: L_supcon."""
        text = self.sentences(batch.labels)  # (B, E)
        return Losses(self.contrast(batch.cached["image"], text, batch.labels))

    def held_prompt_losses(self, batch):
        """Stage 1 of later domains: L_supcon and L_TEXKD, on one reading of the batch's identities and of
        others."""
        ids = drawn(batch, len(self.words()), len(batch.labels) + self.recipe.texkd_negatives, batch.labels)
        sentences = self.sentences(ids)  # (n, E)
        text = sentences[self.places(ids)[batch.labels]]  # (B, E)
        image = batch.cached["image"]  # (B, E)
        terms = self.contrast(image, text, batch.labels)
        terms["text distillation"] = self.text_distillation(image, sentences, ids)
        return Losses(terms)

    def places(self, ids):
        """(C,) where each row of the table of words stands among `ids`; of others it says nothing."""
        place = ids.new_zeros(len(self.words()))
        place[ids] = torch.arange(len(ids), device=ids.device)
        return place

    def fill_bank(self):
        """The sentences (C, E) of all identities: tower and words are frozen in stage 2."""
        bank = in_chunks(self.sentences, len(self.words()), self.bank.device)
        self.bank = bank.roll(self.recipe.sentences_moved, 0)  # the control: shuffled prompts

    def image_terms(self, features, labels):
        """L_ID, L_tri, and L_i2t against the sentences of all identities of the domain."""
        smoothing = self.recipe.label_smoothing
        against_all = bank_classification(features[2], self.bank, labels, cosine=False, smoothing=smoothing)
        terms = reid_terms(self.heads, features, labels, self.recipe)
        return {**terms, "image to text": against_all}

    def image_losses(self, batch):
        """Stage 2 of the first domain."""
        return Losses(self.image_terms(self.encode(batch), batch.labels))

    def held_image_losses(self, batch):
        """Stage 2 of later domains: the teacher holds the features."""
        features = self.encode(batch)
        terms = self.image_terms(features, batch.labels)
        return Losses(terms | self.held_features(batch, features, self.bank))


class PADDescribed(PAD):
    """One stage per domain; words of earlier identities are kept, trained, and held by the text teacher.

    Nothing but the text teacher reads those words in a later domain, and it begins as the student is: its
    term and the gradient of it stay zero but for rounding, whatever their weight, and no test feature
    depends on them."""

    old_words = "trained"
    own_teacher = "previous"

    def known_words(self):
        """Those of earlier domains' identities, which stand first."""
        return self.words.new[: self.first]

    def stages(self):
        r = self.settings
        weights = {"image to text": r.supcon_weight, "text to image": r.supcon_weight}
        weights |= {"identity": r.id_weight, "triplet": r.triplet_weight}
        stage = self.visual_stage(
            "domain training",
            self.losses,
            weights | self.words_held | self.visual_held,
            [*self.visual_groups(), self.words_group()],
            start=self.meet_teacher,
            prepare=self.fill_teacher_bank if self.words_held else nothing,
            after_step=self.follow if self.words_held or self.visual_held else nothing,
        )
        return [stage]

    def parts(self):
        """What L_overall is made of in this domain: functions of (batch, features, bank) to {term: loss}."""
        held = [self.held_words] * bool(self.words_held) + [self.held_images] * bool(self.visual_held)
        return [self.own_terms, *held]

    def follow(self, carry):
        """Both teachers."""
        self.follow_student(carry)
        self.move_words(carry)

    def losses(self, batch):
        """L_overall: the parts that this domain has (Loss & Training)."""
        features = self.encode(batch)
        own = torch.arange(self.first, len(self.words()), device=batch.labels.device)
        bank = self.sentences(own)  # (C, E), of the domain's identities
        terms = {}
        for part in self.parts():
            terms |= part(batch, features, bank)
        return Losses(terms)

    def own_terms(self, batch, features, bank):
        """L_supcon, L_ID and L_triplet."""
        contrast = self.contrast(features[2], bank[batch.labels], batch.labels)
        return contrast | reid_terms(self.heads, features, batch.labels, self.recipe)

    def held_words(self, batch, features, bank):
        """L_TEXKD on identities of earlier domains."""
        ids = drawn(batch, self.first, self.recipe.texkd_negatives)
        return {"text distillation": self.text_distillation(features[2], self.sentences(ids), ids)}

    def held_images(self, batch, features, bank):
        """L_featKD and L_logitKD; the anchors are given."""
        return self.held_features(batch, features, bank.detach())


def seen(tower, prompter, batch):
    """f11, f12, fp (B, D) of a tower with prompts, for the first view."""
    # images (B, M, 3, H, W) with M = 1
    return tower.reid_features(tower(batch.images.flatten(0, 1), prompter=prompter, read=1))


def nearness(features, anchors):
    """[mean over rows (Q, E) of the largest cosine with an anchor (C, E)]."""
    return [round(similarity(features.float(), anchors.float()).amax(1).mean().item(), 5)]


@torch.no_grad()
def in_chunks(say, count, device):
    """(count, E) what `say` says of rows 0..count-1."""
    return torch.cat([say(ids) for ids in torch.arange(count, device=device).split(CHUNK)])


def drawn(batch, count, most, first=None):
    """At most `most` different of `count` rows, at random, those of `first` (B,) among them: as many as fit,
    so that their number does not depend on how many of `first` are equal."""
    chance = torch.from_numpy(batch.rng.random(count)).to(batch.labels.device)  # (count,), below 1
    if first is not None:
        chance[first] = 1.0
    return chance.topk(min(count, most)).indices


def unit_distillation(student, teacher):
    """Squared distance of unit vectors, mean over rows and over pairs of tensors: L_featKD as the document
    prints it."""
    return torch.stack([squared_distance(s, t.detach()) for s, t in zip(student, teacher)]).mean()


@in_float32
def cosine_distillation(images, student, teacher, scale, temperature):
    """L_TEXKD: scaled cosines of images (B, E) with sentences (n, E) of the student and of the teacher."""
    logits = [scale * similarity(images, sentences) for sentences in (student, teacher)]
    return logit_distillation(*logits, temperature)


@in_float32
def anchored_distillation(student, teacher, anchors, temperature):
    """L_logitKD: raw dot products of images (B, E) with sentences (C, E), as the teacher has them."""
    return logit_distillation(student @ anchors.T, teacher @ anchors.T, temperature)


def storage(method):
    """{part: numbers that a domain's prompts take}: words of identities and the pool, keys included."""
    pool = sum(value.numel() for value in method.prompts.state_dict().values())
    return {"words": method.words().numel(), "pool": pool}


def trained_share(method):
    """{stage: trained parameters in per cent} as the paper counts: a pool is trained as a whole, with keys
    and closed slots, and the text tower's embedding of words, which reads nothing here, does not count."""
    parts = [method.image, method.text, method.prompts, method.words, method.heads]
    whole = sum(size_of(part) for part in parts) - method.text.token_embedding.weight.numel()
    return {
        stage.name: 100 * sum(size_of(member) for group in stage.groups for member in group.members) / whole
        for stage in method.stages()
    }


def size_of(member):
    """Numbers in a parameter or a module, in a pool also those that do not learn."""
    if isinstance(member, nn.Parameter):
        return member.numel()
    still = member.buffers() if isinstance(member, PromptPool) else ()
    return sum(value.numel() for value in (*member.parameters(), *still))


OFF = {"lambda_text": 0.0, "lambda_feat": 0.0, "lambda_logit": 0.0}
NO_TEXT = {"lambda_text": 0.0}
NO_VISION = {"lambda_feat": 0.0, "lambda_logit": 0.0}
STRONG = {"lambda_text": 5.0}  # ten times the weak one: the paper's grid is not known (D31)
LADDER = {
    "S0: Freeze=0;VA=0;TEXKD=0;VISKD=0": {"freeze_policy": "none", "va_prompts": False, **OFF},
    "S1: Freeze=1;VA=0;TEXKD=0;VISKD=0": {"va_prompts": False, **OFF},
    "S2: Freeze=1;VA=1;TEXKD=0;VISKD=0": OFF,
    "S3: Freeze=1;VA=1;TEXKD=1;VISKD=0": NO_VISION,
    "S4: Freeze=1;VA=1;TEXKD=0;VISKD=1": NO_TEXT,
    "S5: Freeze=1;VA=1;TEXKD=1;VISKD=1": {},
}
STRENGTHS = {
    "none; text KD=weak": OFF,
    "none; text KD=strong": OFF,
    "TEXKD only; text KD=weak": NO_VISION,
    "TEXKD only; text KD=strong": {**NO_VISION, **STRONG},
    "VISKD only; text KD=weak": NO_TEXT,
    "VISKD only; text KD=strong": NO_TEXT,
    "both; text KD=weak": {},
    "both; text KD=strong": STRONG,
}
BLOCKS = {
    "unfrozen blocks=2": {"unfrozen_blocks": 2},
    "unfrozen blocks=4": {},
    "unfrozen blocks=6": {"unfrozen_blocks": 6},
}
READINGS = {
    "text teacher by EMA": {"texkd_teacher": "ema"},
    "no contrast": {"supcon_weight": 0.0, "stage1_epochs": (0, 0), "i2t_weight": 0.0},
    "all slots at test (D8)": {"eval_active_slots": "all"},
}
CONTROLS = {
    "control: random text tower": {"text_tower": "random"},
    "control: another's sentence": {"sentences_moved": 1},
}
DESCRIBED = {  # where the document says otherwise than the code
    "supcon_temperature": 0.07,
    "supcon_normalise": True,
    "id_weight": 1.0,
    "texkd_teacher": "previous",
    "texkd_gamma_learnable": True,
    "featkd_reduction": "unit",
}
ROWS = {"full": {}, **LADDER, **STRENGTHS, **BLOCKS, **READINGS, **CONTROLS}
PAPER = Paper(
    recipe=PADRecipe(),
    variants={
        "released": Variant(PADReleased),
        "described": Variant(
            PADDescribed, DESCRIBED, rows=tuple(row for row in ROWS if row != "control: another's sentence")
        ),
    },
    rows=ROWS,
    tables={
        "seed: Ablation Study": tuple(LADDER),
        "card 9.6: text KD strength": tuple(STRENGTHS),
    },
    test_only=("eval_active_slots",),
    pictured=("full", "S0: Freeze=0;VA=0;TEXKD=0;VISKD=0"),
    untrained=("lifelong", "sequential", "full"),
)
