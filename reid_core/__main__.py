"""python -m reid_core train METHOD | weights | embed RUN IMAGES | search RUN QUERY GALLERY | export RUN |
measure | visuals | pretrain MODEL | gates | bench"""

import argparse
import functools
import sys
from pathlib import Path

import torch

from data_prep.texts import in_one_sentence
from reid_core import board, processor, train
from reid_core.analysis import bench, export, search, visuals
from reid_core.calibrate import gates, lengths, pretrain, rates
from reid_core.methods import METHODS
from reid_core.recipe import PROFILES, profile_called
from reid_core.report import chapters, ranked
from reid_core.runs import bundle, fill, initial, measure, workers
from reid_core.runs.run import BOOK, OWN, Spec, changed, known, training_folder
from reid_core.statedict import first_line

RENAMED = {"looks": "visuals", "results": "measure"}  # commands of earlier versions -> of this one


def main(arguments=None):
    options = parser().parse_args(arguments)
    try:
        refuse_old_names(options)
        train.check_device(getattr(options, "device", None))
        options.run(options)
    except (ValueError, OSError, ArithmeticError) as error:
        sys.exit(f"reid_core: {in_one_sentence(error, 'name another folder in REID_BUILD')}")
    except (RuntimeError, MemoryError) as error:
        if not is_of_memory(error):
            raise
        sys.exit(
            f"reid_core: expected memory for this run, found too little ({first_line(error)}); lower the "
            "recipe's batch or image size with --set, or choose another --device."
        )


def is_of_memory(error):
    """Whether memory ran out, of the machine or of a GPU."""
    known_ = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known_ or "can't allocate memory" in str(error)  # torch's own words for the machine's


def parser():
    """The command line: one subcommand for each task, and the names of earlier versions."""
    top = argparse.ArgumentParser("python -m reid_core", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands)
    add_weights(commands)
    add_embed(commands)
    add_search(commands)
    add_export(commands)
    add_measure(commands)
    add_visuals(commands)
    add_pretrain(commands)
    add_gates(commands)
    add_bench(commands)
    for old in RENAMED:
        # without `help`, so that --help does not list them
        commands.add_parser(old, add_help=False).set_defaults(run=None, renamed=old)
    return top


def add_train(commands):
    train = commands.add_parser("train", help="train and test one row, as a notebook does")
    train.add_argument("method")
    train.add_argument("--variant", help="the method's first unless told")
    train.add_argument("--row", default="full", help="a row of the paper's tables")
    change = "change a field of the recipe"
    train.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=change)
    train.add_argument("--profile", default="laptop", help=", ".join(PROFILES))
    train.add_argument("--data", help="the default of the profile and the method unless told")
    train.add_argument("--seed", type=int, default=0)
    start = "start from its weights: a run of this method or of the baseline, which was trained here"
    train.add_argument("--init-from", metavar="RUN", help=start)
    train.add_argument("--log", choices=["tensorboard"], help="to build/tensorboard, or $REID_TENSORBOARD")
    train.add_argument("--device", help="cpu, cuda, cuda:1 ...")
    train.add_argument("--threads", type=int, help="of the processor; all cores unless told")
    train.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="also within an epoch")
    train.add_argument("--deterministic", action="store_true", help="repeat bits on a GPU, too; slower")
    place = "write to results/, the book's, instead of build/results"
    train.add_argument("--into-book", action="store_true", help=place)
    train.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)  # an old name of --into-book
    train.set_defaults(run=train_one)


RUN_NAME = "a run that was trained here: its name below build/results, or its JSON file"
IMAGE_PLACE = "a folder of images, a CSV with a column path, or one image"


def add_weights(commands):
    lie = commands.add_parser("weights", help="names of the runs whose weights are here, and where they lie")
    lie.set_defaults(run=list_weights)


def add_embed(commands):
    embed = commands.add_parser("embed", help="features of anybody's images by a trained model")
    embed.add_argument("run_name", metavar="RUN", help=RUN_NAME)
    embed.add_argument("images", help=IMAGE_PLACE)
    embed.add_argument("--out", default="features.npz", metavar="FILE", help="features.npz unless told")
    embed.add_argument("--feature", help="a feature of the method; that of its first test unless told")
    embed.add_argument("--device", help="cpu, cuda, cuda:1 ...")
    embed.set_defaults(run=embed_images)


def add_search(commands):
    find = commands.add_parser("search", help="rank images for an image or a sentence by a trained model")
    find.add_argument("run_name", metavar="RUN", help=RUN_NAME)
    find.add_argument("query", help="an image, or a sentence if the method reads them")
    find.add_argument("gallery", help=IMAGE_PLACE)
    find.add_argument("-k", type=int, default=10, help="places to print; 10 unless told")
    find.add_argument("--html", metavar="FILE", help="also write the ranked list as a page with its pictures")
    find.add_argument("--device", help="cpu, cuda, cuda:1 ...")
    find.set_defaults(run=search_images)


