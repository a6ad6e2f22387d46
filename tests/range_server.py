"""A file server on this computer with range requests, and faults on demand."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RangeServer(ThreadingHTTPServer):
    """Serves one content under every path; attributes say how well."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.etag: str | None = '"one"'
        self.content_type = "application/octet-stream"
        self.has_ranges = True
        self.checks_if_range = True
        self.says_size = True
        self.status = 200
        self.delay_seconds = 0.0
        self.cuts: list[int] = []
        """Bytes after which the connection breaks, one per request to come."""
        self.asked: list[str | None] = []
        """Range of every request, or None."""

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jmp-x.pt"


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers["Range"]
        server.asked.append(asked)
        time.sleep(server.delay_seconds)
        if server.status != 200:
            self.send_error(server.status)
            return
        is_current = self.headers["If-Range"] in (None, server.etag)
        total = len(server.content)
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        if match and server.has_ranges and (is_current or not server.checks_if_range):
            start = int(match[1])
            if start >= total:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            start = 0
            self.send_response(200)
        if server.says_size:
            self.send_header("Content-Length", str(total - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.content_type)
        self.end_headers()
        stop = start + server.cuts.pop(0) if server.cuts else total
        self.wfile.write(server.content[start:stop])

    def log_message(self, *args: object) -> None:
        """Keep stderr for the program under test."""


@contextmanager
def serve(content: bytes) -> Iterator[RangeServer]:
    """Run a server until the with statement ends."""
    with RangeServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
