"""Driver. Who signed a file, and how far that can be believed without asking anybody. The only user of signify.

A chain is checked against the roots that signify ships (Microsoft's trusted root programme); nobody is asked whether a
certificate has been revoked. Windows itself may say otherwise, and its answer counts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.inspection.model import Signed, Signer, Trust

if TYPE_CHECKING:
    from signify.x509 import Certificate

#: Hashing a larger file takes longer than anybody waits for a signature.
MAX_BYTES = 1 << 30
MAX_SIGNERS = 8

#: What a hostile certificate table makes the parsers below signify raise.
_PARSE_ERRORS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, AssertionError,
    OSError, struct.error,
)  # fmt: skip


def signed_by(path: Path) -> Signed:
    """Read a file's signatures and check the first; never raises over what the file holds."""
    if path.stat().st_size > MAX_BYTES:
        return Signed(trust=Trust.UNCHECKED, detail=f"The file has more than {MAX_BYTES >> 20} MiB.")
    try:
        with _readable_openssl_version():
            from signify.authenticode import AuthenticodeFile, AuthenticodeVerificationResult  # noqa: PLC0415
            from signify.exceptions import AuthenticodeNotSignedError, SignifyError  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - oscrypto looks for the system's OpenSSL, and may fail in any way
        return Signed(trust=Trust.UNCHECKED, detail=f"The library 'signify' cannot be used here ({error}).")
    try:
        with path.open("rb") as stream:
            file = AuthenticodeFile.from_stream(stream)
            signatures = list(file.iter_embedded_signatures())
            if not signatures:
                return Signed(trust=Trust.UNSIGNED)
            # A file is often signed twice by one certificate, for an old and a new digest.
            signers = tuple(dict.fromkeys(_signer(one) for one in _certificates(signatures)))[:MAX_SIGNERS]
            result, why = file.explain_verify()
    except AuthenticodeNotSignedError:
        return Signed(trust=Trust.UNSIGNED)
    except SignifyError as error:
        return Signed(trust=Trust.UNREADABLE, detail=str(error))
    except _PARSE_ERRORS as error:
        return Signed(trust=Trust.UNREADABLE, detail=f"{type(error).__name__}: {error}")
    trust = {
        AuthenticodeVerificationResult.OK: Trust.VALID,
        AuthenticodeVerificationResult.NOT_SIGNED: Trust.UNSIGNED,
        AuthenticodeVerificationResult.PARSE_ERROR: Trust.UNREADABLE,
        AuthenticodeVerificationResult.INVALID_DIGEST: Trust.ALTERED,
        AuthenticodeVerificationResult.INVALID_ADDITIONAL_HASH: Trust.ALTERED,
        # The digest of the file is compared first, so these mean that it fits.
        AuthenticodeVerificationResult.CERTIFICATE_ERROR: Trust.UNPROVEN,
        AuthenticodeVerificationResult.COUNTERSIGNER_ERROR: Trust.UNPROVEN,
    }.get(result, Trust.INVALID)
    return Signed(trust=trust, signers=signers, detail=re.sub(r"<\S+ object at \w+>", "a certificate", str(why or "")))


def _certificates(signatures: list[Any]) -> Iterator[Certificate]:
    for signature in signatures:
        for info in signature.signer_infos:
            found = (c for c in signature.certificates if c.serial_number == info.serial_number)
            certificate = next((c for c in found if c.issuer == info.issuer), None)
            if certificate is not None:
                yield certificate


def _signer(certificate: Certificate) -> Signer:
    return Signer(
        subject=certificate.subject.dn,
        issuer=certificate.issuer.dn,
        valid_from=certificate.valid_from.date().isoformat(),
        valid_to=certificate.valid_to.date().isoformat(),
        sha256=certificate.sha256_fingerprint.replace(" ", "").lower(),
    )


#: How oscrypto 1.3.0 looks for OpenSSL's version, and how it has to: the patch number may have two digits.
_ONE_DIGIT, _ALL_DIGITS = "\\b(\\d\\.\\d\\.\\d[a-z]*)\\b", "\\b(\\d\\.\\d\\.\\d+[a-z]*)\\b"


@contextmanager
def _readable_openssl_version() -> Iterator[None]:
    """Let oscrypto, on its first import, read the version of an OpenSSL such as 3.0.19 (wbond/oscrypto issue 78).

    The last release (1.3.0 of 2022) refuses to be imported beside it. Nothing else of oscrypto depends on the number.
    """
    search = re.search

    def patient(pattern: Any, text: Any, flags: int = 0) -> Any:  # noqa: ANN401 - as re.search
        return search(_ALL_DIGITS if pattern == _ONE_DIGIT else pattern, text, flags)

    re.search = patient  # type: ignore[assignment]
    try:
        yield
    finally:
        re.search = search
