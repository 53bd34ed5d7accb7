"""The open alerts of all routes, between two runs: `<out>/ledger/alerts/open.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from raysvq.errors import DataError
from raysvq.fleet.alerts.open_alerts import Key, Open
from raysvq.ledger.records import FORMAT, require_format
from raysvq.storage import join, read_bytes, write_bytes

Routes = Mapping[str, Mapping[Key, Open]]  # open alerts by route

_LISTS = TypeAdapter(dict[str, list[Open]])


def read_open(out: str) -> Routes:
    """What stands in the ledger of the fleet at `out`; nothing before its first alert.

    Raises:
        StorageError: it cannot be read.
        DataError: it is damaged, or of a later version of raysvq.
    """
    uri = _uri(out)
    try:
        content = read_bytes(uri)
    except FileNotFoundError:
        return {}
    try:
        values = dict(json.loads(content))
    except (ValueError, TypeError):
        raise _damaged(uri) from None
    require_format(values.get("format"), uri)
    try:
        lists = _LISTS.validate_python(values.get("routes"))
    except ValidationError:
        raise _damaged(uri) from None
    return {
        route: {(alert.finding.camera, alert.finding.signal): alert for alert in alerts}
        for route, alerts in lists.items()
    }


def write_open(out: str, routes: Routes) -> None:
    """Replace it, so that a reader sees the one or the other.

    Raises:
        StorageError: it cannot be written.
    """
    lists = {route: list(alerts.values()) for route, alerts in routes.items()}
    content = {"format": FORMAT, "routes": _LISTS.dump_python(lists, mode="json")}
    write_bytes(_uri(out), json.dumps(content).encode())


def _uri(out: str) -> str:
    return join(out, "ledger/alerts/open.json")


def _damaged(uri: str) -> DataError:
    return DataError(f"{uri} is damaged: expected open alerts by route. Remove it, and they are sent anew")
