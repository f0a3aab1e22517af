"""PromptSG (Yang et al., CVPR 2024): an image is turned into a word, the word into a sentence, and the
sentence asks the image's patches what matters.

There is no official code. Decisions D1-D28 stand on the book's page Decisions; where one is a choice it is a
field of the recipe. Those that leave no choice: D18 "every 20 epochs" of 60 is 20 and 40; D23 and D24 name
data sets (MSMT17 V1 with train and val, CUHK03-NP labelled) and lie with their readers; D25 the last epoch is
reported, and the best is not logged: it would be picked by the test; D27 see BARE; of D8 the activation and
the initialisation, which are CLIP's; D26 the batch norms use the statistics of the batch in training and
running ones in testing; D28 losses and distances are float32, the towers run in the profile's precision.

    B images, T tokens (class token first), Q words of a sentence that ask (the end token last), D width of
    the image tower, E width of the joint space, W width of a word
"""

from dataclasses import dataclass

import torch
from torch import nn

from reid_core.augment import HALF, IMAGENET_MEAN, IMAGENET_STD
from reid_core.layers import Head, Interaction, Inversion, NoInteraction
from reid_core.loading import TEXT_TOWERS, load_clip
from reid_core.losses import REDUCTIONS, batch_hard_triplet, identity, supervised_contrastive
from reid_core.methods.base import IMAGES, Losses, Method, Paper, Stage, Task, Variant, chance_of
from reid_core.methods.baseline import PublishedViews
from reid_core.optim import Group
from reid_core.prompts import ComposedPrompt, PromptTemplate
from reid_core.recipe import Recipe, assumed, one_of, stated, values_of
from reid_core.samplers import IdentityBatches
from reid_core.schedules import warmup_milestones


