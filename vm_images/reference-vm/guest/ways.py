"""The ways into a virtual machine beside the agent's: QEMU's guest agent, and an ssh server without any network.

An image says which of them a cell takes (``transport``); in the guest all stand ready, and none listens on a network.
The keys of the ssh server, and the one key that it lets in, are made once and lie on the disk: every clone of a
template is the same server. They are handed out by the agent's port alone, before anything else has run in a clone.
"""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

QGA_PORT = "org.qemu.guest_agent.0"
SSH_PORT = "org.hts-compat.ssh.0"

KEYS = Path("/etc/hts-compat/ssh")
RUN = Path("/run/hts-compat")

#: So long a port may take to appear after the start.
APPEARS_S = 30.0

#: What the ssh server may do: let root in by one key, run programs, move files. Source: sshd_config(5).
SSHD_CONFIG = f"""\
HostKey {KEYS}/host
AuthorizedKeysFile {KEYS}/own.pub
PermitRootLogin prohibit-password
AllowUsers root
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
DisableForwarding yes
PrintMotd no
PrintLastLog no
LoginGraceTime 30
Subsystem sftp internal-sftp
"""


def device_of(name: str) -> str | None:
    """Give the device of a virtio port, which may appear late; None when the machine has none of that name.

    Source: kernel, drivers/char/virtio_console.c (sysfs attribute ``name``).
    """
    end = time.monotonic() + APPEARS_S
    while time.monotonic() < end:
        for file in Path("/sys/class/virtio-ports").glob(
            "vport*/name"
        ):  # sysfs attribute of drivers/char/virtio_console.c
            if file.read_text().strip() == name:
                return f"/dev/{file.parent.name}"
        time.sleep(0.05)
    return None


def start() -> None:
    """Start what answers on the ports, each beside the caller, who is the first process and must not end by it."""
    try:
        make_keys()  # here, so that they are there before the machine is frozen
    except (OSError, subprocess.SubprocessError) as problem:
        print(f"ways: no keys: {problem}", file=sys.stderr, flush=True)
    for name, serve in ((QGA_PORT, be_guest_agent), (SSH_PORT, serve_ssh)):
        if os.fork() == 0:
            try:
                device = device_of(name)
                if device is not None:
                    serve(device)
            finally:
                os._exit(1)


def be_guest_agent(device: str) -> None:
    """Become QEMU's guest agent."""
    with open(os.devnull, "rb") as nothing, open(RUN / "qemu-ga.log", "ab") as log:
        for number, stream in enumerate((nothing, log, log)):
            os.dup2(stream.fileno(), number)
    os.setsid()
    os.execv("/usr/sbin/qemu-ga", ["qemu-ga", "-m", "virtio-serial", "-p", device, "-t", str(RUN)])


def make_keys() -> None:
    """Make both pairs of keys where there are none yet, and the ssh server's settings."""
    KEYS.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (KEYS / "config").write_text(SSHD_CONFIG)
    for name in ("host", "own"):
        if not (KEYS / f"{name}.pub").exists():
            (KEYS / name).unlink(missing_ok=True)
            argv = ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(KEYS / name)]
            subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)


def serve_ssh(device: str) -> None:
    """Run one ssh server for whoever is connected to the port, one after the other, for ever.

    Nobody is connected while the port hangs up. The server greets first, so it does not wait for a first byte.
    """
    descriptor = os.open(device, os.O_RDWR)
    poller = select.poll()
    poller.register(descriptor, 0)
    while True:
        if hung_up(poller):
            time.sleep(0.25)  # a port that nobody is connected to cannot be waited for, and most cells never are
            continue
        argv = ["/usr/sbin/sshd", "-i", "-e", "-f", str(KEYS / "config")]
        with open(RUN / "sshd.log", "ab") as log:
            subprocess.run(argv, stdin=descriptor, stdout=descriptor, stderr=log, check=False)
        # Whoever it served has to go first: a second greeting would be nonsense to him.
        end = time.monotonic() + 1.0
        while not hung_up(poller) and time.monotonic() < end:
            time.sleep(0.005)


def hung_up(poller: "select.poll") -> bool:
    """Tell whether nobody is connected to the port on the host."""
    return any(events & select.POLLHUP for _, events in poller.poll(0))
