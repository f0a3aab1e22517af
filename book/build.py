"""Executed notebooks and pages -> the book.

python book/build.py make PROFILE CORES                all of the following that is not done, with Snakemake
python book/build.py execute NOTEBOOK FOLDER PROFILE   run one notebook; a failed one keeps its traceback
python book/build.py smoke FOLDER                      copies with smoke parameters, not run: nbval runs them
python book/build.py book FOLDER                       stage the executed copies, build, guard
python book/build.py contract [NOTEBOOK ...]           write the outputs of contract cells anew, after looking
at them
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import front
import guards
import nbformat
import pages
import papermill
import rooms
import runs
import yaml
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from reid_core import checkpoint

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "book"  # the last book that passed its guards
UNCHECKED = ROOT / "build" / "book-unchecked"
CELL_SECONDS = 900  # the longest cell takes a few minutes on busy processors
ENDLESS = "CellTimeoutError"  # how a failure begins that says so
START_SECONDS = 300  # of a kernel


def make(profile, cores):
    """The book and all that it is made of, with Snakemake. The kernel gives our lock back whatever happens;
    Snakemake's own would stay behind in a build that was killed, and stop the next one."""
    options = ["--nolock", "--rerun-incomplete", "--keep-going", "--quiet", "rules", "progress", "host"]
    wanted = ["--cores", cores, "--config", f"profile={profile}", "--", "book"]
    with checkpoint.alone(ROOT / "build", "builds in"):
        done = subprocess.run([sys.executable, "-m", "snakemake", *options, *wanted], cwd=ROOT)
    sys.exit(done.returncode)


def notebooks():
    """Every notebook of the table of contents, relative to the project."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(name + ".ipynb") for name in files if name.startswith("notebooks/")]


def read(path):
    """A notebook; ValueError where the file holds none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # of JSON, of the schema, of the disk
        raise ValueError(
            f"expected a notebook in {path}, found {type(error).__name__} ({one_line(error)}); restore it, "
            "or remove the record beside an executed one, and make book executes it again."
        ) from error


def one_line(message):
    """The beginning of a message, which may be pages long."""
    return " ".join(str(message).split())[:300]


def execute(source, folder, profile):
    """Run a notebook, and return what stopped it, or "". Its executed copy is put in place whole, and then
    the record that tells of both."""
    source, out = Path(source), Path(folder) / source
    record = out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    read(source)
    facts = {"notebook": str(source), "profile": profile, "source": guards.digest(source)}
    began = time.time()
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / source.name
        facts["failure"] = failure_of(source, copy, profile)
        if facts["failure"].startswith(ENDLESS):  # an idle kernel's answer may get lost on a busy machine
            print(f"{source}: {facts['failure']}; once more")
            facts["failure"] = failure_of(source, copy, profile)
        facts["cells"] = guards.ran(read(copy))
        facts["executed"] = guards.digest(copy)
        checkpoint.write(out, copy.read_bytes())
    facts["seconds"] = round(time.time() - began, 1)
    checkpoint.write(record, json.dumps(facts).encode())
    print(f"{source}: {facts['failure'] or 'done'} in {facts['seconds']} s")
    return facts["failure"]


def failure_of(source, copy, profile):
    """What stopped the notebook that papermill runs into `copy`, or "": papermill's own flag is not believed,
    since it survives a dead kernel."""
    try:
        papermill.execute_notebook(
            literal(source),
            literal(copy),
            {"profile": profile},
            cwd=str(source.parent),
            progress_bar=False,
            kernel_name="python3",
            kernel_manager_class=ThisPython,
            start_timeout=START_SECONDS,
            execution_timeout=CELL_SECONDS,
        )
    except papermill.PapermillExecutionError as error:
        return one_line(f"{error.ename}: {error.evalue}")
    except (RuntimeError, TimeoutError) as error:  # a kernel that died or did not start, a cell without end
        return one_line(f"{type(error).__name__}: {error}")
    return ""


class ThisPython(AsyncKernelManager):
    """Starts the interpreter that builds the book, whatever kernels a machine knows under the name
    python3."""

    @property
    def kernel_spec(self):
        return KernelSpec(**get_kernel_dict())