@dataclass(frozen=True)
class PromptSGRecipe(Recipe):
    backbone: str = stated("ViT-B-16-quickgelu", "Sec. 5.1", "backbone", "visual_backbones")
    pretrained: str = stated("openai", "Sec. 5.1", "weights")
    text_tower: str = stated("pretrained", 'Sec. 4; a control row takes "random"', row="text_encoder")
    image_height: int = stated(256, "Sec. 5.1", "pixels")
    image_width: int = stated(128, "Sec. 5.1", "pixels")
    stride: int = assumed(16, "D22: compared with plain CLIP-ReID")
    sie: float = assumed(0.0, "D22: off")
    prompt_composed: str = stated("A photo of a {identity} person", "Sec. 4.1; D4: no period")
    prompt_simplified: str = stated("A photo of a person", "Sec. 4.3")
    train_prompt: str = stated("composed", 'Sec. 4.1; Table 4: "simplified"')
    test_prompt: str = stated("composed", 'Sec. 4.3; for efficiency "simplified"')
    pseudo_tokens: int = assumed(1, "D4: the title's S*")
    inversion_mlp_layers: int = stated(3, "Sec. 5.1")
    inversion_hidden_dim: int = stated(512, "Sec. 5.1")
    inversion_bn: bool = stated(True, "Sec. 5.1: after the last state")
    inversion_activation: str = assumed("ReLU", "D2")
    inversion_dropout: float = assumed(0.0, "D2")
    inversion_bn_gamma_init: float | str = assumed(
        1.0, 'D3: literal; "words" takes the spread of CLIP\'s words'
    )
    inversion_normalised: bool = assumed(
        False, "D1: raw; batch norm absorbs the scale", row="inversion_input"
    )
    detach: bool = assumed(False, "D19: the image feature that enters the inversion keeps its gradient")
    mim_cross_attention_layers: int = stated(1, "Sec. 4.2; Table 3 row d: 0")
    mim_self_attention_blocks: int = stated(2, "Sec. 4.2")
    mim_mode: str = assumed("pool", 'D7: Eq. 7 as printed; "reweight" as Fig. 2 and 3 draw it')
    mim_query: str = assumed(
        "end", 'D5: the sentence is its end token; "words": all of them ask', row="mim_query_length"
    )
    mim_class_token: bool = assumed(True, "D6: keys and values are all 129 tokens", row="mim_kv_tokens")
    mim_head_width: int = assumed(64, "D8: 8 heads of a width of 512, 16 of 1024 (D21)", row="mim_heads_vit")
    mim_mlp_ratio: float = assumed(4.0, "D8", row="mim_mlp_dim")
    mim_norms: bool = assumed(True, "D8: the sentence and the tokens are normed first")
    mim_output_projection: bool = assumed(False, "D8: three projections are listed; fits the size of Table 6")
    mim_cross_residual: bool = assumed(False, "D8")
    id_features: tuple = assumed(("z",), "D10: one classifier", row="classifier_count")
    triplet_features: tuple = assumed(("z", "f12", "f11", "f10"), "D16: last three states of the tower and z")
    retrieval_features: tuple = assumed(("z",), "D9", row="retrieval_feature")
    gallery_prompt: str = assumed("of the query", "D20: both sides alike", row="gallery_prompt_mode")
    classifier_init_std: float = assumed(0.001, "D10")
    label_smoothing: float = assumed(0.1, "D11; the printed 1/K of Eq. 8 is not taken literally")
    triplet_margin: float = assumed(0.3, "D15: batch-hard, on raw Euclidean distances, as CLIP-ReID")
    triplet_feature_weight: float = assumed(1.0, "D16: on each but z")
    id_weight: float = stated(1.0, "Eq. 10", row="loss_weights_triplet_id")
    triplet_weight: float = stated(1.0, "Eq. 10", row="loss_weights_triplet_id")
    lambda_supcon: float = stated(0.5, "Sec. 5.1; Eq. 10")
    i2t_share: float = assumed(
        1.0, "D13: both directions are added, lambda counts once", row="supcon_directions_weight"
    )
    t2i_share: float = assumed(1.0, "D13", row="supcon_directions_weight")
    supcon_reduction: str = assumed(
        "mean", 'D12: mean over positives; "sum" as printed', row="supcon_reduction"
    )
    supcon_positives: str = stated("identity", 'Sec. 4.1, Eq. 5-6: supervised; "pair" is plain contrast')
    supcon_temperature: float = assumed(0.07, "D14: CLIP's first temperature; the paper prints none")
    ids_per_batch: int = stated(16, "Sec. 5.1")
    images_per_id: int = stated(4, "Sec. 5.1")
    epochs: int = stated(60, "Sec. 5.1", "epochs")
    span: int = stated(60, "Sec. 5.1; the epochs that the schedule is written in", row="epochs")
    lr_visual_encoder: float = stated(5e-6, "Sec. 5.1", "pretrained lr")
    lr_random_init_modules: float = stated(5e-5, "Sec. 5.1", "new lr")
    lr_decay_factor: float = stated(0.1, "Sec. 5.1")
    lr_milestones: tuple = assumed(
        (20, 40), "D18: every 20 epochs of 60, as the 20th and 40th begin, like CLIP-ReID's"
    )
    weight_decay: float = assumed(1e-4, "D17: as CLIP-ReID stage 2")
    bias_lr_factor: float = assumed(2.0, "D17")
    warmup_epochs: float = assumed(10, "D17; 0 would be literal")
    warmup_factor: float = assumed(0.1, "D17")
    flip_p: float = assumed(0.5, "D17")
    random_erasing_p: float = assumed(0.5, "D17")
    random_erasing_area_min: float = assumed(0.02, "D17: as CLIP-ReID")
    random_erasing_area_max: float = assumed(1 / 3, "D17: as CLIP-ReID")
    random_erasing_aspect: tuple = assumed((0.3, 1 / 0.3), "D17: as CLIP-ReID")
    train_interpolation: str = assumed("bicubic", "D17: as CLIP-ReID")
    test_interpolation: str = assumed("bilinear", "D17: as CLIP-ReID")
    seed: int = assumed(1234, "D17; any number: runs name theirs")
    pad: int = assumed(10, "D17", "pixels")
    norm_mean: tuple = assumed(HALF, "D17")
    norm_std: tuple = assumed(HALF, "D17")


