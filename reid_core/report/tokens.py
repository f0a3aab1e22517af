"""What the two class tokens of a method look at, one for sentences and one for images, and ranked lists of
sentences: figures from Visuals (`analysis.visuals`), placeholders without them.

T explained images, h x w patches
"""

import numpy as np

from reid_core.analysis import explain, live, sentences, visuals
from reid_core.data import load_data
from reid_core.report import heatmaps, images, tables
from reid_core.report.notebook import figure, missing

SHOWN = 4  # explained images
LISTS = 4  # sentences with a ranked list
FEWEST = 10  # images: of fewer, a bootstrap says nothing


class Tokens:
    """The figures of a page, a call per cell, of the Visuals of one method, or the word why there are none;
    `run` is the run that they belong to."""

    def __init__(self, page, one, run=None):
        self.one = None if isinstance(one, str) or not len(one.told) else one
        self.run = run
        if self.one:
            self.data = visuals.part_with_captions(load_data(page.data, page.profile))
            self.said = sentences.every(self.data.gallery)

    def maps(self, how="relevance"):
        """Maps of both tokens over the same images, each image with one of its captions."""
        if not self.one:
            return missing("Heat maps of both class tokens")
        rows = self.one.told[:SHOWN]
        columns = {
            f"token for {name}": self.column(token, how) for token, name in enumerate(sentences.TOKENS)
        }
        persons = [
            explain.group(mask, "person")
            for mask in explain.masks_of(self.data, self.data.gallery.paths[rows, 0])
        ]
        letters = "abcdefgh"[: len(rows)]
        told = [f"{letter}: “{self.said[k]}”" for letter, k in zip(letters, self.one.sentence)]
        pictures = [images.picture(self.data, "gallery", row) for row in rows]
        caption = f"{self.finding(how)}. Below each map its shares. {' '.join(told)}"
        alt = "Rows of an image, then it in grey under the heat map of each class token"
        return figure(heatmaps.overlays(pictures, columns, letters, persons), caption, alt)

    def column(self, token, how):
        """The heatmaps.Column of a token (its place among `sentences.TOKENS`)."""
        kind = list(visuals.HOW).index(how)
        shares = self.one.looked[kind, token][:SHOWN].astype(float)  # (SHOWN, regions)
        under = []
        for named, body in shares:
            parts = [f"{word} {100 * share:.0f} %" for word, share in (("things", named), ("body", body))]
            under.append("\n".join(part for part, share in zip(parts, (named, body)) if share == share))
        return heatmaps.Column(self.one.tokens[kind, token][:SHOWN], under)

    def finding(self, how):
        """Whether one token has more of its maps on a part of the image than the other."""
        told = [f"{region} {self.word(region, how)}" for region in sentences.LOOKED]
        return f"Share of the map of the token for sentences against that for images: {', '.join(told)}"

    def word(self, region, how):
        """What can be said of the difference of the tokens on a part of the image."""
        many = self.seen(region)
        if many < FEWEST:
            return f"not judged ({counted(many)} with it)"
        lean = visuals.leans(self.one, region, how)
        if lean.low > 0:
            return "larger"
        return "smaller" if lean.high < 0 else "undecided"

    def seen(self, region):
        """How many explained images have this part of them."""
        shares = self.one.looked_chance[:, sentences.LOOKED.index(region)]
        return int(np.sum(~np.isnan(shares)))

    def table(self, how="relevance"):
        """The shares of both tokens' maps, and their difference, in points with intervals over people."""
        if not self.one:
            return missing("Shares of both tokens on the things named, on clothing and body")
        lines = []
        for region in sentences.LOOKED:
            found = [visuals.looks(self.one, region, token, how) for token in sentences.TOKENS]
            lines.append(
                [
                    f"{region} ({counted(self.seen(region))})",
                    *map(self.cell, [*found, visuals.leans(self.one, region, how)]),
                ]
            )
        heads = ["share of the map on"]
        heads += [f"token for {token}, above a uniform map" for token in sentences.TOKENS]
        caption = f"{self.finding(how)}. In points, with 95 % intervals over people"
        return tables.table([*heads, "difference of the tokens"], lines, caption)

    def cell(self, found):
        """The cell of an Interval; it names the run of these Visuals."""
        if np.isnan(found.mean):
            return tables.Cell(heatmaps.NO_MASKS)
        text = f"{tables.points(found.mean)} [{tables.points(found.low)}, {tables.points(found.high)}]"
        if self.run is None or self.run.key != self.one.key:
            return tables.Cell(text)
        return tables.Cell(text, tables.kind_of([self.run]), (self.run,))

    def lists(self):
        """Ranked lists of a few sentences: the hardest first, then a median one and the best."""
        if not self.one:
            return missing("Ranked lists of sentences")
        rows = list(range(len(self.one.asked)))[-LISTS:]  # the best stands last
        places = self.one.asked_order.shape[1]
        pictures = []
        titles = []
        frames = []
        for number, row in enumerate(rows, 1):
            for place, shot in enumerate(self.one.asked_order[row], 1):
                mark, colour = images.MARKS[bool(self.one.asked_correct[row][place - 1])]
                pictures.append(images.picture(self.data, "gallery", shot))
                titles.append(f"{number}: {place} {mark}")
                frames.append(colour)
        told = [f"{k}: “{self.said[self.one.asked[row]]}”" for k, row in enumerate(rows, 1)]
        precision = ", ".join(f"{100 * self.one.asked_ap[row]:.0f}" for row in rows)
        caption = f"Average precision {precision} %; the same person in green. {' '.join(told)}"
        alt = f"A line per sentence with the {places} gallery images ranked highest, in coloured frames"
        return figure(images.image_grid(pictures, places, titles, frames), caption, alt)

    def typed(self):
        """The first places for the sentence that the box below begins with."""
        if not self.one or not len(self.one.typed_order):
            return missing("A ranked list of a typed sentence")
        pictures = [images.picture(self.data, "gallery", shot) for shot in self.one.typed_order]
        titles = [f"{place}: {cosine:.2f}" for place, cosine in enumerate(self.one.typed_cosine, 1)]
        caption = f"Place and cosine of the nearest images to “{sentences.TYPED}”"
        alt = f"The {len(pictures)} gallery images ranked highest for the sentence, side by side"
        return figure(images.image_grid(pictures, len(pictures), titles), caption, alt)

    def box(self):
        """A box in which the reader types a sentence and sees the gallery ranked; needs the weights that the
        training left here."""
        if self.run is None:
            return missing("A box for a sentence of your own")
        try:
            return live.text_search(*visuals.trained(self.run.spec))
        except ValueError as why:
            return missing(f"A box for a sentence of your own ({why})")


def counted(many):
    return "1 image" if many == 1 else f"{many} images"
