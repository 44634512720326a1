"""Effects. A security product that only tests know: ``FakeGuard`` is its part in the guest, ``FakeProduct`` ours.

It denies its canary, its set's marker and every file that its set knows, and takes the last away, as ClamAV does. It is
in no registry, so nobody can ask for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from harness.attempt import Kind
from harness.deadline import Deadline
from harness.facts import When
from harness.fake_guest import Called, FakeMachine
from harness.image import Folder
from harness.observation import Action, Layer
from harness.products.api import Tools
from harness.products.fake_log import LOG, MARKER_PREFIX, line_of
from harness.products.probe import Item, Prober, push_proven, read_back
from harness.signature import Signature

DATABASE = "/run/hts-compat/fake/set.json"
GUARD = "/opt/fake/guard"
CANARY_TEXT = "hts-compat fake canary\n"
CANARY_NAME = "Fake.Canary"

#: How long the simulated product is waited for.
PATIENCE_S = 0.15


class FakeGuard:
    """The product inside a simulated guest; it does nothing until a set is loaded."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self._known: dict[str, str] = {}
        self._running = False
        machine.watches = self.allows
        machine.on_moment = self.on_moment
        machine.programs[GUARD] = self.command

    def command(self, called: Called) -> bytes:
        """Do what the product's own command line does: ``load``, ``stop`` or ``scan FOLDER``."""
        if called.argv[1] == "stop":
            self._running = False
            return b"stopped\n"
        if called.argv[1] == "scan":
            self._machine.happens("scan")
            for path in [p for p in self._machine.files if p.startswith(called.argv[2] + "/")]:
                self.allows(path, self._machine.files[path])
            return b"scanned\n" if self._running else b""
        self._machine.happens("pin" if self._running else "arm")
        if not (self._running and self._machine.mischief.keeps_old_set):
            self._known = json.loads(self._machine.files[DATABASE])
        self._running = self._running or not self._machine.since(self._machine.mischief.stops_at)
        self._machine.files.setdefault(LOG, b"")
        return b"loaded\n"

    def allows(self, path: str, content: bytes) -> bool:
        """Decide about one open by the desktop user."""
        mischief = self._machine.mischief
        threat = self._known.get(hashlib.sha256(content).hexdigest()) if self._running else None
        if threat is None or (mischief.unwatched is not None and path.startswith(mischief.unwatched + "/")):
            return True
        if threat.startswith((CANARY_NAME, MARKER_PREFIX)):
            self._write(Action.DENIED, threat, content, path)
            return False
        if self._machine.within(mischief.pauses_during):
            return True
        if mischief.acts_at is not None and not self._machine.since(mischief.acts_at):
            return True
        return self._reacts(threat, content, path)

    def on_moment(self, moment: str) -> None:
        """Do what is scripted for a moment."""
        mischief = self._machine.mischief
        if not self._running:
            return
        if moment == mischief.stranger_at:
            self._write(Action.DENIED, "Fake.Stranger", b"?", "/usr/lib/wine/stranger.so")
        if moment == mischief.acts_at:
            for path, content in list(self._machine.files.items()):
                self.allows(path, content)
        if moment == mischief.stops_at:
            self._running = False

    def _reacts(self, threat: str, content: bytes, path: str) -> bool:
        mischief = self._machine.mischief
        if mischief.only_alerts:
            self._write(Action.ALERTED, threat, content, path)
            return True
        self._write(Action.DENIED if mischief.only_denies else Action.QUARANTINED, threat, content, path)
        if not mischief.only_denies:
            self._machine.files.pop(path, None)
        return False

    def _write(self, action: Action, threat: str, content: bytes, path: str) -> None:
        self._machine.files[LOG] += line_of(action, threat, hashlib.sha256(content).hexdigest(), path)


class FakeProduct:
    """The adapter; see ``Product``. It knows nothing of what is scripted, and reads all back as any adapter does."""

    def __init__(self, tools: Tools) -> None:
        self._admin = tools.guest.admin
        self._image = tools.guest.image
        self._record = tools.record
        self._prober = Prober(
            tools, layer=Layer.FILE, canary=lambda: _text(CANARY_TEXT), marker=lambda s: _text(_marker(s)), logs=(LOG,)
        )

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        """Load a set for the first time; see ``Product.arm``."""
        self.pin(signature, deadline=deadline)

    def resume(self, signature: Signature, *, deadline: Deadline) -> None:
        """Take over what runs; see ``Resumes.resume``."""
        read_back(self._admin, json.dumps(_set_of(signature)).encode(), DATABASE, deadline=deadline)
        self._prober.await_set(signature, deadline=deadline.sooner(PATIENCE_S))

    def pin(self, signature: Signature, *, deadline: Deadline) -> None:
        """Load another set; see ``Product.pin``."""
        push_proven(self._admin, json.dumps(_set_of(signature)).encode(), DATABASE, deadline=deadline)
        self._admin.run([GUARD, "load"], deadline=deadline)
        self._prober.await_set(signature, deadline=deadline.sooner(PATIENCE_S))

    def scan(self, folder: str, *, deadline: Deadline) -> None:
        """Scan a folder on demand; see ``Scans.scan``."""
        said = self._admin.run([GUARD, "scan", self._image.guest_path(folder)], deadline=deadline)
        self._record(Kind.LOOK, "scan", data={"finished": said.stdout == b"scanned\n"})

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Record the loaded set and the new log lines; see ``Product.sample``."""
        self._prober.sample(border=border, deadline=deadline)

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Try the canary in each folder; see ``Product.canary``."""
        self._prober.canary(folders, when=when, deadline=deadline)

    def collect(self, *, deadline: Deadline) -> None:
        """Record the rest of the log; see ``Product.collect``."""
        self._prober.read_logs(awaited=(), deadline=deadline)


def _text(text: str) -> Item:
    return {"kind": "text", "text": text, "ending": ".txt"}


def _marker(label: str) -> str:
    return f"hts-compat fake set {label}\n"


def _set_of(signature: Signature) -> dict[str, str]:
    """Give what a set knows: name by sha256."""
    own = {_marker(signature.marker): MARKER_PREFIX + signature.marker}
    if signature.knows_canary:
        own[CANARY_TEXT] = CANARY_NAME
    known = {hashlib.sha256(text.encode()).hexdigest(): name for text, name in own.items()}
    return known | {file.sha256: file.threat for file in signature.known}
