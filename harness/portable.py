"""Driver. Portable builds: a zip, or a folder that is made into one. Checked as an attack would be: it may be one.

1. Everything is refused before it is unpacked: names that leave the folder, bombs, links, two names that Windows takes
   for one, what is encrypted or damaged.
2. Nothing is unpacked on the host. Content is read once, in pieces, for the digests of the manifest.
3. Equal content in a folder gives equal bytes in its zip: sorted names, one date, one compression.

Names without the UTF-8 flag are CP949 when all of them can be, as Korean Windows writes them, else CP437 (APPNOTE D.1);
``vm_images/*/guest/unpack.py`` reads them by the same rule.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from harness.build import BuildFile, Component
from harness.inert_text import visible
from harness.machine import HEAD_BYTES, machine_of
from harness.windows_names import why_no_path

MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 2 << 30
#: More than this many bytes out of one is no program but a bomb; deflate's own limit is 1032.
MAX_RATIO = 100
#: A zip below this size unpacked harms nobody, however well it is compressed.
RATIO_FREE_BYTES = 256 << 20
#: ``zipfile`` holds the whole list of a zip in memory, whatever the list says of itself.
MAX_LIST_BYTES = 32 << 20

_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_CHUNK_BYTES = 1 << 20
_ONE_DATE = (1980, 1, 1, 0, 0, 0)
#: End record of a zip and the longest comment behind it. Source: PKWARE APPNOTE 4.3.16, 4.3.15, 4.3.14.
_END, _END_BYTES, _MAX_COMMENT = b"PK\x05\x06", 22, 65535
_END64, _LOCATOR64_BYTES, _ALL_ONES = b"PK\x06\x06", 20, 0xFFFFFFFF


class NotPortable(Exception):
    """The zip or folder is no portable build; the text says what it does or has, to follow its name.

    Names in it are a stranger's: what a terminal would obey in them is shown.
    """

    def __init__(self, why: str) -> None:
        super().__init__(visible(why))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of a zip as its list shows it."""

    path: str
    size_bytes: int
    packed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a zip's list says, without anything of it being unpacked.

    Attributes:
        entries: All files; folders are left out.
        refused: Why it is no portable build, to follow its name; None when the list gives no reason.
    """

    entries: tuple[Entry, ...]
    refused: str | None


def list_zip(path: Path) -> Listed:
    """Read the list of a zip.

    Raises:
        NotPortable: The list itself cannot be read, or is too long to be read.
        OSError: The file cannot be read.
    """
    with _opened(path) as opened:
        items = opened.infolist()
        if len(items) > MAX_FILES:
            raise NotPortable(f"lists {len(items)} files; {MAX_FILES} are the most")
        entries = tuple(
            Entry(path=i.filename, size_bytes=i.file_size, packed_bytes=i.compress_size)
            for i in items
            if not _is_folder(i)
        )
        return Listed(entries=entries, refused=_why_refused(items, entries, path.stat().st_size))


def manifest_of_zip(path: Path) -> tuple[BuildFile, ...]:
    """Check a portable build and digest every file in it.

    Raises:
        NotPortable: It is none.
        OSError: The file cannot be read.
    """
    listed = list_zip(path)
    if listed.refused is not None:
        raise NotPortable(listed.refused)
    programs = [entry.path for entry in listed.entries if _is_program(entry.path)]
    try:
        with _opened(path) as opened:
            return tuple(
                _digested(opened, item, only_program=len(programs) == 1)
                for item in opened.infolist()
                if not _is_folder(item)
            )
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise NotPortable(f"is damaged ({error})") from error
    except OSError as error:
        raise _of_the_zip(error) from error


def copy_out(archive: Path, inner: str, target: Path) -> None:
    """Copy one file of a checked zip out, at most as many bytes as a portable build may have.

    Raises:
        NotPortable: It cannot be read.
        OSError: It cannot be written.
    """
    try:
        with _opened(archive) as opened, opened.open(inner) as source, target.open("xb") as out:
            written = 0
            while (chunk := source.read(_CHUNK_BYTES)) and written <= MAX_UNPACKED_BYTES:
                written += out.write(chunk)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, KeyError, zlib.error) as error:
        raise NotPortable(f"is damaged ({error})") from error
    except OSError as error:
        raise _of_the_zip(error) from error


def pack_folder(folder: Path, kept_in: Path) -> Path:
    """Make a folder into a zip, kept under the name of its content.

    Raises:
        NotPortable: The folder is empty, too large, or holds something that is no ordinary file.
        OSError: It cannot be read, or the zip cannot be written.
    """
    files = sorted(_files_of(folder), key=lambda pair: pair[0])
    if not files:
        raise NotPortable("is a folder without files")
    total = sum(path.stat().st_size for _, path in files)
    if len(files) > MAX_FILES or total > MAX_UNPACKED_BYTES:
        raise NotPortable(f"has {len(files)} files and {total >> 20} MiB; {MAX_FILES} files and 2048 MiB are the most")
    kept_in.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=kept_in, suffix=".partial", delete=False) as file:
        partial = Path(file.name)
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as made:
                for name, path in files:
                    info = zipfile.ZipInfo(name, date_time=_ONE_DATE)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    with path.open("rb") as source, made.open(info, "w", force_zip64=False) as out:
                        while chunk := source.read(_CHUNK_BYTES):
                            out.write(chunk)
            file.flush()
            digest = _sha256_of(partial)
            final = kept_in / digest[:32] / f"{Path(os.path.abspath(folder)).name}.zip"  # noqa: PTH100 - '..' has no name
            final.parent.mkdir(exist_ok=True)
            return partial.rename(final)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        for name in (*folders, *names):
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            inner = path.relative_to(folder).as_posix()
            if not stat.S_ISREG(mode):
                raise NotPortable(f"holds '{inner}', which is a link or another special file")
            yield inner, path


def _opened(path: Path) -> zipfile.ZipFile:
    if _list_bytes(path) > MAX_LIST_BYTES:
        raise NotPortable(f"has a list of files longer than {MAX_LIST_BYTES >> 20} MiB")
    try:
        plain = zipfile.ZipFile(path)
        encoding = _encoding(plain.infolist())
        if encoding is None:
            return plain
        plain.close()
        return zipfile.ZipFile(path, metadata_encoding=encoding)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
        raise NotPortable(f"cannot be read as a zip ({error})") from error
    except OSError as error:
        raise _of_the_zip(error) from error


def _of_the_zip(error: OSError) -> Exception:
    """Tell a zip that points outside itself from a file that cannot be read.

    zipfile seeks where the zip says, also before its beginning, which the system refuses as an invalid argument; what
    it notices itself has no errno.
    """
    return error if error.errno not in {None, errno.EINVAL} else NotPortable(f"is damaged ({error})")


def _list_bytes(path: Path) -> int:
    """Give the length of the central directory as the end record states it; 0 when there is no such record."""
    size = path.stat().st_size
    reach = min(size, _END_BYTES + _MAX_COMMENT + _LOCATOR64_BYTES)
    with path.open("rb") as stream:
        stream.seek(size - reach)
        tail = stream.read(reach)
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < _END_BYTES:
            return 0
        (stated,) = struct.unpack_from("<I", tail, at + 12)
        if stated != _ALL_ONES or at < _LOCATOR64_BYTES:
            return int(stated)
        (offset,) = struct.unpack_from("<Q", tail, at - _LOCATOR64_BYTES + 8)
        if offset >= size:
            return int(stated)
        stream.seek(offset)
        record = stream.read(56)
        if not record.startswith(_END64) or len(record) < 56:  # noqa: PLR2004 - APPNOTE 4.3.14
            return int(stated)
        return int(struct.unpack_from("<Q", record, 40)[0])


def _encoding(items: Sequence[zipfile.ZipInfo]) -> str | None:
    """Give the encoding of the names that do not say theirs; None when CP437, zipfile's own choice, is it."""
    raw = [item.orig_filename.encode("cp437") for item in items if not item.flag_bits & _UTF8_FLAG]
    if all(name.isascii() for name in raw):
        return None
    try:
        for name in raw:
            name.decode("cp949")
    except UnicodeDecodeError:
        return None
    return "cp949"


