"""The ClickHouse HTTP interface over a chDB database, as a process of its own.

    python -m streams.embedded.clickhouse_server --path DIR --port PORT

Listens on 127.0.0.1 only. Ordinary clients work against it unchanged; what it lacks of the real server: the
native port, ``compress=1`` framing, external data, session state (a session id is accepted, nothing is kept
in it), and it refuses what would reach outside of the database directory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hmac
import json
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import TypeVar

from aiohttp import web

from streams.embedded import clickhouse_http as http
from streams.embedded.clickhouse_engine import DATABASE, Engine, EngineError
from streams.embedded.clickhouse_reader import USER as READER
from streams.embedded.clickhouse_run import Answer, run

HOST = "127.0.0.1"
MAX_BODY = 1 << 30  # bytes of one request, before decompression
_THREADS = 16
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

_T = TypeVar("_T")
log = logging.getLogger("streams.embedded.clickhouse")


class Endpoint:
    """Answers requests from one open database."""

    def __init__(self, engine: Engine, users: Mapping[str, str]) -> None:
        """``users``: passwords by name. All may do all but USER of clickhouse_reader, who may only read."""
        self._engine = engine
        self._users = users
        # Queries run in threads; the engine lets several run at once, each on its own handle.
        self._threads = ThreadPoolExecutor(_THREADS, "query")

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/replicas_status", self._ping)
        app.router.add_get("/", self._query)
        app.router.add_post("/", self._query)
        return app

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        query_id = request.query.get("query_id", "")
        if not query_id.isprintable() or not query_id:
            query_id = str(uuid.uuid4())
        headers = {
            "X-ClickHouse-Server-Display-Name": f"ebbtide-embedded-{os.getpid()}",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._engine.timezone,
        }
        started = perf_counter_ns()
        try:
            user = self._admit(request)
            call = replace(await self._read(request, query_id), is_reader=user == READER)
            if not call.text.strip():
                return web.Response(text="Ok.\n", headers=headers)
            read_only = request.method == "GET"
            answer = await self._in_thread(lambda: run(self._engine, call, read_only=read_only))
        except web.HTTPRequestEntityTooLarge:
            error = EngineError(307, f"DB::Exception: The body exceeds {MAX_BODY} bytes. (TOO_MANY_BYTES)")
            return self._refuse(error, headers)
        except EngineError as error:
            return self._refuse(error, headers)
        except Exception as exc:
            log.exception("query %s", query_id)
            return self._refuse(EngineError.of(exc), headers)
        headers["X-ClickHouse-Format"] = answer.format
        headers["X-ClickHouse-Summary"] = _summary(answer, perf_counter_ns() - started)
        headers["Content-Type"] = http.content_type(answer.format)
        if call.encoding is not None:
            headers["Content-Encoding"] = call.encoding
        if answer.stream is None:
            body = answer.data
            if call.encoding is not None:
                encoder = http.Encoder(call.encoding)
                body = await self._in_thread(lambda: encoder.add(answer.data) + encoder.finish())
            return web.Response(body=body, headers=headers)
        return await self._stream(request, call, answer, headers)

    async def _stream(
        self, request: web.Request, call: http.Call, answer: Answer, headers: dict[str, str]
    ) -> web.StreamResponse:
        tag = uuid.uuid4().hex[:16]
        response = web.StreamResponse(headers={**headers, "X-ClickHouse-Exception-Tag": tag})
        encoder = http.Encoder(call.encoding)

        def next_piece() -> bytes | None:
            more = answer.fetch()
            return None if more is None else encoder.add(more)

        try:
            await response.prepare(request)
            piece: bytes | None = await self._in_thread(lambda: encoder.add(answer.data))
            while piece is not None:
                if piece:
                    await response.write(piece)
                try:
                    piece = await self._in_thread(next_piece)
                except Exception as exc:
                    text = http.error_text(EngineError.of(exc), self._engine.version)
                    await response.write(encoder.add(http.exception_block(text, tag)) + encoder.finish())
                    # No last chunk: a client that does not look for the block sees a broken answer.
                    if request.transport is not None:
                        request.transport.close()
                    return response
            await response.write(encoder.finish())
            await response.write_eof()
        except ConnectionResetError:
            pass  # nobody is there to answer
        finally:
            await self._in_thread(answer.close)
        return response

    def _refuse(self, error: EngineError, headers: dict[str, str]) -> web.Response:
        return web.Response(
            status=http.http_status(error.code),
            text=http.error_text(error, self._engine.version) + "\n",
            headers={**headers, "X-ClickHouse-Exception-Code": str(error.code)},
        )

    def _admit(self, request: web.Request) -> str:
        """The user. Refuses pages of other origins in the user's browser, and whoever is none of the
        users."""
        origin = request.headers.get("Origin", "").partition("://")[2]
        for name in (request.headers.get("Host", ""), origin):
            if name and name.rpartition(":")[0] not in _LOCAL_NAMES and name not in _LOCAL_NAMES:
                raise EngineError(
                    497, f"DB::Exception: Requests for or from {name} are refused. (ACCESS_DENIED)"
                )
        user, password = _credentials(request)
        wanted = self._users.get(user)
        if not hmac.compare_digest(password.encode(), (wanted or "").encode()) or wanted is None:
            raise EngineError(
                516,
                f"DB::Exception: {user}: Authentication failed: password is incorrect,"
                " or there is no user with such name. (AUTHENTICATION_FAILED)",
            )
        return user

    async def _read(self, request: web.Request, query_id: str) -> http.Call:
        fields = dict(request.query)
        body = b""
        if request.content_type == "multipart/form-data":
            for name, value in (await request.post()).items():
                if not isinstance(value, str):
                    raise EngineError(48, "DB::Exception: External data is not supported. (NOT_IMPLEMENTED)")
                fields[name] = value
        else:
            body = await request.read()
            encoding = request.headers.get("Content-Encoding", "")
            if encoding and body:
                body = await self._in_thread(lambda: http.decode_body(body, encoding))
        for framing in ("compress", "decompress"):
            if fields.get(framing, "0") not in ("0", "false"):
                raise EngineError(48, f"DB::Exception: {framing}=1 is not supported. (NOT_IMPLEMENTED)")
        default_format = (
            fields.get("default_format")
            or fields.get("format")
            or request.headers.get("X-ClickHouse-Format")
            or "TabSeparated"
        )
        if not default_format.isidentifier():
            raise EngineError(73, f"DB::Exception: Unknown format {default_format!r}. (UNKNOWN_FORMAT)")
        query = fields.get("query", "").encode()
        revision = fields.get("client_protocol_version", "0")
        settings = {
            name: value
            for name, value in fields.items()
            if name not in http.RESERVED and not name.startswith("param_")
        }
        return http.Call(
            text=query + b"\n" + body if query and body else query or body,
            database=fields.get("database") or request.headers.get("X-ClickHouse-Database") or DATABASE,
            default_format=default_format,
            query_id=query_id,
            wait_end=fields.get("wait_end_of_query", "0") not in ("0", "false"),
            revision=int(revision) if revision.isascii() and revision.isdigit() else 0,
            encoding=http.choose_encoding(request.headers.get("Accept-Encoding", ""), settings),
            settings=settings,
            parameters={
                name.removeprefix("param_"): value
                for name, value in fields.items()
                if name.startswith("param_")
            },
        )


def _summary(answer: Answer, elapsed_ns: int) -> str:
    return json.dumps(
        {
            "read_rows": str(answer.read_rows),
            "read_bytes": str(answer.read_bytes),
            "written_rows": str(answer.written_rows),
            "written_bytes": str(answer.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(answer.written_rows),
            "result_bytes": str(answer.written_bytes or len(answer.data)),
            "elapsed_ns": str(elapsed_ns),
        },
        separators=(",", ":"),
    )


def _credentials(request: web.Request) -> tuple[str, str]:
    """User and password from ClickHouse's headers, Basic authorization or the URL, in this order."""
    if "X-ClickHouse-User" in request.headers:
        return request.headers["X-ClickHouse-User"], request.headers.get("X-ClickHouse-Key", "")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", token
        return user or "default", password
    return request.query.get("user", "default"), request.query.get("password", "")