def add_export(commands):
    task = "write a trained model's image tower for other programs (ONNX)"
    out = commands.add_parser("export", help=task)
    out.add_argument("run_name", metavar="RUN", help=RUN_NAME)
    out.add_argument("--onnx", default="model.onnx", metavar="FILE", help="model.onnx unless told")
    out.set_defaults(run=export_model)


def add_measure(commands):
    task = "measure what the book lacks or has stale, headline rows first"
    book = commands.add_parser("measure", help=task)
    book.add_argument("--minutes", type=float, default=60)
    book.add_argument("--jobs", type=int, default=1, help="runs at a time, each a process with one thread")
    book.add_argument("--device", help="cpu, cuda, cuda:1 ...; one GPU takes many jobs")
    names = "only print the names of all runs that the book shows"
    book.add_argument("--list", action="store_true", help=names)
    book.add_argument("--only", metavar="NAME", help="one of these names, in this process")
    book.add_argument("--threads", type=int, help="of the processor, with --only; all cores unless told")
    book.add_argument("--bundle", metavar="FILE", help="then pack the finished runs in one archive")
    archive = "take the runs of such an archive in, and measure nothing"
    book.add_argument("--merge", metavar="FILE", help=archive)
    book.add_argument("--due", action="store_true", help=argparse.SUPPRESS)  # how --jobs begins a run
    book.add_argument("--work", action="store_true", help=argparse.SUPPRESS)  # how a GPU's jobs begin
    book.set_defaults(run=measure_book)


def add_visuals(commands):
    task = "keep what runs show whose weights are still here, beside their numbers"
    shown = commands.add_parser("visuals", help=task)
    shown.set_defaults(run=lambda options: visuals.fill())


def add_pretrain(commands):
    own = commands.add_parser("pretrain", help="make the models that come with the project again")
    own.add_argument("model", help=", ".join(pretrain.KINDS))
    own.add_argument("--profile", default="laptop", help=", ".join(PROFILES))
    own.add_argument("--epochs", type=int)
    own.add_argument("--device")
    own.set_defaults(run=pretrain_model)


def add_gates(commands):
    world = commands.add_parser("gates", help="is the synthetic world hard enough, and solvable?")
    world.add_argument("--seeds", type=int, nargs="+", default=gates.SHOWN)
    world.add_argument("--profile", default="laptop", help=", ".join(PROFILES))
    factors = "try factors on the rates (pretrained, new) instead, on the development seed"
    world.add_argument("--rates", nargs="+", metavar="P,N", help=factors)
    some = "some of what is measured together"
    world.add_argument("--only", nargs="+", choices=list(gates.MEASURES), help=some)
    durations = "try lengths of training instead, on the development seed"
    world.add_argument("--lengths", action="store_true", help=durations)
    at_once = "trainings of --lengths at a time, each with one thread"
    world.add_argument("--jobs", type=int, default=1, help=at_once)
    world.add_argument("--minutes", type=float, default=60, help="of --lengths")
    world.add_argument("--length", metavar="NAME", help=argparse.SUPPRESS)  # how --lengths begins one
    world.set_defaults(run=measure_gates)


def add_bench(commands):
    speed = commands.add_parser("bench", help="speed and memory, as ratios within one run")
    parts = f"all of {', '.join(bench.PARTS)} unless told"
    speed.add_argument("parts", nargs="*", metavar="PART", help=parts)
    place = "write to results/bench.json, which the book shows"
    speed.add_argument("--into-book", action="store_true", help=place)
    speed.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)  # an old name of --into-book
    speed.set_defaults(run=lambda options: bench.run(options.parts, options.into_book))


def refuse_old_names(options):
    """One sentence with the new name of what was called otherwise before."""
    old = getattr(options, "renamed", None)
    if old:
        raise ValueError(
            f"expected the command {RENAMED[old]}, found {old}, as it was called before; run it under its "
            "new name."
        )
    if getattr(options, "keep", False):
        raise ValueError(
            "expected --into-book, found --keep, as it was called before; run it with the new name."
        )


def measure_book(options):
    """The command `measure`; --list, --merge and --only do one thing each instead of filling the book."""
    specs = {spec.name: spec for spec in chapters.wanted()}
    if options.list:
        return print(*specs, sep="\n")
    if options.merge:
        gates.require()
        return bundle.merge(Path(options.merge), specs.values())
    if options.only:
        return measure_one(specs, options)
    if options.work:
        return work_through(specs, options)
    fill.check(options.jobs, options.device)
    before_the_book()
    if options.minutes > 0:
        visuals.fill()  # first: what is left without pictures has no weights any more and is measured again
    try:
        fill.fill(specs.values(), options.minutes, options.jobs, options.device)
    finally:  # what was finished is packed, whatever became of the rest
        if options.bundle:
            bundle.pack(Path(options.bundle), specs.values())