RN50 = {  # the other backbone with the one rate that is printed (D21)
    "backbone": stated("RN50-quickgelu", "Sec. 5.1"),
    "norm_mean": assumed(IMAGENET_MEAN, "D17: as CLIP-ReID", row="norm_mean_rn50"),
    "norm_std": assumed(IMAGENET_STD, "D17: as CLIP-ReID", row="norm_std_rn50"),
    "triplet_features": assumed(("z", "f4", "f3", "v"), "D21", row="triplet_features_rn50"),
}
RN50_RATES = {  # and with CLIP-ReID's, which are likelier (D21)
    **RN50,
    "lr_visual_encoder": assumed(3.5e-4, "D21", row="lr_visual_rn50"),
    "lr_random_init_modules": assumed(3.5e-4, "D21", row="lr_new_rn50"),
    "epochs": assumed(120, "D21", row="epochs_rn50"),
    "span": assumed(120, "D21", row="epochs_rn50"),
    "lr_milestones": assumed((40, 70), "D21", row="lr_milestones_rn50"),
    "weight_decay": assumed(5e-4, "D21", row="weight_decay_rn50"),
    "warmup_factor": assumed(0.01, "D21", row="warmup_factor_rn50"),
}
OVERLAP = {"stride": assumed(12, "D22: overlapping patches", row="olp")}
SETTINGS = {"RN50": RN50, "RN50, rates of CLIP-ReID": RN50_RATES, "overlapping patches": OVERLAP}
# D27: without the interaction nothing is left of z; the baseline's heads, and its feature, take over
BARE = {
    "mim_cross_attention_layers": 0,
    "id_features": ("f12", "v"),
    "triplet_features": ("f11", "f12", "v"),
    "retrieval_features": ("f12", "v"),
}


# which rows are positives in the contrast: images of one identity, or each image and its own sentence
PARTNERS = {
    "identity": lambda labels: labels,
    "pair": lambda labels: torch.arange(len(labels), device=labels.device),
}


