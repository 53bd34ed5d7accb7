"""Run a command line: its format of lines, its errors, its exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from raysvq import log
from raysvq.cli import models, results  # noqa: F401  # they register the verbs, in the order of --help
from raysvq.cli.app import app
from raysvq.cli.errors import explain

# isort: split
from raysvq.cli import fleet  # noqa: F401

INTERRUPTED = 130  # exit code, as of a process that signal 2 ended


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error a user can mend is one sentence on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    had_ray = _has_ray()
    log.use(_format(given), next((one for one in given[:1] if not one.startswith("-")), ""))
    try:
        code = app(args=given, prog_name="raysvq", standalone_mode=False) or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        code = INTERRUPTED
        log.error("raysvq: interrupted", type="KeyboardInterrupt", exit_code=code)
    except Exception as error:
        failure = explain(error, given)
        if failure is not None:
            code = failure.exit_code
            log.error(**failure._asdict())
        elif log.is_json():
            code = 1
            text, kind = traceback.format_exc(), type(error).__name__
            log.error(text, message=str(error), type=kind, exit_code=code, traceback=text)
        else:
            raise
    finally:
        log.use(log.Format.PLAIN)
    if _has_ray() and not had_ray:
        _leave_ray()
    sys.exit(code)


def _has_ray() -> bool:
    """Whether this process is part of a Ray cluster."""
    if "ray" not in sys.modules:
        return False
    import ray

    return bool(ray.is_initialized())


def _leave_ray() -> None:
    """Leave Ray here: it would wait half a second for lines of workers where the interpreter left it."""
    import ray

    ray.shutdown()


def _format(arguments: Sequence[str]) -> str:
    """Of lines, as the arguments or the environment want it: known before arguments that are refused."""
    wanted = os.environ.get(log.VARIABLE, "")
    for one, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if one == "--log" or one.startswith("--log="):
            wanted = one.removeprefix("--log").removeprefix("=") or following
    return wanted if wanted in list(log.Format) else log.Format.AUTO
