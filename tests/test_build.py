"""The book is built beside the last one, from copies that are what their records tell."""

import json
import os
import re
import sys
from pathlib import Path

import build as pages_build
import bundle
import decisions
import front
import guards
import nbformat
import pages
import pytest
import runs
import yaml
from jupyter_book.config import get_final_config
from made_runs import noisy, run
from markdown_it import MarkdownIt
from nbformat import v4

from reid_core.report import reported, scoreboard, tables
from reid_core.runs import intervals
from reid_core.runs.run import BOOK, Spec

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path("n.ipynb")
EVIL = "evil<script>document.title='x'</script> | **bold** {ref}`x`\n\n# heading\n<img src=x onerror=y>"


def notebook(path, *sources, executed=False):
    """A notebook with a cell of parameters and a cell of each source, and if executed the injected cell."""
    cells = [v4.new_code_cell('profile: str = "laptop"', metadata={"tags": ["parameters"]})]
    cells += [v4.new_code_cell('profile = "smoke"')] * executed + list(map(v4.new_code_cell, sources))
    for cell in cells if executed else ():
        cell.execution_count = 1
    kernel = {"kernelspec": {"name": "python3", "display_name": "x"}, "language_info": {"name": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder where a notebook was executed whose kernel kills itself, on a machine with another python3."""
    folder = tmp_path_factory.mktemp("killed") / "a b#{x}%'é"
    kernel = folder / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    notebook(folder / SOURCE, "import os, sys; print(sys.executable)", "os.kill(os.getpid(), 9)", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.chdir(folder.parent)
        pages_build.execute(Path(folder.name) / SOURCE, Path(folder.name) / "out", "smoke")
    (folder / "out" / folder.name).rename(folder / "executed")
    return folder


def test_a_dead_kernel_leaves_a_record_with_its_failure(killed, shelves):
    record = json.loads((killed / "executed" / "n.json").read_text())
    assert record["failure"] == "DeadKernelError: Kernel died"
    assert record["source"] == guards.digest(killed / SOURCE)
    assert record["executed"] == guards.digest(killed / "executed" / SOURCE)
    assert "DeadKernelError: Kernel died" in pages.status({SOURCE: record}, [], [])


def test_a_kernel_is_of_the_interpreter_that_builds_the_book(killed):
    copy = nbformat.read(killed / "executed" / SOURCE, as_version=4)
    printed = "".join(output.text for output in copy.cells[2].outputs if output.name == "stdout")
    assert printed.strip() == sys.executable


def test_a_copy_and_its_record_are_put_in_place_whole(killed):
    assert sorted(path.name for path in (killed / "executed").iterdir()) == ["n.ipynb", "n.json"]


def test_a_cell_without_end_is_a_failure_like_others(tmp_path, monkeypatch):
    notebook(tmp_path / SOURCE, "import time; time.sleep(600)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pages_build, "CELL_SECONDS", 1)
    assert pages_build.execute(SOURCE, "out", "smoke").startswith("CellTimeoutError: ")


def test_a_notebook_whose_kernel_gives_no_answer_is_run_once_more(tmp_path, monkeypatch):
    """An answer that gets lost is no cell without end: the second time it comes."""
    notebook(tmp_path / SOURCE, "1")
    monkeypatch.chdir(tmp_path)
    told = iter(["CellTimeoutError: no answer", ""])

    def failing(source, copy, profile):
        notebook(copy, "1", executed=True)
        return next(told)

    monkeypatch.setattr(pages_build, "failure_of", failing)
    assert pages_build.execute(SOURCE, "out", "smoke") == "" and not list(told)


def test_make_test_waits_for_no_dead_kernel():
    (limit,) = re.findall(r"--nbval-cell-timeout (\d+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert int(limit) <= 300


def executing(source, copy, profile):
    """What papermill would write of a notebook, and that nothing stopped it."""
    notebook(copy, "1", executed=True)
    return ""


@pytest.fixture
def book(shelves, tmp_path, monkeypatch):
    """A project of one executed notebook and a last book, in which `jupyter-book` writes one page."""
    monkeypatch.chdir(tmp_path)
    for name, place in {"ROOT": "", "OUT": "build/book", "UNCHECKED": "build/book-unchecked"}.items():
        monkeypatch.setattr(pages_build, name, tmp_path / place)
    monkeypatch.setattr(pages_build, "notebooks", lambda: [SOURCE])
    monkeypatch.setattr(pages_build.rooms, "write", lambda folder: None)
    monkeypatch.setattr(front, "picture", lambda records: "")  # ranks a world
    monkeypatch.setattr(pages_build, "built", lambda staged: page("new"))
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    notebook(tmp_path / SOURCE, "1")
    monkeypatch.setattr(pages_build, "failure_of", executing)
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).touch()
    index(tmp_path / "build" / "book").parent.mkdir(parents=True)
    index(tmp_path / "build" / "book").write_text("last")
    return tmp_path


def index(place):
    return place / "_build" / "html" / "index.html"


def page(text):
    """What jupyter-book would write; True, as it found nothing to complain of."""
    index(pages_build.UNCHECKED).parent.mkdir(parents=True)
    return bool(index(pages_build.UNCHECKED).write_text(text))


def executed(folder):
    """The record of the notebook, which may be changed, and the path that it is kept at."""
    pages_build.execute(SOURCE, folder / "out", "smoke")
    path = folder / "out" / "n.json"
    return json.loads(path.read_text()) | {"failure": ""}, path


def build(folder, record, path):
    path.write_text(json.dumps(record))
    pages_build.main("book", folder / "out")


def test_a_book_that_passes_its_guards_takes_the_place_of_the_last(book):
    build(book, *executed(book))
    assert index(book / "build" / "book").read_text() == "new"
    assert sorted(path.name for path in (book / "build").iterdir()) == ["book", "source"]


def test_the_last_book_stays_where_the_new_one_is_refused(book, monkeypatch):
    monkeypatch.setattr(pages_build, "built", lambda staged: page("<img src=x>"))
    with pytest.raises(
        SystemExit, match="alt text\nbook: the pages that were refused are in build/book-unch"
    ):
        build(book, *executed(book))
    assert index(book / "build" / "book").read_text() == "last"
    assert "<img" in index(book / "build" / "book-unchecked").read_text()


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (
            lambda copy, record: record.unlink(),
            r"expected the record of .* in .*n.json, found FileNotFoundError",
        ),
        (
            lambda copy, record: record.write_text("{"),
            r"in .*n.json, found JSONDecodeError .*; remove it, and make book executes n.ipynb again",
        ),
        (lambda copy, record: record.write_text("[" * 99999), r"in .*n.json, found RecursionError"),
        (lambda copy, record: record.write_text("{}"), r"in .*n.json, found ValueError \(less than that\)"),
        (
            lambda copy, record: copy.write_text('{"cells":'),
            r"expected a notebook in .*n.ipynb, found NotJSON",
        ),
        (lambda copy, record: copy.write_bytes(b"\xff"), r"expected a notebook in .*n.ipynb, found Unicode"),
        (lambda copy, record: copy.unlink(), r"expected a notebook in .*n.ipynb, found FileNotFoundError"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_the_last_book_stays(book, spoil, sentence):
    _, path = executed(book)
    spoil(book / "out" / SOURCE, path)
    with pytest.raises(SystemExit, match=sentence) as stopped:
        pages_build.main("book", book / "out")
    assert "\n" not in str(stopped.value) and index(book / "build" / "book").read_text() == "last"


def spoiled(cell, **marks):
    """The executed copy with a change, such as papermill's mark."""
    copy = nbformat.read(Path("out") / SOURCE, as_version=4)
    copy.metadata["papermill"] = marks
    copy.cells[-1].source = cell
    nbformat.write(copy, Path("out") / SOURCE)


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (lambda record: notebook(SOURCE, "2"), "n.ipynb was edited after it was executed"),
        (
            lambda record: spoiled("99.9"),
            "the executed copy of n.ipynb is not the one that its record tells of",
        ),
        (lambda record: record.update(cells=2), "n.ipynb: 2 of 3 code cells ran"),
        (lambda record: record.update(failure="boom"), "n.ipynb failed: boom"),
        (lambda record: spoiled("1", exception=True), "n.ipynb is marked as failed by papermill"),
    ],
)
def test_a_copy_that_is_not_what_was_executed_is_refused(book, spoil, complaint):
    record, path = executed(book)
    spoil(record)
    with pytest.raises(SystemExit, match=complaint):
        build(book, record, path)
    assert index(book / "build" / "book").read_text() == "last"


