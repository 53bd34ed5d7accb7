"""The Ray Data actor that turns manifest rows into result files."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch

from raysvq.errors import BundleError, StorageError
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import load_bundle
from raysvq.model.precision import choose_precision, has_fast_bfloat16
from raysvq.model.scorer import ImageScorer
from raysvq.schema import TEST, UNKNOWN
from raysvq.scoring.pending import PENDING, PendingRows
from raysvq.scoring.rows import Row, map_row, reject_row, score_row
from raysvq.scoring.sink import unit_name, write_unit
from raysvq.settings import ScoringSettings
from raysvq.storage import exists, join, read_bytes, write_bytes

READ_AHEAD = 8  # files fetched while others are scored


class ScoreImages:
    """Scores one work unit a call: fetches, decodes, scores and writes, and hands back the tally."""

    def __init__(
        self, model: str, out: str, work: str, scoring: ScoringSettings, origin: Row, device: str
    ) -> None:
        """`work` holds the run's pending rows and receipts, `origin` the provenance columns of its rows."""
        if device == "cpu":
            torch.set_num_threads(1)
        bundle = load_bundle(model)
        self.model = model
        self.model_digest = bundle.model_digest
        precision = choose_precision(scoring.precision, bundle.reference, has_fast_bfloat16(device))
        self.scorer = ImageScorer(bundle.model, bundle.settings, scoring, device, precision)
        self.reference = bundle.reference
        self.scoring = scoring
        self.out = out
        self.work = work
        self.rows = PendingRows(join(work, PENDING))
        self.origin = origin

    def __call__(self, units: dict[str, Any]) -> dict[str, Any]:
        """Numbers of work units -> what was done, as one JSON text a unit.

        A unit that has a receipt was finished before, and is not touched again.

        Raises:
            BundleError: the model was replaced while the run was on.
        """
        if self.model_digest != self.origin["model_digest"]:
            raise BundleError(f"{self.model} holds another model than when this run started; start it again")
        return {"report": [self._unit(int(number)) for number in units["id"]]}

    def _unit(self, number: int) -> str:
        receipt = join(self.work, "receipts", f"{number:09d}.json")
        if exists(receipt):
            return read_bytes(receipt).decode()
        size = self.scoring.batch_images
        report = json.dumps(self._score(self.rows.read(number * size, size)))
        write_bytes(receipt, report.encode())
        return report

    def _score(self, sources: list[Row]) -> dict[str, Any]:
        """Score a unit's images and write its files; returns counts, files and highest scores."""
        tables: dict[str, list[Row]] = {"scores": [], "rejects": [], "maps": []}
        for source, content in _fetch(sources):
            try:
                if not isinstance(content, bytes):
                    raise content
                result = self.scorer(content)
            except (DecodeError, OSError) as error:
                tables["rejects"].append(reject_row(source, error, self.origin))
                continue
            tables["scores"].append(score_row(source, result, self.reference, self.origin))
            if self._keeps_map(source):
                tables["maps"].append(map_row(source, result))
        name = unit_name(sources, self.origin["model_digest"], self.origin["settings_digest"])
        files = write_unit(self.out, name, tables)
        return {
            "scored": len(tables["scores"]),
            "reasons": dict(Counter(row["reason"] for row in tables["rejects"])),
            "anomalous": sum(row["is_anomalous"] for row in tables["scores"]),
            "files": {kind: [asdict(file) for file in written] for kind, written in files.items()},
            "worst": self._worst(tables["scores"]),
        }

    def _keeps_map(self, source: Row) -> bool:
        if self.scoring.maps == "labelled":
            return source["label"] != UNKNOWN and source["split"] == TEST
        return self.scoring.maps == "all"

    def _worst(self, rows: list[Row]) -> list[list[Any]]:
        ranked = ([row["image_score"], row["image_id"], row["uri"]] for row in rows)
        return heapq.nlargest(self.scoring.worst, ranked)


def _fetch(sources: list[Row]) -> Iterator[tuple[Row, bytes | DecodeError | OSError]]:
    """Each image's bytes, or why they cannot be had; a few files are read ahead."""
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        pending = [(source, pool.submit(_read, source["uri"])) for source in sources[:READ_AHEAD]]
        for place in range(len(sources)):
            source, content = pending.pop(0)
            following = place + READ_AHEAD
            if following < len(sources):
                pending.append((sources[following], pool.submit(_read, sources[following]["uri"])))
            yield source, content.result()


def _read(uri: str) -> bytes | DecodeError | OSError:
    try:
        return read_bytes(uri)
    except StorageError as error:  # no client for the scheme
        return DecodeError("unreadable", str(error))
    except OSError as error:
        return error
