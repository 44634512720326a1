"""Driver. One reboot of a guest's machine, which is otherwise a crash: allowed once, asked for, and proven.

The template's nonce is gone behind it, for it lay in the guest's memory. That the guest is still ours is shown by the
machine's process, which is the same, by its reset, and by a mark that the guest wrote to its disk when it went down
as it was asked to.
"""

from __future__ import annotations

import secrets
import time

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.providers.api import Rebooted
from harness.providers.qemu.clone import RunningMachine
from harness.providers.qemu.template import NONCE_FILE
from harness.transports.unix_socket import UnixSocketTransport

#: How long the guest may take to end its programs and write its disk.
DOWN_S = 60.0
#: How long one try to reach the guest may take while it boots; then it is connected anew.
TRY_S = 60.0

MARK_FILE = "/var/lib/hts-compat/went-down"

#: In the guest, as its first process would: every program is asked to end, then ended; the disk is written and left in
#: order. The agent, whose child this is, goes last: its answer is still sent. Source: reboot(2), RB_AUTOBOOT.
_GO_DOWN = f"""
import ctypes, os, signal, subprocess, sys, time
spared = {{1, os.getppid(), os.getpid()}}
if os.fork():
    os._exit(0)
os.setsid()
for stream in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), stream)
spared.add(os.getpid())
def others():
    for pid in {{int(name) for name in os.listdir("/proc") if name.isdigit()}} - spared:
        try:
            with open(f"/proc/{{pid}}/cmdline", "rb") as words:
                if words.read(1):
                    yield pid
        except OSError:
            pass
time.sleep(0.2)
for number, limit_s in ((signal.SIGTERM, 4.0), (signal.SIGKILL, 2.0)):
    end = time.monotonic() + limit_s
    asked = set()
    while time.monotonic() < end and (left := set(others())):
        for pid in left - asked:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        asked |= left
        time.sleep(0.05)
os.makedirs(os.path.dirname("{MARK_FILE}"), exist_ok=True)
with open("{MARK_FILE}", "w") as stream:
    stream.write(sys.argv[1])
os.sync()
subprocess.run(["/bin/mount", "-o", "remount,ro", "/"], check=False)
os.sync()
ctypes.CDLL(None).reboot(0x01234567)
"""
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_COME_UP = f'date -s "@$1" > /dev/null && {_BOOT_ID} && cat {MARK_FILE} && if [ -e "$2" ]; then echo; echo kept; fi'


def reboot(machine: RunningMachine, socket: str, *, deadline: Deadline) -> Rebooted:
    """Reboot a guest; see ``Reboots.reboot``.

    Args:
        machine: Its machine.
        socket: Of its agent; nobody is connected to it.
        deadline: Bounds all of it.
    """
    mark = secrets.token_hex(16)
    with machine.one_reset(deadline=deadline) as await_reset:
        before = _go_down(socket, mark, deadline)
        if not await_reset(deadline.sooner(DOWN_S)):
            msg = "The guest did not go down for its reboot."
            raise GuestUnreachable(msg)
    after, shown, kept = _come_up(machine, socket, deadline)
    if shown != mark or after == before or kept:
        msg = "The guest that came up is not the one that went down."
        raise GuestUnreachable(msg, detail=f"boot {before}, then {after}; mark {mark}, then {shown}; kept: {kept}")
    return Rebooted(boot_before=before, boot_after=after)


def _go_down(socket: str, mark: str, deadline: Deadline) -> str:
    """Tell the guest to reboot; give its present boot's id."""
    way_in = UnixSocketTransport(socket)
    try:
        before = way_in.run(["/bin/sh", "-c", _BOOT_ID], deadline=deadline).stdout.decode("ascii", "replace").strip()
        told = way_in.run(["/usr/bin/python3", "-c", _GO_DOWN, mark], deadline=deadline)
    finally:
        way_in.close()
    if not told.ok or not before:
        msg = "The guest could not be told to reboot."
        raise GuestUnreachable(msg, detail=told.stderr[-1000:].decode("utf-8", "replace"))
    return before


def _come_up(machine: RunningMachine, socket: str, deadline: Deadline) -> tuple[str, str, bool]:
    """Wait for the agent and set the clock; give the boot's id, the mark, and whether the memory outlived it."""
    trouble = GuestUnreachable("The guest did not come up again.")
    for _ in deadline.poll(0.2):
        lost = machine.lost()
        if lost is not None:
            msg = f"The guest did not come up again: {lost.summary}."
            raise GuestUnreachable(msg)
        try:
            way_in = UnixSocketTransport(socket)
        except GuestUnreachable as error:
            trouble = error
            continue
        try:
            # Answered when the guest is up: only then is it told what time it is.
            way_in.run(["/bin/true"], deadline=deadline.sooner(TRY_S))
            argv = ["/bin/sh", "-c", _COME_UP, "come-up", f"{time.time():.3f}", NONCE_FILE]
            result = way_in.run(argv, deadline=deadline.sooner(TRY_S))
        except GuestUnreachable as error:
            trouble = error  # a connection of before the reset may be answered by nobody
            continue
        finally:
            way_in.close()
        lines = [*result.stdout.decode("ascii", "replace").split("\n"), "", ""]
        return lines[0], lines[1].strip(), "kept" in lines[2:]
    raise trouble