def before_the_book():
    """Raise unless the world has met its gates and a commit holds the code: no number enters the book
    otherwise."""
    gates.require()
    fill.require()


def measure_one(specs, options):
    """One run in this process; `--due` says that the program which began it has looked already."""
    if options.only not in specs:
        raise ValueError(
            f"expected the name of a run that the book shows, found {options.only!r}; --list prints them."
        )
    before_the_book()
    if options.due:
        fill.end_with_parent()
    if options.due or fill.why_due(specs[options.only]):
        processor.use_threads(options.threads)
        visuals.measure_and_keep(specs[options.only], shelf=BOOK, device=options.device)


def work_through(specs, options):
    """Measure runs that the program which began this process names, one after another."""
    before_the_book()
    processor.use_threads(options.threads)
    keep = functools.partial(visuals.measure_and_keep, shelf=BOOK, device=options.device)
    workers.work(specs, keep)


def pretrain_model(options):
    pretrain.pretrain(options.model, profile=options.profile, epochs=options.epochs, device=options.device)


def measure_gates(options):
    """The command `gates`: one training of --lengths, all of them, pairs of --rates, or the gates."""
    if options.length:
        fill.end_with_parent()  # --lengths began this process, and may be interrupted
        processor.use_threads(1)
        lengths.measure(next(one for one in lengths.wanted() if one.name == options.length))
    elif options.lengths:
        lengths.fill(options.minutes, options.jobs)
    elif options.rates:
        pairs = []
        for pair in options.rates:
            pairs.append(tuple(map(float, pair.split(","))))
        rates.measure(pairs, profile=options.profile)
    else:
        gates.measure(options.seeds, options.profile, options.only)


def list_weights(options):
    """The command `weights`."""
    place = training_folder("")
    found = sorted(place.glob(f"*/*/*/*/{train.WEIGHTS}"))
    print(f"{len(found)} below {place}, each {train.WEIGHTS} in the folder of its run:")
    for path in found:
        print(f"{path.parent.relative_to(place)}  {path.stat().st_size / 1e6:.1f} MB")


def embed_images(options):
    """The command `embed`."""
    method, _ = search.load_run(options.run_name)
    found = search.embed(method, options.images, options.feature, options.device)
    found.save(options.out)
    print(
        f"{len(found.paths)} images, feature {found.feature} of {found.features.shape[1]} numbers each; "
        f"written to {options.out}"
    )


def search_images(options):
    """The command `search`."""
    method, run = search.load_run(options.run_name)
    found = search.search(method, options.query, options.gallery, options.k, options.device)
    for one in found:
        print(f"{one.place:3}  {one.cosine:.3f}  {one.path}")
    if options.html:
        page = ranked.page(options.query, found, run.spec.name)
        Path(options.html).write_text(page, encoding="utf-8")
        print(f"written to {options.html}")


def export_model(options):
    """The command `export`."""
    method, _ = search.load_run(options.run_name)
    worst = export.to_onnx(method, Path(options.onnx))
    print(f"written to {options.onnx}; the largest difference from this library is {worst:.1e}")


def train_one(options):
    """The command `train`: measure one run and print its scores."""
    known(METHODS, options.method, "method")
    variant = options.variant or next(iter(METHODS[options.method].variants))
    profile = profile_called(options.profile)
    row = changed(options.row, [*options.set, *initial_weights(options.init_from)])
    data = options.data or METHODS[options.method].takes(profile.data)
    spec = Spec(options.method, variant, row, data, profile.name, options.seed)
    if options.log:
        board.turn_on()
    processor.use_threads(options.threads)
    shelf = OWN
    if options.into_book:
        shelf = BOOK
        before_the_book()
    visuals.measure_and_keep(
        spec,
        shelf=shelf,
        device=options.device,
        checkpoint_every=options.checkpoint_every,
        deterministic=options.deterministic,
        told=lambda run: print_run(run, shelf),
    )


def initial_weights(name):
    """The change of a row that starts from the weights of a run, in a list; none unless a name is given."""
    return [initial.change_for(search.run_called(name).spec.same.name)] if name else []


def print_run(run, shelf):
    """Scores of each test in per cent, its protocol, and the cost of the run."""
    for record in run.tests:
        print(measure.score_line(record))
        print(f"  {record['protocol']}")
    print(
        f"{run.cost['minutes']} min, {run.cost['images per second']} images/s, {run.cost['peak memory MB']} "
        f"MB; data: {run.data['origin']}; written to {shelf.path(run.spec)}"
    )
    weights = visuals.weights_of(run.spec)
    if weights.exists():
        print(f"weights in {weights}; to use them: python -m reid_core search {run.spec.name} QUERY GALLERY")


if __name__ == "__main__":
    main()
