"""A ranked list as a page of its own: one file, with its pictures in it, that opens anywhere."""

import base64
import io
import os
from pathlib import Path

from data_prep import pictures
from reid_core.report.tables import escaped

HEIGHT = 192  # pixels of a picture on the page
PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color-scheme: light dark; }}
ol {{ display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0; }}
figure {{ margin: 0; width: 9rem; }}
img {{ max-width: 100%; }}
figcaption {{ font-size: 0.8rem; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>Ranked by {run}. The number is the cosine of two features: 1 is the same, and only the order means
something.</p>
{query}
<ol>
{places}
</ol>
</html>
"""


def page(query, found, run):
    """HTML of a list of `search.Found` for a query, a path or a sentence; `run` is the name of the model."""
    asked, title = "", f"“{query}”"
    if os.path.isfile(query):
        title = f"Images like {Path(query).name}"
        asked = figure(query, "query")
    places = [f"<li>{figure(one.path, f'{one.place}. {one.cosine:.3f}')}</li>" for one in found]
    return PAGE.format(title=escaped(title), run=escaped(run), query=asked, places="\n".join(places))


def figure(path, says):
    """A picture with a caption, and its file's name as its alternative text."""
    name = escaped(Path(path).name)
    return (
        f'<figure><img src="{as_url(path)}" alt="{name}">'
        f"<figcaption><b>{escaped(says)}</b><br>{name}</figcaption></figure>"
    )


def as_url(path):
    """The picture of a file as a data URL, at most HEIGHT pixels high."""
    image = pictures.opened(Path(path))
    image.thumbnail((4 * HEIGHT, HEIGHT))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
