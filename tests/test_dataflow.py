"""The picture of a data flow is read off the graph, not drawn by hand."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reid_core.analysis import dataflow
from reid_core.analysis.dataflow import Part
from reid_core.runs.run import Spec


@pytest.fixture(scope="module")
def method(world):
    return Spec("clip_reid", "clip_reid", profile="smoke").build(world)[0]


def reads(parts):
    return {part.name: part.reads for part in parts}


def test_the_second_stage_reads_what_the_paper_says(method):
    parts = dataflow.record(method, method.stages()[1])
    assert reads(parts) == {
        "images": (),
        "bank": (),
        "image": ("images",),
        "heads 0": ("image",),
        "heads 1": ("image",),
        "identity": ("heads 0", "heads 1"),
        "triplet": ("image",),
        "image to text": ("bank", "image"),
    }
    assert dict((part.name, part.kind) for part in parts)["image"] == "trained"


def test_the_first_stage_trains_words_through_a_frozen_tower(method):
    parts = {part.name: part for part in dataflow.record(method, method.stages()[0])}
    assert parts["words"].kind == "trained" and parts["text"].kind == "frozen"
    assert parts["template"].reads == ("words",) and parts["text"].reads == ("template",)
    assert parts["image to text"].reads == ("image, cached", "text")


def test_shapes_are_those_of_the_pass_with_a_letter_for_the_batch(method):
    parts = {part.name: part for part in dataflow.record(method, method.stages()[1])}
    assert parts["image"].gives == ("hidden 5 x (B, 33, 192)", "hidden (B, 1, 192)", "tokens (B, 1, 192)")
    assert parts["images"].gives == ("(B, 1, 3, 128, 64)",) and parts["identity"].gives == ("weight 0.25",)


def test_recording_leaves_no_trace(method):
    before = [p.requires_grad for p in method.parameters()]
    one = dataflow.record(method, method.stages()[1])
    assert dataflow.record(method, method.stages()[1]) == one, "and says the same twice"
    assert [p.requires_grad for p in method.parameters()] == before and not method.bank.requires_grad
    assert not any(module._forward_hooks for module in method.modules())


def test_a_part_that_runs_twice_keeps_its_box():
    ran, one = dataflow.Ran(), nn.Linear(2, 2)
    hook = one.register_forward_hook(ran.hook("twice", "trained"), with_kwargs=True)
    x, y = torch.ones(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    ran.add("x", "input", (), x)
    ran.add("y", "input", (), y)
    last = one(one(x)) + one(y)
    hook.remove()
    assert ran.parts["twice"].reads == ("x", "y") and ran.sources(last) == ("twice",)


def test_a_part_stands_below_all_that_it_reads():
    parts = [
        Part("a", "input", (), ()),
        Part("b", "trained", (), ("a",)),
        Part("c", "trained", (), ("a", "b")),
        Part("early", "loss", (), ("a",)),
        Part("late", "loss", (), ("c",)),
    ]
    rows = [[part.name for part in row] for row in dataflow.levels(parts)]
    assert rows == [["a"], ["b"], ["c"], ["early", "late"]]


def test_every_part_has_a_box_and_everything_read_an_arrow(method):
    parts = dataflow.record(method, method.stages()[1])
    axis = dataflow.draw(parts).axes[0]
    written = [text.get_text() for text in axis.texts if text.get_text()]
    arrows = [text for text in axis.texts if getattr(text, "arrow_patch", None)]
    assert set(map(dataflow.shown, parts)) <= set(written) and len(arrows) == sum(
        len(part.reads) for part in parts
    )


def test_images_stand_left_text_right_and_losses_below_everything(method):
    parts = dataflow.record(method, method.stages()[1])
    places, (width, _) = dataflow.placed(dataflow.levels(parts))
    lowest = min(at.top for at in places.values())
    assert {part.name for part in parts if places[part.name].top == lowest} == {
        part.name for part in parts if part.kind == "loss"
    }
    upper = [part for part in parts if part.kind != "loss"]
    left = [places[part.name].x for part in upper if not dataflow.textual(part)]
    right = [places[part.name].x for part in upper if dataflow.textual(part)]
    assert right and max(left) < min(right) < width


def test_an_arrow_goes_round_the_boxes_that_stand_between():
    parts = [
        Part("images", "input", (), ()),
        Part("image", "trained", (), ("images",)),
        Part("heads", "trained", (), ("image",)),
        Part("triplet", "loss", (), ("image", "heads")),
    ]
    places, (width, _) = dataflow.placed(dataflow.levels(parts))
    used = dataflow.Counter()
    assert len(dataflow.way(places, "heads", "triplet", width, used)) == 2
    around = dataflow.way(places, "image", "triplet", width, used)
    others = [places["images"], places["heads"]]
    assert len(around) == 4 and all(dataflow.clear(two, others) for two in itertools.pairwise(around))


def test_what_nobody_reads_is_not_drawn():
    ran = dataflow.Ran()
    ran.add("unread", "input", (), torch.ones(1, requires_grad=True))
    ran.add("part", "frozen", (), SimpleNamespace())
    assert [part.name for part in ran.that_matter()] == ["part"]
