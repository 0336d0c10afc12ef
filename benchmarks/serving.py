"""Recommending at scale, as ratios in one run on generated vectors; and the server beside an empty one, on loopback.

    python benchmarks/serving.py [--only exact,faiss,http,memory] [--items 1000000] [--run RUN] [--out serving.md]

exact   exact top 10 of --items x 64 against the bare matrix product of the same vectors
faiss   the approximate index against exact top 10, one person at a time, and its recall on people it was not set by
http    requests a second of a served run (--run, of imdb) against an empty FastAPI endpoint, and the 99th percentile
memory  the server's memory after answering, against `import torch` alone
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from recbole_mm.errors import ConfigError
from recbole_mm.files import write_text
from recbole_mm.recommend.ann import VectorIndex
from recbole_mm.recommend.top_k import top_k

WIDTH, K = 64, 10
EMPTY = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\nasync def empty():\n    return {}\n"


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 5) -> tuple[float, float]:
    """Medians, alternating, after one round that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for kept, action in zip(times, (ours, theirs), strict=True):
            took = seconds(action)
            if number:
                kept.append(took)
    return median(times[0]), median(times[1])


def exact(args: argparse.Namespace) -> Iterator[str]:
    """Isotropic vectors: the time does not depend on how they lie."""
    draw = np.random.default_rng(0)
    items = draw.standard_normal((args.items, WIDTH), dtype=np.float32)
    for n_users in (1, 16, 64):
        users = draw.standard_normal((n_users, WIDTH), dtype=np.float32)
        out = np.empty((n_users, args.items), dtype=np.float32)
        ours, bare = side_by_side(
            lambda u=users: top_k(u, items, K), lambda u=users, o=out: np.matmul(u, items.T, out=o)
        )
        yield f"| exact top {K} of {args.items:,} x {WIDTH}, {n_users} users | {ours * 1e3:.1f} ms | bare product | " \
              f"{bare * 1e3:.1f} ms | {ours / bare:.2f} x as long | at most 1.5 x |"  # fmt: skip


def faiss(args: argparse.Namespace) -> Iterator[str]:
    """Learned vectors lie in clusters of taste; isotropic ones, the hardest case, are reported too."""
    for what, noise in (("clustered", 0.5), ("isotropic", None)):
        draw = np.random.default_rng(1)
        if noise is None:
            items, people = (draw.standard_normal((n, WIDTH), dtype=np.float32) for n in (args.items, 400))
        else:
            middles = draw.standard_normal((1000, WIDTH), dtype=np.float32)
            items, people = (
                middles[draw.integers(0, 1000, n)]
                + np.float32(noise) * draw.standard_normal((n, WIDTH), dtype=np.float32)
                for n in (args.items, 400)
            )
        start = time.perf_counter()
        try:
            index = VectorIndex.build(items, people[:200])
        except ConfigError as error:
            yield f"| FAISS, {what}, {args.items:,} x {WIDTH} | {error} | | | none | at least 10 x at recall .99 |"
            continue
        took = time.perf_counter() - start
        asked = people[200:]  # the setting was chosen on the others
        ids = index.search(asked, K)[0]
        truth = top_k(asked, items, K)[0]
        recall = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(ids, truth, strict=True)])
        one = asked[:20]
        near, full = side_by_side(
            lambda i=index, o=one: [i.search(u[None], K) for u in o],
            lambda v=items, o=one: [top_k(u[None], v, K) for u in o], rounds=3,
        )  # fmt: skip
        yield f"| FAISS, {what}, {args.items:,} x {WIDTH}, recall@{K} {recall:.4f}, built in {took:.0f} s | " \
              f"{near / len(one) * 1e3:.2f} ms | exact top {K} | {full / len(one) * 1e3:.2f} ms | " \
              f"{full / near:.1f} x faster | at least 10 x at recall .99 |"  # fmt: skip


