"""What a scenario of the night ends with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Figures, and what of them is not as it must be."""

    scenario: str
    figures: dict[str, float | int | str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def require(self, holds: bool, problem: str) -> None:
        """Note a problem, unless a condition holds."""
        if not holds:
            self.problems.append(problem)

    def line(self) -> str:
        """All of it in one line."""
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        ended = "; ".join(self.problems) or "as it must be"
        return f"{self.scenario:<10} {self.seconds:>6.1f} s  {figures}: {ended}"
