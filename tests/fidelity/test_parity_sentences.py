"""Sentences against published code: token ids, learned words, the text tower."""

import re

import numpy as np
import torch
import torch.nn.functional as F
from golden import (
    FLOAT64,
    GRADIENT,
    LOSS,
    OUTPUT,
    TOWER,
    agree,
    close,
    golden,
    gradients_agree,
    leaves,
    matching,
)
from golden_towers import TOKENIZER, template_in, template_of, text_tower
from open_clip import SimpleTokenizer

from reid_core.data import CaptionTable
from reid_core.losses import supervised_contrastive
from reid_core.methods.clip_reid import RECIPE
from reid_core.prompts import PromptTemplate
from reid_core.towers import cropped

# Token ids


@golden("clipreid__templates")
def test_templates_have_the_published_token_ids(file):
    file = file()
    ids = TOKENIZER(file["in/text"].tolist())
    assert np.array_equal(ids, file["out/token_ids"])
    assert np.array_equal(ids.argmax(1), file["out/eot_index"])


@golden("irra__tokenizer")
def test_captions_have_the_published_token_ids_at_every_context_length(file):
    file = file()
    for key, match in matching(file, r"out/token_ids_(\d+)(?:_truncated)?"):
        found = TOKENIZER(file["in/sentences"].tolist(), context_length=int(match[1]))
        assert np.array_equal(found, file[key])
        ends = file.get(f"out/eot_index_{match[1]}", found.argmax(1))
        assert np.array_equal(found.argmax(1), ends)


@golden("irra__tokenizer")
def test_the_caption_table_holds_the_published_token_ids(file):
    """Without the zeros behind the longest sentence."""
    file = file()
    for key, match in matching(file, r"out/token_ids_(\d+)(?:_truncated)?"):
        table = CaptionTable([file["in/sentences"].tolist()], SimpleTokenizer(context_length=int(match[1])))
        numbers = np.arange(len(file["in/sentences"]))
        found, lengths = table.batch(np.zeros_like(numbers), numbers)
        assert np.array_equal(found, file[key][:, : max(lengths)])
        assert lengths == (file[key].argmax(1) + 1).tolist()


@golden("irra__tokenizer")
def test_the_word_that_breaks_a_published_tokenizer_is_read(file):
    """D11: IRRA drops a vocabulary entry to make room for its mask token."""
    file, tokenizer = file(), SimpleTokenizer()
    assert file["out/word_jekyll_raises"] == "KeyError"
    assert tokenizer.decode(tokenizer.encode("jekyll")).strip() == "jekyll"


@golden("irra__tokenizer")
def test_vocabulary_and_marks_are_the_published_ones(file):
    file, tokenizer = file(), SimpleTokenizer()
    assert tokenizer.vocab_size == file["out/vocab_size"]
    assert [tokenizer.sot_token_id, tokenizer.eot_token_id] == file["out/id_sot_eot_mask"].tolist()[:2]


@golden("vladr__tokenizer")
def test_sentences_become_the_published_numbers(file):
    file = file()
    wanted = file.tensor("out/token_ids")
    assert torch.equal(TOKENIZER(file.settings["texts"], wanted.shape[1]), wanted)


class Numbers:
    """A text tower whose word embeddings are the numbers of the words."""

    def embed(self, ids):
        return ids[:, None].float()


@golden("hpl__bpe_layout")
def test_learned_words_stand_where_hpl_puts_them(file):
    """Other entries of the file, such as modality sentences, are left out."""
    file = file()
    for word, ids in file["words"].items():
        assert TOKENIZER.encode(word) == ids
    layouts = [key for key in file if re.match(r"(identity|hierarchical)_L\d", key)]
    for key in layouts:
        wanted, learned = file[key], -torch.ones(1, 1, 1)
        gaps = {"identity": learned.expand(1, len(wanted["identity_positions"]), 1)}
        if wanted["pseudo_positions"]:
            gaps["instance"] = learned.expand(1, len(wanted["pseudo_positions"]), 1)
        sentence = "A photo of a " + " and ".join(f"{{{gap}}}" for gap in gaps) + " person."
        found = PromptTemplate(sentence, Numbers(), TOKENIZER)(**gaps)
        assert found.embeddings.flatten().tolist() == wanted["token_ids_with_minus1_for_learned"]
        assert found.end.item() == wanted["eot_index"]


# Learned words and the text tower


def learned_sentences(file):
    text, vectors = text_tower(file, file["in/heads"]), file.leaf("w/prompt_learner.cls_ctx")
    template = template_of(text, str(file["in/template_text"]), vectors.shape[1])
    return text, vectors, lambda pids: template(identity=vectors[pids])


