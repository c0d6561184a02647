"""Serves the catalogue with nothing but the standard library: `python -m catalog`."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from catalog.parts import PARTS


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/")
        found = name in PARTS
        body = json.dumps({"part": name, "stock": PARTS[name]} if found else sorted(PARTS)).encode()
        self.send_response(200 if found or not name else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
