"""Sentences with gaps, prompts per block, tables that grow."""

import pytest
import torch

from reid_core.loading import load_clip
from reid_core.prompts import DeepPrompts, GrowingTable, PromptTemplate, ShallowPrompts


@pytest.fixture(scope="module")
def towers():
    torch.manual_seed(0)
    return load_clip("tiny", None, (128, 64))


def test_a_template_filled_with_its_own_words_is_the_sentence(towers):
    template = PromptTemplate("A photo of a {identity} person.", towers.text, towers.tokenizer)
    ids = towers.tokenizer(["A photo of a X X X X person."])
    words = towers.text.embed(ids)[:, 5:9]
    found = towers.text.joint_end(towers.text(*template(identity=words)))
    assert torch.allclose(found, towers.text.sentences(ids), atol=1e-5)


def test_a_template_without_gaps_is_a_sentence(towers):
    template = PromptTemplate("A photo of a person.", towers.text, towers.tokenizer)
    wanted = towers.text.sentences(towers.tokenizer(["A photo of a person."]))
    assert torch.allclose(towers.text.joint_end(towers.text(*template())), wanted, atol=1e-5)


def test_gradients_reach_the_gap_and_not_the_fixed_words(towers):
    template = PromptTemplate("A photo of a {identity} and {instance} person.", towers.text, towers.tokenizer)
    identity, instance = torch.randn(3, 4, 128, requires_grad=True), torch.randn(3, 128, requires_grad=True)
    words = template(identity=identity, instance=instance)
    assert words.embeddings.shape == (3, 14, 128) and words.end.tolist() == [13] * 3
    towers.text.joint_end(towers.text(*words)).sum().backward()
    assert identity.grad.abs().sum() > 0 and instance.grad.abs().sum() > 0 and not list(template.parameters())


def test_a_wrong_gap_is_named(towers):
    template = PromptTemplate("A photo of a {identity} person.", towers.text, towers.tokenizer)
    with pytest.raises(ValueError, match="found .'person'."):
        template(person=torch.zeros(1, 128))


def test_shallow_prompts_live_on_and_deep_ones_are_replaced():
    x, evolved = torch.zeros(2, 5, 8), torch.ones(2, 3, 8)
    shallow, deep = ShallowPrompts(3, 8), DeepPrompts(2, 3, 8)
    assert torch.equal(shallow(0, x, x[:, :0])[1], shallow.table) and shallow(1, x, evolved) is evolved
    assert torch.equal(deep(1, x, evolved)[0], deep.tables[1]) and deep(2, x, evolved) is evolved


@pytest.mark.parametrize("old, kept, trained", [("trained", 5, 5), ("frozen", 5, 2), ("dropped", 2, 2)])
def test_a_growing_table_says_what_becomes_of_old_rows(old, kept, trained):
    table = GrowingTable((4, 8))
    table.grow(3, "dropped")
    before = table().detach().clone()
    table.grow(2, old)
    assert len(table()) == kept and len(table.new) == trained
    assert kept == 2 or torch.equal(table()[:3], before)