@golden("clipreid__text")
def test_learned_words_enter_the_template_at_the_published_place(file):
    name, file = file.name, file()
    _, _, words = learned_sentences(file)
    found = words(file.tensor("in/label"))
    (key,) = [key for key in file if key.startswith("out/prompt_embeddings_first")]
    length = min(found.embeddings.shape[1], file[key].shape[1])
    close(found.embeddings[:, :length], file[key][:, :length], OUTPUT, name)
    assert (found.end == file["in/eot_index"].item()).all()


@golden("clipreid__text")
def test_sentence_features_are_the_published_ones(file):
    """The published tower reads the full context, ours stops at the end token."""
    name, file = file.name, file()
    text, vectors, words = learned_sentences(file)
    close(text.joint_end(text(*words(file.tensor("in/label")))), file["out/text_features"], OUTPUT, name)
    everybody = text.joint_end(text(*words(torch.arange(len(vectors)))))
    close(everybody, file["out/text_features_all_classes"], OUTPUT, name)
    ids = file.tensor("in/sentence_token_ids")
    for some in (ids, cropped(ids)):
        close(text.sentences(some), file["out/sentence_features"], OUTPUT, name)


@golden("clipreid__text")
def test_learned_words_get_the_published_gradient(file):
    name, file = file.name, file()
    text, vectors, words = learned_sentences(file)
    image, pids = file.tensor("in/image_features"), file.tensor("in/label")
    sentences = text.joint_end(text(*words(pids)))
    to_text = supervised_contrastive(image, sentences, pids, pids, RECIPE.temperature, cosine=False)
    to_image = supervised_contrastive(sentences, image, pids, pids, RECIPE.temperature, cosine=False)
    for found, key in ((to_text, "loss_i2t"), (to_image, "loss_t2i"), (to_text + to_image, "loss")):
        close(found, file[f"out/{key}"], LOSS, name)
    (to_text + to_image).backward()
    close(vectors.grad, file["grad/prompt_learner.cls_ctx"], GRADIENT, name)


@golden("vladr__prompt_text")
def test_four_learned_words_stand_in_the_sentence(file):
    file = file()
    text, table = text_tower(file, file.settings["heads"]), leaves(file, "prompt_learner.cls_ctx")
    labels, vectors = file.tensor("in/labels"), table["prompt_learner.cls_ctx"]
    words = template_in(file, text, vectors.shape[1])(identity=vectors[labels])
    end = file.settings["eot_index"]
    assert words.end.tolist() == [end] * len(labels)
    agree(file, "out/prompt_embeddings_first13", words.embeddings[:, : end + 1], TOWER, np.s_[:, : end + 1])
    read, seen = text.joint_end(text(*words)), file.tensor("in/image_features")
    agree(file, "out/text_features", read, TOWER)
    pairs = ((seen, read), (read, seen))
    loss = sum(supervised_contrastive(a, b, labels, labels, cosine=False) for a, b in pairs)
    agree(file, "out/stage1_loss", loss, TOWER)
    gradients_agree(file, "grad/", loss, table, TOWER)


@golden("vladr__attribute_text")
def test_attribute_sentences_are_read_one_by_one(file):
    """Writing and parsing the description file is left out: our sentences come from manifests."""
    file = file()
    sentences, text = list(file.settings["sentences"].values()), text_tower(file, file.settings["heads"])
    ids = TOKENIZER([s for image in sentences for s in image], file["in/token_ids"].shape[1])
    assert torch.equal(ids, file.tensor("in/token_ids"))
    features = F.normalize(text.sentences(cropped(ids)), dim=1).unflatten(0, (len(sentences), -1))
    wanted = features[file.tensor("in/query_order")]
    agree(file, "out/text_features", wanted, TOWER)
    lower = file.settings["parts"].index("lower")
    agree(file, "out/text_features_lower_only", wanted[:, [lower]], TOWER)


@golden("hpl__prompt_encoder")
def test_prompts_of_one_identity_and_of_one_image_are_read_alike(file):
    file = file()
    text = text_tower(file, file.settings["heads"]).double()
    x = leaves(file, "identity_tokens", "pseudo_tokens", dtype=torch.float64)
    identity = x["identity_tokens"][file.tensor("in/labels")]
    short = PromptTemplate("A photo of a {identity} person.", text, TOKENIZER)(identity=identity)
    long = PromptTemplate("A photo of a {identity} and {instance} person.", text, TOKENIZER)
    long = long(identity=identity, instance=x["pseudo_tokens"])
    assert set(short.end.tolist()) == {file.settings["eot_identity"]}
    assert set(long.end.tolist()) == {file.settings["eot_hierarchical"]}
    one, two = (text.joint_end(text(*words)) for words in (short, long))
    agree(file, "out/identity_prompt_feature", one, FLOAT64)
    agree(file, "out/hierarchical_prompt_feature", two, FLOAT64)
    gradients_agree(file, "grad/", ((one + two) * file.tensor("in/cotangent")).sum(), x, TOWER)
