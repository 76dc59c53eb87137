"""Checkpoints of a training run, from which it goes on to the same model, bit for bit; and when it may stop early."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from .engine import Engine
from .errors import CorruptError, FormatError, OptionError, OutputError
from .formats.output import check_output
from .plan import Plan
from .publish import write_arrays

VERSION = 1
FORMAT = "zipml-checkpoint"
EVERY = 30.0  # s between checkpoints, at ends of windows
PATIENCE = 3  # epochs without a gain before an early stop


@dataclass
class Cursor:
    """Where a run stands: the epoch, its steps that are done, and their sums of loss and of what rounding added."""

    epoch: int = 0
    steps: int = 0
    loss: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Saved:
    """A checkpoint's content."""

    plan: Plan
    first_step: float
    reason: str
    cursor: Cursor
    taken: int  # steps in all
    weights: NDArray[np.float32]
    bias: Any  # float, or one a target
    history: list[dict[str, Any]]


class Track:
    """Keeps checkpoints of a run and decides on an early stop.

    Parameters
    ----------
    path : Path, optional
        Of the checkpoint; None: none is kept.
    asked : dict
        What the run was asked for, and its data: a run goes on only where all of it is the same.
    tolerance : float
        Stop when PATIENCE epochs brought the test loss (the training loss without test rows) down by less than this share.
    every : float
        Seconds between checkpoints.
    """

    def __init__(self, path: Path | None, asked: dict[str, Any], tolerance: float = 0.0, every: float = EVERY) -> None:
        self.path, self.asked, self.tolerance, self.every = path, asked, tolerance, every
        self.plan: Plan | None = None
        self.first_step, self.reason = 0.0, ""
        self.saved: Saved | None = None
        self._last = time.monotonic()

    def resume(self) -> Saved | None:
        """Read the checkpoint, where there is one; the next `start` goes on from it.

        Raises
        ------
        OptionError
            It is of another run: the message says in what.
        FormatError, CorruptError
        """
        if self.path is None or not self.path.exists():
            return None
        asked, self.saved = read(self.path)
        for name, value in self.asked.items():
            if asked.get(name) != value:
                raise OptionError(
                    f"{self.path} is of another run: {name} was {asked.get(name)!r}, and is {value!r} now; "
                    "ask for the same, or begin again without resume"
                )
        return self.saved

    def check(self) -> None:
        """Before any work: refuse a place where no checkpoint can be, or where something else is.

        Raises
        ------
        OutputError
            The path is a folder or in none, or a file that is no checkpoint, which would be lost: the data, say.
        """
        if self.path is None:
            return
        check_output(self.path, overwrite=True)
        if self.path.exists():
            try:
                read(self.path)
            except (CorruptError, FormatError) as error:
                raise OutputError(f"{error}; it is not overwritten: name another file, or remove it") from error

    def begin(self, plan: Plan, first_step: float, reason: str) -> None:
        """What the run that follows does, for its checkpoints."""
        self.plan, self.first_step, self.reason = plan, first_step, reason

    def start(self, engine: Engine, history: list[dict[str, Any]]) -> Cursor:
        """Put what was saved into an engine that begins; later ones of the same run begin from zero."""
        saved, self.saved = self.saved, None
        if saved is None:
            return Cursor()
        engine.weights[:] = saved.weights
        engine.bias, engine.steps = saved.bias, saved.taken
        history += saved.history
        return saved.cursor

    def step(self, engine: Engine, at: Cursor, history: list[dict[str, Any]]) -> None:
        """After a window's steps: keep a checkpoint when it is time."""
        if self.path is not None and time.monotonic() - self._last >= self.every:
            self._write(engine, at, history)

    def epoch(self, engine: Engine, at: Cursor, history: list[dict[str, Any]]) -> bool:
        """After an epoch: keep a checkpoint when it is time or the last one is done; whether to stop early."""
        stop = self._settled(history)
        if self.plan is not None and (stop or at.epoch == self.plan.epochs):
            at.epoch = self.plan.epochs
            if self.path is not None:
                self._write(engine, at, history)
        else:
            self.step(engine, at, history)
        return stop

    def _settled(self, history: list[dict[str, Any]]) -> bool:
        if not self.tolerance or len(history) <= PATIENCE:
            return False
        name = "train_loss" if history[-1]["test_loss"] is None else "test_loss"
        losses = [entry[name] for entry in history]
        before = min(losses[:-PATIENCE])
        return bool(min(losses[-PATIENCE:]) > before - self.tolerance * abs(before))

    def _write(self, engine: Engine, at: Cursor, history: list[dict[str, Any]]) -> None:
        assert self.path is not None and self.plan is not None
        about = {
            "format": FORMAT,
            "version": VERSION,
            "asked": self.asked,
            "plan": asdict(self.plan),
            "first_step": self.first_step,
            "reason": self.reason,
            "cursor": asdict(at),
            "taken": engine.steps,
            "history": history,
        }
        write_arrays(self.path, "checkpoint", about, weights=engine.weights, bias=np.asarray(engine.bias))
        self._last = time.monotonic()


def read(path: Path) -> tuple[dict[str, Any], Saved]:
    """What a checkpoint's run was asked for, and its state."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            about = json.loads(content["about"].tobytes().decode())
            if about["format"] != FORMAT:
                raise FormatError(f"{path} is not a checkpoint of zipml train")
            if about["version"] > VERSION:
                raise FormatError(f"{path}: checkpoint version {about['version']}; this zipml-codec reads up to {VERSION}")
            weights, bias = content["weights"].astype(np.float32), content["bias"]
            bias = bias if bias.ndim else float(bias)
        saved = Saved(
            Plan(**about["plan"]),
            about["first_step"],
            about["reason"],
            Cursor(**about["cursor"]),
            about["taken"],
            weights,
            bias,
            about["history"],
        )
    except FormatError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, AttributeError) as error:
        raise CorruptError(f"{path} is not a checkpoint of zipml train, or damaged: {error}") from error
    return about["asked"], saved