class PromptSG(PublishedViews, Method):
    """One stage: L = L_ID + L_triplet + lambda (L_i2t + L_t2i) (Eq. 10).

    ValueError for a field of the recipe that names no choice, and for patches alone with "reweight" (D7).
    """

    def __init__(self, recipe, data):
        super().__init__(recipe)
        r = recipe
        cameras = len(data.cameras) if r.sie else 0  # a coefficient of 0 makes no embedding
        self.size = (r.image_height, r.image_width)
        self.data = data
        self.image, self.text, self.tokenizer = load_clip(
            r.backbone, r.pretrained, self.size, r.stride, cameras=cameras, sie=r.sie
        )
        self.text = one_of(TEXT_TOWERS, r.text_tower, "text_tower")(self.text, r.backbone)
        joint = self.image.joint_width  # E
        widths = {**self.image.state_widths, "v": joint, "z": joint}  # of every feature that may have a head
        with chance_of("heads"):
            self.heads = nn.ModuleDict(
                {name: Head(widths[name], data.classes, r.classifier_init_std) for name in r.id_features}
            )
        self.shares = dict.fromkeys(r.triplet_features, r.triplet_feature_weight) | {"z": 1.0}  # D16
        self.partners = one_of(PARTNERS, r.supcon_positives, "supcon_positives")
        with chance_of("inversion"):
            self.inversion = self.make_inversion(joint)
        with chance_of("interaction"):
            self.interaction = self.make_interaction(joint)
        self.read_sentences()
        self.choose_prompts()

    def make_inversion(self, joint):
        r = self.recipe
        words = self.text.token_embedding.weight  # (vocabulary, W)
        gamma = words.std().item() if r.inversion_bn_gamma_init == "words" else r.inversion_bn_gamma_init
        return Inversion(
            width=joint,
            hidden=r.inversion_hidden_dim,
            words=self.text.width,
            layers=r.inversion_mlp_layers,
            count=r.pseudo_tokens,
            activation=r.inversion_activation,
            dropout=r.inversion_dropout,
            norm=r.inversion_bn,
            gamma=gamma,
        )

    def make_interaction(self, joint):
        r = self.recipe
        self.first = 0 if r.mim_class_token else 1  # the first token that the sentence may look at (D6)
        if r.mim_mode == "reweight" and self.first:
            raise ValueError(
                "expected mim_class_token with mim_mode reweight, whose z is the re-weighted class token "
                "(D7), found patches alone; keep the class token."
            )
        if not one_of({0: False, 1: True}, r.mim_cross_attention_layers, "mim_cross_attention_layers"):
            return NoInteraction()
        return Interaction(
            width=joint,
            head_width=r.mim_head_width,
            blocks=r.mim_self_attention_blocks,
            mlp_ratio=r.mim_mlp_ratio,
            mode=r.mim_mode,
            projection=r.mim_output_projection,
            residual=r.mim_cross_residual,
            norms=r.mim_norms,
        )

    def read_sentences(self):
        """The composed prompt has a gap; the simplified one is read once and for all by the frozen tower."""
        r = self.recipe
        queries = {"end": self.end_token, "words": self.text.joint_tokens}
        self.query = one_of(queries, r.mim_query, "mim_query")  # TextTokens -> (B, Q, E)
        self.template = PromptTemplate(r.prompt_composed, self.text, self.tokenizer)
        self.compose = ComposedPrompt(
            self.text, self.template, self.inversion, detach=r.detach, normalised=r.inversion_normalised
        )
        plain = PromptTemplate(r.prompt_simplified, self.text, self.tokenizer)
        with torch.no_grad():
            sentence = self.query(self.text(*plain()))  # (1, Q, E)
        self.register_buffer("plain", sentence, persistent=False)

    def choose_prompts(self):
        """Which sentence asks in training, of the query and of the gallery (D20)."""
        r = self.recipe
        self.prompts = {"composed": self.composed, "simplified": self.simplified}
        for field in ("train_prompt", "test_prompt"):
            one_of(self.prompts, getattr(r, field), field)
        sides = {"of the query": r.test_prompt, **{name: name for name in self.prompts}}
        self.gallery_prompt = one_of(sides, r.gallery_prompt, "gallery_prompt")
        one_of(REDUCTIONS, r.supcon_reduction, "supcon_reduction")

    def end_token(self, out):
        """A sentence as its end token alone, (B, 1, E) (D5)."""
        return self.text.joint_end(out)[:, None]

    def composed(self, v):
        """Sentences (B, Q, E) that image features v (B, E) compose: s* = f(v) in "A photo of a s* person"."""
        return self.query(self.compose(v))  # all words, or the end token alone (D5)

    def simplified(self, v):
        """One sentence for every image, (B, Q, E)."""
        return self.plain.expand(v.shape[0], -1, -1)

    def encode_image(self, batch):
        """States of the tower by name and v, (B, D) each, and all tokens in the joint space (B, T, E)."""
        out = self.image(batch.images.flatten(0, 1), batch.cameras)  # images (B, 1, 3, H, W)
        tokens = self.image.joint_tokens(out)  # (B, T, E)
        return {**self.image.states(out), "v": tokens[:, 0]}, tokens  # v: the class token in the joint space

    def query_patches(self, v, tokens, prompt):
        """l (B, E), the sentence of image features v (B, E), and z (B, E), what it found among the tokens (B,
        T, E)."""
        sentence = self.prompts[prompt](v)  # (B, Q, E), the end token last
        return sentence[:, -1], self.interaction(sentence, tokens[:, self.first :])

    def encode_text(self, batch):
        """Features (N, E) of captions."""
        return self.text.sentences(batch.text)

    def features(self, batch, names):
        """The states of the tower and "v"; "z:PROMPT" and "l:PROMPT" with a prompt of `self.prompts`;
        "caption" of sentences."""
        if "caption" in names:
            return {"caption": self.encode_text(batch)}
        found, tokens = self.encode_image(batch)  # the tower runs once for all prompts
        for prompt in sorted({name.partition(":")[2] for name in names} - {""}):
            sentence, z = self.query_patches(found["v"], tokens, prompt)
            found |= {f"l:{prompt}": sentence, f"z:{prompt}": z}
        return found

    def losses(self, batch):
        """The terms of Eq. 10 on the first view."""
        r = self.recipe
        labels = batch.labels
        f, tokens = self.encode_image(batch)
        f["l"], f["z"] = self.query_patches(f["v"], tokens, r.train_prompt)
        pairs = self.partners(labels)  # (B,) equal where rows are each other's positives
        contrast = (pairs, pairs, r.supcon_temperature, True, r.supcon_reduction)  # True: cosines
        # logits (B, C) of each head
        identities = [identity(head(f[name]), labels, r.label_smoothing) for name, head in self.heads.items()]
        # each feature is mined for itself: the hardest pairs of z are not those of f12
        triplets = [
            self.shares[name] * batch_hard_triplet(f[name], labels, r.triplet_margin)
            for name in r.triplet_features
        ]
        return Losses(
            {
                "identity": sum(identities),  # Eq. 8
                "triplet": sum(triplets),  # Eq. 9
                "image to text": supervised_contrastive(f["v"], f["l"], *contrast),  # Eq. 5
                "text to image": supervised_contrastive(f["l"], f["v"], *contrast),  # Eq. 6
            }
        )

    def stages(self):
        r = self.recipe
        decay = {"weight_decay": r.weight_decay, "bias_factor": r.bias_lr_factor}
        used = one_of({"composed": [self.inversion], "simplified": []}, r.train_prompt, "train_prompt")
        end_to_end = Stage(
            name="end-to-end training",
            epochs=r.epochs,
            sampler=IdentityBatches(self.data.labels, r.ids_per_batch, r.images_per_id),
            views=[self.train_view()],
            losses=self.losses,
            weights={
                "identity": r.id_weight,
                "triplet": r.triplet_weight,
                "image to text": r.lambda_supcon * r.i2t_share,
                "text to image": r.lambda_supcon * r.t2i_share,
            },
            groups=[
                Group(members=[self.image], lr=r.lr_visual_encoder, **decay),
                Group(members=[*used, self.interaction, self.heads], lr=r.lr_random_init_modules, **decay),
            ],
            schedule=warmup_milestones(
                r.span, r.warmup_epochs, r.warmup_factor, r.lr_milestones, r.lr_decay_factor
            ),
            stream=IMAGES,
        )
        return [end_to_end]

    def retrieval_tasks(self):
        """The prompt of the recipe first; then the cheap prompt of Table 5, the tower without a question, the
        other feature of D9, and what Sec. 5.3 hints at: composed sentences searching images, and captions
        searching composed sentences, beside captions searching images. Where no sentence was composed in
        training, none is in the test."""
        own = self.tested(self.recipe.test_prompt)
        theirs = self.tested(self.gallery_prompt)
        cheap = self.tested("simplified")
        last = list(self.image.state_widths)[-1]  # f12, or f4 of a ResNet
        both = f"{last}+z:{self.recipe.test_prompt}"
        tasks = {
            "image to image": Task(own, theirs),
            "image to image, re-ranked": Task(own, theirs, rerank=True),
            "simplified prompt": Task(cheap, cheap),
            "simplified prompt in the gallery (D20)": Task(own, cheap),
            "joint space": Task("v", "v"),
            "caption to image": Task("caption", "v", "text"),
            "last state and z (D9)": Task(both, both),
        }
        composed = {
            "composed sentence to image": Task("l:composed", "v"),
            "caption to composed sentence": Task("caption", "l:composed", "text"),
        }
        return {**tasks, **{"composed": composed, "simplified": {}}[self.recipe.train_prompt]}

    def tested(self, prompt):
        """The name of the test feature under a prompt, before the neck: z, unless a row says otherwise
        (D9)."""
        of_prompt = {"z", "l"}
        names = (f"{name}:{prompt}" if name in of_prompt else name for name in self.recipe.retrieval_features)
        return "+".join(names)

    def readers(self, name):
        """The tower, and for z the interaction as well."""
        tower = [(self.image, 0)]
        return tower + self.interaction.readers() if "z:" in name else tower


