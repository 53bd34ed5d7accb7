"""What a person reads when something fails on a worker: a sentence, and where the rest of it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray
import torch
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    UserCodeException,
    WorkerCrashedError,
)
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from raysvq import cli
from raysvq.errors import DataError, RaysvqError, StorageError, TrainingMemoryError
from raysvq.runtime.failures import Failure, in_a_sentence, require_success, returns_failures, root_cause
from raysvq.storage.retry import TransientError

PAGE = 'Traceback (most recent call last):\n  File "worker.py", line 1\n' * 3
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation")


def _user(error: Exception) -> UserExceptionWithTraceback:
    return UserExceptionWithTraceback(error, traceback_str=PAGE)


def _task(error: Exception) -> RayTaskError:
    return RayTaskError("score_units", PAGE, error, "ray::score", 1, "127.0.0.1")


def _died() -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError("Worker 0 failed its health check.", ActorDiedError())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (WorkerGroupError(PAGE, {0: _user(ValueError("no\nsuch thing"))}), "ValueError: no such thing"),
        (WorkerGroupError(PAGE, {0: _died()}), "a worker process died: killed, such as by signal 9"),
        (WorkerGroupError(PAGE, {0: _died(), 1: _user(KeyError("k"))}), "KeyError: 'k'"),
        (WorkerGroupError(PAGE, {0: _user(OSError()), 1: _user(TrainingMemoryError("lower"))}), "lower;"),
        (WorkerGroupError(PAGE, {1: _user(CUDA)}), r"a worker ran out of memory \(CUDA out of memory\."),
        (ControllerError(_task(RuntimeError("the store is full"))), "RuntimeError: the store is full"),
        (_task(MemoryError("array of 9 GiB")), r"a worker ran out of memory \(array of 9 GiB\)"),
        (
            _task(OutOfMemoryError("page")).make_dual_exception_instance(),
            "a machine ran out of memory, and Ray killed a worker there",
        ),
        (NodeDiedError(PAGE), "a machine of the cluster was lost"),
        (WorkerCrashedError(), "a worker process died"),
        (ObjectLostError("ab", None, ""), "ObjectLostError: "),
    ],
)
def test_the_root_cause_is_one_sentence(error: Exception, sentence: str) -> None:
    said = in_a_sentence(error)
    assert re.match(sentence, said)
    assert len(said) < 500
    assert "\n" not in said
    report = Path(said.rpartition(" is ")[2])
    assert type(error).__name__ in report.read_text()
    report.unlink()


def test_a_report_that_cannot_be_written_hides_no_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # else the report goes beside Ray's logs
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    said = in_a_sentence(_task(ValueError("no such tile")))
    assert said == "ValueError: no such tile; Ray's own report cannot be written (No such file or directory)"


def test_an_error_of_ours_keeps_its_words() -> None:
    error = _task(DataError("m.parquet is damaged")).make_dual_exception_instance()
    assert str(root_cause(error)) == "m.parquet is damaged"
    chained = UserCodeException()
    chained.__cause__ = DataError("another")
    assert str(root_cause(chained)) == "another"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("m.parquet is damaged"), DataError),
        (TransientError("s3://b/a: slow down"), StorageError),
        (PermissionError(13, "Permission denied"), StorageError),
    ],
)
def test_an_error_of_ours_comes_back_from_a_worker_as_itself(
    error: Exception, kind: type[RaysvqError]
) -> None:
    @returns_failures
    def task(fails: bool) -> int:
        if fails:
            raise error
        return 7

    assert require_success(task(False)) == 7
    outcome = task(True)
    assert outcome == Failure(kind.__name__, str(error))
    with pytest.raises(kind) as raised:
        require_success(outcome)
    assert type(raised.value) is kind
    assert str(raised.value) == str(error)


def test_a_mistake_of_the_program_is_no_failure_value() -> None:
    @returns_failures
    def task() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        task()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (_task(DataError("m.parquet is damaged")).make_dual_exception_instance(), 2, "m.parquet is damaged"),
        (WorkerGroupError(PAGE, {0: _died()}), 1, "a worker process died"),
        (NodeDiedError(PAGE), 1, "a machine of the cluster was lost"),
        (MemoryError("9 GiB"), 1, "out of memory (9 GiB)"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_the_command_line_prints_no_page(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("raysvq.evaluate_model.evaluate_model", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "manifest.parquet"])
    printed = capsys.readouterr().err.strip()
    assert stop.value.code == code
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert "Traceback" not in printed


def test_a_mistake_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("raysvq.evaluate_model.evaluate_model", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["evaluate", "manifest.parquet"])


def test_a_reader_that_has_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", "settings"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert ended.stderr == b""
    assert ended.returncode == 1
