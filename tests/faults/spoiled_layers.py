"""A layer that is damaged, in a folder of layers of our own: all else in it is the real one's, by links.

The machine's own layers are never touched: others use them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.providers.qemu.layer import layers_folder
from harness.providers.qemu.template import ABOUT, DISK, MEMORY, STATE

#: Damages a copy of a file.
Spoil = Callable[[Path], object]


def _cut(copy: Path) -> None:
    os.truncate(copy, copy.stat().st_size // 2)


def _flipped(copy: Path) -> None:
    with copy.open("r+b") as stream:
        at = stream.seek(copy.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


#: What befalls a layer, by its name: which file, and how.
SPOILT: Mapping[str, tuple[str, Spoil]] = {
    "the layer's state is cut": (STATE, _cut),
    "one bit of the layer's state is flipped": (STATE, _flipped),
    "the layer's disk is missing": (DISK, Path.unlink),
    "one bit of the layer's memory is flipped": (MEMORY, _flipped),
    "the layer's description is cut": (ABOUT, _cut),
}


@contextmanager
def spoiled(layer: Path, how: str) -> Iterator[Path]:
    """Let this process find a layer damaged, and every other one as it is; give the damaged layer's folder."""
    name, spoil = SPOILT[how]
    real = layers_folder()
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="hts-spoiled-") as cache:
        ours = Path(cache) / "hts-compat" / "qemu"
        ours.mkdir(parents=True)
        for entry in real.iterdir():
            if entry != layer and not entry.name.startswith("."):
                (ours / entry.name).symlink_to(entry)
        damaged = ours / layer.name
        damaged.mkdir()
        for file in layer.iterdir():
            if file.name != name:
                (damaged / file.name).symlink_to(file)
        # A memory has a gibibyte, most of it holes.
        subprocess.run(["cp", "--sparse=always", str(layer / name), str(damaged)], check=True)
        (damaged / name).chmod(0o644)
        spoil(damaged / name)
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            yield damaged
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before