# -- over HTTP ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(words: list[str], port: int, path: str, cwd: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that answers; stopped at the end."""
    process = subprocess.Popen([sys.executable, *words], cwd=cwd, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        asyncio.run(load(port, [request("GET", path)], 20, 1))
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def request(method: str, path: str, body: Any = None) -> bytes:
    """The bytes of one request."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


async def load(port: int, requests: list[bytes], number: int, connections: int) -> list[float]:
    """Ask on loopback, that many times in all; seconds of each answer. Bounded, and every answer must be a 200."""
    times: list[float] = []
    left = iter(range(number))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n in left:
            start = time.perf_counter()
            writer.write(requests[n % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return times


def rate(port: int, requests: list[bytes], number: int, first: int = 0) -> tuple[float, float]:
    """Requests a second over 8 connections, from the ``first`` on, and the 99th percentile of their time."""
    requests = [*requests[first % len(requests) :], *requests[: first % len(requests)]]
    start = time.perf_counter()
    times = asyncio.run(load(port, requests, number, 8))
    return number / (time.perf_counter() - start), float(np.percentile(times, 99))


def questions(run: str) -> dict[str, list[bytes]]:
    """Requests by kind: all users' lists, which the server keeps once asked, and people of whom no two are the same."""
    from recbole_mm.recommend import Recommender

    recommender = Recommender.load(run)
    draw = np.random.default_rng(0)
    tokens, users = recommender.films.catalogue.tokens[1:], list(recommender.user_ids)
    new = [
        {"watched": [{"item": tokens[i], "like": bool(n)} for n, i in enumerate(draw.choice(len(tokens), 5, False))]}
        for _ in range(20_000)
    ]
    return {
        "a known user's top 10": [request("GET", f"/api/users/{u}/recommend") for u in users],
        "somebody new each time, 5 films": [request("POST", "/api/recommend", body) for body in new],
        "the same, with reasons": [request("POST", "/api/recommend", {**b, "explain": True}) for b in new],
    }


def http(args: argparse.Namespace) -> Iterator[str]:
    """Both servers run at once; rounds alternate."""
    import tempfile

    asked = questions(needed(args))
    ours, other = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.py").write_text(EMPTY)
        words = ["-m", "uvicorn", "empty:app", "--port", str(other), "--log-level", "warning", "--no-access-log"]
        serve = ["-m", "recbole_mm", "serve", "--run", str(Path(args.run).resolve()), "--port", str(ours)]
        with server(words, other, "/", folder), server(serve, ours, "/health"):
            for what, requests in asked.items():
                rates: dict[str, list[tuple[float, float]]] = {"ours": [], "empty": []}
                for number in range(3):
                    rates["empty"].append(rate(other, [request("GET", "/")], args.requests))
                    rates["ours"].append(rate(ours, requests, args.requests, number * args.requests))
                (mine, slow), (empty, slow_empty) = (
                    tuple(median(r[n] for r in rates[who]) for n in (0, 1)) for who in ("ours", "empty")
                )
                here, there = (f"{r:,.0f} /s, p99 {t * 1e3:.1f} ms" for r, t in ((mine, slow), (empty, slow_empty)))
                yield f"| {what} | {here} | an empty endpoint | {there} | {mine / empty:.2f} of it | at least half |"


def memory(args: argparse.Namespace) -> Iterator[str]:
    """Resident memory, shared pages of the mapped files included."""
    asked = questions(needed(args))
    code = "import torch, os; print(open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    torch = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 1024
    port = free_port()
    serve = ["-m", "recbole_mm", "serve", "--run", str(Path(args.run).resolve()), "--port", str(port)]
    with server(serve, port, "/health") as process:
        for requests in asked.values():
            rate(port, requests, 200)
        status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    yield f"| the server's memory after 600 requests | {resident:.0f} MB | `import torch` | {torch:.0f} MB | " \
          f"{resident - torch:+.0f} MB | at most 100 MB above |"  # fmt: skip


def needed(args: argparse.Namespace) -> str:
    """The run to serve."""
    if args.run is None:
        sys.exit("error: http and memory need --run RUN, a finished run of imdb")
    return str(args.run)


PARTS = {"exact": exact, "faiss": faiss, "http": http, "memory": memory}


def main() -> None:
    """Run the chosen parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=3_000, help="of each round, at most 6,000")
    parser.add_argument("--run")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.requests = min(args.requests, 6_000)  # three rounds of people who are all different
    lines = ["| what | here | beside | there | ratio | bar |", "|---|---|---|---|---|---|"]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", *lines, sep="\n", flush=True)
    for name in args.only.split(","):
        for line in PARTS[name](args):
            lines.append(line)
            print(line, flush=True)
    if args.out:
        write_text(args.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
