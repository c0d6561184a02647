"""Notes in a volume, behind a token: starlette on uvicorn, asynchronous from end to end.

The volume is shared by all replicas, and the last writer of a note wins.
"""

import asyncio
import hmac
import os
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

NOTES = Path("/data")
TOKEN = os.environ["NOTES_TOKEN"]


async def health(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def notes(request: Request) -> JSONResponse:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), TOKEN.encode()):
        return JSONResponse({"error": "the token is missing or wrong"}, status_code=401)
    path = NOTES / f"{request.path_params['name']}.txt"
    if request.method == "PUT":
        text = (await request.body()).decode()
        await asyncio.to_thread(path.write_text, text)
        return JSONResponse({"written": len(text)})
    if not path.is_file():
        return JSONResponse({"error": "there is no such note"}, status_code=404)
    return JSONResponse({"text": await asyncio.to_thread(path.read_text)})


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/notes/{name:str}", notes, methods=["GET", "PUT"]),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=8080)
