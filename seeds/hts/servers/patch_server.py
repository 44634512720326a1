"""Driver. Stand-in patch server: serves the files of one flat folder over HTTP/1.0.

One line per event goes to stdout. SIGTERM or SIGINT ends it with exit code 0.
"""

from __future__ import annotations

import argparse
import http.server
import signal
import socketserver
import sys
import threading
from pathlib import Path


def log(text: str) -> None:
    """Print one event at once, also into a pipe."""
    print(text, flush=True)


class PatchHandler(http.server.BaseHTTPRequestHandler):
    """Answers GET for a plain file name in the served folder, and nothing else."""

    server_version = "DemoPatch"
    folder: Path

    def do_GET(self) -> None:
        """Send the file, or 404."""
        name = self.path.removeprefix("/")
        # Only names that the folder itself lists are served, so no path can lead out of it.
        known = {path.name for path in self.folder.iterdir() if path.is_file()}
        if name not in known:
            self.send_error(404)
            return
        content = (self.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Send the base class's messages to stdout."""
        log(f"{self.client_address[0]} {format % args}")


class PatchServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Many clients at once; a client that stalls does not keep the process alive."""

    daemon_threads = True
    allow_reuse_address = True


def main() -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="Serve a build's patch folder.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7002, help="0 takes any free port; the first line tells which")
    parser.add_argument("--dir", type=Path, required=True, help="the patch folder of a build")
    options = parser.parse_args()
    if not options.dir.is_dir():
        print(f"{options.dir} is not a folder.", file=sys.stderr)
        return 2

    PatchHandler.folder = options.dir
    try:
        server = PatchServer((options.host, options.port), PatchHandler)
    except OSError as error:
        print(f"Cannot listen on {options.host}:{options.port}: {error.strerror}.", file=sys.stderr)
        return 2
    with server:
        for number in (signal.SIGTERM, signal.SIGINT):
            # shutdown() waits for the loop that this handler interrupts: it needs a thread of its own.
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        log(f"listening host={options.host} port={server.server_address[1]} dir={options.dir}")
        server.serve_forever(poll_interval=0.1)
    log("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
