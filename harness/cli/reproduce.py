"""Driver. ``reproduce`` and ``in-guest``: a cell's guest held at a stage, for a person's own eyes and hands."""

from __future__ import annotations

import contextlib
import secrets
import select
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from harness import __version__
from harness.attempt import AttemptMeta, Kind, Role
from harness.cli import say
from harness.cli.run import Asked, load
from harness.cli.show import one_cell
from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, InputError, LabError
from harness.plan import Cell, expand
from harness.providers import kit_of, provider_names
from harness.providers.api import Endpoint, KeepsGuestsReady, OpensDesktop
from harness.rig import make_rig
from harness.run_cell import Behind, Hold, run_cell
from harness.transports.api import Transport

#: How often it is looked whether somebody pressed Enter, the time is over, or the guest is gone.
LOOK_EVERY_S = 0.5
#: How long a desktop may take to be opened.
OPEN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """What the command line asks for. ``seconds`` None: until a person says so."""

    cell: str
    suite: Path
    stage: str
    seconds: float | None = None
    builds: tuple[Path, ...] = ()
    provider: str = "auto"
    as_json: bool = False


def reproduce(asked: Reproduced) -> int:
    """Hold a cell's guest at a stage until told to let it go; give the exit code of the contract."""
    loaded = load(Asked(suite=asked.suite, builds=asked.builds, provider=asked.provider))
    cell = one_cell(expand(loaded.suite), asked.cell)
    _has_stage(cell, asked.stage)
    rig = make_rig(asked.provider, loaded)
    held: list[Behind] = []

    def at(behind: Behind) -> None:
        held.append(behind)
        _tell(asked, cell, behind, rig.provider.name)
        _wait(asked, behind)

    with _terminated_as_interrupted(), contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if isinstance(rig.provider, KeepsGuestsReady):
            stack.callback(rig.provider.close)
        attempt = run_cell(
            _meta(cell, rig.provider.name),
            rig,
            run_id=f"reproduce-{secrets.token_hex(4)}",
            on_stage=lambda stage: say.note(f"{cell.id}: {stage}"),
            hold=Hold(stage=asked.stage, at=at),
        )
        troubles = "\n".join(event.subject for event in attempt.of(Kind.TROUBLE))
        if not held:
            raise LabError(f"The guest did not get as far as '{asked.stage}'.", detail=troubles)
        if troubles:
            raise LabError("The guest could not be held.", detail=troubles)
    say.note("the guest is gone; nothing of it was kept")
    return 0


def _has_stage(cell: Cell, stage: str) -> None:
    if cell.without_guest is not None:
        raise InputError(f"The cell '{cell.id}' needs no guest: {cell.without_guest}")
    stages = [step.kind for step in cell.scenario.steps]
    if stage not in stages:
        raise InputError(
            f"The scenario '{cell.scenario.name}' has no stage '{stage}'.",
            hint=f"Its stages: {', '.join(dict.fromkeys(stages))}.",
        )


def _meta(cell: Cell, provider: str) -> AttemptMeta:
    """Make the attempt's own facts. It is never complete and never stored, so its id names nothing."""
    return AttemptMeta(
        id="reproduced",
        cell=cell,
        role=Role.FIRST,
        ordinal=1,
        alone=True,
        nonce=secrets.token_hex(6),
        provider=provider,
        tool_version=__version__,
        started_at=datetime.now(UTC),
    )


def _tell(asked: Reproduced, cell: Cell, behind: Behind, provider: str) -> None:
    """Say how the step ended and how a person gets at the guest."""
    lease, end = behind.lease, behind.end
    endpoint = lease.endpoint
    shell = ["hts-compat", "in-guest", f"{provider}:{endpoint.transport}:{endpoint.address}"]
    desktop = lease.open_desktop(deadline=Deadline.after(OPEN_S)) if isinstance(lease, OpensDesktop) else None
    passed = end.expectation is None
    if asked.as_json:
        say.data(
            {
                "cell": cell.id,
                "provider": provider,
                "stage": behind.step.kind,
                "step": behind.index,
                "passed": passed,
                "expectation": end.expectation,
                "detail": end.detail,
                "vnc": None if desktop is None else {"address": desktop.address, "password": desktop.password},
                "shell": shell,
            }
        )
        return
    say.line(f"held behind step {behind.index + 1}, {behind.step.kind}: {'passed' if passed else end.detail}")
    if desktop is None:
        say.line(f"screen  the provider '{provider}' shows none")
    else:
        say.line(f"screen  VNC at {desktop.address.replace(':', '::')}, password {desktop.password}")
    say.line(f"shell   {shlex.join(shell)}")
    say.line("nothing that is done in it counts; it is gone with Enter, Ctrl-C or --for")


def _wait(asked: Reproduced, behind: Behind) -> None:
    """Wait for Enter, for the time to be over, or for the guest's end."""
    limit = None if asked.seconds is None else Deadline.after(asked.seconds)
    while limit is None or not limit.expired:
        pause = LOOK_EVERY_S if limit is None else min(LOOK_EVERY_S, max(limit.remaining_s, 0.0))
        if _entered(pause):
            return
        lost = behind.lease.lost()
        if lost is not None:
            raise LabError(f"It was lost while it was held: {lost.summary}.")


def _entered(seconds: float) -> bool:
    """Wait so long for a line from a person; an input that is no terminal is nobody's."""
    watched = [sys.stdin] if sys.stdin is not None and sys.stdin.isatty() else []
    ready, _, _ = select.select(watched, [], [], seconds)
    return bool(ready) and sys.stdin.readline() is not None


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let a SIGTERM end us as Ctrl-C does: the guest goes first."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def in_guest(guest: str, command: Sequence[str], *, user: str, seconds: float) -> int:
    """Run one command in a held guest, or each line of the input; give the (last) command's exit code."""
    provider, _, rest = guest.partition(":")
    transport, _, address = rest.partition(":")
    if provider not in provider_names() or not address:
        raise InputError(f"'{guest}' is no guest.", hint="'hts-compat reproduce' prints one as PROVIDER:WAY:ADDRESS.")
    way_in = kit_of(provider).connect(Endpoint(transport=transport, address=address))
    account = None if user == "root" else user
    try:
        if command:
            return _run(way_in, command, account, seconds)
        code = 0
        for line in _lines(user):
            code = _run(way_in, ["/bin/sh", "-c", line], account, seconds)
        return code
    finally:
        way_in.close()


def _run(way_in: Transport, argv: Sequence[str], user: str | None, seconds: float) -> int:
    """Run one command and print what it printed, made inert: it comes from a guest."""
    try:
        result = way_in.run(argv, user=user, deadline=Deadline.after(seconds))
    except GuestCommandTimeout as error:
        say.note(f"{error.summary} It was ended after {seconds:g} s (--timeout).")
        return 124
    if result.stdout:
        say.line(result.stdout.decode("utf-8", "replace").removesuffix("\n"))
    if result.stderr:
        say.note(result.stderr.decode("utf-8", "replace").removesuffix("\n"))
    if result.errno is not None:
        say.note(f"'{argv[0]}' could not be started (errno {result.errno}).")
        return 127
    return result.exit_code if result.exit_code is not None else 128 + (result.signal or 0)


def _lines(user: str) -> Iterator[str]:
    """Give the lines of standard input, with a prompt where a person types them."""
    prompt = f"{user}@guest$ " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt)
        except EOFError:
            return
        if line.strip():
            yield line
