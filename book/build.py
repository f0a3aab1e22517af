"""Executed notebooks and pages -> the book.

python book/build.py make PROFILE CORES                all of the following that is not done, with Snakemake
python book/build.py execute NOTEBOOK FOLDER PROFILE   run one notebook; a failed one keeps its traceback
python book/build.py smoke FOLDER                      copies with smoke parameters, not run: nbval runs them
python book/build.py book FOLDER                       stage the executed copies, build, guard
python book/build.py contract [NOTEBOOK ...]           write the outputs of contract cells anew, after looking
at them
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import guards
import nbformat
import pages
import papermill
import rooms
import yaml

from reid_core import checkpoint

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "book"


def make(profile, cores):
    """The book and all that it is made of, with Snakemake. The kernel gives our lock back whatever happens;
    Snakemake's own would stay behind in a build that was killed, and stop the next one."""
    options = ["--nolock", "--rerun-incomplete", "--keep-going", "--quiet", "rules", "progress", "host"]
    wanted = ["--cores", cores, "--config", f"profile={profile}", "--", "book"]
    try:
        with checkpoint.alone(ROOT / "build", "builds in"):
            done = subprocess.run([sys.executable, "-m", "snakemake", *options, *wanted], cwd=ROOT)
    except ValueError as error:
        sys.exit(str(error))
    sys.exit(done.returncode)


def notebooks():
    """Every notebook of the table of contents, relative to the project."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(name + ".ipynb") for name in files if name.startswith("notebooks/")]


def execute(source, folder, profile):
    """Run a notebook with papermill. The record beside it is written last: papermill's own flag survives a
    dead kernel."""
    source, out = Path(source), Path(folder) / source
    record = out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    began, failure = time.time(), ""
    try:
        papermill.execute_notebook(
            str(source),
            str(out),
            {"profile": profile},
            cwd=str(source.parent),
            progress_bar=False,
            kernel_name="python3",
        )
    except papermill.PapermillExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    facts = {
        "notebook": str(source),
        "profile": profile,
        "seconds": round(time.time() - began, 1),
        "failure": failure,
    }
    record.with_suffix(".part").write_text(json.dumps(facts))
    record.with_suffix(".part").rename(record)
    print(f"{source}: {failure or 'done'} in {facts['seconds']} s")


def smoke(folder):
    """Copies of all notebooks with the smoke profile injected; outputs of contract cells stay for nbval to
    compare."""
    for source in notebooks():
        out = Path(folder) / source
        out.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            str(source), str(out), {"profile": "smoke"}, prepare_only=True, progress_bar=False
        )


def contract(*sources):
    """Execute every notebook, or those that are named, and keep the outputs of its contract cells, and no
    others, in the committed file. One that fails is left as it was."""
    for source in map(Path, sources or notebooks()):
        execute(source, ROOT / "build" / "contract", "smoke")
        executed = nbformat.read(ROOT / "build" / "contract" / source, as_version=4)
        if errors := guards.errors_in(executed, source):
            sys.exit("\n".join(errors))
        ran = {cell.id: cell for cell in executed.cells}
        page = nbformat.read(source, as_version=4)
        for cell in (cell for cell in page.cells if cell.cell_type == "code"):
            checked = "nbval-check-output" in cell.metadata.get("tags", [])
            cell.outputs, cell.execution_count = (ran[cell.id].outputs, 1) if checked else ([], None)
            for output in (output for output in cell.outputs if output.output_type == "execute_result"):
                output.execution_count = 1  # nbval compares only cells that look as if they ran
        nbformat.write(page, source)


def book(folder):
    """Stage, build, guard. Everything that is wrong is printed before the build fails."""
    records = {
        source: json.loads((Path(folder) / source).with_suffix(".json").read_text()) for source in notebooks()
    }
    staged = stage(Path(folder), records)
    built = subprocess.run(
        [
            str(Path(sys.executable).with_name("jupyter-book")),
            "build",
            str(staged),
            "--path-output",
            str(OUT),
            "-W",
            "-n",
            "--keep-going",
            "--quiet",
        ],
    )
    complaints = guards.check(staged, OUT / "_build" / "html", records)
    if built.returncode:
        complaints.append("jupyter-book reported the warnings or errors above")
    if complaints:
        sys.exit("\n".join(f"book: {complaint}" for complaint in complaints))
    print(f"the book is at {OUT.relative_to(ROOT)}/_build/html/index.html")


def stage(folder, records):
    """A source tree of its own: configuration, pages, generated pages, executed notebooks."""
    staged = ROOT / "build" / "source"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(ROOT / "book", staged / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, staged / name)
    for source in records:
        (staged / source).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(presentable(nbformat.read(folder / source, as_version=4)), staged / source)
    rooms.write(staged / "book")
    for name, text in pages.generated(records).items():
        (staged / "book" / name).write_text(text)
    return staged


def presentable(page):
    """What a reader need not see is folded: the parameters that papermill injected, and set-up cells."""
    for cell in page.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-cell"]
    return page


COMMANDS = {"make": make, "execute": execute, "smoke": smoke, "contract": contract, "book": book}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
