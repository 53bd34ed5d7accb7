"""The end of a run in Markdown: the verdict first, and no name that becomes markup."""

from __future__ import annotations

from markdown_it import MarkdownIt

from raysvq.fleet.alerts import digest
from raysvq.fleet.alerts.digest import MAX_ROWS
from raysvq.ledger.records import CameraNight
from tests.fleet.alerts.nights import finding, night, nights, run

HOSTILE = "<img src=x onerror=alert(1)> [click](http://evil.example) `a` **b** | c &lt; ![x](y)\n# top\r- x"


def rendered(text: str) -> str:
    """As HTML, by a renderer that lets HTML through."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def test_a_healthy_night_is_a_verdict_and_numbers() -> None:
    lines = digest(run(), nights(night("cam-07"), night("cam-08"))).splitlines()
    assert lines[:3] == [
        "# north-plant, night of 2026-11-12",
        "",
        "**All well** at 2 cameras; 100 images scored, 3 anomalous.",
    ]
    assert [line for line in lines if line.startswith("##")] == ["## Numbers"]
    assert "| images per second | 12.5 |" in lines


def test_cameras_that_need_a_look_come_worst_first_with_why_and_since_when() -> None:
    given = nights(
        night("cam-01", finding("cam-01")),
        night("cam-02"),
        night("cam-03", finding("cam-03", "volume", "error", "cam-03 sent 4 images, expected 50")),
        night("cam-04", failure="s3://raw/cam-04: access denied", state="failed", scored=0, skipped=7),
        night("cam-05", finding("cam-05", level="info", sentence="cam-05 is new"), replaced=2, deleted=1),
    )
    ended = run(5, cameras=5, failed=1, findings={"error": 1, "warning": 1})
    text = digest(ended, given)
    assert "**1 camera failed, 1 error, 1 warning** at 5 cameras" in text
    rows = [line for line in text.splitlines() if line.startswith("| cam-")]
    assert rows == [
        "| cam-04 | failed | s3\\://raw/cam-04: access denied | 2026-11-12 |",
        "| cam-03 | error | cam-03 sent 4 images, expected 50 | 2026-11-12 |",
        "| cam-01 | warning | cam-01 is 0.8 stops darker than its reference | 2026-11-12 |",
        "| cam-05 | 50 | 2 | 1 |",
    ]
    assert "- cam-05 is new" in text
    assert "`--repair 5`" in text
    assert "- 7 images were found and not scored" in text


def test_names_that_are_html_or_markdown_are_shown_as_they_are_spelt() -> None:
    given = nights(
        night(HOSTILE, failure=f"cannot read {HOSTILE}", state="failed", rejects={HOSTILE: 1}, replaced=1)
    )
    page = rendered(digest(run(failed=1, problems=(HOSTILE,), by_state={"failed": 1}), given))
    for markup in ("<img", "<a ", "<code>a", "<strong>b", "<h1>top"):
        assert markup not in page
    assert page.count("<h1>") == 1
    assert (
        "&lt;img src=x onerror=alert(1)&gt; [click](http://evil.example) `a` **b** | c &amp;lt; ![x](y)"
        in page
    )


def test_a_digest_of_500_failed_cameras_stays_short() -> None:
    given: list[CameraNight] = [night(f"cam-{n:03}", failure="no", state="failed") for n in range(500)]
    text = digest(run(failed=500, cameras=500), nights(*given))
    assert f"and {500 - MAX_ROWS} more" in text
    assert len(text.splitlines()) < MAX_ROWS + 40
