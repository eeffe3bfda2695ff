"""Routes of the server."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from siftmoe.tools.serving.answers import Form, cost_of, error_body, totals, usage_of
from siftmoe.tools.serving.asking import Broken, Done, Piece
from siftmoe.tools.serving.engine import Busy
from siftmoe.tools.serving.guard import Guard
from siftmoe.tools.serving.schema import ChatBody, CompletionBody, ask_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from siftmoe.tools.serving.asking import Ask, Event, Scored
    from siftmoe.tools.serving.engine import Engine, Request

#: How often a request that waits for the model looks whether its client is still there.
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The model that is served.

    Parameters
    ----------
    name : str
    tokenizer : transformers.PreTrainedTokenizerBase
    context : int or None
        Positions of the model.
    vocabulary : int
    """

    name: str
    tokenizer: Any
    context: int | None
    vocabulary: int


def make_app(
    engine: Engine, model: Served, *, hosts: tuple[str, ...], key: str | None = None
) -> Guard:
    """Make the application.

    Parameters
    ----------
    engine : Engine
        Started, and closed, by the caller.
    model : Served
    hosts, key
        As of `siftmoe.tools.serving.guard.Guard`.
    """
    app = FastAPI(title="siftmoe", docs_url=None, redoc_url=None)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return _error(f"{place}: {first['msg']}")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        told = {"id": model.name, "object": "model", "created": 0, "owned_by": "siftmoe"}
        return {"object": "list", "data": [told]}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        running, waiting = engine.load
        return {"model": model.name, "running": running, "waiting": waiting}

    @app.post("/v1/completions")
    async def completions(body: CompletionBody, http: HttpRequest) -> Any:
        try:
            asks = [_ask(ids, body, model) for ids in body.prompts(model.tokenizer)]
        except ValueError as error:
            return _error(str(error))
        return await _respond(asks, body, http, chat=False)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody, http: HttpRequest) -> Any:
        try:
            ask = _ask(body.ids(model.tokenizer), body, model)
        except ValueError as error:
            return _error(str(error))
        return await _respond([ask], body, http, chat=True)

    async def _respond(
        asks: list[Ask], body: CompletionBody | ChatBody, http: HttpRequest, *, chat: bool
    ) -> Any:
        form = Form(chat=chat, model=model.name, tokenizer=model.tokenizer)
        if body.model not in (None, "", model.name):
            said = f"model {body.model!r} is not served here; this server has {model.name!r}"
            return _error(said, status=404, code="model_not_found")
        try:
            talk = Talk(engine, asks)
        except Busy as busy:
            return _error(str(busy), status=429, kind="rate_limit_error")
        if body.stream:
            options = body.stream_options
            usage = options is not None and options.include_usage
            events = _stream(talk, asks, form, usage=usage)
            return StreamingResponse(events, media_type="text/event-stream")
        return await _whole(talk, asks, form, http)

    return Guard(app, hosts=hosts, key=key)


class Talk:
    """The prompts of one HTTP request in the engine, and their events in one queue.

    Raises
    ------
    Busy
        If the engine's queue has no room for all of them.
    """

    def __init__(self, engine: Engine, asks: Sequence[Ask]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._requests: list[Request] = []
        self._open = len(asks)
        try:
            for index, ask in enumerate(asks):
                self._requests.append(engine.submit(ask, self._teller(index)))
        except BaseException:
            self.cancel()
            raise

    def _teller(self, index: int) -> Any:
        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return tell

    def cancel(self) -> None:
        """Give up what is not done."""
        for request in self._requests:
            request.cancel()

    async def events(self, http: HttpRequest | None = None) -> AsyncIterator[tuple[int, Event]]:
        """Yield events until all prompts are done; with ``http``, only while its client is there.

        Raises
        ------
        Exception
            The engine's error, if a prompt failed.
        """
        try:
            while self._open:
                try:
                    index, event = await asyncio.wait_for(self._events.get(), _LOOK_S)
                except asyncio.TimeoutError:
                    if http is not None and await http.is_disconnected():
                        return
                    continue
                if isinstance(event, Broken):
                    raise event.error
                self._open -= isinstance(event, Done)
                yield index, event
        finally:
            self.cancel()


async def _whole(talk: Talk, asks: Sequence[Ask], form: Form, http: HttpRequest) -> JSONResponse:
    texts = [_echoed(ask, form) for ask in asks]
    tokens: list[list[Scored]] = [[] for _ in asks]
    ends: dict[int, Done] = {}
    try:
        async for index, event in talk.events(http):
            if isinstance(event, Piece):
                texts[index] += event.text
                tokens[index] += event.tokens
            elif isinstance(event, Done):
                ends[index] = event
    except Exception as error:  # noqa: BLE001 - the boundary of a request
        return _failed(error)
    if len(ends) < len(asks):
        return _error("the client is gone", status=499)
    choices = [
        form.choice(
            index,
            text,
            tokens=None if ask.logprobs is None else tokens[index],
            reason=ends[index].reason,
        )
        for index, (ask, text) in enumerate(zip(asks, texts, strict=True))
    ]
    done = [ends[index] for index in range(len(asks))]
    body = form.body(choices)
    return JSONResponse(body | {"usage": usage_of(done), "siftmoe": cost_of(totals(done))})


async def _stream(
    talk: Talk, asks: Sequence[Ask], form: Form, *, usage: bool
) -> AsyncIterator[str]:
    lengths = [0] * len(asks)
    ends: list[Done] = []
    for index, ask in enumerate(asks):
        text = _echoed(ask, form)
        lengths[index] = len(text)
        if form.chat or text:
            yield _chunk(form.body([form.choice(index, text, first=True, chunk=True)], chunk=True))
    try:
        async for index, event in talk.events():
            if isinstance(event, Piece):
                told = event.tokens if asks[index].logprobs is not None else None
                choice = form.choice(
                    index, event.text, tokens=told, offset=lengths[index], chunk=True
                )
                lengths[index] += len(event.text)
                yield _chunk(form.body([choice], chunk=True))
            elif isinstance(event, Done):
                ends.append(event)
                last = form.body(
                    [form.choice(index, "", reason=event.reason, chunk=True)], chunk=True
                )
                yield _chunk(last | {"siftmoe": cost_of(event.spending)})
    except Exception as error:  # noqa: BLE001 - the boundary of a request
        yield _chunk(error_body(_said(error), kind="server_error"))
        return
    if usage:
        yield _chunk(
            form.body([], chunk=True) | {"usage": usage_of(ends), "siftmoe": cost_of(totals(ends))}
        )
    yield "data: [DONE]\n\n"


def _ask(ids: tuple[int, ...], body: CompletionBody | ChatBody, model: Served) -> Ask:
    return ask_of(ids, body, context=model.context, vocabulary=model.vocabulary)


def _echoed(ask: Ask, form: Form) -> str:
    if not ask.score_prompt:
        return ""
    return str(form.tokenizer.decode(list(ask.ids), skip_special_tokens=True))


def _chunk(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _failed(error: Exception) -> JSONResponse:
    return _error(_said(error), status=500, kind="server_error")


def _error(
    message: str, *, status: int = 400, kind: str = "invalid_request_error", code: str | None = None
) -> JSONResponse:
    return JSONResponse(error_body(message, kind=kind, code=code), status_code=status)
