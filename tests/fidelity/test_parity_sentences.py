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

from data_prep import describe
from data_prep.public import descriptions
from data_prep.public.descriptions import write_descriptions
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
        if "truncated" not in key:
            assert np.array_equal(found.argmax(1), file[f"out/eot_index_{match[1]}"])


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
    for key, match in matching(file, r"out/word_(\w+)_raises"):
        assert file[key] == "KeyError"
        assert tokenizer.decode(tokenizer.encode(match[1])).strip() == match[1]


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
    for key, _ in matching(file, r"(identity|hierarchical)_L\d.*"):
        wanted = file[key]
        ids, end = wanted["token_ids_with_minus1_for_learned"], wanted["eot_index"]
        places = {"identity": wanted["identity_positions"], "instance": wanted["pseudo_positions"]}
        gaps = {gap: -torch.ones(1, len(at), 1) for gap, at in places.items() if at}
        words = [TOKENIZER.decode([number]) if number >= 0 else "" for number in ids[:end]]
        for gap in gaps:
            words[places[gap][0]] = f"{{{gap}}} "
        found = PromptTemplate("".join(words[1:]), Numbers(), TOKENIZER)(**gaps)
        assert found.embeddings.flatten().tolist() == ids
        assert found.end.item() == end


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
    ((key, _),) = matching(file, r"out/prompt_embeddings_first.*")
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
def test_learned_words_stand_in_the_sentence(file):
    file = file()
    text, table = text_tower(file, file.settings["heads"]), leaves(file, "prompt_learner.cls_ctx")
    labels, vectors = file.tensor("in/labels"), table["prompt_learner.cls_ctx"]
    words = template_in(file, text, vectors.shape[1])(identity=vectors[labels])
    end = file.settings["eot_index"]
    assert words.end.tolist() == [end] * len(labels)
    ((key, _),) = matching(file, r"out/prompt_embeddings_first.*")
    agree(file, key, words.embeddings[:, : end + 1], TOWER, np.s_[:, : end + 1])
    read, seen = text.joint_end(text(*words)), file.tensor("in/image_features")
    agree(file, "out/text_features", read, TOWER)
    pairs = ((seen, read), (read, seen))
    loss = sum(supervised_contrastive(a, b, labels, labels, cosine=False) for a, b in pairs)
    agree(file, "out/stage1_loss", loss, TOWER)
    gradients_agree(file, "grad/", loss, table, TOWER)


@golden("vladr__attribute_text")
def test_attribute_sentences_are_read_one_by_one(file):
    """In the order of the description file's lines. Writing and parsing it is left out: our sentences come
    from manifests."""
    file = file()
    images, parts = described(file), file.settings["parts"]
    text = text_tower(file, file.settings["heads"])
    ids = TOKENIZER([sentence for image in images for sentence in image], file["in/token_ids"].shape[1])
    assert torch.equal(ids, file.tensor("in/token_ids"))
    features = F.normalize(text.sentences(cropped(ids)), dim=1).unflatten(0, (-1, len(parts)))
    wanted = features[file.tensor("in/query_order")]
    agree(file, "out/text_features", wanted, TOWER)
    for key, match in matching(file, r"out/text_features_(\w+)_only"):
        agree(file, key, wanted[:, [parts.index(match[1])]], TOWER)


def described(file):
    """The sentences of every image, line by line; the settings have them by name, in another order."""
    lines = bytes(file["in/description_file_utf8"]).decode().splitlines()
    return [file.settings["sentences"][line.split("\t")[0]] for line in lines]


@golden("hpl__prompt_encoder")
def test_prompts_of_one_identity_and_of_one_image_are_read_alike(file):
    file = file()
    text = text_tower(file, file.settings["heads"]).double()
    x = leaves(file, "identity_tokens", "pseudo_tokens", dtype=torch.float64)
    identity = x["identity_tokens"][file.tensor("in/labels")]
    short, long = (sentence_of(file, text, kind) for kind in ("identity", "hierarchical"))
    short, long = short(identity=identity), long(identity=identity, instance=x["pseudo_tokens"])
    assert set(short.end.tolist()) == {file.settings["eot_identity"]}
    assert set(long.end.tolist()) == {file.settings["eot_hierarchical"]}
    one, two = (text.joint_end(text(*words)) for words in (short, long))
    agree(file, "out/identity_prompt_feature", one, FLOAT64)
    agree(file, "out/hierarchical_prompt_feature", two, FLOAT64)
    gradients_agree(file, "grad/", ((one + two) * file.tensor("in/cotangent")).sum(), x, TOWER)


def sentence_of(file, text, kind):
    """The template of a layout in words, such as "SOT a photo of a [E x L_id] person . EOT"."""
    sentence = file.settings[f"{kind}_layout"].removeprefix("SOT ").removesuffix(" EOT")
    sentence = re.sub(r"\[E x \w+\]", "{identity}", sentence)
    return PromptTemplate(re.sub(r"\[P x \w+\]", "{instance}", sentence), text, TOKENIZER)


@golden("vladr__blip_format")
def test_description_files_have_the_published_format(file, tmp_path):
    """The counts in the file are of texts that are not here."""
    file = file()
    told = file["format"]
    assert told["separator"] == "three consecutive TAB characters" and descriptions.SEPARATOR == "\t" * 3
    assert told["fields"] == ["image basename", *descriptions.PARTS]
    said = {"a.jpg": (" a  man ", "b\tc", "d\ne", "f")}
    descriptions.write_descriptions(tmp_path / "one.txt", said)
    written = (tmp_path / "one.txt").read_bytes()
    assert written.count(b"\n") == 1 and written.endswith(b"\n")
    (tmp_path / "two.txt").write_bytes(b"a.jpg" + b"\t\t\tx" * 4 + b"\n" + written)
    found = descriptions.read_descriptions(tmp_path / "two.txt")
    assert found == {"a.jpg": ("a man", "b c", "d e", "f")}, "the later line, stripped"
    for one in file["files"].values():
        assert one["fields_per_line"] == [1 + len(descriptions.PARTS)]


@golden("vladr__blip_assembly")
def test_eleven_answers_make_the_four_sentences_of_a_published_file(file, tmp_path):
    file = file()
    assert len(describe.QUESTIONS) == file["calls_per_image"]
    said = {}
    for name, answers in zip(file["parsed"], file["answers"]):
        left = iter(answers)  # asked in the published order
        said[name] = describe.parts_of(None, lambda image, question, left=left: next(left))
        assert list(said[name]) == file["parsed"][name]
    write_descriptions(tmp_path / "said.txt", said)
    assert (tmp_path / "said.txt").read_text() == file["file_text"]
    asked = file["generation_settings"]
    ours = describe.DECODING
    assert all(ours[name] == asked[name] for name in ("num_beams", "min_length", "repetition_penalty"))
    assert (
        ours["max_new_tokens"] == asked["max_length"] and ours["do_sample"] == asked["use_nucleus_sampling"]
    )
