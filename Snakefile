# world -> runs -> executed notebooks -> book. Local cores by default; the same file on a cluster through Snakemake's
# own executors:  snakemake --executor slurm --jobs 20 results
import glob
import shlex
import subprocess
import sys

import yaml

INTERPRETER = sys.executable
PYTHON = shlex.quote(INTERPRETER).replace("{", "{{").replace("}", "}}")  # Snakemake fills in braces
PROFILE = config.get("profile", "laptop")
DATA = config.get("data", "world_market")
# HPL trains on the first two together, DMPT on images in three spectra
WORLDS = [DATA, "world_text", "world_rgbnt201"] if PROFILE == "laptop" else [DATA]
LOAD = f"from reid_core.data import load_data; [load_data(name, {PROFILE!r}) for name in {WORLDS!r}]"
OUT = f"build/notebooks/{PROFILE}"
CODE = [path for package in ("reid_core", "data_prep") for path in glob.glob(f"{package}/**/*.py", recursive=True)]


def pages():
    """Every notebook of the table of contents, without its ending."""
    toc = yaml.safe_load(open("_toc.yml", encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [name for name in files if name.startswith("notebooks/")]


rule book:
    input:
        expand(OUT + "/{page}.json", page=pages()),
        glob.glob("book/**/*.*", recursive=True),
        "_config.yml",
        "_toc.yml",
    shell:
        PYTHON + " book/build.py book {OUT:q}"


rule notebook:
    input:
        "{page}.ipynb",
        "book/build.py",
        CODE,
        glob.glob("results/**/*.*", recursive=True) if PROFILE != "smoke" else [],
        world=f"build/world/{PROFILE}.made",
    output:
        OUT + "/{page}.json",
    threads: 1
    shell:
        PYTHON + " book/build.py execute {wildcards.page:q}.ipynb {OUT:q} {PROFILE:q}"


rule world:
    output:
        touch(f"build/world/{PROFILE}.made"),
    threads: workflow.cores
    shell:
        PYTHON + " -c {LOAD:q}"


def runs(wildcards):
    """A mark for every run that the book prints, the most important first: they are of the laptop profile."""
    if PROFILE != "laptop":
        raise ValueError(f"expected the profile laptop, whose runs the book prints, found {PROFILE}; train others one by one.")
    told = subprocess.run([INTERPRETER, "-m", "reid_core", "measure", "--list"], capture_output=True, text=True, check=True)
    return [f"build/kept/{name}.done" for name in told.stdout.split()]


rule results:
    input:
        runs,


# What a run leaves behind is a mark: results/ holds sources of the book, which nothing here may remove or make anew.
rule run:
    input:
        ancient("build/world/laptop.made"),
        CODE,  # whether the run still says what the code says is asked again
    output:
        touch("build/kept/{name}.done"),
    shell:
        PYTHON + " -m reid_core measure --only {wildcards.name:q}"
