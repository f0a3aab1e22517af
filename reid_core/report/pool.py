"""The tables of PAD alone: whose slots images pick, and what its prompts store and cost."""

import numpy as np
from matplotlib import pyplot as plt

from reid_core.analysis import bench, visuals
from reid_core.report import ablations, tables
from reid_core.report.chapters import pad
from reid_core.report.neighbours import OKABE_ITO
from reid_core.report.notebook import folded, missing
from reid_core.report.orders import OrderChapter, own_records
from reid_core.report.tables import Head
from reid_core.runs import averages


class PADChapter(OrderChapter):
    """An OrderChapter whose method has a pool of prompts that grows."""

    facts = pad

    def slots(self):
        """Whose slots the images of each seen domain pick after the last one, folded: mean over seeds."""
        there = ablations.found(self.row("full").specs, self.page.shelf)
        runs = [run for run in there if all("traits" in one for one in averages.final(run.scores))]
        if not runs:
            return missing("Slots that images pick")
        lines = []
        for name, title in zip(self.order, self.titles):
            kept = [one["traits"]["slots"] for run in runs for one in own_records(run, name)]
            shares = [f"{share:.0f}" for share in np.mean(kept, 0)]
            lines.append([title, *(tables.Cell(one, tables.kind_of(runs), tuple(runs)) for one in shares)])
        chance = ", ".join(f"{share:.0f}" for share in shares_of_slots(runs[0].recipe, len(lines)))
        caption = (
            f"Per cent of picks over blocks and query images; picks at random would give {chance}. Keys are "
            "never trained"
        )
        heads = ["images of", *(f"slots opened by {title}" for title in self.titles)]
        return folded("Whose slots images pick", tables.table(heads, lines, caption))

    def anchors(self):
        """How near the images of each seen domain are to the sentences that named its people, right after the
        domain and after the last one: means over seeds."""
        heads = ["method", *(Head(title, "at its end, at the last") for title in self.titles), "change"]
        lines = []
        for name in ANCHORED:
            runs = ablations.found(self.row(self.facts.COMPARED[name]).specs, self.page.shelf)
            kept = [nearness_of(run, self.order) for run in runs]
            kept = np.array([one for one in kept if one is not None])  # (seeds, 2, T)
            if len(kept):
                then, now = kept.mean(0)
                cells = [f"{a:.3f}, {b:.3f}" for a, b in zip(then, now)]
                cells.append(f"{(now - then)[:-1].mean():+.3f}")
                lines.append([name, *(tables.Cell(one, tables.kind_of(runs), tuple(runs)) for one in cells)])
        if not lines:
            return missing("Drift from the sentences")
        caption = (
            "Mean over query images of the largest cosine with a sentence of their domain, as the sentence "
            "was at that domain's end. The paper reports such a number 0.09 higher with PAD and does not say "
            "how it was computed"
        )
        return tables.table(heads, lines, caption)

    def drift(self, looks, first, last):
        """Sentences of the first domain's identities and the means of their images, right after that domain
        and after the last one, in one plane by UMAP; `first` and `last` are labels of `looks`
        (Explanations)."""
        found = [looks.there.get(label) for label in (first, last)]
        if any(one is None or not len(one.centres) for one in found):
            return missing("Drift from the sentences, in the plane")
        then, now = (one.centres.astype(np.float32) for one in found)
        said = found[0].sentences.astype(np.float32)  # their words learn in the first domain alone
        # sentences lie apart from all images, whoever they name: each kind is looked at around its own mean
        around = np.concatenate([said - said.mean(0), then - then.mean(0), now - then.mean(0)])
        places = visuals.umap(around).reshape(3, len(said), 2)
        moved = 1 - (then * now).sum(1).mean()
        caption = (
            f"Nearest to the mean of a person's training images is the sentence of this person for "
            f"{named_right(then, said):.0f} % of the first domain's people right after it, and for "
            f"{named_right(now, said):.0f} % after the last one. The means have moved by a cosine distance "
            f"of {moved:.2f} on average. UMAP, sentences around their mean and images around theirs: a line "
            "goes from the earlier mean to the later one"
        )
        alt = "Crosses for sentences, dots and squares for means of images before and after, in the plane"
        return looks.figure(paths_in_plane(*places), f"{caption}.", alt)

    def storage(self):
        """What prompts take and what learns in each domain, at the paper's size."""
        told = bench.kept("growing_pool")
        if not told:
            return missing("Storage of prompts (python -m reid_core bench growing_pool)")
        lines = []
        for title, one in told["stored"].items():
            total = one["words"] + one["pool"]
            cells = [f"{total / 1e6:.2f}", f"{2 * total / 2**20:.1f}"]
            lines.append([title, *cells, f"{one['stage 1']:.1f}", f"{one['stage 2']:.1f}"])
        heads = [
            "domain",
            "prompts, M numbers",
            "MiB in half precision",
            "learns in stage 1, %",
            "in stage 2, %",
        ]
        caption = (
            f"{told['model']}: words of the domain's identities and the whole pool. The paper prints "
            "13.71 M, 26.1 MiB, and 1 to 1.6 % (stage 1)"
        )
        return tables.table(heads, lines, caption)

    def overhead(self):
        """How much longer an image takes at test with prompts."""
        told = bench.kept("growing_pool")
        if not told:
            return missing("Time of prompts at test (python -m reid_core bench growing_pool)")
        lines = [[way, f"{ratio:.2f}"] for way, ratio in told["ratios"].items()]
        caption = f"Time of an image at test, the tower alone = 1: {told['model']}, {told['device']}"
        return tables.table(["prompts", "time"], lines, caption)