def _why_refused(items: Sequence[zipfile.ZipInfo], entries: Sequence[Entry], zip_bytes: int) -> str | None:
    total = sum(entry.size_bytes for entry in entries)
    if not entries:
        return "has no files"
    if total > MAX_UNPACKED_BYTES or (total > RATIO_FREE_BYTES and total > MAX_RATIO * zip_bytes):
        return f"would unpack from {zip_bytes >> 10} KiB to {total >> 20} MiB, as a zip bomb does"
    folded: set[str] = set()
    for item in items:
        name = item.filename.rstrip("/")
        why = why_no_path(name)
        if why is not None:
            return f"holds '{item.filename}', which cannot be unpacked: {why}"
        if item.flag_bits & _ENCRYPTED_FLAG:
            return f"is encrypted ('{item.filename}')"
        if item.compress_type not in _METHODS:
            return f"is compressed by method {item.compress_type} ('{item.filename}'), which is not read here"
        if stat.S_ISLNK(item.external_attr >> 16):
            return f"holds the link '{item.filename}'; a program on Windows has none"
        key = name.replace("\\", "/").casefold()
        if key in folded:
            return f"holds '{item.filename}' twice for Windows, which does not tell upper and lower case apart"
        folded.add(key)
    return None


def _is_folder(item: zipfile.ZipInfo) -> bool:
    """Tell a folder from a file. ``ZipInfo.is_dir`` of Python 3.11 fails for an entry without a name."""
    return item.filename.endswith("/")


def _digested(opened: zipfile.ZipFile, item: zipfile.ZipInfo, *, only_program: bool) -> BuildFile:
    sha256, md5, size, head = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, b""
    with opened.open(item) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            head = head or chunk[:HEAD_BYTES]
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    return BuildFile(
        path=item.filename.replace("/", "\\"),
        sha256=sha256.hexdigest(),
        md5=md5.hexdigest(),
        size_bytes=size,
        component=_component(item.filename, only_program=only_program),
        machine=machine_of(head) if _is_program(item.filename) else None,
    )


def _component(path: str, *, only_program: bool) -> Component:
    if _is_program(path):
        return Component.MAIN if only_program else Component.MODULE
    return Component.MODULE if path.casefold().endswith((".dll", ".ocx", ".sys", ".pyd")) else Component.DATA


def _is_program(path: str) -> bool:
    return path.casefold().endswith(".exe")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
