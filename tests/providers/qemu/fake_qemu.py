"""A program that answers a monitor as QEMU does, and tells or does what a test asks for by commands of its own.

``x-told`` gives all that it was told before, ``x-emit`` tells events, ``x-stop`` never answers again, ``x-exit`` ends,
``x-hang-up`` lets go of the monitor and ends a little later. Called with the monitor's socket.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


def questions(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Give one object after the other; nothing stands between them."""
    decoder, text = json.JSONDecoder(), ""
    while piece := connection.recv(65536):
        text += piece.decode()
        while text.strip():
            try:
                asked, end = decoder.raw_decode(text.lstrip())
            except ValueError:
                break  # the rest is still to come
            text = text.lstrip()[end:]
            yield asked


def main() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    connection, _ = listener.accept()
    with connection:

        def say(what: dict[str, Any]) -> None:
            connection.sendall(json.dumps(what).encode() + b"\r\n")

        say(GREETING)
        told: list[dict[str, Any]] = []
        for asked in questions(connection):
            name, arguments = asked["execute"], asked.get("arguments", {})
            if name == "x-stop":
                time.sleep(60)
            if name == "x-exit":
                os._exit(arguments["code"])
            for event in arguments.get("events", ()) if name == "x-emit" else ():
                say({**event, "timestamp": {"seconds": 1, "microseconds": 0}})
            if name == "x-hang-up":  # the monitor goes first, then the process
                say({"return": {}, **({"id": asked["id"]} if "id" in asked else {})})
                connection.shutdown(socket.SHUT_RDWR)
                time.sleep(0.15)
                os._exit(0)
            said = {"told": told} if name == "x-told" else {"status": "running"}
            say({"return": said, **({"id": asked["id"]} if "id" in asked else {})})
            told = [*told, {"execute": name, "arguments": arguments}]
    time.sleep(60)  # QEMU goes on when nobody is at its monitor


if __name__ == "__main__":
    main()
