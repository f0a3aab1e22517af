"""Processes that measure one run after another: on a GPU, to begin a process takes about as long as a short
training.

`fill` writes the name of a run to the input of a worker that is free, and reads its answer.
"""

import os
import queue
import subprocess
import sys
import threading
import traceback

import torch

from data_prep.catalogue import build_folder
from reid_core import processor

LOG = "measure.log"  # in the folder of a run
DONE = "done\n"


class Workers:
    """At most as many processes as runs that are under way at once; each is begun when it is first needed.
    `command`: what begins one. `environment`: of each."""

    def __init__(self, command, environment=os.environ):
        self.command = command
        self.environment = processor.single(environment)
        self.all = []

    def start(self, spec):
        """Give a run to a worker that is free; returns the Task, which answers `poll` as a process does."""
        worker = next((one for one in self.all if one.free), None)
        if worker is None:
            worker = Worker(self.command, self.environment)
            self.all.append(worker)
        worker.begin(spec)
        return Task(worker)

    def close(self):
        """End the workers that are free: their input closes."""
        for worker in self.all:
            worker.process.stdin.close()


class Worker:
    """A process and what it answered."""

    def __init__(self, command, environment):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, bufsize=1, **pipes)
        self.answers = queue.SimpleQueue()
        self.returncode = 0  # of its last run; None while that is under way
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.answers.put(line)

    @property
    def free(self):
        """Whether it has done its last run and is still there: something else may have ended it since."""
        return self.returncode == 0 and self.process.poll() is None

    def begin(self, spec):
        self.returncode = None
        self.process.stdin.write(f"{spec.name}\n")

    def look(self):
        """The code of its run: 0 once it is done, that of the process if it died, None before."""
        if not self.answers.empty():
            self.answers.get()
            self.returncode = 0
        elif self.process.poll() is not None:
            self.returncode = self.process.returncode or 1  # whatever it says, it did not finish
        return self.returncode


class Task:
    """A run that a worker measures, with the methods of a process that `fill.run_all` needs."""

    def __init__(self, worker):
        self.worker = worker
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            self.returncode = self.worker.look()
        return self.returncode

    def kill(self):
        self.worker.process.kill()


def work(specs, measure):
    """A worker: measure the runs of `specs` {name: spec} whose names come as lines of the input, and answer a
    line for each. Its end closes it at once, even amid a run; a run that fails ends it, since a GPU may be
    left broken. What a run prints goes to its LOG."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for name in names_told():
        redirect(build_folder() / "runs" / name)
        if torch.cuda.is_available():  # else the peak of one run would count the one before
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            measure(specs[name])
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        answers.write(DONE)
        answers.flush()


def names_told():
    """Names from the input as they come; when it closes, this process ends."""
    told = queue.SimpleQueue()

    def listen():
        for line in sys.stdin:
            told.put(line.strip())
        os._exit(0)  # sys.exit would end this thread alone

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield told.get()


def redirect(folder):
    """Let what this process prints go to the LOG of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    with open(folder / LOG, "w", encoding="utf-8") as told:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(told.fileno(), stream.fileno())
