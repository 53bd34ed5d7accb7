"""What an image set holds beside images: counted by cause, with an example, and never silent."""

from __future__ import annotations

from raysvq.data.trees.names import OTHER_FORMATS, extension, looks_like_an_image, shown
from raysvq.storage import filesystem, patiently

MAX_ENDINGS = 30  # endings counted apart: those of numbered files never end
BESIDE = "files or folders beside those of an image tree"
MAX_CAUSES = 60  # counted apart: what stores say of odd names may differ each time
OTHER_ENDINGS = "files of further endings"
OTHER_CAUSES = "files or folders left out for further reasons"

Skipped = dict[str, tuple[int, str]]  # cause -> how many, and one of them


class Skips:
    """Counts what is left out. Memory does not grow with what it counts."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.counts: Skipped = {}
        self.pictures = 0  # of the files skipped: those that are pictures, by their ending or first bytes
        self._endings: dict[str, tuple[str, bool]] = {}  # -> cause, and whether such files are pictures

    def add(self, uri: str, cause: str) -> None:
        """Count one file or folder."""
        if cause not in self.counts and len(self.counts) >= MAX_CAUSES:
            cause = OTHER_CAUSES
        count, example = self.counts.get(cause, (0, shown(uri)))
        self.counts[cause] = (count + 1, example)

    def add_file(self, uri: str) -> None:
        """Count a file that is no image by its ending; of each ending the first one is looked into."""
        ending = extension(uri)
        if ending not in self._endings and len(self._endings) < MAX_ENDINGS:
            self._endings[ending] = _cause(ending, uri)
        cause, is_picture = self._endings.get(ending, (OTHER_ENDINGS, False))
        self.pictures += is_picture
        self.add(uri, cause)

    def lines(self) -> list[str]:
        """What was skipped, a cause a line."""
        return lines(self.counts)


def lines(skipped: Skipped) -> list[str]:
    """A line of text for each cause."""
    return [f"skipped {count}: {cause}, such as {example}" for cause, (count, example) in skipped.items()]


def _cause(ending: str, uri: str) -> tuple[str, bool]:
    kind = f"{shown(ending)} files" if ending else "files without an extension"
    if ending in OTHER_FORMATS:
        return f"{kind}, a format that is not read", True
    if looks_like_an_image(_start(uri)):
        return f"{kind} that start as images do: only known extensions count as images", True
    return kind, False


def _start(uri: str) -> bytes:
    """The first bytes of a file; none where it cannot be read, which costs no more than the advice."""

    def read() -> bytes:
        fs, path = filesystem(uri)
        with fs.open_input_stream(path) as stream:
            return bytes(stream.read(16))

    try:
        return patiently(uri, read)
    except OSError:
        return b""
