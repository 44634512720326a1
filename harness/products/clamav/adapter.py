"""Effects. ClamAV as a resident scanner: clamd decides, clamonacc denies the open and moves the file away.

Settings were chosen on the reference guest (100 of 100 canaries denied with EPERM):
``OnAccessExtraScanning no`` - with it a canary could be read although it was logged; ``OnAccessDenyOnError yes`` - even
so it fails open when clamd is killed, which the markers of every sample show; clamd as its own user - as root it
deadlocks against clamonacc. Nothing below the drive is excluded.

Source: clamd.conf(5) and clamonacc(8) of ClamAV 1.4; ``man clamdscan`` for ``--reload`` and ``--ping``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from harness.attempt import Kind
from harness.deadline import Deadline
from harness.errors import InputError, ProtectionNotProven
from harness.facts import When
from harness.image import Folder
from harness.observation import Layer
from harness.products.api import Tools
from harness.products.clamav.sets import database_of, marker_text
from harness.products.probe import Item, Prober, push_proven, read_back
from harness.signature import Signature

#: On the disk, as of a product that is installed: a reboot leaves it.
ROOT = PurePosixPath("/var/lib/hts-compat/clamav")
CONF = ROOT / "clamd.conf"
DATABASE = ROOT / "db" / "set.hdb"
QUARANTINE = ROOT / "quarantine"
CLAMD_LOG = ROOT / "clamd.log"
CLAMONACC_LOG = ROOT / "clamonacc.log"

#: Profile -> the settings that differ. Many resident scanners do not unpack archives when a file is opened.
PROFILES = {"standard": {"ScanArchive": "no"}, "unpack": {"ScanArchive": "yes"}}

_SET_UP = f"""set -e
install -d -o clamav -g clamav {ROOT} {ROOT}/db
install -d -m 0700 {QUARANTINE}
cat > {CONF}
chown -R clamav:clamav {ROOT}/db
"""
_UP = f"""set -e
setsid clamd -c {CONF} < /dev/null > {ROOT}/clamd.out 2>&1 &
until clamdscan -c {CONF} --ping 1 > /dev/null 2>&1; do sleep 0.02; done
clamd --version
exec < /dev/null > {ROOT}/clamonacc.out 2>&1
setsid clamonacc -c {CONF} -F --fdpass --move={QUARANTINE} --log={CLAMONACC_LOG} &
"""

# A denial is answered first and the file moved afterwards, so a move may still be on its way when the last step ends,
# and what it takes would read as denied only. Each path that was found ends as moved, as a failed move, or in time.
# Source: common/actions.c of ClamAV 1.4 (action_move): "PATH: moved to 'WHERE'", "Can't move file 'PATH' ...".
MOVE_PATIENCE_S = 3
AWAIT_MOVES = f"""
log=$1
pending() {{
    awk '
        / FOUND$/ {{ sub(/: [^ ]+ FOUND$/, ""); sub(/ [(]deleted[)]$/, ""); found[$0] }}
        /: moved to / {{ sub(/: moved to .*/, ""); sub(/ [(]deleted[)]$/, ""); moved[$0] }}
        /^ERROR: Can.t / {{ failed++ }}
        END {{ for (path in found) if (!(path in moved)) left++; exit left <= failed + 0 }}
    ' "$log"
}}
for try in $(seq {MOVE_PATIENCE_S * 20}); do pending || break; sleep 0.05; done
"""


class ClamAv:
    """One ClamAV in one guest."""

    def __init__(self, tools: Tools) -> None:
        if tools.profile not in PROFILES:
            msg = f"clamav has no profile '{tools.profile}'."
            raise InputError(msg, hint=f"Its profiles: {', '.join(sorted(PROFILES))}.")
        self._tools = tools
        self._guest = tools.guest
        self._admin = tools.guest.admin
        self._version: str | None = None
        self._prober = Prober(
            tools,
            layer=Layer.FILE,
            canary=_eicar,
            marker=_marker,
            logs=(str(CLAMD_LOG), str(CLAMONACC_LOG)),
        )

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start clamd and clamonacc with a set; see ``Product.arm``."""
        push_proven(self._admin, database_of(signature), str(DATABASE), deadline=deadline)
        self._start(_SET_UP + _UP, deadline, conf=self._conf().encode())
        self._await(signature, deadline)

    def come_up(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start both again with the settings and the set that lie on the disk; see ``ComesUp.come_up``."""
        self._start(_UP, deadline)
        self._await(signature, deadline)

    def _start(self, script: str, deadline: Deadline, *, conf: bytes = b"") -> None:
        started = self._admin.run(["/bin/sh", "-c", script], stdin=conf, deadline=deadline.sooner(30.0))
        self._tools.record(Kind.PRODUCT, "version", blob=started.stdout[:4096] + started.stderr[:4096])
        if not started.ok:
            msg = "ClamAV did not start in the guest."
            raise ProtectionNotProven(msg, detail=started.stderr[-2000:].decode("utf-8", "replace"))
        self._version = version_in(started.stdout)

    def resume(self, signature: Signature, *, deadline: Deadline) -> None:
        """Take over both as they run; see ``Resumes.resume``."""
        read_back(self._admin, database_of(signature), str(DATABASE), deadline=deadline)
        read_back(self._admin, self._conf().encode(), str(CONF), deadline=deadline)
        said = self._admin.run(["clamd", "--version"], deadline=deadline.sooner(30.0))
        self._tools.record(Kind.PRODUCT, "version", blob=said.stdout[:4096] + said.stderr[:4096])
        self._version = version_in(said.stdout)
        self._await(signature, deadline)

    def pin(self, signature: Signature, *, deadline: Deadline) -> None:
        """Put another set in place and reload; see ``Product.pin``.

        The reload command returns at once, and with success even for a set that cannot be loaded; the marker tells.
        """
        staged = f"{DATABASE}.new"
        push_proven(self._admin, database_of(signature), staged, deadline=deadline, owner="clamav")
        argv = ["/bin/sh", "-c", f"mv {staged} {DATABASE} && clamdscan -c {CONF} --reload"]
        reloaded = self._admin.run(argv, deadline=deadline.sooner(30.0))
        self._tools.record(Kind.PRODUCT, "reload", blob=reloaded.stdout[:4096] + reloaded.stderr[:4096])
        self._await(signature, deadline)

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Record the loaded set and the new log lines; see ``Product.sample``."""
        self._prober.sample(border=border, deadline=deadline)

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Try EICAR in each folder; see ``Product.canary``."""
        self._prober.canary(folders, when=when, deadline=deadline)

    def scan(self, folder: str, *, deadline: Deadline) -> None:
        """Scan a folder on demand; see ``Scans.scan``. The resident scanner sees its opens too and may act.

        Source: clamdscan(1): exit code 0 clean, 1 found, 2 an error.
        """
        argv = ["clamdscan", "-c", str(CONF), "--fdpass", "--no-summary", self._guest.image.guest_path(folder)]
        result = self._admin.run(argv, deadline=deadline)
        finished = result.exit_code in {0, 1} and not result.stdout_truncated
        self._tools.record(Kind.LOOK, "scan", data={"finished": finished}, blob=result.stdout + result.stderr)

    def collect(self, *, deadline: Deadline) -> None:
        """Record the rest of the logs and what lies in the quarantine; see ``Product.collect``."""
        self._admin.run(
            ["/bin/sh", "-c", AWAIT_MOVES, "await-moves", str(CLAMONACC_LOG)], deadline=deadline.sooner(30.0)
        )
        self._prober.read_logs(awaited=(), deadline=deadline)
        listing = self._guest.observe({"list": [{"root": str(QUARANTINE)}]}, deadline=deadline)
        self._tools.record(Kind.LOOK, "quarantine", blob=listing)
        # The settings are read back at the end: an exclusion that was added behind our back is seen.
        try:
            conf, cut = self._admin.pull(str(CONF), deadline=deadline)
        except FileNotFoundError:
            conf, cut = b"", True  # who took them away may have changed them before
        self._tools.record(Kind.PRODUCT, "settings", blob=conf, truncated=cut)

    def _await(self, signature: Signature, deadline: Deadline) -> None:
        """Wait until the set is proven to be loaded, and record which parts the product now consists of."""
        self._prober.await_set(signature, deadline=deadline.sooner(20.0))
        parts = {"engine": self._version, "definitions": signature.label}
        self._tools.record(Kind.PRODUCT, "pinned", data={"version": self._version, "components": dict(parts)})

    def _conf(self) -> str:
        drive = self._guest.image.drives["C"]
        lines = [
            "User clamav",
            f"LocalSocket {ROOT}/clamd.ctl",
            "LocalSocketMode 666",
            f"DatabaseDirectory {DATABASE.parent}",
            f"LogFile {CLAMD_LOG}",
            "LogTime yes",
            "LogFileMaxSize 0",
            "ExtendedDetectionInfo yes",
            "Foreground yes",
            "SelfCheck 0",
            "MaxThreads 4",
            f"OnAccessIncludePath {drive}",
            "OnAccessPrevention yes",
            "OnAccessExtraScanning no",
            "OnAccessDenyOnError yes",
            "OnAccessRetryAttempts 2",
            "OnAccessExcludeUname clamav",
            "OnAccessMaxFileSize 50M",
        ]
        lines += [f"{key} {value}" for key, value in PROFILES[self._tools.profile].items()]
        return "\n".join(lines) + "\n"


def version_in(said: bytes) -> str | None:
    """Read the version out of ``clamd --version`` ("ClamAV 1.4.6" with a database of one's own; clamd(8))."""
    match = re.search(rb"^ClamAV (\d[\w.+-]{0,40})", said, re.MULTILINE)
    return match[1].decode("ascii", "replace") if match else None


def _eicar() -> Item:
    return {"kind": "eicar", "ending": ".com"}


def _marker(label: str) -> Item:
    return {"kind": "text", "text": marker_text(label), "ending": ".txt"}