def test_pages_are_of_one_profile(book):
    record, _ = executed(book)
    assert guards.check_copies(book / "out", book, {SOURCE: record}) == []
    (book / "m.ipynb").write_bytes((book / SOURCE).read_bytes())
    (book / "out" / "m.ipynb").write_bytes((book / "out" / SOURCE).read_bytes())
    both = {SOURCE: record, Path("m.ipynb"): {**record, "profile": "laptop"}}
    assert guards.check_copies(book / "out", book, both) == [
        "expected pages of one profile, found laptop and smoke"
    ]


def test_a_full_disk_is_one_sentence_and_leaves_no_half_copy(book, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        SystemExit, match="expected room for 0 MB at .*, found No space left on device; free some"
    ):
        pages_build.main("execute", SOURCE, "out", "smoke")
    assert list((book / "out").iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_one_sentence(book):
    with pytest.raises(
        SystemExit, match="expected to read and write n.ipynb, found .*; make room or give leave"
    ):
        pages_build.main("execute", SOURCE, SOURCE, "smoke")


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).render(text)


def test_what_data_and_messages_say_is_no_html_and_no_markdown_on_the_status_page(shelves):
    BOOK.write(run(0, [0.5]).__class__(**{**vars(run(0, [0.5])), **strange()}))
    record = {"profile": EVIL, "seconds": 1, "failure": EVIL}
    made, broken = pages.generated({Path(EVIL): record})
    shown = rendered(made["status.md"])
    assert broken == [] and guards.check_page(shown, "status") == []
    assert "heading</h1>" not in shown and "<strong>" not in shown
    assert shown.count("<tr>") == 3 + 1 + len(pages.PAPERS) + 1, "a line each, under three headings"
    assert shown.count("&lt;script&gt;") == 8, "and all of it is there to be read"


