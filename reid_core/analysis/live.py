"""A sentence that the reader types, and the gallery ranked for it: live where ipywidgets is installed, as a
figure elsewhere."""

import numpy as np
from IPython.display import display
from matplotlib import pyplot as plt

from data_prep import pictures
from reid_core import evaluate
from reid_core.analysis import search, visuals
from reid_core.analysis.sentences import TYPED


def text_search(method, data, sentence=TYPED, places=8):
    """A box of ipywidgets in which a sentence is typed and the gallery ranked for it; without ipywidgets, the
    figure of one sentence."""
    rank = ranker(method, data, places)
    try:
        import ipywidgets
    except ImportError:
        return drawn(*rank(sentence))
    asked = ipywidgets.Text(value=sentence, description="sentence", continuous_update=False)

    def show(text):
        try:
            display(drawn(*rank(text)))
        except ValueError as error:  # an empty sentence: said below the box, which stays
            print(error)

    return ipywidgets.VBox([asked, ipywidgets.interactive_output(show, {"text": asked})])


def ranker(method, data, places=8):
    """A function of a sentence -> (sentence, paths of the first places, cosines). The gallery is embedded
    once, now. ValueError for an empty sentence, or a method that reads none."""
    method.eval()
    task = search.task_for(method, TYPED)
    data = visuals.part_with_captions(data) or data.parts[0]
    features = evaluate.embed_images(method, data, "gallery", {task.gallery})[task.gallery]  # (G, D)
    shown = features.cpu().numpy()

    def rank(sentence):
        search.task_for(method, sentence)  # says what is wrong with a query
        cosines = shown @ search.sentence(method, sentence, task.query)  # (G, D) and (D,) -> (G,)
        first = np.argsort(-cosines, kind="stable")[:places]
        return sentence, [data.manifest.root / data.gallery.paths[i, 0] for i in first], cosines[first]

    return rank


def drawn(sentence, paths, cosines):
    """A figure: the sentence, and below it the images with their places and cosines."""
    figure, axes = plt.subplots(1, len(paths), figsize=(1.1 * len(paths), 2.9), squeeze=False)
    figure.suptitle(f"“{sentence}”", fontsize=10)
    for place, (axis, path, cosine) in enumerate(zip(axes[0], paths, cosines), 1):
        axis.imshow(pictures.opened(path))
        axis.set_title(f"{place}: {cosine:.2f}", fontsize=8)
        axis.set_axis_off()
    plt.close(figure)  # whoever asked for it shows it, once
    return figure
