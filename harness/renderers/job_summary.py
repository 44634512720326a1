"""Pure. A run or a gate's decision as a CI job's summary in Markdown, cut to the size that the server takes.

Source: GitHub documentation, "Adding a job summary": 1 MiB for each step; a larger file is not shown at all
(actions/runner, ``FileCommandManager.cs``, ``AttachmentSizeLimit``).
"""

from __future__ import annotations

from harness.gate import GateDecision, Ruling
from harness.matrix import MatrixRun
from harness.renderers.api import Report
from harness.renderers.markdown import escape, line_of, matrix_lines

#: Bytes of one step's summary, whoever wrote them.
MAX_BYTES = 1 << 20

#: What an exit code of ``run`` means for a reader who has no table of them at hand.
RUN_CODES = {
    0: "everything that was asked works",
    1: "something is incompatible",
    3: "could not tell; this is not a pass",
    4: "nothing ran",
}

_RULINGS = (Ruling.BLOCKS, Ruling.UNKNOWN, Ruling.MISSING, Ruling.WAIVED, Ruling.KNOWN, Ruling.PASSES, Ruling.NEUTRAL)


def of_run(report: Report, *, exit_code: int | None, room_bytes: int, more: str) -> str:
    """Give a run's matrix and what needs attention; that comes first when not everything has room.

    Args:
        report: The run; its matrix is enough.
        exit_code: What the command ends with, one of ``RUN_CODES``; None when it only renders.
        room_bytes: What the summary may take.
        more: Where the whole is, for whoever reads a summary that was cut.
    """
    begin = [] if exit_code is None else head(exit_code)
    whole = "\n".join([*begin, *matrix_lines(report.matrix)]) + "\n"
    if len(whole.encode()) <= room_bytes:
        return whole
    return fitted([*begin, *matrix_lines(report.matrix, attention_first=True)], room_bytes, more)


def head(exit_code: int) -> list[str]:
    """Say in a line what ``run`` ended with, one of ``RUN_CODES``."""
    return [f"**hts\\-compat run: {RUN_CODES[exit_code]}** \\(exit code {exit_code}\\)", ""]


def of_gate(decision: GateDecision, run: MatrixRun, *, room_bytes: int, more: str) -> str:
    """Give the decision, why, and a line for each cell: what blocks first, what passes last."""
    lines = [
        f"# Gate: {decision.state.value.replace('_', ' ').upper()}",
        "",
        f"{escape(decision.reason)} Exit code {decision.exit_code}.",
        "",
        f"Policy {escape(decision.policy)}, run {escape(decision.run)}, lab {escape(run.lab)}.",
        "",
    ]
    for label, texts in (("Missing", decision.missing), ("Doubt", decision.doubts), ("Note", decision.notes)):
        lines += [f"- **{label}** {escape(text)}" for text in texts]
    if decision.cells:
        lines += ["", line_of(["Ruling", "Outcome", "Cell", "Reason"]), line_of(["---"] * 4)]
    for ruling in sorted(decision.cells, key=lambda r: (_RULINGS.index(r.ruling), r.is_new is not True)):
        new = " \\(new\\)" if ruling.is_new else ""
        fields = [ruling.outcome.value, ruling.id, ruling.reason]
        lines.append(line_of([f"{ruling.ruling.value}{new}", *map(escape, fields)]))
    return fitted(lines, room_bytes, more)


def fitted(lines: list[str], room_bytes: int, more: str) -> str:
    """Give as many whole lines as have room, and say how many did not; empty when not even that has room."""
    text = "\n".join(lines) + "\n"
    if len(text.encode()) <= room_bytes:
        return text
    said = f"\n**Cut here:** {{}} of {len(lines)} lines did not fit into the summary. {escape(more)}\n"
    left = room_bytes - len(said.format(len(lines)).encode())
    if left < 0:
        return ""
    kept: list[str] = []
    for line in lines:
        left -= len(line.encode()) + 1
        if left < 0:
            break
        kept.append(line)
    return "".join(f"{line}\n" for line in kept) + said.format(len(lines) - len(kept))
