"""python -m data_prep world OUT | check DATASET ROOT | DATASET ROOT"""

import argparse
import sys

from data_prep import doctor, public
from data_prep.world import build


def main(arguments=None):
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"data_prep: {error}")


def parser():
    top = argparse.ArgumentParser("python -m data_prep", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    world = commands.add_parser("world", help="make the synthetic world, laid out as Market-1501")
    world.add_argument("out")
    world.add_argument("--profile", default="laptop", help="smoke or laptop")
    world.add_argument("--seed", type=int, default=0)
    world.add_argument("--workers", type=int, help="processes; all cores unless told")
    world.set_defaults(run=make_world)
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
    build.build(options.out, options.profile, options.seed, workers=options.workers)
    print(f"world: {options.out} is ready; read it with: python -m data_prep check market1501 {options.out}")


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
