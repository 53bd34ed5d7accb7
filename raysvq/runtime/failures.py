"""Errors of workers, as the person who started the run sees them.

A worker returns errors of raysvq as a value, a `Failure`: Ray would wrap the exception, lose its type in Ray
Data, and print a page about it. For any other error the driver prints one sentence, and writes Ray's page
into a file.
"""

from __future__ import annotations

import functools
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, WorkerCrashedError

from raysvq import errors
from raysvq.errors import RaysvqError, StorageError
from raysvq.model.device import is_out_of_memory

_LONGEST = 300  # characters of a cause that are printed
# Attributes in which Ray's errors keep their cause.
_WRAPPING = ("controller_failure", "health_check_failure", "_base_exc", "cause", "__cause__")
_LOST = (RayActorError, NodeDiedError, WorkerCrashedError)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """An error of raysvq as a value."""

    error: str  # name of a class in raysvq.errors
    message: str

    def exception(self) -> RaysvqError:
        """The error, as it was raised on the worker."""
        kind: type[RaysvqError] = getattr(errors, self.error)
        return kind(self.message)


def returns_failures(call: Callable[P, T]) -> Callable[P, T | Failure]:
    """Decorate a function for workers: its RaysvqErrors and OSErrors are returned as a Failure."""

    @functools.wraps(call)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T | Failure:
        try:
            return call(*args, **kwargs)
        except (RaysvqError, OSError) as error:
            public = (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
            return Failure(next(public, StorageError).__name__, str(error))

    return wrapper


def require_success(outcome: T | Failure) -> T:
    """The result of a worker; raises its RaysvqError if it returned a Failure."""
    if isinstance(outcome, Failure):
        raise outcome.exception()
    return outcome


def result_of(reference: Any) -> Any:
    """The result of a Ray task whose function is decorated with `returns_failures`.

    Raises:
        RaysvqError: as the task raised it.
    """
    return require_success(ray.get(reference))


def is_rays(error: BaseException) -> bool:
    """Whether Ray raised an error."""
    return isinstance(error, RayError) or type(error).__module__.startswith("ray.")


def root_cause(error: BaseException) -> BaseException:
    """The first error, inside those that Ray has wrapped around it."""
    if not is_rays(error):
        return error
    ranks = getattr(error, "worker_failures", None)
    inner = _most_telling(ranks) if ranks else None
    found = (getattr(error, name, None) for name in _WRAPPING)
    inner = inner or next((one for one in found if isinstance(one, BaseException)), None)
    return error if inner is None else root_cause(inner)


def in_a_sentence(error: BaseException) -> str:
    """One sentence on the cause, and the file with the complete report."""
    try:
        report = f"is {_write_report(error)}"
    except OSError as refused:
        report = f"cannot be written ({refused.strerror or refused})"
    return f"{_sentence(root_cause(error))}; Ray's own report {report}"


def _most_telling(failures: Mapping[int, BaseException]) -> BaseException:
    """Of the ranks' causes one of raysvq, else one that is no lost process, else any."""
    causes = [root_cause(failures[rank]) for rank in sorted(failures)]
    return min(
        causes, key=lambda cause: 0 if isinstance(cause, RaysvqError) else 1 + isinstance(cause, _LOST)
    )


def _sentence(cause: BaseException) -> str:
    text = " ".join(str(cause).split())
    text = f"{text[:_LONGEST]}{'…' if len(text) > _LONGEST else ''}"
    if isinstance(cause, RaysvqError):
        return text
    if isinstance(cause, OutOfMemoryError):
        return "a machine ran out of memory, and Ray killed a worker there; take fewer workers (`ray.cpus`)"
    if is_out_of_memory(cause):
        return f"a worker ran out of memory ({text})"
    if isinstance(cause, NodeDiedError):
        return "a machine of the cluster was lost with what ran there"
    if isinstance(cause, _LOST):
        return "a worker process died: killed, such as by signal 9 for want of memory, or crashed"
    return f"{type(cause).__name__}: {text}"


def _write_report(error: BaseException) -> str:
    """Write the error to a new file, beside Ray's logs if they are on this machine."""
    node = ray._private.worker._global_node if ray.is_initialized() else None
    logs = Path(node.get_session_dir_path()) / "logs" if node else Path(tempfile.gettempdir())
    folder = logs if logs.is_dir() else None
    with tempfile.NamedTemporaryFile("w", prefix="raysvq-", suffix=".txt", dir=folder, delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return file.name