RECIPE = PromptSGRecipe()
SIMPLE = {"test_prompt": "simplified"}
PRINTED = {
    "a): L_i2t_sup=1;L_t2i_sup=1;MIM=1": {},
    "b): L_i2t_sup=0;L_t2i_sup=1;MIM=1": {"i2t_share": 0.0},
    "c): L_i2t_sup=1;L_t2i_sup=0;MIM=1": {"t2i_share": 0.0},
    "d): L_i2t_sup=1;L_t2i_sup=1;MIM=0": BARE,
    "Training w/ composed": {},
    "Training w/o composed": {
        "train_prompt": "simplified",
        "test_prompt": "simplified",
        "lambda_supcon": 0.0,
    },
    "w/o attention module; inference: visual=1;text=0": BARE,
    "+ 1 cross-layer; inference: visual=1;text=0": {"mim_self_attention_blocks": 0, **SIMPLE},
    "+ 1 cross & 1 self-layer; inference: visual=1;text=0": {"mim_self_attention_blocks": 1, **SIMPLE},
    "+ 1 cross & 2 self-layer; inference: visual=1;text=1": {},
    "+ 1 cross & 2 self-layer; inference: visual=1;text=0": SIMPLE,
}
LAMBDAS = {f"lambda {value:g}": {"lambda_supcon": value} for value in (0.0, 0.1, 0.5, 1.0, 2.0)}
TEMPERATURES = {f"temperature {value:g}": {"supcon_temperature": value} for value in (0.01, 0.02, 0.05, 0.1)}
CHOICES = {  # what the paper does not specify, and how much it matters
    "interaction re-weights tokens (D7)": {"mim_mode": "reweight"},
    "plain contrast": {"supcon_positives": "pair"},
    "contrast summed over positives (D12)": {"supcon_reduction": "sum"},
    "pseudo-word as short as CLIP's words (D3)": {"inversion_bn_gamma_init": "words"},
    "all words as queries (D5)": {"mim_query": "words"},
    "patches alone (D6)": {"mim_class_token": False},
    "no norms before the attention (D8)": {"mim_norms": False},
    "output projection (D8)": {"mim_output_projection": True},
    "residual around cross-attention (D8)": {"mim_cross_residual": True},
    "retrieval by f12 and z (D9)": {"retrieval_features": ("f12", "z")},
    "simplified prompt in the gallery (D20)": {"gallery_prompt": "simplified"},
    "two classifiers (D10)": {"id_features": ("z", "f12")},
    "triplet as in CLIP-ReID (D16)": {"triplet_features": ("z", "f12", "f11", "v")},
    "no warm-up (D17)": {"warmup_epochs": 0},
    "inversion detached (D19)": {"detach": True},
    "normalised input to the inversion (D1)": {"inversion_normalised": True},
    "period after the sentence (D4)": {"prompt_composed": "A photo of a {identity} person."},
    "four pseudo-words (D4)": {"pseudo_tokens": 4},
    **LAMBDAS,
    **TEMPERATURES,
}
CONTROLS = {  # what remains of a gain when the language is taken away
    "control: random text tower": {"text_tower": "random"},
    "control: one constant sentence": PRINTED["Training w/o composed"],
    "control: words without meaning": {"prompt_composed": "{identity}", "prompt_simplified": "X X X X X"},
}
SHORTER = {  # how much the interaction, which starts from random weights, needs the time
    "half the epochs": {"epochs": 30},
    "no interaction, half the epochs": {**BARE, "epochs": 30},
}
ABLATIONS = {
    "full": {},
    "zero-shot": {"epochs": 0},
    **PRINTED,
    **CHOICES,
    **CONTROLS,
    **SHORTER,
    **{row: values_of(new) for row, new in SETTINGS.items()},
}
TABLES = {
    "Table 3": [row for row in PRINTED if row[1:3] == "):"],
    "Table 4": [row for row in PRINTED if row.startswith("Training")],
    "Table 5": [row for row in PRINTED if "inference" in row],
}
PAPER = Paper(
    recipe=RECIPE,
    variants={"promptsg": Variant(PromptSG)},
    rows=ABLATIONS,
    tables=TABLES,
    test_only=("test_prompt", "gallery_prompt", "retrieval_features"),
    pictured=("full", "Training w/o composed"),
)
