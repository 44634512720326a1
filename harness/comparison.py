"""Pure. What every rule looks at: an attempt beside its controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.attempt import Role
from harness.errors import Blame
from harness.facts import Facts, Owner
from harness.verdict import Finding, Need, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An attempt beside its controls: what every rule looks at."""

    facts: Facts
    controls: tuple[Facts, ...]

    def finding(self, outcome: Outcome, reason: str, **more: object) -> Finding:
        """Give a finding about the attempt; ``decide`` adds the name of the rule."""
        return replace(
            Finding(
                attempt_id=self.facts.attempt_id,
                outcome=outcome,
                rule="",
                reason=reason,
                observed_s=self.facts.observed_s,
                detections=self.facts.of(Owner.BUILD),
            ),
            **more,  # type: ignore[arg-type]  # dataclasses.replace checks the names at run time
        )

    def unclear(self, reason: str, *, needs: frozenset[Need] = frozenset(), **more: object) -> Finding:
        """Say that we could not tell, by trouble of ours; ``needs`` are attempts that may help."""
        return self.finding(Outcome.INCONCLUSIVE, reason, blame=Blame.LAB, needs=needs, **more)

    @property
    def before(self) -> tuple[Facts, ...]:
        """Controls that can be judged by, earliest first."""
        return tuple(c for c in self.controls if usable(c))

    @property
    def after(self) -> tuple[Facts, ...]:
        """Controls that were begun after the attempt: what changed in between shows in them."""
        facts = self.facts
        later = facts.started_order if facts.ended_order is None else facts.ended_order
        return tuple(c for c in self.before if c.role is Role.CONTROL_AFTER and c.started_order > later)


def older_version(facts: Facts) -> str:
    """Name the older build for people."""
    return facts.cell.older.version if facts.cell.older is not None else "unknown"


Rule = Callable[[Comparison], Finding | None]


def usable(control: Facts) -> bool:
    """Tell whether a control can be judged by: finished, without trouble of ours, and read whole."""
    return control.complete and not control.troubles and not control.unread


def trouble_text(facts: Facts) -> str:
    """Say in one sentence what trouble of ours an attempt had."""
    if facts.troubles:
        trouble = facts.troubles[0]
        return f"The lab had trouble at '{facts.stage_of(trouble.step)}': {trouble.summary}"
    if not facts.complete:
        return "The attempt was not finished."
    return f"Evidence could not be read: {facts.unread[0]}."


def trouble_refs(facts: Facts) -> tuple[int, ...]:
    """Give the events that record the trouble."""
    return tuple(t.seq for t in facts.troubles)
