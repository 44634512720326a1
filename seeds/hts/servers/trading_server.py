"""Driver. Stand-in trading server: login, heartbeat, orders and quotes as lines of text over TCP.

Client                      Server
HELLO <protocol> <version>  OK <protocol> | ERR UNSUPPORTED_PROTOCOL (and closes)
LOGIN <user>                OK | ERR BAD_USER
PING                        PONG
ORDER BUY|SELL <code> <price> <quantity>   ORDER_OK <number> | ERR BAD_ORDER
                            Q <code> <price> <volume>   (by itself, after LOGIN)

One line per event goes to stdout. SIGTERM or SIGINT ends it with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import re
import signal
import sys
from dataclasses import dataclass, field

# The stocks of the demo HTS (data/symbols.txt) and their previous closes, in won.
PREVIOUS_CLOSES = {
    "900010": 71200,
    "900020": 182500,
    "900030": 38450,
    "900040": 9870,
    "900050": 412000,
    "900060": 55300,
    "900070": 4385,
    "900080": 127400,
    "900090": 1894,
    "900100": 23150,
    "900110": 298500,
    "900120": 86700,
}
# Price below which a step applies. Source: KRX business rules, table in force since 2023-01-25.
TICKS = ((2000, 1), (5000, 5), (20000, 10), (50000, 50), (200000, 100), (500000, 500))
LINE_LIMIT = 256
LOGIN_WORDS = 2


def log(text: str) -> None:
    """Print one event at once, also into a pipe."""
    print(text, flush=True)


def tick_size(price: int) -> int:
    """Return the price step at this price."""
    return next((tick for below, tick in TICKS if price < below), 1000)


@dataclass(slots=True)
class Market:
    """Prices that walk at random, within 25 % of the previous close."""

    random: random.Random
    prices: dict[str, int] = field(default_factory=lambda: dict(PREVIOUS_CLOSES))
    volumes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PREVIOUS_CLOSES, 0))

    def move(self) -> list[str]:
        """Move half of the stocks; return their quotes."""
        quotes = []
        for code in self.random.sample(sorted(self.prices), k=len(self.prices) // 2):
            price = self.prices[code] + self.random.choice((-2, -1, -1, 0, 1, 1, 2)) * tick_size(self.prices[code])
            if abs(price - PREVIOUS_CLOSES[code]) <= PREVIOUS_CLOSES[code] // 4:
                # A walk can cross into a coarser step: stay on its grid.
                self.prices[code] = price - price % tick_size(price)
            self.volumes[code] += self.random.randint(1, 900)
            quotes.append(f"Q {code} {self.prices[code]} {self.volumes[code]}")
        return quotes


class TradingServer:
    """Talks to any number of clients."""

    def __init__(self, protocols: frozenset[int], market: Market, interval_s: float) -> None:
        self.protocols = protocols
        self.market = market
        self.interval_s = interval_s
        self.numbers = itertools.count(1)
        self.subscribers: set[asyncio.StreamWriter] = set()

    async def push_quotes(self) -> None:
        """Send every logged-in client the same quotes, for ever."""
        while True:
            await asyncio.sleep(self.interval_s)
            quotes = "".join(f"{quote}\n" for quote in self.market.move()).encode()
            for writer in self.subscribers:
                writer.write(quotes)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it goes."""
        host, port = writer.get_extra_info("peername")[:2]
        peer = f"{host}:{port}"
        log(f"{peer} connected")
        try:
            await self.talk(peer, reader, writer)
        except (ConnectionError, ValueError) as error:  # ValueError: a line beyond LINE_LIMIT
            log(f"{peer} failed {type(error).__name__}")
        finally:
            self.subscribers.discard(writer)
            with contextlib.suppress(ConnectionError):
                writer.close()
            log(f"{peer} disconnected")

    async def talk(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests line by line; a refusal of the protocol ends the talk."""
        greeted = False
        while line := await reader.readline():
            words = line.decode("utf-8", "replace").split()
            command = words[0] if words else ""
            if command == "HELLO":
                answer = self.greet(words)
                greeted = answer.startswith("OK")
            elif not greeted:
                answer = "ERR NOT_GREETED"
            elif command == "LOGIN":
                answer = "OK" if len(words) == LOGIN_WORDS else "ERR BAD_USER"
            elif command == "PING":
                answer = "PONG"
            elif writer not in self.subscribers:
                answer = "ERR NOT_LOGGED_IN"
            elif command == "ORDER":
                answer = self.order(words)
            else:
                answer = "ERR UNKNOWN_COMMAND"
            if command != "PING":
                log(f"{peer} {' '.join(words)!r} -> {answer}")
            writer.write(f"{answer}\n".encode())
            await writer.drain()
            if command == "LOGIN" and answer == "OK":
                self.subscribers.add(writer)
            if command == "HELLO" and not greeted:
                return

    def greet(self, words: list[str]) -> str:
        """Accept the client's protocol or refuse it."""
        wanted = int(words[1]) if len(words) > 1 and words[1].isdecimal() else None
        return f"OK {wanted}" if wanted in self.protocols else "ERR UNSUPPORTED_PROTOCOL"

    def order(self, words: list[str]) -> str:
        """Accept every well-formed order."""
        known = re.fullmatch(r"ORDER (BUY|SELL) (\d+) [1-9]\d* [1-9]\d*", " ".join(words))
        return f"ORDER_OK {next(self.numbers)}" if known and known[2] in PREVIOUS_CLOSES else "ERR BAD_ORDER"


async def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    walk = random.Random(options.seed)  # noqa: S311 - prices for show, nothing secret
    server = TradingServer(frozenset(options.protocol), Market(walk), options.interval)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        listener = await asyncio.start_server(server.serve, options.host, options.port, limit=LINE_LIMIT)
    except OSError as error:
        print(f"Cannot listen on {options.host}:{options.port}: {error.strerror}.", file=sys.stderr)
        return 2
    port = listener.sockets[0].getsockname()[1]
    log(f"listening host={options.host} port={port} protocols={','.join(map(str, sorted(server.protocols)))}")
    quotes = asyncio.create_task(server.push_quotes())
    await stop.wait()
    quotes.cancel()
    listener.close()
    log("stopped")
    return 0


def main() -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Stand-in trading server of the demo HTS.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7001, help="0 takes any free port; the first line tells which")
    parser.add_argument("--protocol", type=int, action="append", help="an accepted protocol, repeatable (default: 3)")
    parser.add_argument("--interval", type=float, default=0.5, metavar="SECONDS", help="between quotes (default: 0.5)")
    parser.add_argument("--seed", type=int, default=20261105, help="of the prices' walk")
    options = parser.parse_args()
    options.protocol = options.protocol or [3]
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
