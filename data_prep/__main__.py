"""python -m data_prep world OUT | check DATASET ROOT | join DATASET ROOT DATASET ROOT
| convert DATASET SOURCE OUT | describe DATASET ROOT | DATASET ROOT"""

import argparse
import sys

from data_prep import convert, describe, doctor, join, public
from data_prep.texts import in_one_sentence
from data_prep.world import build, cast
from data_prep.world.layouts import layout_of


def main(arguments=None):
    # `gates` has moved, and says so whatever options it is called with
    options, rest = parser().parse_known_args(arguments)
    if rest and options.run is not not_here:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"data_prep: {in_one_sentence(error)}")


def parser():
    """The command line: a subcommand for each task, and one for each reader."""
    top = argparse.ArgumentParser("python -m data_prep", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_world(commands)
    commands.add_parser("gates", add_help=False).set_defaults(run=not_here)
    add_check(commands)
    add_join(commands)
    add_convert(commands)
    add_describe(commands)
    for name in public.READERS:
        add_reader(commands, name)
    return top


def add_world(commands):
    world = commands.add_parser("world", help="make a synthetic data set, laid out as a public one")
    world.add_argument("out")
    world.add_argument("--set", default="world_market", dest="name", help=", ".join(cast.SETS))
    world.add_argument("--profile", default="laptop", help=", ".join(cast.SIZES))
    world.add_argument("--seed", default="0", help="a whole number")
    height = "of a person's image, in pixels; the width is half"
    world.add_argument("--height", type=int, default=build.SIZE[0], help=height)
    world.add_argument("--workers", type=int, help="processes; all cores unless told")
    world.set_defaults(run=make_world)


def add_check(commands):
    check = commands.add_parser("check", help="say what a data set is ready for: the exit status is 0 if so")
    dataset = f"{', '.join(public.READERS)}; a variant follows a #, as in viper#pad_jul"
    check.add_argument("dataset", help=dataset)
    check.add_argument("--decode", action="store_true", help="decode every image; headers only unless told")
    twins = "look for copies of one image on both sides of a wall"
    check.add_argument("--hash", action="store_true", help=twins)
    reading(check).set_defaults(run=examine)


def add_join(commands):
    both = commands.add_parser("join", help="two data sets as one training set, without what leaks")
    both.add_argument("places", nargs="+", metavar="DATASET ROOT")
    both.add_argument("--out", help="a CSV file above both roots")
    both.set_defaults(run=unite)


def add_convert(commands):
    change = commands.add_parser("convert", help="a release that has no crops as files: cuhk03, cuhk_sysu")
    change.add_argument("dataset", help=", ".join(convert.CONVERSIONS))
    change.add_argument("source", help="the folder of the release")
    change.add_argument("out", help="a folder that is not there yet")
    change.set_defaults(run=make_crops)


def add_describe(commands):
    task = "say what each training image shows, with a BLIP-2 of your own"
    words = commands.add_parser("describe", help=task)
    words.add_argument("dataset", help=", ".join(public.READERS))
    weights = "a folder with a BLIP-2 model of transformers"
    reading(words).add_argument("--weights", required=True, help=weights)
    words.add_argument("--out", help="the description file; blip_descriptions.txt in ROOT unless told")
    words.add_argument("--device", default="cpu")
    words.set_defaults(run=tell)


def add_reader(commands, name):
    task = f"read {name}, print its counts, save its manifest with --out"
    reader = commands.add_parser(name, help=task)
    reading(reader).add_argument("--out", help="a CSV file in ROOT or above it")
    if name in public.VARIANTS:
        variants = public.VARIANTS[name]
        reader.add_argument("--variant", choices=variants, default=variants[0])
    reader.set_defaults(run=count, dataset=name, variant="")


def reading(command):
    """The command with what every command that reads a data set takes."""
    command.add_argument("root", help="the folder of the data set")
    unmatched = "leave out queries without a match"
    command.add_argument("--drop-unmatched-queries", action="store_true", help=unmatched)
    mismatch = "for those who know why their numbers differ"
    command.add_argument("--allow-count-mismatch", action="store_true", help=mismatch)
    return command


def make_world(options):
    size = (options.height, options.height // 2)
    build.build(options.out, options.profile, options.seed, options.name, size, options.workers)
    reader = layout_of(options.name).reader
    print(
        f"{options.name}: {options.out} is ready; read it with: python -m data_prep check {reader} "
        f"{options.out}"
    )


def not_here(options):
    """Gates train models, and no command of this package starts the library above it."""
    raise ValueError(
        "expected python -m reid_core gates, found the same command of data_prep, where it was before; run "
        "it there."
    )


def examine(options):
    """Lines go to the output, complaints to the errors; training may start where there are none."""
    report = doctor.check(options.dataset, options.root, options.decode, options.hash, **choices(options))
    print(*report.lines, sep="\n")
    if not report.healthy:
        sys.exit("\n".join(f"data_prep: {sentence}" for sentence in report.complaints))


def count(options):
    name = f"{options.dataset}#{options.variant}" if options.variant else options.dataset
    manifest = public.read(name, options.root, **choices(options))
    print(*doctor.summary(manifest, missing=False), sep="\n")
    if options.out:
        manifest.write(options.out)


def unite(options):
    names = options.places[::2]
    roots = options.places[1::2]
    if len(names) != 2 or len(roots) != 2:
        raise ValueError(
            f"expected two data sets with their roots, found {' '.join(options.places)}; name both."
        )
    first, second = map(public.read, names, roots)
    manifest = join.joint_training(first, second)
    print(*doctor.summary(manifest, missing=False), sep="\n")
    if options.out:
        manifest.write(options.out)


def make_crops(options):
    convert.convert(options.dataset, options.source, options.out)


def tell(options):
    manifest = public.read(options.dataset, options.root, **choices(options))
    out = options.out or manifest.root / "blip_descriptions.txt"
    describe.describe(manifest, options.weights, out, options.device)
    print(
        f"{manifest.name}: {out} is ready; the reader takes blip_descriptions.txt from the data set's folder"
    )


def choices(options):
    """What a reader takes besides its root."""
    return {
        "drop_unmatched_queries": options.drop_unmatched_queries,
        "allow_count_mismatch": options.allow_count_mismatch,
    }


if __name__ == "__main__":
    main()
