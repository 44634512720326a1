"""Pure. What makes guests: a provider leases a pristine one for one attempt, and finds its own leftovers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.deadline import Deadline
from harness.frame import Frame
from harness.image import Image
from harness.protection import Layer, Protection
from harness.transports.api import Transport, Wire
from harness.transports.payload import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How a guest is reached: the name of a transport, and what that transport needs. Data, never a connection."""

    transport: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """One thing that a provider needs of this machine. ``fix`` is a command or a sentence; empty when ``ok``.

    ``needed``: no guest can be leased without it.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A guest that has ended before its lease.

    ``crashed``: it ended by itself, which may be a product's or the build's doing. A guest that was killed from
    outside, or an engine that does not answer, is our trouble and never evidence.
    """

    summary: str
    crashed: bool


class Lease(Protocol):
    """A guest that is ours until the context ends."""

    @property
    def endpoint(self) -> Endpoint:
        """Say how the guest is reached."""
        ...

    def lost(self) -> Loss | None:
        """Say how the guest has ended; None while it runs."""
        ...


@runtime_checkable
class ShowsScreen(Protocol):
    """The ability of a lease to show its guest's screen from outside: whatever is drawn, a secure desktop too.

    Nothing in the guest takes part, so nothing in it can refuse, and nothing in it is changed by looking.
    """

    def screen(self, *, deadline: Deadline) -> Frame | None:
        """Give what the screen shows now; None when there is no picture of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebooted:
    """A machine that was started anew, by the ids of its boots. Source: random(4), boot_id."""

    boot_before: str
    boot_after: str


@runtime_checkable
class Reboots(Protocol):
    """The ability of a lease to start its guest's whole machine anew, kernel and all."""

    def reboot(self, *, deadline: Deadline) -> Rebooted:
        """Shut the guest down in order and start its machine anew, once, and wait until it answers.

        Nobody may be connected to the guest meanwhile: its only way in is used. What lay in its memory alone is gone;
        its disk is as it was.

        Raises:
            GuestUnreachable: It did not go down in order, or did not come up before the deadline.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDesktop:
    """Where a person can see and use a guest's desktop: VNC (RFC 6143) on this machine's loopback, ``host:port``.

    ``password`` is made for this once; VNC knows 8 characters.
    """

    address: str
    password: str


@runtime_checkable
class OpensDesktop(Protocol):
    """The ability of a lease to let a person sit down before its guest."""

    def open_desktop(self, *, deadline: Deadline) -> OpenDesktop:
        """Open the desktop to whoever has the password, until the lease ends.

        Raises:
            LabError: It cannot be opened.
        """
        ...


@runtime_checkable
class TakesInput(Protocol):
    """The ability of a lease to give its guest keys and clicks from outside, as the machine's own devices give them."""

    def press(self, chord: str, *, deadline: Deadline) -> None:
        """Press keys together and let them go: names of ``scenario.KEYS``, joined by '+'.

        Raises:
            LabError: The machine does not take them.
        """
        ...

    def click_at(self, x: int, y: int, *, deadline: Deadline) -> None:
        """Click with the left button at a place of the screen, in pixels from its upper left corner.

        Raises:
            LabError: The machine does not take it.
        """
        ...


