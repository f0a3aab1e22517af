"""TensorBoard, for whoever has it: loss terms and rate of every epoch, and the scores of a run. Nothing is
written unless $REID_TENSORBOARD names a folder."""

import os
from pathlib import Path

from data_prep.catalogue import build_folder

VARIABLE = "REID_TENSORBOARD"


def turn_on():
    """Write to `tensorboard` in the build folder, unless $REID_TENSORBOARD names another folder. ValueError
    without the package."""
    summary_writer()
    os.environ[VARIABLE] = os.environ.get(VARIABLE, "").strip() or str(build_folder() / "tensorboard")


def summary_writer():
    """The class that writes for TensorBoard; ValueError without the package."""
    try:  # here: nothing else needs it
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"expected the package tensorboard for --log and ${VARIABLE}, found none ({error}); install it "
            "with pip install tensorboard, or leave them out."
        ) from None
    return SummaryWriter


def writer(folder):
    """A SummaryWriter for the training in `folder`, or None where nobody asked for one."""
    place = os.environ.get(VARIABLE, "").strip()
    if not place:
        return None
    runs = build_folder() / "runs"
    name = Path(folder).relative_to(runs) if Path(folder).is_relative_to(runs) else Path(folder).name
    return summary_writer()(str(Path(place).expanduser() / name))


def write_epoch(board, line, number):
    """The terms and the rate of the `number`-th epoch of a training, from 1, over all its stages."""
    for term, value in line["losses"].items():
        board.add_scalar(f"{line['stage']}/{term}", value, number)
    board.add_scalar(f"{line['stage']}/rate", line["rate"], number)
    board.flush()  # so that a training that is killed shows what it did


def write_scores(folder, records, number):
    """The summaries of the tests of a run, in per cent, behind its last epoch."""
    board = writer(folder)
    if board is None:
        return
    for record in records:
        after = f" after {record['after']}" if record["after"] else ""  # a domain of a lifelong order
        test = f"{record['task']} on {record['data']}{after}"
        for metric, value in record["summary"].items():
            board.add_scalar(f"{test}/{metric}", value, number)
    board.close()
