"""The exceptions a user can meet. Each message says what was found, what was expected, what to do.

`RaysvqError.exit_code` is what the command line returns: 2 where the input is wrong,
1 where a run that started well failed.
"""


class RaysvqError(Exception):
    """Base of every error raysvq raises on purpose."""

    exit_code = 2


class SettingsError(RaysvqError):
    """A setting is unknown, impossible, or contradicts another one."""


class DataError(RaysvqError):
    """An image set, listing or manifest cannot be used as it is."""


class StorageError(RaysvqError, OSError):
    """A path or bucket is missing, or may not be read or written, or its store does not answer."""


class BundleError(RaysvqError):
    """A model bundle is incomplete, damaged or from another format version."""


class TrainingError(RaysvqError):
    """Training left the finite or the plausible, or cannot begin."""

    exit_code = 1


class TrainingMemoryError(TrainingError):
    """A step or a validation does not fit into memory."""


class WorkersError(TrainingError):
    """Workers failed more often than `training.max_failures`."""


class ScoringError(RaysvqError):
    """A part of a scoring run fails again and again."""

    exit_code = 1


class AccountingError(RaysvqError):
    """Scored and rejected images do not add up to the manifest."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """The first line of an error, as some libraries raise a page; its type if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