@runtime_checkable
class LendsDiscs(Protocol):
    """The ability of a lease to put a read-only disc with one file into its guest's drive."""

    def worth_a_disc(self, size_bytes: int) -> bool:
        """Tell whether so many bytes get into the guest sooner by disc than by the way in."""
        ...

    def disc(self, content: Payload, *, sha256: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Have a disc with these bytes in the drive until the context ends. The guest can read it, and nothing else.

        Args:
            content: The bytes; read only when no disc of them is kept.
            sha256: What identifies them.
            deadline: Bounds making it and putting it in.

        Raises:
            LabError: It cannot be made, or the machine does not take it.
            InputError: ``content`` could not be read to its end, or is something else.
        """
        ...


class Provider(Protocol):
    """Makes guests of one kind."""

    name: str

    def check(self) -> tuple[Fitness, ...]:
        """Say what this machine has and lacks for this provider; leases nothing.

        Raises:
            LabError: It cannot be asked at all.
        """
        ...

    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> AbstractContextManager[Lease]:
        """Make one guest, pristine and running, and end it for good with the context.

        Args:
            image: Made from exactly this content; another content under the same name is a ``LabError``.
            run_id: Marks the guest so that ``sweep`` finds it after a crash.
            name: Short, for people who look at the engine; letters, digits and hyphens.
            deadline: Bounds the start, not the lease.

        Raises:
            LabError: The image is not usable, or the engine could not start this guest.
            HostDown: The engine does not answer. It is waited for, and the attempt is made later.
        """
        ...

    def sweep(self, run_id: str | None) -> int:
        """End and delete what a killed run left (every run's when None); give how many guests that were."""
        ...


@runtime_checkable
class KeepsGuestsReady(Protocol):
    """The ability of a provider to have guests ready that nobody has leased yet."""

    def close(self) -> None:
        """End those guests for good. The provider may be used again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image that is there. ``content`` says what a guest is made of, ``recipe`` how it was made (provenance).

    ``reference`` is how the provider finds it when it leases.
    """

    content: str
    recipe: str | None
    reference: str


class ProviderKit(Protocol):
    """A provider with what goes with it; made once a run, without arguments."""

    @property
    def provider(self) -> Provider:
        """Give the provider."""
        ...

    def connect(self, endpoint: Endpoint) -> Transport:
        """Open a way into one of its guests.

        Raises:
            GuestUnreachable: Nobody answers there.
        """
        ...

    def find(self, folder: Path, *, like: Path | None = None) -> FoundImage | None:
        """Find the image that a folder of ``vm_images/`` defines; None when it has not been built from these files.

        Args:
            folder: ``vm_images/<name>``.
            like: The folder of the definition that this one's ``like`` names.

        Raises:
            LabError: The provider cannot be asked.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeImage:
    """An image that is there to be used; ``made`` is False when it had been there already.

    ``content`` identifies what a guest is made of; ``recipe`` is provenance. ``duration_s`` is this call's.
    """

    name: str
    content: str
    recipe: str
    packages: int
    made: bool
    duration_s: float


@runtime_checkable
class BuildsImages(Protocol):
    """The ability of a kit to make the images of its provider."""

    def make(
        self, folder: Path, *, like: Path | None, memory_mib: int, cpus: int, report: Callable[[str], None]
    ) -> MadeImage:
        """Give the image that a folder of ``vm_images/`` defines, making it only when it is not there.

        Args:
            folder: ``vm_images/<name>``.
            like: The folder of the definition that this one's ``like`` names.
            memory_mib: What one guest gets, where that is part of the image.
            cpus: The same of processors.
            report: Takes one line of progress at a time.

        Raises:
            InputError: The folder is no image definition.
            LabError: It cannot be made here; the hint says what is missing.
        """
        ...

    def why_missing(self, folder: Path, *, like: Path | None) -> str:
        """Say in one sentence why there is no image of this folder, with what mends it."""
        ...


#: Sets a product up in a guest that is about to be frozen; gives every place at which it planted something.
Arm = Callable[[Endpoint, Deadline], tuple[dict[str, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenLayer:
    """A layer that is there to be used; ``made`` is False when it had been there already. Seconds are this call's."""

    layer: Layer
    made: bool
    duration_s: float


@runtime_checkable
class Freezes(Protocol):
    """The ability of a kit to keep guests in which a protection is up, and to make guests of them."""

    def layer(self, image: Image, up: Protection) -> Layer | None:
        """Give what guests of an image with this protection up are leased from; None when nobody has frozen it.

        One that is damaged is put aside, so that it is seen by who keeps layers, and is none.
        """
        ...

    def freeze(
        self,
        image: Image,
        up: Protection,
        *,
        arm: Arm,
        prove: Callable[[Layer], None],
        report: Callable[[str], None],
    ) -> FrozenLayer:
        """Freeze a guest of an image with a protection up, unless that has been done.

        Args:
            image: What it is derived from.
            up: What ``arm`` sets up.
            arm: Called once, with the guest that is frozen behind it.
            prove: Called with the layer before anybody else sees it; what it raises unmakes the layer.
            report: Takes one line of progress at a time.

        Raises:
            ProtectionNotProven: The product did not get ready, or is not seen at work in a guest of the layer.
            LabError: It cannot be made here; the hint says what is missing.
        """
        ...


@runtime_checkable
class CarriesWayOut(Protocol):
    """The ability of a kit to carry a guest's connections to the harness, with no network in the guest."""

    def carry(self, endpoint: Endpoint, argv: Sequence[str], *, transport: Transport, deadline: Deadline) -> Wire:
        """Start a program in a guest as its administrator, and give its standard input and output.

        It ends at the end of its input.

        Args:
            endpoint: The guest.
            argv: The program.
            transport: The way in that stands already; it stays the caller's.
            deadline: Bounds the start.

        Raises:
            GuestUnreachable: It cannot be started there.
        """
        ...


class LayerKind(StrEnum):
    """What lies in a layer's folder."""

    DISK = "disk"
    TEMPLATE = "template"
    PROTECTION = "protection"
    DISC = "disc"
    UNFINISHED = "unfinished"
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLayer:
    """One layer on this machine.

    Attributes:
        name: Of its folder, which is how it is asked for.
        image: Name of the definition that it was made for; None when it does not say.
        content: What guests of it are made of; None when none are.
        protection: Product, profile and signature that are up in it; None when none is.
        made_at: When it was finished.
        size_bytes: What its files take on the disk, those that it shares with other layers too.
        freed_bytes: What goes with it: files that no other layer has.
        needed: Today's definitions, or a layer that is needed, are made with it.
        held: A process uses it, or makes it.
        why: Why it was put aside, in a sentence; empty for every other one.
    """

    name: str
    kind: LayerKind
    image: str | None
    content: str | None
    protection: str | None
    made_at: datetime
    size_bytes: int
    freed_bytes: int
    needed: bool
    held: bool
    why: str = ""


@runtime_checkable
class KeepsLayers(Protocol):
    """The ability of a kit to say what it keeps of images, whether that is whole, and to delete what nobody needs."""

    def kept(
        self, definitions: Sequence[tuple[Path, Path | None]], *, code_of: Callable[[str], str]
    ) -> tuple[KeptLayer, ...]:
        """Give every layer on this machine, needed or not, sorted by name.

        Args:
            definitions: The folder of each definition of this provider, and the one that its ``like`` names.
            code_of: Gives today's digest of what sets a product up (``Protection.code``).
        """
        ...

    def check(self, name: str) -> tuple[Fitness, ...]:
        """Read all of one layer and compare it with what was made.

        Raises:
            InputError: There is no such layer.
        """
        ...

    def remove(self, name: str) -> bool:
        """Delete a layer; False when a process uses or makes it, and it stays."""
        ...