def strange():
    """The parts of a run whose words are hostile."""
    told = {"commit": "0", "clean": True, "torch": EVIL, "device": EVIL}
    return {
        "data": {"name": EVIL, "origin": EVIL, "fingerprint": "0"},
        "cost": {"minutes": EVIL},
        "provenance": told,
    }


def test_what_the_record_of_parity_says_is_no_html(shelves, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    record = {"covered": {EVIL: [0.1, EVIL]}, "not covered": {EVIL: EVIL}}
    (tmp_path / "results" / "parity.json").write_text(json.dumps(record))
    text, broken = pages.parity()
    assert broken == [] and guards.check_page(rendered(text), "parity") == [] and "<script" not in text


@pytest.mark.parametrize("text", ["{", "[]", '{"covered": {"a": 1}}', "[" * 99999, '{"covered": []}'])
def test_a_broken_record_of_parity_is_a_sentence_on_its_page(shelves, tmp_path, monkeypatch, text):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "results" / "parity.json").write_text(text)
    made, (sentence,) = pages.generated({})
    assert sentence.startswith("expected the record of parity in ") and "restore the file" in sentence
    assert "Parity with published code" in made["parity.md"] and "parity.json" in made["parity.md"]


def test_a_broken_run_is_a_sentence_on_the_status_page_and_the_others_are_listed(
    shelves, tmp_path, monkeypatch
):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    good = run(0, [0.5])
    facts = {"commit": "0", "clean": True, "torch": "2", "device": "processor"}
    BOOK.write(good.__class__(**{**vars(good), "cost": {"minutes": 1.0}, "provenance": facts}))
    BOOK.path(run(1, [0.5]).spec).write_text('{"format": 2, "spec"')
    BOOK.write(run(2, [0.5]))  # whole, but without the facts that the page shows
    made, broken = pages.generated({})
    assert len(broken) == 2 and "s1.json" in broken[0] and "s2.json" in broken[1]
    assert "world_market-laptop-s0" in made["status.md"]
    assert all(pages.paragraph(sentence) in made["status.md"] for sentence in broken)


