"""Effects. fapolicyd: application allow-listing. What a rule denies can be neither opened nor executed.

EICAR proves nothing here; the canary is an unknown program of ours that a rule denies by digest, tried by open and by
execve, beside another program of ours that must run.

fapolicyd 1.1 cannot reload rules: another set means stop and start, with nothing denied in between.
Source: fapolicyd(8), fapolicyd.conf(5), fapolicyd.rules(5) of version 1.1.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from harness.attempt import Kind
from harness.deadline import Deadline
from harness.errors import InputError, ProtectionNotProven
from harness.facts import When
from harness.image import Folder
from harness.observation import Layer
from harness.products.api import Tools
from harness.products.fapolicyd.rules import CANARY_TAG, marker_tag, rules_of, tiny_program
from harness.products.probe import Item, Prober, push_proven, read_back
from harness.signature import Signature

#: On the disk, as of a product that is installed: a reboot leaves it.
LOG = "/var/lib/hts-compat/fapolicyd/decisions.log"
CONF, TRUST = "/etc/fapolicyd/fapolicyd.conf", "/etc/fapolicyd/fapolicyd.trust"
RULES = "/etc/fapolicyd/compiled.rules"
#: One trusted file of ours: with an empty trust file every decision logs an error first.
TRUSTED = "/opt/hts-compat/session"
PROFILES = {"standard"}

_CONF = """permissive = 0
nice_val = 0
q_size = 800
uid = root
gid = root
do_stat_report = 1
detailed_report = 1
db_max_size = 50
subj_cache_size = 1549
obj_cache_size = 8191
watch_fs = ext4,xfs,tmpfs,overlay
trust = file
integrity = none
syslog_format = rule,dec,perm,auid,pid,exe,:,path,ftype,trust
rpm_sha256_only = 0
allow_filesystem_mark = 0
"""

_START = f"""set -e
mkdir -p /var/lib/hts-compat/fapolicyd /run/fapolicyd
setsid fapolicyd --debug-deny < /dev/null >> {LOG} 2>&1 &
"""
_STOP = "pkill -KILL -x fapolicyd; while pgrep -x fapolicyd > /dev/null; do sleep 0.02; done; rm -f /run/fapolicyd/*"


class Fapolicyd:
    """One fapolicyd in one guest."""

    def __init__(self, tools: Tools) -> None:
        if tools.profile not in PROFILES:
            msg = f"fapolicyd has no profile '{tools.profile}'."
            raise InputError(msg, hint=f"Its profiles: {', '.join(sorted(PROFILES))}.")
        self._tools = tools
        self._guest = tools.guest
        self._admin = tools.guest.admin
        self._version: str | None = None
        self._prober = Prober(tools, layer=Layer.EXECUTION, canary=_canary, marker=_marker, logs=(LOG,))

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start with a rule set; see ``Product.arm``."""
        self._admin.push(_CONF.encode(), CONF, deadline=deadline)
        self._admin.push(self._trust(deadline), TRUST, deadline=deadline)
        self._record_version(deadline)
        self._load(signature, deadline)

    def resume(self, signature: Signature, *, deadline: Deadline) -> None:
        """Take it over as it runs; see ``Resumes.resume``."""
        read_back(self._admin, _CONF.encode(), CONF, deadline=deadline)
        read_back(self._admin, self._trust(deadline), TRUST, deadline=deadline)
        self._record_version(deadline)
        rules, names = rules_of(signature)
        read_back(self._admin, rules, RULES, deadline=deadline)
        self._tools.record(Kind.PRODUCT, "rules", data={"names": dict(names)}, blob=rules)
        self._await(signature, deadline)

    def pin(self, signature: Signature, *, deadline: Deadline) -> None:
        """Stop, and start with another rule set; see ``Product.pin``."""
        self._admin.run(["/bin/sh", "-c", _STOP], deadline=deadline.sooner(30.0))
        # Decisions name rules by number alone: what the old rules denied is recorded before the new ones are.
        self._prober.read_logs(awaited=(), deadline=deadline)
        self._load(signature, deadline)

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Record the loaded rules and the new decisions; see ``Product.sample``."""
        self._prober.sample(border=border, deadline=deadline)

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Try the unknown program in each folder; see ``Product.canary``."""
        self._prober.canary(folders, when=when, deadline=deadline)

    def collect(self, *, deadline: Deadline) -> None:
        """Record the rest of the decisions and the rules as they are now; see ``Product.collect``."""
        self._prober.read_logs(awaited=(), deadline=deadline)
        rules, cut = self._admin.pull(RULES, deadline=deadline)
        self._tools.record(Kind.PRODUCT, "settings", blob=rules, truncated=cut)

    def _load(self, signature: Signature, deadline: Deadline) -> None:
        rules, names = rules_of(signature)
        push_proven(self._admin, rules, RULES, deadline=deadline)
        self._tools.record(Kind.PRODUCT, "rules", data={"names": dict(names)}, blob=rules)
        self._start(signature, deadline)

    def come_up(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start with the rules that lie on the disk; see ``ComesUp.come_up``."""
        self._start(signature, deadline)

    def _start(self, signature: Signature, deadline: Deadline) -> None:
        started = self._admin.run(["/bin/sh", "-c", _START], deadline=deadline.sooner(30.0))
        if not started.ok:
            msg = "fapolicyd did not start in the guest."
            raise ProtectionNotProven(msg, detail=started.stderr[-2000:].decode("utf-8", "replace"))
        self._await(signature, deadline)

    def _trust(self, deadline: Deadline) -> bytes:
        trusted, _cut = self._admin.pull(TRUSTED, deadline=deadline)
        return f"{TRUSTED} {len(trusted)} {hashlib.sha256(trusted).hexdigest()}\n".encode()

    def _record_version(self, deadline: Deadline) -> None:
        version = self._admin.run(["/usr/bin/dpkg-query", "-W", "-f", "${Version}\n", "fapolicyd"], deadline=deadline)
        self._tools.record(Kind.PRODUCT, "version", blob=version.stdout[:4096])
        self._version = version.stdout.decode("ascii", "replace").strip()[:40] or None

    def _await(self, signature: Signature, deadline: Deadline) -> None:
        self._prober.await_set(signature, deadline=deadline.sooner(20.0))
        parts = {"engine": self._version, "policy": signature.label}
        self._tools.record(Kind.PRODUCT, "pinned", data={"version": self._version, "components": dict(parts)})


def _canary() -> Item:
    return _program(CANARY_TAG)


def _marker(label: str) -> Item:
    return _program(marker_tag(label))


def _program(tag: str) -> Item:
    return {"kind": "exec", "b64": base64.b64encode(tiny_program(tag)).decode("ascii"), "ending": ".elf"}