async def serve(path: Path, port: int, users: Mapping[str, str]) -> None:
    """Serves until SIGTERM or SIGINT, then lets running queries end and closes the database."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engine: Engine | None = None
    runner: web.AppRunner | None = None
    endpoint: Endpoint | None = None
    try:
        engine = Engine(path)
        endpoint = Endpoint(engine, users)
        runner = web.AppRunner(
            endpoint.application(),
            access_log=None,
            auto_decompress=False,
            max_line_size=1 << 20,  # parameters travel in the URL
            max_field_size=1 << 16,
            shutdown_timeout=5.0,
        )
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        log.info("ClickHouse %s (chDB) on http://%s:%d over %s", engine.version, HOST, port, path)
        await stop.wait()
    finally:
        if runner is not None:
            await runner.cleanup()
        if endpoint is not None:
            endpoint.close()
        if engine is not None:
            engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="ClickHouse HTTP interface over a chDB database")
    parser.add_argument("--path", type=Path, required=True, help="directory of the database")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", default="default")
    parser.add_argument("--password-file", type=Path, help="file whose first line is the user's password")
    parser.add_argument("--reader-password-file", type=Path, help=f"likewise of {READER}, who may only read")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    users = {
        user: file.read_text().splitlines()[0] if file else ""
        for user, file in ((READER, options.reader_password_file), (options.user, options.password_file))
    }
    try:
        asyncio.run(serve(options.path.resolve(), options.port, users))
    except (OSError, RuntimeError) as exc:
        sys.exit(" ".join(str(exc).split()))


if __name__ == "__main__":
    main()
