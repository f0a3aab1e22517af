"""What a page may not say."""

import hashlib

import build as pages_build
import guards
import nbformat
import pytest

from data_prep.catalogue import ROOT
from reid_core.runs.run import BOOK, OWN


@pytest.fixture
def run(shelves):
    """A run on disk; returns the marks of a cell that shows it."""
    path = BOOK.folder() / "m" / "v" / "r.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return f'data-run="m/v/r" data-sha="{hashlib.sha256(b"{}").hexdigest()[:12]}"'


def test_a_good_page_has_nothing_to_complain_of(run):
    page = (
        f'<td class="world" {run} data-origin="world">1.0</td><td class="real" {run} '
        f'data-origin="real">2.0</td>'
    )
    assert (
        guards.check_page(page + '<td class="empty">not run</td><img src="data:x" alt="a line">', "p") == []
    )


def test_a_readers_own_run_is_looked_for_where_it_was_written(shelves, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_BUILD", str(tmp_path / "elsewhere"))
    path = OWN.folder() / "m" / "v" / "r.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert path.is_relative_to(tmp_path / "elsewhere")
    assert guards.current("m/v/r") == {hashlib.sha256(b"{}").hexdigest()[:12]}


@pytest.mark.parametrize(
    "page, complaint",
    [
        ('<td class="world">61.2 ± 1.0</td>', "'61.2 ± 1.0' has no run"),
        (
            '<td class="real" {run} data-origin="world">61.2</td>',
            "the world number '61.2' stands in a column for real data",
        ),
        (
            '<td class="world" data-run="m/v/r" data-sha="0" data-origin="world">61.2</td>',
            "is older than its run m/v/r",
        ),
        (
            '<td class="world" data-run="m/v/gone" data-sha="0" data-origin="world">61.2</td>',
            "is older than its run m/v/gone",
        ),
        ('<td class="world" data-run="" data-sha="">61.2</td>', "'61.2' has no run"),
        ("<td>61.2 ± 1.0</td>", "'61.2 ± 1.0' has no run"),
        ("<th>61.2 ± 1.0</th>", "'61.2 ± 1.0' has no run"),
        ("<table><caption>we have 61.2 ± 1.0</caption></table>", "'we have 61.2 ± 1.0' has no run"),
        ("<figcaption>61.2 ± 1.0</figcaption>", "'61.2 ± 1.0' has no run"),
        ('<td class="world" {run} data-origin="world">61.2 ± 1.0</td>', "does not say what it measures"),
        ('<td class="world" {run}>61.2</td>', "does not say which files and which data"),
        (
            '<td class="world" data-run="m/v/r m/v/gone" data-sha="0" data-origin="world">61.2</td>',
            "does not say which files and which data",
        ),
        (
            '<td class="world" {run} data-origin="world" data-metric="mAP">61.2 ± 1.0</td>',
            "'61.2 ± 1.0' cannot be checked: expected a run at ",
        ),
        ("<figure><figcaption>61.2 ± 1.0</figcaption><table></table></figure>", "'61.2 ± 1.0' has no run"),
        (
            '<td class="world decimal best own"{run}>\u20071.2 <small>(3 of 5 seeds)</small></td>',
            "does not say which files and which data",
        ),
        ('<td class="real">+1.2 <span class="badge better">holds</span></td>', "'+1.2 holds' has no run"),
        ('<p><span class="world">+1.2 <span>points</span></span></p>', "'+1.2 points' has no run"),
        ('<span class="world" {run} data-origin="world">1 ± 1</span>', "does not say what it measures"),
        ("<td>1<td>2</td></td>", "a table cell inside another, or one that is not closed"),
        ("<table><td>1</table>", "a table cell that is not closed"),
        ("<pre>Traceback (most recent call last):</pre>", "holds a traceback"),
        (f"<pre>{ROOT}/reid_core/train.py:1: UserWarning</pre>", "a place on the machine that built it"),
        ("<span>Traceback</span> <span>(most recent\ncall last)</span>", "holds a traceback"),
        ("<pre>\x1b[0;31mTraceback\x1b[0m (most recent call last)</pre>", "holds a traceback"),
        ('<img src="picture.png">', "a picture without alt text"),
        ("<script>x</script>", "holds a script"),
        ("<script>x", "holds a script that is not closed"),
        ('<script src="x.js"></script>', "holds a script"),
        ('<iframe src="x"></iframe>', "holds an element 'iframe'"),
        ('<p onclick="x">', "a script in the attribute 'onclick' of 'p'"),
        ('<a href="java&#10;script:x">', "a script in the attribute 'href' of 'a'"),
        ('<img alt="a" src="https://a.b/c.png">', "fetches 'https://a.b/c.png' from the network"),
        ('<img alt="a" srcset="x.png, //a.b/c.png 2x">', "from the network"),
        ('<p style="background: url(//a.b/c.png)">', "from the network"),
        ('<svg><image href="http://a.b/c.png"/></svg>', "from the network"),
        ("<article></article><script>x</script><article></article>", "an article of its own"),
        ("<article></article><script>x</script></article>", "an article of its own"),
        ('<img src="data:image/png;base64,xx" alt=" ">', "a picture without alt text"),
    ],
)
def test_what_a_page_may_not_say(run, page, complaint):
    assert any(complaint in found for found in guards.check_page(page.replace("{run}", run), "p"))


def test_what_sphinx_itself_puts_into_a_page_passes():
    scripts = "<script>kernelName = 'python3'</script><script type='text/x-thebe-config'>{}</script>"
    page = f"<script src='_static/x.js'></script><article>{scripts}<a href='https://a.b'>1</a></article>"
    assert guards.check_page(page + '<button onclick="x">', "p") == []
    assert guards.check_page("<script>search</script>", "search.html") == []


def test_an_error_output_is_found():
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="boom", traceback=[])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[error])])
    assert guards.errors_in(notebook, "n.ipynb") == ["n.ipynb holds an error: ValueError: boom"]


def test_a_missing_index_and_a_failed_notebook_fail_the_build(tmp_path):
    source = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), source)
    found = guards.check(
        tmp_path, tmp_path / "html", {source.relative_to(tmp_path): {"failure": "dead kernel"}}
    )
    assert any("n.ipynb failed: dead kernel" in c for c in found) and any(
        "expected index.html" in c for c in found
    )


def test_a_notebook_that_fails_keeps_the_outputs_it_had(tmp_path, monkeypatch):
    monkeypatch.setattr(pages_build, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    cell = nbformat.v4.new_code_cell("x", metadata={"tags": ["nbval-check-output"]})
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "1"})]
    broken = nbformat.v4.new_output("error", ename="NameError", evalue="x", traceback=[])

    def execute(source, folder, profile):
        folder.mkdir(parents=True)
        ran = nbformat.v4.new_notebook(cells=[nbformat.from_dict({**cell, "outputs": [broken]})])
        nbformat.write(ran, folder / source)

    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), "n.ipynb")
    monkeypatch.setattr(pages_build, "execute", execute)
    with pytest.raises(SystemExit, match="n.ipynb holds an error: NameError: x"):
        pages_build.contract("n.ipynb")
    assert nbformat.read("n.ipynb", as_version=4).cells[0].outputs[0].data == {"text/plain": "1"}