@pytest.mark.parametrize("told", [b"", b'a,b\n"1,2', b"a,b\n1,2\n1,2,3,4", b"\xff\xfe", None])
def test_a_broken_table_of_printed_numbers_is_one_sentence(tmp_path, monkeypatch, told):
    monkeypatch.setattr(reported, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    if told is not None:
        (tmp_path / "results" / "reported.csv").write_bytes(told)
    with pytest.raises(ValueError, match=r"expected a table in .*reported.csv, found .*; restore the file"):
        reported.numbers()


def test_text_is_read_and_written_as_utf_8_whatever_the_locale():
    files = [*(ROOT / "book").glob("*.py"), *(ROOT / "reid_core" / "report").glob("*.py"), ROOT / "Snakefile"]
    for path in files:
        calls = re.findall(r"(?:read_text|write_text|\bopen)\([^()]*\)", path.read_text(encoding="utf-8"))
        assert [call for call in calls if "encoding=" not in call and ".opened(" not in call] == [], path


def measured(seed, row="full"):
    """A run on the shelf of the book, whole enough for its page."""
    facts = {"commit": "0123456789abcdef", "clean": True, "torch": "2", "device": "processor"}
    told = {"cost": {"minutes": 1.0}, "provenance": facts, "recipe": {"epochs": 3}}
    made = run(seed, [0.5, 0.7], row=row)
    return BOOK.write(made.__class__(**{**vars(made), **told}))


@pytest.fixture
def linked(shelves, tmp_path):
    """A built page with one number of two runs, after its links were made."""
    shown = tables.cell(tables.ours([measured(0), measured(1)]))
    page = tmp_path / "html" / "notebooks" / "n.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<article><h1>A <em>page</em><a class=x>#</a></h1><table>{shown}</table></article>")
    runs.link(tmp_path / "html")
    return page


def test_a_number_is_two_clicks_from_its_json_and_one_from_its_page(linked):
    (address,) = re.findall(r'<a class="run" href="([^"]+)"', linked.read_text())
    second = (linked.parent / address).resolve()
    told = second.read_text()
    for seed in (0, 1):
        (name,) = re.findall(rf'href="([^"]*-s{seed}.json)" download', told)
        kept = BOOK.path(run(seed, [0.5]).spec)
        assert (second.parent / name).read_bytes() == kept.read_bytes()
        assert guards.digest(kept)[:12] in told
    (back,) = re.findall(r'<a href="([^"]+)">A page</a>', told)
    assert (second.parent / back).resolve() == linked.resolve()
    assert "python -m reid_core train clip_reid --variant baseline --data world_market" in told


def test_a_link_changes_no_number_and_the_guards_still_read_it(linked):
    found = guards.check_page(linked.read_text(), "n.html")
    assert found == [] and "60.0" in linked.read_text()
    for place in linked.parents[1].glob("runs/**/*.html"):
        assert guards.check_page(place.read_text(), place.name) == []


