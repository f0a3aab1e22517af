"""What a page may not say."""

import hashlib

import build as pages_build
import guards
import nbformat
import pytest

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
        ("<pre>Traceback (most recent call last):</pre>", "holds a traceback"),
        ('<img src="data:image/png;base64,xx" alt=" ">', "a picture without alt text"),
    ],
)
def test_what_a_page_may_not_say(run, page, complaint):
    assert any(complaint in found for found in guards.check_page(page.replace("{run}", run), "p"))


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
