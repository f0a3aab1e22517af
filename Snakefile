# world -> runs -> executed notebooks -> book. Local cores by default; the same file on a cluster through Snakemake's
# own executors:  snakemake --executor slurm --jobs 20 results
import glob
import sys

import yaml

PYTHON = sys.executable
PROFILE = config.get("profile", "laptop")
DATA = config.get("data", "world_market")
SEEDS = config.get("seeds", [0, 1, 2])
OUT = f"build/notebooks/{PROFILE}"


def pages():
    """Every notebook of the table of contents, without its ending."""
    toc = yaml.safe_load(open("_toc.yml"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [name for name in files if name.startswith("notebooks/")]


rule book:
    input:
        expand(OUT + "/{page}.json", page=pages()),
        glob.glob("book/**/*.*", recursive=True),
        "_config.yml",
        "_toc.yml",
    shell:
        PYTHON + " book/build.py book {OUT}"


rule notebook:
    input:
        "{page}.ipynb",
        glob.glob("reid_core/**/*.py", recursive=True),
        glob.glob("data_prep/**/*.py", recursive=True),
        glob.glob("results/**/*.json", recursive=True) if PROFILE != "smoke" else [],
        world=f"build/world/{PROFILE}.made",
    output:
        OUT + "/{page}.json",
    threads: 1
    shell:
        PYTHON + " book/build.py execute {wildcards.page}.ipynb {OUT} {PROFILE}"


rule world:
    output:
        touch(f"build/world/{PROFILE}.made"),
    threads: workflow.cores
    shell:
        PYTHON + " -c \"from reid_core.data import load_data; load_data('{DATA}', '{PROFILE}')\""


rule results:
    input:
        expand("results/clip_reid/baseline/full/{data}-{profile}-s{seed}.json", data=DATA, profile=PROFILE, seed=SEEDS),


rule run:
    input:
        f"build/world/{PROFILE}.made",
    output:
        "results/{method}/{variant}/{row}/{data}-{profile}-s{seed}.json",
    resources:
        gpu=1 if PROFILE == "paper" else 0,
    shell:
        PYTHON + " -m reid_core train {wildcards.method} --variant {wildcards.variant} --row {wildcards.row}"
        " --data {wildcards.data} --profile {wildcards.profile} --seed {wildcards.seed} --keep"