def named_right(centres, sentences):
    """Per cent of the rows of centres (C, E) whose nearest sentence (C, E) is their own."""
    return 100 * ((centres @ sentences.T).argmax(1) == np.arange(len(centres))).mean()


def paths_in_plane(said, then, now, people=8):
    """Sentences, earlier and later means (C, 2) each; the first `people` in colour, with a line between their
    means."""
    drawn, axis = plt.subplots(figsize=(5.5, 4))
    kinds = (
        (said, "x", "sentence"),
        (then, "o", "mean right after the domain"),
        (now, "s", "after the last"),
    )
    for places, marker, name in kinds:
        axis.scatter(*places.T.astype(float), s=14, marker=marker, color="0.75", linewidth=0.8, label=name)
    for k in range(min(people, len(said))):
        colour = OKABE_ITO[k % len(OKABE_ITO)]
        axis.plot(*np.stack([then[k], now[k]]).T.astype(float), color=colour, lw=0.8)
        for places, marker, _ in kinds:
            edge = {} if marker == "x" else {"edgecolor": "black"}
            axis.scatter(*places[k].astype(float), s=32, marker=marker, color=colour, linewidth=0.6, **edge)
    axis.set(xticks=[], yticks=[], xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)")
    axis.legend(frameon=False, fontsize=7)
    drawn.tight_layout()
    return drawn


ANCHORED = ("full fine-tuning (S0)", "PAD", pad.DESCRIBED)  # of the methods compared, those with sentences


def nearness_of(run, names):
    """(2, T) of a run: what it tells of the images of each domain right after that domain, and after the last
    one; None where it keeps no such number."""
    kept = {(one["after"], one["data"]): one.get("traits", {}).get("anchor cosine") for one in run.scores}
    ends = (names, names[-1:] * len(names))  # after which domain
    found = [[kept.get(place) for place in zip(end, names)] for end in ends]
    return None if any(one is None for row in found for one in row) else np.array(found)[..., 0]


def shares_of_slots(recipe, domains):
    """(domains,) the slots that each domain opens, in per cent of all that are open at the end."""
    opened = np.minimum(recipe["new_slots"] * np.arange(domains + 1), recipe["pool_size"])
    return 100 * np.diff(opened) / opened[-1]
