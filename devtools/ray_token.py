"""A token for clusters that this process starts, and for the commands that join them."""

from __future__ import annotations

import os
import secrets
import sys


def start_over_with_token(module: str) -> None:
    """Run `python -m module` with the same arguments and a token in the environment, unless one is there.

    Ray reads it when it is imported.
    """
    if "RAY_AUTH_TOKEN" not in os.environ:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], os.environ | token)
