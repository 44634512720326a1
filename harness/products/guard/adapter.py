"""Effects. The guard, a TEST product of ours: fanotify in the reference guest, and acts that its set scripts.

It does what commercial products do and free ones do not: acts late, locks, kills, hangs, puts back, lies about itself.
Nothing that is decided beside it is about a release (``harness.behaviour``).

A request that it never answers holds whoever asked, and every call of ours into the guest has a deadline; both end with
the container. Its own part is pushed into the guest, so the image knows nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

from pydantic import JsonValue

from harness.attempt import Kind
from harness.deadline import Deadline
from harness.errors import InputError, ProtectionNotProven
from harness.facts import When
from harness.image import Folder
from harness.observation import Layer
from harness.products.api import Tools
from harness.products.guard.in_guest import LOG, ROOT
from harness.products.guard.sets import CANARY_TEXT, marker_text, set_of
from harness.products.probe import Item, Prober, push_proven, read_back
from harness.signature import Signature

PROFILES = {"standard"}
PYTHON = "/usr/bin/python3"
PROGRAM = f"{ROOT}/guard.py"
SET = f"{ROOT}/set.json"

_START = f"""set -e
setsid {PYTHON} {PROGRAM} serve < /dev/null > {ROOT}/guard.out 2>&1 &
until {PYTHON} {PROGRAM} load {SET}; do kill -0 $! || exit 1; sleep 0.02; done
"""


class Guard:
    """One guard in one guest."""

    def __init__(self, tools: Tools) -> None:
        if tools.profile not in PROFILES:
            msg = f"guard has no profile '{tools.profile}'."
            raise InputError(msg, hint=f"Its profiles: {', '.join(sorted(PROFILES))}.")
        self._tools = tools
        self._admin = tools.guest.admin
        self._prober = Prober(tools, layer=Layer.FILE, canary=_canary, marker=_marker, logs=(LOG,), dated=True)

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start it with a set; see ``Product.arm``."""
        self._admin.push(_program(), PROGRAM, deadline=deadline)
        self._load(signature, ["/bin/sh", "-c", _START], deadline)

    def resume(self, signature: Signature, *, deadline: Deadline) -> None:
        """Take it over as it runs; see ``Resumes.resume``."""
        read_back(self._admin, _program(), PROGRAM, deadline=deadline)
        read_back(self._admin, set_of(signature), SET, deadline=deadline)
        self._await(signature, deadline)

    def pin(self, signature: Signature, *, deadline: Deadline) -> None:
        """Give it another set; see ``Product.pin``."""
        self._load(signature, [PYTHON, PROGRAM, "load", SET], deadline)

    def come_up(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start it with the set that lies on the disk; see ``ComesUp.come_up``."""
        self._run(signature, ["/bin/sh", "-c", _START], deadline)

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Record the loaded set and the new records; see ``Product.sample``."""
        self._prober.sample(border=border, deadline=deadline)

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Try the canary in each folder; see ``Product.canary``."""
        self._prober.canary(folders, when=when, deadline=deadline)

    def collect(self, *, deadline: Deadline) -> None:
        """Record the rest of the log; see ``Product.collect``."""
        self._prober.read_logs(awaited=(), deadline=deadline)

    def _load(self, signature: Signature, argv: list[str], deadline: Deadline) -> None:
        push_proven(self._admin, set_of(signature), SET, deadline=deadline)
        self._run(signature, argv, deadline)

    def _run(self, signature: Signature, argv: list[str], deadline: Deadline) -> None:
        loaded = self._admin.run(argv, deadline=deadline.sooner(20.0))
        self._tools.record(Kind.PRODUCT, "load", blob=loaded.stdout[:4096] + loaded.stderr[:4096])
        if not loaded.ok:
            msg = "The guard did not take its set in the guest."
            raise ProtectionNotProven(msg, detail=loaded.stderr[-2000:].decode("utf-8", "replace"))
        self._await(signature, deadline)

    def _await(self, signature: Signature, deadline: Deadline) -> None:
        self._prober.await_set(signature, deadline=deadline.sooner(20.0))
        # Asked once its reactions have proven which set is loaded: what it says of itself may be another.
        status = self._admin.run([PYTHON, PROGRAM, "status"], deadline=deadline.sooner(20.0))
        self._tools.record(Kind.PRODUCT, "status", data=said(status.stdout), blob=status.stdout[:4096])


def said(raw: bytes) -> dict[str, JsonValue]:
    """Give the version and the parts that a status names, as the matrix takes them; empty when it cannot be read."""
    try:
        value = json.loads(raw)
        version, definitions = str(value["version"])[:64], str(value["definitions"])[:64]
    except (ValueError, KeyError, TypeError):
        return {}
    return {"version": version, "components": {"engine": version, "definitions": definitions}}


def _program() -> bytes:
    return files("harness.products.guard").joinpath("in_guest.py").read_bytes()


def _canary() -> Item:
    return {"kind": "text", "text": CANARY_TEXT, "ending": ".txt"}


def _marker(label: str) -> Item:
    return {"kind": "text", "text": marker_text(label), "ending": ".txt"}
