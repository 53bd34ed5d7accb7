"""The images at or below a folder or prefix. Everything else there is counted by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from raysvq.data.sources.names import OTHER_FORMATS, extension, is_image, mark_of, printable, why_left_out
from raysvq.imaging.decode import FIRST_BYTES, looks_like_an_image
from raysvq.storage import ObjectInfo, filesystem, list_objects, patiently

MAX_ENDINGS = 30  # endings that are counted apart: numbered files may have any number of them
MAX_CAUSES = 60  # causes that are counted apart: what a store says of odd names may differ each time
BESIDE = "files or folders beside those of an image tree"
OTHER_ENDINGS = "files of further endings"
OTHER_CAUSES = "files or folders left out for further reasons"

Visit = Callable[[str, str], None]  # takes the URI of a folder and the name of a folder directly in it


class Skips:
    """Counts what is left out. Its memory does not grow with what it counts."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self.counts: dict[str, tuple[int, str]] = {}  # cause -> how many, and one of them
        self.pictures = 0  # skipped files that are pictures, by their ending or their first bytes
        self._endings: dict[str, tuple[str, bool]] = {}  # ending -> cause, and whether it is a picture's

    def add(self, uri: str, cause: str) -> None:
        """Count one file or folder."""
        if cause not in self.counts and len(self.counts) >= MAX_CAUSES:
            cause = OTHER_CAUSES
        count, example = self.counts.get(cause, (0, printable(uri)))
        self.counts[cause] = (count + 1, example)

    def add_file(self, uri: str) -> None:
        """Count a file that is no image by its ending. The first file of each ending is opened."""
        ending = extension(uri)
        if ending not in self._endings and len(self._endings) < MAX_ENDINGS:
            self._endings[ending] = _cause(ending, uri)
        cause, is_picture = self._endings.get(ending, (OTHER_ENDINGS, False))
        self.pictures += is_picture
        self.add(uri, cause)

    def lines(self) -> list[str]:
        """What was skipped, one line per cause."""
        counts = self.counts.items()
        return [f"skipped {count}: {cause}, such as {example}" for cause, (count, example) in counts]


def images(root: str, skips: Skips, visit: Visit | None = None) -> Iterator[ObjectInfo]:
    """The images at or below a folder or prefix.

    Args:
        skips: counts everything else that is there.
        visit: called for each folder that is read. An exception that it raises ends the listing.

    Raises:
        StorageError: the place cannot be listed.
    """
    scan = _Scan(root, skips, visit or (lambda folder, name: None))
    for info in list_objects(root, problems=skips.add, skip=scan.skips):
        if scan.takes(info.uri):
            yield info


@dataclass
class _Folder:
    name: str
    marks: set[str] = field(default_factory=set)  # names that raysvq wrote into the folder, see names.mark_of


class _Scan:
    """Follows a listing from folder to folder. Its memory grows only with the depth of the folders."""

    def __init__(self, root: str, skips: Skips, visit: Visit) -> None:
        self._root = root
        self._skips = skips
        self._visit = visit
        self._path = [_Folder(root)]  # from the root to the folder being read
        self._left: str | None = None  # the folder being left out

    def skips(self, folder: str) -> bool:
        """Whether a folder, given as a URI with a final slash, is left out with everything in it."""
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
            self._visit(above, name)
            self._path.append(_Folder(name))
        return True

    def _why(self, name: str) -> str | None:
        """Why a name in the folder being read is left out; None where it is not."""
        marks = self._path[-1].marks
        if mark := mark_of(name):
            marks.add(mark)
        return why_left_out(name, marks)


def _cause(ending: str, uri: str) -> tuple[str, bool]:
    kind = f"{printable(ending)} files" if ending else "files without an extension"
    if ending in OTHER_FORMATS:
        return f"{kind}, a format that is not read", True
    if looks_like_an_image(_first_bytes(uri)):
        return f"{kind} that start as images do: only known extensions count as images", True
    return kind, False


def _first_bytes(uri: str) -> bytes:
    """Up to FIRST_BYTES; none where the file cannot be read, as they only make the summary more precise."""

    def read() -> bytes:
        fs, path = filesystem(uri)
        with fs.open_input_stream(path) as stream:
            return bytes(stream.read(FIRST_BYTES))

    try:
        return patiently(uri, read)
    except OSError:
        return b""
