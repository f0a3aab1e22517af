"""Sentences against published code: token ids, learned words, the text tower."""

import numpy as np
import torch
from golden import GRADIENT, LOSS, OUTPUT, close, golden, matching
from golden_towers import template_of, text_tower
from open_clip import SimpleTokenizer

from reid_core.data import CaptionTable
from reid_core.loading import tokenizer_of
from reid_core.losses import supervised_contrastive
from reid_core.methods.clip_reid import RECIPE
from reid_core.towers import cropped


@golden("clipreid__templates")
def test_templates_have_the_published_token_ids(file):
    file = file()
    ids = tokenizer_of(RECIPE.backbone)(file["in/text"].tolist())
    assert np.array_equal(ids, file["out/token_ids"])
    assert np.array_equal(ids.argmax(1), file["out/eot_index"])


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


@golden("irra__tokenizer")
def test_captions_have_the_published_token_ids_at_every_context_length(file):
    file = file()
    for key, match in matching(file, r"out/token_ids_(\d+)(?:_truncated)?"):
        found = tokenizer_of(RECIPE.backbone)(file["in/sentences"].tolist(), context_length=int(match[1]))
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
