"""Effects. Plants canaries and set markers and reads a product's logs behind them; for products that log to files.

The marker's own record is the proof that everything before it has been written: records are in order, and the marker
was opened last. So each sample plants, then reads the logs until every denied object's name is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

from pydantic import JsonValue

from harness import look
from harness.attempt import Kind
from harness.deadline import Deadline
from harness.errors import ProtectionNotProven
from harness.facts import When
from harness.image import Folder
from harness.observation import Layer
from harness.products.api import Tools
from harness.signature import Signature
from harness.transports.api import Transport

#: How long a product may take to write the record of a denial that has already happened.
RECORD_PATIENCE_S = 3.0

#: A canary in a fresh folder may be opened within milliseconds of the folder's making, before the scanner watches it.
CANARY_PATIENCE_S = 3.0

#: How long one planting may take, also when it begins at the end of a wait.
PLANT_PATIENCE_S = 10.0

Item = dict[str, object]


class Prober:
    """Plants and reads for one product in one guest.

    Args:
        tools: The adapter's.
        layer: Which layer the product's canary tries.
        canary: Makes the item to plant as a canary (without folder and name).
        marker: Makes the item that only the set of a label knows.
        logs: Guest paths of the product's logs, in the order in which they are read.
        dated: Record the guest's monotonic clock with each piece, for a product that dates its records by it.
    """

    def __init__(
        self,
        tools: Tools,
        *,
        layer: Layer,
        canary: Callable[[], Item],
        marker: Callable[[str], Item],
        logs: Sequence[str],
        dated: bool = False,
    ) -> None:
        self._tools = tools
        self._layer = layer
        self._canary = canary
        self._marker = marker
        self._offsets: dict[str, tuple[int, int | None]] = dict.fromkeys(logs, (0, None))
        self._dated = dated
        self._reacted = True
        self._serial = count(1)

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Plant a canary in each folder, record how the guest reacted, then what the product wrote about it."""
        items = [
            # Where no marker fired a moment ago nothing reacts, and waiting for it in every folder shows nothing more.
            self._item(self._canary(), windows_folder, patience_s=CANARY_PATIENCE_S if self._reacted else 0.0)
            for windows_folder in folders.values()
        ]
        raw, placed = self._plant(items, deadline)
        names: list[JsonValue] = [
            {"folder": folder.value, **place} for folder, place in zip(folders, placed, strict=True)
        ]
        self._tools.record(
            Kind.CANARY,
            self._layer.value,
            data={"when": when.value, "layer": self._layer.value, "items": names},
            blob=raw,
        )
        self.read_logs(awaited=_denied(raw, placed), deadline=deadline)

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Plant the marker of every known set, record which are denied, and read the logs up to their records."""
        raw, placed, labels = self._plant_markers(deadline)
        names: list[JsonValue] = [{"label": label, **place} for label, place in zip(labels, placed, strict=True)]
        self._tools.record(Kind.SAMPLE, data={"border": border, "items": names}, blob=raw)
        denied = _denied(raw, placed)
        self._reacted = bool(denied)
        self.read_logs(awaited=denied, deadline=deadline)

    def await_set(self, signature: Signature, *, deadline: Deadline) -> None:
        """Wait until exactly one known marker is denied: that of ``signature``.

        The label that is waited for is the scheduled one: a set that carries another's marker (a reload that did not
        happen) never satisfies it.

        Raises:
            ProtectionNotProven: It did not before the deadline. The last reaction is recorded.
        """
        raw = b""
        denied: list[str] = []
        for _ in deadline.poll(0.1):
            # The last try begins at the deadline and may still end: it is the product that was not proven then.
            raw, placed, labels = self._plant_markers(Deadline.after(max(deadline.remaining_s, PLANT_PATIENCE_S)))
            reactions = look.planted(raw, len(placed))
            denied = [label for label, r in zip(labels, reactions, strict=True) if is_denied(r)]
            if denied == [signature.label]:
                return
        self._tools.record(Kind.PRODUCT, "pin failed", data={"denied": list(denied)}, blob=raw)
        self.read_logs(awaited=(), deadline=Deadline.after(RECORD_PATIENCE_S))
        found = ", ".join(denied) or "none"
        msg = f"Signature {signature.label} was not proven to be loaded; the markers that fired: {found}."
        raise ProtectionNotProven(msg)

    def read_logs(self, *, awaited: Sequence[str], deadline: Deadline) -> None:
        """Record what the logs have gained, reading again until every awaited name is there or patience ends."""
        missing = {name.encode() for name in awaited}
        for _ in deadline.sooner(RECORD_PATIENCE_S).poll(0.05):
            tails = [{"path": path, "offset": at, "inode": inode} for path, (at, inode) in self._offsets.items()]
            request = {"tail": tails, **({"time": True} if self._dated else {})}
            answer = self._tools.guest.observe(request, deadline=deadline)
            read_at = {"guest_mono_s": look.monotonic_s(answer)} if self._dated else {}
            pieces = look.chunks(answer)
            known = [piece for piece in pieces if piece.path in self._offsets]
            for piece in known:
                missing = {name for name in missing if name not in piece.content}
                if piece.content or piece.error or piece.reset:
                    self._keep(piece, read_at)
            if not missing:
                return

    def _keep(self, piece: look.Chunk, read_at: Mapping[str, JsonValue]) -> None:
        offset, _ = self._offsets[piece.path]
        self._offsets[piece.path] = (piece.next_offset if piece.error is None else offset, piece.inode)
        self._tools.record(
            Kind.LOG,
            piece.path,
            data={"offset": offset, "reset": piece.reset, "error": piece.error, **read_at},
            blob=piece.content,
            truncated=piece.truncated,
        )

    def _plant_markers(self, deadline: Deadline) -> tuple[bytes, list[dict[str, str]], list[str]]:
        labels = sorted({signature.label for signature in self._tools.known})
        folder = self._tools.guest.image.folders[Folder.TEMP]
        items = [self._item(self._marker(label), folder, patience_s=0.0) for label in labels]
        raw, placed = self._plant(items, deadline)
        return raw, placed, labels

    def _item(self, item: Item, windows_folder: str, *, patience_s: float) -> Item:
        return {
            **item,
            "folder": self._tools.guest.image.guest_path(windows_folder),
            "until_denied_s": patience_s,
            "cleanup": True,
        }

    def _plant(self, items: Sequence[Item], deadline: Deadline) -> tuple[bytes, list[dict[str, str]]]:
        """Plant under names of our own making; give the raw answer and where each object and its control lay."""
        nonce = f"{self._tools.nonce}-{next(self._serial)}"
        named = [{**item, "name": f"hts-probe-{nonce}-{at}{item['ending']}"} for at, item in enumerate(items)]
        placed = [
            {
                "path": f"{item['folder']}/{item['name']}",
                "control": f"{item['folder']}/hts-control-{nonce}-{at}{'.elf' if item['kind'] == 'exec' else '.txt'}",
            }
            for at, item in enumerate(named)
        ]
        # Written down before it is done: an object of ours is known as ours even when the guest dies over it.
        self._tools.record(Kind.PLANTED, data={"items": [dict(place) for place in placed]})
        sent = [{key: value for key, value in item.items() if key != "ending"} for item in named]
        return self._tools.guest.plant(nonce, sent, deadline=deadline), placed


def push_proven(admin: Transport, content: bytes, path: str, *, deadline: Deadline, owner: str | None = None) -> None:
    """Put what a product shall know into its guest, and read it back: a marker proves which set, not that it is whole.

    Raises:
        ProtectionNotProven: What lies in the guest is not what was sent.
    """
    admin.push(content, path, deadline=deadline, owner=owner)
    read_back(admin, content, path, deadline=deadline)


def read_back(admin: Transport, content: bytes, path: str, *, deadline: Deadline) -> None:
    """See that what lies in the guest is what a product was to be given.

    Raises:
        ProtectionNotProven: It is not.
    """
    try:
        found, cut = admin.pull(path, deadline=deadline)
    except FileNotFoundError:
        found, cut = b"", True
    if cut or found != content:
        msg = f"What was put into the guest at {path} did not arrive whole."
        raise ProtectionNotProven(msg, detail=f"{len(content)} bytes are due, {len(found)} were read back")


def is_denied(reaction: look.Planted) -> bool:
    """Tell whether an object was refused while the clean control beside it was not. EPERM is 1 (errno(3))."""
    refused = reaction.open_errno == 1 or reaction.exec_errno == 1
    return (
        reaction.written and refused and reaction.control_open_errno == 0 and reaction.control_exec_errno in {0, None}
    )


def _denied(raw: bytes, placed: Sequence[Mapping[str, str]]) -> list[str]:
    try:
        reactions = look.planted(raw, len(placed))
    except look.LookError:
        return []
    return [
        place["path"].rpartition("/")[2]
        for place, reaction in zip(placed, reactions, strict=True)
        if is_denied(reaction)
    ]