def literal(path):
    """A path as papermill takes those of notebooks: it fills in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def smoke(folder):
    """Copies of all notebooks with the smoke profile injected; outputs of contract cells stay for nbval to
    compare."""
    for source in notebooks():
        out = Path(folder) / source
        out.parent.mkdir(parents=True, exist_ok=True)
        read(source)  # or papermill would not name the file
        papermill.execute_notebook(
            literal(source), literal(out), {"profile": "smoke"}, prepare_only=True, progress_bar=False
        )


def contract(*sources):
    """Execute every notebook, or those that are named, and keep the outputs of its contract cells, and no
    others, in the committed file. One that fails is left as it was."""
    for source in map(Path, sources or notebooks()):
        failure = execute(source, ROOT / "build" / "contract", "smoke")
        executed = read(ROOT / "build" / "contract" / source)
        if errors := guards.errors_in(executed, source):
            sys.exit("\n".join(errors))
        if failure:  # a dead kernel leaves no error output
            sys.exit(f"{source}: {failure}")
        ran = {cell.id: cell for cell in executed.cells}
        page = read(source)
        for cell in (cell for cell in page.cells if cell.cell_type == "code"):
            checked = "nbval-check-output" in cell.metadata.get("tags", [])
            cell.outputs, cell.execution_count = (ran[cell.id].outputs, 1) if checked else ([], None)
            for output in (output for output in cell.outputs if output.output_type == "execute_result"):
                output.execution_count = 1  # nbval compares only cells that look as if they ran
        checkpoint.write(source, (nbformat.writes(page).rstrip("\n") + "\n").encode())


def book(folder):
    """Stage, build, guard. Everything that is wrong is printed before the build fails; the last book stays
    until a new one has passed."""
    folder = Path(folder)
    records = {source: record_of(folder, source) for source in notebooks()}
    executed = {source: read(folder / source) for source in records}
    complaints = guards.check_copies(folder, ROOT, records)
    staged, unread = stage(executed, records)
    complaints += unread
    if not built(staged):
        complaints.append("jupyter-book reported the warnings or errors above")
    runs.link(UNCHECKED / "_build" / "html")
    complaints += guards.check(staged, UNCHECKED / "_build" / "html", records)
    if complaints:
        refused = f"the pages that were refused are in {UNCHECKED.relative_to(ROOT)}/_build/html"
        sys.exit("\n".join(f"book: {complaint}" for complaint in [*complaints, refused]))
    publish()
    print(f"the book is at {OUT.relative_to(ROOT)}/_build/html/index.html")


def record_of(folder, source):
    """What `execute` told of a notebook; ValueError where it told nothing."""
    path = (folder / source).with_suffix(".json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not guards.SETTLED <= set(record):
            raise ValueError("less than that")
        return record
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise ValueError(
            f"expected the record of an executed notebook in {path}, found {type(error).__name__} "
            f"({one_line(error)}); remove it, and make book executes {source} again."
        ) from error


def built(staged):
    """Whether jupyter-book made pages without a warning."""
    program = str(Path(sys.executable).with_name("jupyter-book"))
    options = ["--path-output", str(UNCHECKED), "-W", "-n", "--keep-going", "--quiet"]
    done = subprocess.run(
        [program, "build", str(staged), *options],
        stdout=subprocess.DEVNULL,  # says where the pages are, from where they move; warnings come on stderr
        env={**os.environ, "PYTHONUTF8": "1"},  # a page may hold any sign, whatever the locale
    )
    return not done.returncode


def publish():
    """The new book in place of the last one."""
    before = OUT.with_name("book-before")
    shutil.rmtree(before, ignore_errors=True)
    if OUT.exists():
        OUT.rename(before)
    UNCHECKED.rename(OUT)
    shutil.rmtree(before, ignore_errors=True)


def stage(executed, records):
    """(a source tree of its own: configuration, pages, generated pages, executed notebooks; sentences about
    what could not be read for it)."""
    staged = ROOT / "build" / "source"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(UNCHECKED, ignore_errors=True)
    shutil.copytree(ROOT / "book", staged / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(ROOT / "_toc.yml", staged / "_toc.yml")
    configure(staged / "_config.yml")
    for source, page in executed.items():
        (staged / source).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(pages.presentable(page), staged / source)
    rooms.write(staged / "book")
    generated, unread = pages.generated(records)
    for name, text in generated.items():
        (staged / "book" / name).write_text(text, encoding="utf-8")
    return staged, unread


def configure(place):
    """The configuration, with buttons for source and launch where the address of the repository is known."""
    told = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    address = front.repository()
    if address:
        told["repository"] = {"url": address, "branch": "main"}
        told["html"] = {"use_repository_button": True, "use_issues_button": True}
        told["launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
        }
        # the theme knows the hosts of these three by their names alone
        provider = next((host for host in ("gitlab", "bitbucket") if host in address), "github")
        told["sphinx"]["config"]["html_theme_options"]["repository_provider"] = provider
    place.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")


COMMANDS = {"make": make, "execute": execute, "smoke": smoke, "contract": contract, "book": book}


def main(command="", *words):
    """Run a command; what a user can mend ends it with one sentence."""
    if command not in COMMANDS:
        sys.exit(__doc__)
    sys.stdout.reconfigure(errors="backslashreplace")  # a locale may know ASCII alone
    try:
        COMMANDS[command](*words)
    except ValueError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(
            f"expected to read and write {error.filename or 'the files of the book'}, found "
            f"{error.strerror}; make room or give leave, and type the same again."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
