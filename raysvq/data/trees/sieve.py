"""What of a listing counts as images; the rest is counted by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from raysvq.data.trees.names import is_image, left_out, mark_of
from raysvq.data.trees.skipped import Skips
from raysvq.storage import ObjectInfo, list_objects

Look = Callable[[str, str], None]  # takes a folder's URI and the name of a folder right in it


def images(root: str, skips: Skips, look: Look | None = None) -> Iterator[ObjectInfo]:
    """The images at or below a folder or prefix.

    Args:
        skips: counts what else there is.
        look: is shown each folder that is read; what it raises ends the listing.

    Raises:
        StorageError: the place cannot be listed.
    """
    sieve = _Sieve(root, skips, look or (lambda folder, name: None))
    for info in list_objects(root, problems=skips.add, skip=sieve.skips):
        if sieve.takes(info.uri):
            yield info


@dataclass
class _Folder:
    name: str
    marks: set[str] = field(default_factory=set)  # of what raysvq wrote there


class _Sieve:
    """Follows a listing from folder to folder. Memory grows with their depth alone."""

    def __init__(self, root: str, skips: Skips, look: Look) -> None:
        self._root = root
        self._skips = skips
        self._look = look
        self._path = [_Folder(root)]  # from the root to the folder being read
        self._left: str | None = None  # the folder being left out

    def skips(self, folder: str) -> bool:
        """Whether a folder, its URI with a slash behind it, is left out with all that is in it."""
        return not self._enters(folder)

    def takes(self, uri: str) -> bool:
        """Whether a file is an image of the set."""
        folder, _, name = uri.rpartition("/")
        if not self._enters(f"{folder}/"):
            return False
        if why := self._why(name):
            self._skips.add(uri, why)
        elif is_image(name):
            return True
        else:
            self._skips.add_file(uri)
        return False

    def _enters(self, folder: str) -> bool:
        if self._left and folder.startswith(self._left):
            return False
        names = folder.removeprefix(f"{self._root}/").split("/")[:-1]
        known = 0
        while known < min(len(names), len(self._path) - 1) and self._path[known + 1].name == names[known]:
            known += 1
        del self._path[known + 1 :]
        for depth, name in enumerate(names[known:], start=known):
            above = "/".join([self._root, *names[:depth]])
            if why := self._why(f"{name}/"):
                self._left = f"{above}/{name}/"
                self._skips.add(self._left, why)
                return False
            self._look(above, name)
            self._path.append(_Folder(name))
        return True

    def _why(self, name: str) -> str | None:
        """Why a name in the folder being read is left out."""
        marks = self._path[-1].marks
        if mark := mark_of(name):
            marks.add(mark)
        return left_out(name, marks)
