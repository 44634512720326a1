"""Driver. What the layers of a virtual machine's image are made by, as digests: who changes little makes little anew.

1. ``disk``: packages, how Debian is put on a disk, and what its first boot runs. Minutes.
2. ``template``: that disk, the guest scripts and guest tools, the machine's command line and QEMU's version. A boot.

The host's mirror and proxy are in neither: they say where packages come from, not which.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.providers.docker_base import LEFT_OUT, SUITE
from harness.providers.image_files import DEFINITION, PACKAGES, ImageFiles
from harness.providers.qemu.machine import any_fingerprint
from harness.providers.qemu.overlay import TAR_NAME, TARGET

DISK_SIZE = "6G"

#: The first process of a disk's first boot; it runs prepare.sh.
FIRST_BOOT = f"{TARGET}/first_boot.py"

#: Loaded by the initial RAM disk; all else is found once the root is there.
_MODULES = ("virtio_pci", "virtio_blk", "ext4", "virtio_console", "virtio_rng")

#: A script of the RAM disk (initramfs-tools(7), init-bottom): what ``overlay`` brought goes into the root.
UNPACK = f"""#!/bin/sh
[ "$1" != prereqs ] || exit 0
[ ! -e /{TAR_NAME} ] || chroot "$rootmnt" /bin/tar -xpf - -C {TARGET} < /{TAR_NAME}
"""
_SCRIPT = "$1/etc/initramfs-tools/scripts/init-bottom/hts-compat"
HOOK = (
    'printf "' + "\\n".join(_MODULES) + '\\n" > "$1/etc/initramfs-tools/modules";'
    ' sed -i "s/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=lz4/" "$1/etc/initramfs-tools/initramfs.conf";'
    f" cat > \"{_SCRIPT}\" <<'END'\n{UNPACK}END\n"
    f'chmod 755 "{_SCRIPT}"; chroot "$1" update-initramfs -u -k all'
)
#: $1 the root's tar, $2 a folder to unpack it in, $3 what goes to /opt/hts-compat, $4 the disk, $5 its size, $6 where
#: kernel and RAM disk go. Everything under one fakeroot, which alone remembers who owns what.
MAKE_DISK = """set -eu
mkdir "$2"
tar -xpf "$1" -C "$2" --numeric-owner --exclude='./dev/*'
mkdir -p "$2/opt/hts-compat"
cp -r "$3/." "$2/opt/hts-compat/"
chown -R 0:0 "$2/opt/hts-compat"
cp "$2"/boot/vmlinuz-* "$6/vmlinuz"
cp "$2"/boot/initrd.img-* "$6/initrd"
dpkg-query --admindir="$2/var/lib/dpkg" -W | wc -l > "$6/packages"
mke2fs -q -t ext4 -O ^has_journal -d "$2" "$4" "$5"
"""

_GUEST = "guest/"
#: For containers, or said of the image and not put into it.
_NOT_ON_THE_DISK = frozenset({"Dockerfile", DEFINITION, PACKAGES})


def disk_files(files: ImageFiles) -> dict[str, Path]:
    """Give what lies on the disk before its first boot, in ``TARGET``: whatever is neither a guest script nor said."""
    image = files.of_image().items()
    return {name: path for name, path in image if name not in _NOT_ON_THE_DISK and not name.startswith(_GUEST)}


def guest_files(files: ImageFiles) -> dict[str, Path]:
    """Give the guest scripts, which each boot of a template's making finds in ``TARGET``."""
    image = files.of_image().items()
    return {name.removeprefix(_GUEST): path for name, path in image if name.startswith(_GUEST)}


def disk_recipe(files: ImageFiles) -> str:
    """Give the sha256 of all that a disk is made by.

    Raises:
        InputError: The folder is no image definition.
    """
    files.recipe()  # which says what is missing
    words = [SUITE, *sorted(files.packages()), *LEFT_OUT, DISK_SIZE, HOOK, MAKE_DISK]
    return _digest(words, disk_files(files))


def template_recipe(files: ImageFiles, *, qemu_version: str) -> str:
    """Give the sha256 of all that a template is made by.

    Raises:
        InputError: The folder is no image definition.
    """
    labelled = {f"guest/{name}": path for name, path in guest_files(files).items()}
    labelled |= {f"guest_tools/{path.name}": path for path in files.guest_tools.glob("*.c")}
    labelled |= {DEFINITION: files.of_image()[DEFINITION]}
    return _digest([disk_recipe(files), any_fingerprint(qemu_version=qemu_version)], labelled)


def _digest(words: list[str], files: Mapping[str, Path]) -> str:
    total = hashlib.sha256()
    for piece in _pieces(words, files):
        total.update(b"%d\n" % len(piece) + piece)
    return total.hexdigest()


def _pieces(words: list[str], files: Mapping[str, Path]) -> Iterator[bytes]:
    yield from (word.encode() for word in words)
    for name in sorted(files):
        yield f"{name} {os.access(files[name], os.X_OK)}".encode()
        yield files[name].read_bytes()
