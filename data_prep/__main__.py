"""python -m data_prep world OUT | gates | check DATASET ROOT | DATASET ROOT"""

import argparse
import subprocess
import sys

from data_prep import doctor, public
from data_prep.world import build, cast
from data_prep.world.layouts import layout_of


def main(arguments=None):
    options, rest = parser().parse_known_args(arguments)
    options.rest = rest
    if rest and options.run is not measure_gates:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"data_prep: {error}")


def parser():
    top = argparse.ArgumentParser("python -m data_prep", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    world = commands.add_parser("world", help="make a synthetic data set, laid out as a public one")
    world.add_argument("out")
    world.add_argument("--set", default="world_market", dest="name", help=", ".join(cast.SETS))
    world.add_argument("--profile", default="laptop", help=", ".join(cast.SIZES))
    world.add_argument("--seed", default="0", help="a whole number")
    world.add_argument(
        "--height", type=int, default=build.SIZE[0], help="of a person's image, in pixels; the width is half"
    )
    world.add_argument("--workers", type=int, help="processes; all cores unless told")
    world.set_defaults(run=make_world)
    commands.add_parser(
        "gates", help="is the world hard enough, and solvable? (python -m reid_core gates)", add_help=False
    ).set_defaults(run=measure_gates)
    check = commands.add_parser("check", help="say whether training may start")
    check.add_argument("dataset", help=", ".join(public.READERS))
    reading(check).set_defaults(run=examine)
    for name in public.READERS:
        reader = reading(
            commands.add_parser(name, help=f"read {name}, print its counts, save its manifest with --out")
        )
        reader.add_argument("--out", help="a CSV file")
        reader.set_defaults(run=describe, dataset=name)
    return top


def reading(command):
    command.add_argument("root", help="the folder of the data set")
    command.add_argument(
        "--drop-unmatched-queries", action="store_true", help="leave out queries without a match"
    )
    return command


def make_world(options):
    size = (options.height, options.height // 2)
    build.build(options.out, options.profile, options.seed, options.name, size, options.workers)
    reader = layout_of(options.name).reader
    print(
        f"{options.name}: {options.out} is ready; read it with: python -m data_prep check {reader} {options.out}"
    )


def measure_gates(options):
    """Gates train models, and nothing here imports the library above: its own command does the work."""
    sys.exit(subprocess.call([sys.executable, "-m", "reid_core", "gates", *options.rest]))


def examine(options):
    print(*doctor.examine(read(options)), sep="\n")


def describe(options):
    manifest = read(options)
    for split, numbers in manifest.counts().items():
        print(split, *(f"{number} {what}" for what, number in numbers.items()))
    if options.out:
        manifest.write(options.out)


def read(options):
    return public.read(options.dataset, options.root, drop_unmatched_queries=options.drop_unmatched_queries)


if __name__ == "__main__":
    main()
