"""What is done, from the id index: exact, read in part, verified, and made again where it is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raysvq.results import done, ids, read_snapshot
from raysvq.results.commit_log import record_uri
from tests.results.history import History
from tests.results.test_commit_log import to_format_1

NIGHTS = [[f"/cam/2026-05-0{night}/{number}.png" for number in range(3)] for night in range(1, 5)]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the ids files that are read in full."""
    names: list[str] = []
    fetch = done.fetch

    def watched(out: str, file: ids.File, path: Path) -> None:
        names.append(file.name)
        fetch(out, file, path)

    monkeypatch.setattr(done, "fetch", watched)
    return names


def _history(place: str, nights: int = 3) -> History:
    history = History(place)
    for number, night in enumerate(NIGHTS[:nights]):
        history.run(f"night-{number}", night[:-1], night[-1:])
    return history


def test_rows_say_which_version_of_the_image_was_scored_how_and_where(place: str) -> None:
    history = _history(place)
    found = history.done([*NIGHTS[0], "/cam/2026-05-01/other.png"])
    assert list(found) == NIGHTS[0]
    scored, _, rejected = found.values()
    assert (scored["size_bytes"], scored["etag"], scored["reason"], scored["version"]) == (1, "e1", None, 1)
    assert (rejected["reason"], rejected["maps_file"]) == ("empty", None)
    assert (scored["model_digest"], scored["settings_digest"]) == ("d1", "5e77")
    assert [scored["file"].partition("/")[0], rejected["file"].partition("/")[0]] == ["scores", "rejects"]
    assert scored["maps_file"].startswith("maps/")


def test_only_ids_of_the_images_own_folders_are_read(place: str, fetched: list[str]) -> None:
    history = _history(place)
    fetched.clear()
    assert history.done(NIGHTS[3]) == {}
    assert fetched == []
    assert list(history.done([*NIGHTS[3], *NIGHTS[1]])) == NIGHTS[1]
    assert fetched == [file.name for file in read_snapshot(place).commits[1].ids]


def test_an_image_is_its_uri_whatever_its_partition_was(tmp_path: Path) -> None:
    history = History(str(tmp_path), ("site",))
    history.folders = dict.fromkeys(NIGHTS[0], "site=north")
    history.run("1", NIGHTS[0])
    history.folders = dict.fromkeys(NIGHTS[0], "site=south")
    assert list(history.done(NIGHTS[0])) == NIGHTS[0]


def test_files_with_too_many_folders_to_list_are_always_read(
    place: str, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "MAX_FOLDERS", 2)
    history = History(place)
    history.run("two", [*NIGHTS[0], *NIGHTS[1]])
    history.run("three", [NIGHTS[2][0], "/cam/x/1.png", "/cam/y/1.png"])
    fetched.clear()
    assert history.done(NIGHTS[3]) == {}
    assert fetched == [file.name for file in read_snapshot(place).commits[1].ids]


def test_large_indexes_are_split(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "MAX_ROWS", 2)
    history = _history(place)
    assert [[file.rows for file in commit.ids] for commit in read_snapshot(place).commits] == [[2, 1]] * 3
    assert list(history.done(NIGHTS[1])) == NIGHTS[1]


def test_the_last_commit_counts(place: str) -> None:
    history = _history(place, 2)
    history.run("again", [NIGHTS[0][1]], size=5)
    history.run("and again", [NIGHTS[0][1], NIGHTS[0][2]], size=7)
    found = history.done([*NIGHTS[0], *NIGHTS[1]])
    assert [row["size_bytes"] for row in found.values()] == [1, 7, 7, 1, 1, 1]
    assert [row["version"] for row in found.values()] == [1, 4, 4, 2, 2, 2]
    assert found[NIGHTS[0][2]]["reason"] is None


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[30] ^= 255
    path.write_bytes(content)


def _flip_footer(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8 - int.from_bytes(content[-8:-4], "little")] ^= 255
    path.write_bytes(content)


def _flip_name(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(b"image_id")] ^= 255
    path.write_bytes(content)


def _of_another_commit(path: Path) -> None:
    other = max(path.parent.iterdir())
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [_remove, _cut, _flip, _flip_footer, _flip_name, _of_another_commit])
@pytest.mark.parametrize("mend", [False, True])
def test_ids_that_are_lost_are_made_again_from_the_result_files(
    tmp_path: Path, damage: Callable[[Path], None], mend: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    history = _history(str(tmp_path))
    history.run("again", [NIGHTS[0][1]], size=5)
    images = [uri for night in NIGHTS[:3] for uri in night]
    whole = history.done(images)
    damage(Path(tmp_path, read_snapshot(history.out).commits[0].ids[0].name))
    before = set(tmp_path.rglob("*"))
    for turn in range(2):
        found = history.done(images, mend)
        assert found.keys() == whole.keys()
        for uri, row in whole.items():
            changes = {"file", "rescored"}  # the file with the row now; and what is not known any more
            assert {name: found[uri][name] for name in row if name not in changes} == {
                name: row[name] for name in row if name not in changes
            }
        said = capsys.readouterr().err.count("made again from the result files")
        assert said == (1 - turn if mend else 1)
        new = {path.name for path in set(tmp_path.rglob("*")) - before}
        assert bool(new) == mend, new
        assert all(name.startswith("rebuilt-") for name in new), new
    history.require_true_ids(images)


def test_records_of_the_first_format_are_listed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = _history(str(tmp_path))
    history.run("again", [NIGHTS[0][1]], size=5)
    for number in range(1, 5):
        to_format_1(history.out, number, f"2025-03-0{number}T00:00:00+00:00")
    for said in (1, 0):
        found = history.done([*NIGHTS[0], *NIGHTS[3]], mend=True)
        assert [row["size_bytes"] for row in found.values()] == [1, 5, 1]
        assert capsys.readouterr().err.count("records of an earlier format, without ids: made again") == said
    assert not Path(record_uri(history.out, 1)).exists()
