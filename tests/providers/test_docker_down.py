"""An engine that stops answering is told from one that refuses: a server of our own stands in for it."""

from __future__ import annotations

import gc
import http.server
import json
import socketserver
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import HostDown, LabError
from harness.providers.docker import DockerProvider
from tests.builders import make_image

IMAGE = make_image(reference="stand-in:1")


class _Answers(http.server.BaseHTTPRequestHandler):
    """Knows what a client asks of an engine before it is used, and refuses the rest."""

    def do_GET(self) -> None:
        known = {"/version": {"ApiVersion": "1.41", "Version": "stand-in"}, "/_ping": "OK"}
        name = next((name for name in known if self.path.endswith(name)), None)
        body = json.dumps(known[name] if name else {"message": "simulated refusal"}).encode()
        self.send_response(200 if name else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socketserver.UnixStreamServer]:
    path = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    server = socketserver.ThreadingUnixStreamServer(str(path), _Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def trouble_of(work: Callable[[], object]) -> tuple[type[LabError], str, str]:
    """Give what a call raises; docker-py leaves the socket open that found nobody, and that is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            work()
        except LabError as error:
            told = type(error), error.summary, error.detail
        else:
            pytest.fail("nothing was raised")
        gc.collect()
    return told


def lease(provider: DockerProvider) -> None:
    with provider.lease(IMAGE, run_id="r", name="n", deadline=Deadline.after(9.0)):
        pass


def test_an_engine_that_is_gone_makes_no_guest_and_says_so(
    engine: socketserver.UnixStreamServer, tmp_path: Path
) -> None:
    provider = DockerProvider()
    provider.client.close()  # what an engine does to its connections when it ends
    engine.shutdown()
    engine.server_close()
    (tmp_path / "engine.sock").unlink()
    for work in (lambda: lease(provider), lambda: provider.sweep("r")):
        assert trouble_of(work)[:2] == (HostDown, "The Docker engine does not answer.")
    provider.client.close()


def test_an_engine_that_refuses_is_not_down(engine: socketserver.UnixStreamServer) -> None:
    del engine
    provider = DockerProvider()
    kind, summary, detail = trouble_of(lambda: lease(provider))
    assert (kind, summary) == (LabError, "The Docker engine could not start a guest.")
    assert "simulated refusal" in detail
    provider.client.close()


def test_a_way_in_that_containers_have_not_is_refused_before_one_is_started(
    engine: socketserver.UnixStreamServer,
) -> None:
    del engine
    provider = DockerProvider()
    image = make_image(reference="stand-in:1").model_copy(update={"transport": "ssh"})

    def lease_it() -> None:
        with provider.lease(image, run_id="r", name="n", deadline=Deadline.after(9.0)):
            pass

    assert trouble_of(lease_it)[:2] == (LabError, "There is no way 'ssh' into containers.")
    provider.client.close()
