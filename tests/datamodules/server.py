"""A web server in a thread that can imitate failures of a download."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves `files` (content by path) on this machine.

    Attributes:
        requests: Requests so far: (method, path, first byte or None).
        logins: Authorization header of each request.
        cuts: Number of bytes after which each of the next answers breaks off.
        ranges: Whether range requests are supported.
        status: Status to answer with instead, if any.
        headers: Headers to add to every answer.
    """

    def __init__(self):
        self.files, self.requests, self.logins, self.cuts, self.headers = {}, [], [], [], {}
        self.ranges, self.status = True, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                outer.answer(self)

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, handler):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else None
        self.requests.append((handler.command, handler.path, start))
        self.logins.append(handler.headers.get("Authorization"))
        content = self.files.get(handler.path)
        status = self.status or (404 if content is None else 206 if asked and self.ranges else 200)
        body = content if content is not None and status < 300 else b""
        handler.send_response(status)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            cut = self.cuts.pop(0) if self.cuts else len(body)
            handler.wfile.write(body[:cut])
            if cut < len(body):
                handler.wfile.flush()
                handler.connection.close()
                handler.close_connection = True