def test_the_page_of_a_difference_leads_to_its_reference(shelves, tmp_path):
    one, other = measured(0), measured(0, row="zero-shot")
    cell = tables.change_cell(intervals.Interval(1, 0, 2), [one], [other])
    (tmp_path / "n.html").write_text(f"<article><table>{tables.cell(cell)}</table></article>")
    runs.link(tmp_path)
    page = tmp_path / "runs" / f"{runs.row_of(one.spec.name)}.html"
    (address,) = re.findall(r'href="([^"]+)"', page.read_text().split("Compared with")[1])
    assert (page.parent / address).resolve() == tmp_path / "runs" / f"{runs.row_of(other.spec.name)}.html"
    assert (page.parent / address).exists()


def test_every_decision_of_a_recipe_has_an_anchor_that_its_table_leads_to():
    page = decisions.page()
    named = [line.where for line in pages.PAPERS["promptsg"].recipe.table() if line.status == "assumed"]
    numbers = {decisions.NUMBER.match(where)[1] for where in named if decisions.NUMBER.match(where)}
    for number in {*numbers, "18", "23", "24", "25", "26", "27", "28"}:
        assert page.count(f'id="promptsg-d{number}"') == 1
    told = decisions.linked('<td class="">D22: off</td>', "notebooks/2_promptsg/reproduce.html", "../../")
    assert 'href="../../book/decisions.html#promptsg-d22">D22</a>: off' in told


def test_the_front_page_has_all_its_parts_where_nothing_was_run(shelves):
    told = front.filled("index.md", {}, [])
    assert "<!--" not in told and guards.check_page(rendered(told), "index") == []
    assert told.count('class="button"') == 4 and told.count("<b>") == 3 + 6
    assert scoreboard.done() == 5 and "papers so far" not in told and "not run" in told
    assert re.findall(r"<b>0</b> <span>runs with recipe", told)


def test_the_scoreboard_has_a_row_for_each_of_the_five_papers_and_what_they_build_on(shelves):
    told = scoreboard.board()
    assert re.sub(r"<style>.*?</style>", "", told).count("<tr") - told.count('class="storey"') == 1 + 2 + 5
    assert all(len(entry.idea.split()) <= 8 for entry in (*scoreboard.BEFORE, *scoreboard.FIVE))


def published(method, variant, seed, shift):
    """A made-up run of the full row of a variant on the shelf of the book, not stale."""
    made = noisy(seed, shift)
    spec = Spec(method, variant, "full", scoreboard.WORLD, "laptop", seed)
    data = {"origin": "world", "name": scoreboard.WORLD, "fingerprint": "0"}
    made = made.__class__(**{**vars(made), "spec": spec, "data": data})
    made.scores[0]["data"] = scoreboard.WORLD
    return BOOK.write(made)


@pytest.fixture
def fresh(shelves, monkeypatch):
    """Five seeds of the baseline, of a better CLIP-ReID and three of a worse PromptSG, of today's world."""
    monkeypatch.setattr("reid_core.runs.provenance.outdated", lambda run: "")
    sides = (("clip_reid", "baseline", 0.0, 5), ("clip_reid", "clip_reid", 0.06, 5))
    for method, variant, shift, many in (*sides, ("promptsg", "promptsg", -0.06, 3)):
        for seed in range(many):
            published(method, variant, seed, shift)
    return re.findall(r"<tr>(.*?)</tr>", scoreboard.board())[1:]


def test_the_scoreboard_gives_fresh_runs_a_verdict_and_says_where_seeds_are_missing(fresh):
    tuned, clip_reid, promptsg, hpl = fresh[:4]
    assert "reference" in tuned and "seeds)" not in tuned and "badge" not in tuned
    assert '<span class="badge better">holds' in clip_reid and "seeds)" not in clip_reid
    assert '<span class="badge worse">fails' in promptsg and promptsg.count("(3 of 5 seeds)") == 2
    assert "not run" in hpl and "badge" not in hpl


def test_the_guards_find_the_numbers_of_the_scoreboard_in_its_runs(fresh):
    assert guards.check_page(f"<article><table>{''.join(fresh)}</table></article>", "index") == []


