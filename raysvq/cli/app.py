"""The program, and the options that its verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysvq import log
from raysvq.settings import Settings, load_settings

_HELP = """Fleet-scale visual inspection: learn what normal looks like, score every image, as Ray batch jobs.

\b
From images to a report:
  raysvq index tree --out m.parquet                      of tree/train/good, tree/test/…
  raysvq train m.parquet --out model --config features   a model bundle
  raysvq score m.parquet --model model --out scores      one score per image
  raysvq evaluate m.parquet --model model --scores scores --out report
"""
_EPILOG = """A path may be local or an object store's, such as s3://bucket/prefix.

`raysvq VERB --help` has the options of a verb, `raysvq settings` every setting for --set KEY=VALUE and
--config FILE. `python -m raysvq VERB` is the same. The exit code is 0 where all went well, 2 where you
can mend it, 130 where it was interrupted, 1 otherwise.

A verb that was interrupted goes on when it is started again with the same arguments.
"""

app = typer.Typer(
    name="raysvq",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Config = Annotated[
    str | None,
    typer.Option("--config", help="YAML or JSON file of settings, or the name of a shipped one."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override one setting, e.g. --set objective.eta=0.7.")
]
LogFormat = Annotated[
    log.Format,
    typer.Option(
        "--log",
        envvar=log.VARIABLE,
        help="What is printed: auto (a bar on a terminal, else lines), plain (lines), json (JSON lines).",
    ),
]
Manifest = Annotated[str, typer.Argument(help="Manifest made by `raysvq index`.")]


def resolve(config: str | Path | None, overrides: list[str] | None) -> Settings:
    """Resolved, and those of the object stores applied."""
    from raysvq.storage import configure

    resolved = load_settings(config, overrides or ())
    configure(resolved.storage)
    return resolved
