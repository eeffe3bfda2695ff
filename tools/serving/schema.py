"""Bodies of requests, as OpenAI's interface has them, and the prompts that they ask to continue.

Fields that would change the answer and are not implemented are refused by name; others that are
unknown are ignored, since clients send many.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from siftmoe.tools.serving.asking import Ask, Sampling

#: Of one request.
MOST_PROMPTS = 64
MOST_STOPS = 4
_Text = Annotated[str, Field(max_length=1 << 20)]
_Token = Annotated[int, Field(ge=0)]
_Tokens = Annotated[list[_Token], Field(min_length=1, max_length=1 << 20)]

#: Field -> the values that ask for nothing.
_NOT_DONE: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "audio": (None,),
}


class StreamOptions(BaseModel):
    """What a stream ends with."""

    include_usage: bool = False


class _Body(BaseModel):
    """Fields that both kinds of completions have."""

    model_config = ConfigDict(extra="allow")

    model: _Text | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] | None = None
    stop: _Text | list[_Text] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > MOST_STOPS:
            raise ValueError(f"at most {MOST_STOPS} stop texts, got {len(stop)}")
        return stop

    def check_done(self) -> None:
        """Raise ValueError for a field whose effect is not implemented."""
        for name, value in (self.model_extra or {}).items():
            if name in _NOT_DONE and value not in _NOT_DONE[name]:
                raise ValueError(f"{name}={value!r} is not implemented; leave it out")

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        given = {
            name: getattr(self, name)
            for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
            if getattr(self, name) is not None
        }
        return Sampling(**given)

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop texts, without empty ones."""
        stop = self.stop
        texts = [stop] if isinstance(stop, str) else stop or []
        return tuple(text for text in texts if text)


class CompletionBody(_Body):
    """``POST /v1/completions``."""

    prompt: _Text | list[_Text] | _Tokens | list[_Tokens]
    max_tokens: Annotated[int, Field(ge=0, le=1 << 20)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None

    def prompts(self, tokenizer: Any) -> list[tuple[int, ...]]:
        """Tokens of every prompt.

        Raises
        ------
        ValueError
            If there are too many prompts, or one is empty or holds an unknown token.
        """
        given = self.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]  # type: ignore[assignment]
        if not 0 < len(given) <= MOST_PROMPTS:
            raise ValueError(f"prompt: 1 to {MOST_PROMPTS} prompts, got {len(given)}")
        return [_tokens(prompt, tokenizer) for prompt in given]


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[dict[str, Any]]

    @property
    def text(self) -> str:
        """Its text.

        Raises
        ------
        ValueError
            If it has parts that are no text.
        """
        if isinstance(self.content, str):
            return self.content
        strange = [part.get("type") for part in self.content if part.get("type") != "text"]
        if strange:
            raise ValueError(f"messages: parts of type {strange[0]!r}; this model reads text only")
        return "".join(str(part.get("text", "")) for part in self.content)


class ChatBody(_Body):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def ids(self, tokenizer: Any) -> tuple[int, ...]:
        """Tokens of the chat: by the model's template, or its messages one after the other."""
        if getattr(tokenizer, "chat_template", None):
            messages = [{"role": one.role, "content": one.text} for one in self.messages]
            found = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
            return tuple(int(token) for token in found)
        return _tokens("\n\n".join(one.text for one in self.messages), tokenizer)


def ask_of(
    ids: tuple[int, ...],
    body: CompletionBody | ChatBody,
    *,
    context: int | None,
    vocabulary: int,
) -> Ask:
    """Make an ask of a prompt's tokens and a request's options.

    Raises
    ------
    ValueError
        If the prompt and the continuation do not fit the model's context, a token is not in its
        vocabulary, or an option is not implemented.
    """
    body.check_done()
    unknown = [token for token in ids if token >= vocabulary]
    if unknown:
        raise ValueError(f"prompt: token {unknown[0]}; the model's vocabulary has {vocabulary}")
    limit = body.max_tokens
    logprobs, echo = body.logprobs, False
    if isinstance(body, ChatBody):
        limit = body.max_completion_tokens or body.max_tokens
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
    else:
        echo = bool(body.echo)
    room = (1 << 20) if context is None else context - len(ids)
    if room < 0 or (room == 0 and limit != 0):
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context ends at {context}")
    if limit is not None and limit > room:
        raise ValueError(
            f"the prompt has {len(ids)} tokens and max_tokens is {limit}; the model's context ends "
            f"at {context}"
        )
    return Ask(
        ids=ids,
        max_tokens=room if limit is None else limit,
        sampling=body.sampling,
        stop=body.stops,
        logprobs=None if logprobs is None else int(logprobs),
        score_prompt=echo,
    )


def _tokens(prompt: Any, tokenizer: Any) -> tuple[int, ...]:
    if not isinstance(prompt, str):
        return tuple(prompt)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    if not ids:
        raise ValueError("the prompt is empty; give at least one word")
    return tuple(ids)