def test_the_scoreboard_gives_a_stale_run_no_verdict(fresh, monkeypatch):
    monkeypatch.setattr("reid_core.runs.provenance.outdated", lambda run: "its data changed")
    told = scoreboard.board()
    assert "holds" not in told and "fails" not in told and told.count('undecided">stale') == 2


def test_the_titles_of_the_scoreboard_lead_to_the_landing_pages_of_their_chapters(shelves):
    places = re.findall(r'<a href="\.\./([^"]+)\.html">', scoreboard.board())
    assert places == ["notebooks/1_clip_reid/chapter"] * 2 + [
        f"notebooks/{name}/chapter" for name in ("2_promptsg", "3_hpl", "4_dmpt", "5_pad", "6_vladr")
    ]
    assert all((ROOT / f"{place}.ipynb").exists() for place in places)


def test_the_cards_of_the_front_page_lead_to_pages_of_the_book():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    for place in re.findall(r'href="([^"]+)\.html"', front.wishes()):
        assert f"file: {(Path('book') / place).as_posix().replace('book/../', '')}\n" in contents


@pytest.mark.parametrize("right, name", [([0, 1], "A median query"), ([0, 0], "The easiest query")])
def test_the_picture_of_the_front_page_shows_a_match(right, name):
    told, query, _, correct = front.chosen("x", [5, 6, 7], [0, 1, 2], [[0, 0], right, [1, 1]])
    assert told.startswith(name) and any(correct) and query == (6 if any(right) else 7)


def test_readers_see_no_parameters_and_no_progress():
    stream = v4.new_output("stream", text="world: 342 of 1400 files\nworld_msmt: 1400 shots rendered\n")
    kept = v4.new_output("stream", text="epoch 3 of 15\n")
    cells = [v4.new_code_cell("a", metadata={"tags": [tag]}) for tag in sorted(pages.PARAMETERS)]
    cells.append(v4.new_code_cell("b", outputs=[stream, kept]))
    shown = pages.presentable(v4.new_notebook(cells=cells, metadata={"papermill": {"output_path": "/x"}}))
    assert ["remove-cell" in cell.metadata.get("tags", []) for cell in shown.cells] == [True, True, False]
    assert shown.cells[2].outputs == [kept] and shown.metadata["papermill"] == {}


def test_the_bundle_has_a_checksum_for_every_file_and_the_same_bytes_again(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    files = {"html/a": tmp_path / "a", "b": tmp_path / "b"}
    sums = bundle.pack(tmp_path / "one.zip", "book", files)
    assert sums == bundle.pack(tmp_path / "two.zip", "book", files)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert sums[1] == f"{guards.digest(tmp_path / 'a')}  book/html/a"


def test_the_buttons_for_source_and_launch_need_an_address(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_REPOSITORY", "https://example.org/book")
    pages_build.configure(tmp_path / "with.yml")
    monkeypatch.delenv("REID_REPOSITORY")
    monkeypatch.setattr(front, "citation", dict)
    pages_build.configure(tmp_path / "without.yml")
    assert (
        yaml.safe_load((tmp_path / "with.yml").read_text())["repository"]["url"] == "https://example.org/book"
    )
    assert "repository" not in yaml.safe_load((tmp_path / "without.yml").read_text())


def test_the_options_of_the_theme_leave_the_buttons_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_REPOSITORY", "https://example.org/book")
    pages_build.configure(tmp_path / "_config.yml")
    told, _ = get_final_config(user_yaml=tmp_path / "_config.yml", cli_config={"latex_individualpages": 0})
    options = told["html_theme_options"]
    assert options["launch_buttons"]["binderhub_url"] and options["use_repository_button"]
    assert options["navbar_persistent"] == [] and told["html_css_files"] == ["book.css"]


def test_the_bibliography_has_the_five_papers_and_every_key_once():
    keys = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    assert len(keys) == len(set(keys))
    assert {"yang2024promptsg", "zhou2026hpl", "lin2025dmpt", "wen2026pad", "xu2026vladr"} <= set(keys)
