"""Pure. A guest that exists in memory alone, for tests: files, a trading program, and misbehaviour given as data.

The fakes of providers, transports, systems and products act on it, so that the whole engine runs in milliseconds. What
happens in it is told by *moments*: the names of steps (``install``, ``launch``, ``self_update``, ``connect`` ...), and
``ready``, ``arm``, ``pin`` and ``inspect``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.frame import Frame

#: errno(3) of what can happen to an open.
EPERM, ENOENT = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mischief:
    """What goes wrong in one guest, each at the moment that it names. The default is that nothing does.

    Attributes:
        lost_at: The guest ends by itself.
        killed_at: The guest is ended from outside.
        dies_at: The program ends by itself.
        hangs_at: What this moment should bring never comes.
        garbled_from: From then on the guest's observer answers nonsense.
        vanishes: A moment, and the file of the build that is gone from then on; nobody records it.
        fails_at_call: The so many-th call through the transport fails.
        unwatched: The product does not look at what lies below this guest path.
        acts_at: The product lets known files pass until this moment, and takes them then.
        only_alerts, only_denies: The product does no more than this about known files.
        stranger_at: The product denies something that is neither the build's nor ours.
        stops_at: The product ends.
        pauses_during: The product lets everything pass while this moment lasts, and is back at the next one.
        keeps_old_set: A vendor's update says that it worked, and did not.
        log_cut_from: From then on the product's log can be read in part only.
    """

    lost_at: str | None = None
    killed_at: str | None = None
    dies_at: str | None = None
    hangs_at: str | None = None
    garbled_from: str | None = None
    vanishes: tuple[str, str] | None = None
    fails_at_call: int | None = None
    unwatched: str | None = None
    acts_at: str | None = None
    only_alerts: bool = False
    only_denies: bool = False
    stranger_at: str | None = None
    stops_at: str | None = None
    pauses_during: str | None = None
    keeps_old_set: bool = False
    log_cut_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeProgram:
    """A trading program in a few words: what it installs, what it opens when, and where it fails by its own fault.

    ``files`` and ``patch`` hold bytes by path below ``install_dir``. A ``fault_at`` is one of ``install``, ``launch``,
    ``self_update``, ``connect`` and ``uninstall``. ``fields`` says of each field, by its label, whether it hides its
    text; what they hold is written to the log at the login, as real programs do.
    """

    install_dir: str
    files: Mapping[str, bytes]
    patch: Mapping[str, bytes] = field(default_factory=dict)
    main: str = "DemoHTS.exe"
    uninstaller: str = "uninstall.exe"
    updater: str = "hts_update.exe"
    module: str = "hts_comm.dll"
    log: str = "logs\\hts.log"
    fields: Mapping[str, bool] = field(default_factory=dict)
    fault_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A program of the guest as it is called."""

    argv: tuple[str, ...]
    user: str
    stdin: bytes
    deadline: Deadline


@dataclass(slots=True)
class FakeMachine:
    """One simulated guest.

    Attributes:
        ended: Why the guest runs no more; None while it runs.
        crashed: It ended by itself.
        watches: The product's eye on every open by the desktop user: True allows it.
        on_moment: Told of every moment as it begins.
        late_calls: How often somebody tried to reach the guest after its lease.
        screen: What its screen shows after a moment, seen from outside; None when its lease cannot show it.
        pressed: The keys and the places of clicks that were given to it from outside.
    """

    name: str
    mischief: Mischief = field(default_factory=Mischief)
    files: dict[str, bytes] = field(default_factory=dict)
    ended: str | None = None
    crashed: bool = False
    released: bool = False
    watches: Callable[[str, bytes], bool] = lambda path, content: True  # noqa: ARG005
    on_moment: Callable[[str], None] = lambda name: None  # noqa: ARG005
    programs: dict[str, Callable[[Called], bytes]] = field(default_factory=dict)
    moments: list[str] = field(default_factory=list)
    calls: int = 0
    late_calls: int = 0
    screen: Callable[[str], Frame | None] | None = None
    pressed: list[str | tuple[int, int]] = field(default_factory=list)

    def reach(self) -> None:
        """Count a call into the guest, and refuse it when nobody is there to answer."""
        self.calls += 1
        self.late_calls += self.released
        if self.ended is not None or self.calls == self.mischief.fails_at_call:
            msg = "The guest is gone." if self.ended else "The guest cannot be reached."
            raise GuestUnreachable(msg, detail=self.ended or "scripted")

    def happens(self, moment: str) -> None:
        """Let a moment begin, with all that is scripted for it."""
        self.moments.append(moment)
        if self.mischief.vanishes is not None and self.mischief.vanishes[0] == moment:
            self.files.pop(self.mischief.vanishes[1], None)
        self.on_moment(moment)
        if moment in {self.mischief.lost_at, self.mischief.killed_at}:
            self.crashed = moment == self.mischief.lost_at
            self.ended = f"the simulated guest ended at '{moment}'"
            self.reach()

    def since(self, moment: str | None) -> bool:
        """Tell whether a moment has begun; never for None."""
        return moment in self.moments

    def within(self, moment: str | None) -> bool:
        """Tell whether a moment is the one that began last; never for None."""
        return bool(self.moments) and self.moments[-1] == moment

    def opened(self, path: str) -> tuple[int, bytes]:
        """Open a file as the desktop user; give the errno (0 is success) and the bytes."""
        content = self.files.get(path)
        if content is None:
            return ENOENT, b""
        return (0, content) if self.watches(path, content) else (EPERM, b"")
