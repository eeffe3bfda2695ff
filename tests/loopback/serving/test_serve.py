"""`siftmoe serve` as its clients meet it: OpenAI's own, curl, many at once, ones that leave."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import openai
import psutil
import pytest
from patience import scaled_s

from siftmoe.coordinator.ledger.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPT = "Return the number of"


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    url: str
    ledger: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)

    @property
    def agents(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "siftmoe.agent" in " ".join(child.cmdline())]

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url[:-3]}/health").json()
        return found


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    ledger = folder / "ledger.sqlite"
    command = [sys.executable, "-m", "siftmoe.tools.cli", "serve", "--local", "upcycled"]
    command += ["--agents", "2", "--port", "0", "--ledger", str(ledger), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said += line
            if found := re.search(r"at (http://\S+/v1)", line):
                break
        else:
            pytest.fail(f"the server ended: {said}")
        yield Server(process, found[1], ledger)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=scaled_s(30.0))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    policy = ("--policy", "siftmoe:tolerance=0.2")
    with serving(tmp_path_factory.mktemp("serve"), *policy) as found:
        yield found


def complete(server: Server, **more: Any) -> Any:
    given = {"model": "upcycled", "prompt": PROMPT, "temperature": 0, "max_tokens": 12} | more
    return server.client.completions.create(**given)


def test_the_official_client_streams_a_chat(server: Server) -> None:
    stream = server.client.chat.completions.create(
        model="upcycled",
        messages=[{"role": "user", "content": PROMPT}],
        temperature=0,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == complete(server).choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    cost = chunks[-1].siftmoe
    assert cost["radio_j"] == pytest.approx(cost["uplink_j"] + cost["answers_j"])
    assert cost["source"] == ["modelled"]
    assert cost["kept"] + cost["replaced"] + cost["skipped"] == pytest.approx(1.0)
    assert cost["bits_per_entry"] == 16.0


def test_curl_lists_the_models_and_is_answered(server: Server) -> None:
    listed = subprocess.run(
        ["curl", "--silent", f"{server.url}/models"], check=True, capture_output=True, text=True
    )
    assert [model["id"] for model in json.loads(listed.stdout)["data"]] == ["upcycled"]


def test_many_clients_get_what_each_would_alone_and_their_joules_are_the_ledgers(
    tmp_path: Path,
) -> None:
    prompts = [f"{word} the" for word in ("Return", "Compute", "Open", "Read", "Write", "Sum")]
    with serving(tmp_path) as server:
        alone = [complete(server, prompt=prompt) for prompt in prompts]
        together: dict[str, Any] = {}

        def ask(prompt: str) -> None:
            together[prompt] = complete(server, prompt=prompt)

        threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        agents = server.agents
    answers = [*alone, *together.values()]
    for prompt, answer in zip(prompts, alone, strict=True):
        assert together[prompt].choices[0].text == answer.choices[0].text
    with Ledger.open(server.ledger) as ledger:
        summary = ledger.summary()
    told = sum(answer.siftmoe["radio_j"] for answer in answers)
    assert told == pytest.approx(summary.energy().value, rel=1e-9)
    fed = sum(a.usage.prompt_tokens + a.usage.completion_tokens - 1 for a in answers)
    assert summary.tokens == fed
    assert server.process.returncode == 130  # as of every command that Ctrl-C ends
    assert not any(agent.is_running() for agent in agents)


def test_a_seed_repeats_a_continuation(server: Server) -> None:
    first, again, other = (
        complete(server, temperature=1.0, seed=seed).choices[0].text for seed in (3, 3, 4)
    )
    assert first == again != other


def test_log_probabilities_of_a_prompt_and_of_its_continuation_agree(server: Server) -> None:
    made = complete(server, logprobs=2)
    text = PROMPT + made.choices[0].text
    scored = complete(server, prompt=text, max_tokens=0, echo=True, logprobs=1).choices[0]
    assert scored.text == text
    told = made.choices[0].logprobs
    assert scored.logprobs.token_logprobs[0] is None
    assert scored.logprobs.token_logprobs[-12:] == pytest.approx(told.token_logprobs, abs=0.02)
    for logprob, likeliest in zip(told.token_logprobs, told.top_logprobs, strict=True):
        assert max(likeliest.values()) == pytest.approx(logprob)


def test_a_stop_text_ends_a_continuation_before_it(server: Server) -> None:
    whole = complete(server).choices[0].text
    stop = whole[6:9]
    ended = complete(server, stop=stop).choices[0]
    assert ended.text == whole[: whole.index(stop)]
    assert ended.finish_reason == "stop"


def test_a_client_that_leaves_frees_its_place(server: Server) -> None:
    with httpx.stream(
        "POST",
        f"{server.url}/completions",
        json={"prompt": PROMPT, "max_tokens": 400, "stream": True},
    ) as stream:
        next(stream.iter_text())
    until = time.monotonic() + scaled_s(20.0)
    while server.health()["running"] and time.monotonic() < until:
        time.sleep(0.05)
    assert server.health()["running"] == 0
    assert complete(server, max_tokens=2).usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"model": "gpt"}, openai.NotFoundError, "this server has 'upcycled'"),
        ({"n": 2}, openai.BadRequestError, "n=2 is not implemented"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"prompt": ""}, None, ""),
        ({"prompt": [99999]}, openai.BadRequestError, "vocabulary has"),
        ({"max_tokens": 100_000}, openai.BadRequestError, "context ends at"),
        ({"stop": ["a"] * 5}, openai.BadRequestError, "at most 4 stop texts"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    server: Server, more: dict[str, Any], error: type[Exception] | None, says: str
) -> None:
    if error is None:  # a beginning-of-text token is prompt enough
        assert complete(server, **more).choices[0].text
        return
    with pytest.raises(error, match=re.escape(says)):
        complete(server, **more)


def test_pages_of_others_are_refused(server: Server) -> None:
    body = {"prompt": PROMPT, "max_tokens": 1}
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        answer = httpx.post(f"{server.url}/completions", json=body, headers=headers)
        assert answer.status_code == 403
    ours = {"Origin": "http://localhost:1"}
    assert httpx.post(f"{server.url}/completions", json=body, headers=ours).status_code == 200


def test_a_killed_agent_costs_no_request(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        stream = complete(server, max_tokens=60, stream=True)
        next(stream)
        server.agents[0].kill()
        rest = list(stream)
        assert rest[-1].choices[0].finish_reason == "length"
        assert complete(server).usage.completion_tokens == 12


def test_the_port_of_another_is_told(server: Server, tmp_path: Path) -> None:
    port = server.url.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "siftmoe.tools.cli", "serve", "--local", "upcycled"]
    ended = subprocess.run(
        [*command, "--agents", "2", "--port", port], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_beyond_this_machine_a_key_is_needed() -> None:
    command = [sys.executable, "-m", "siftmoe.tools.cli", "serve", "--local", "upcycled"]
    ended = subprocess.run(
        [*command, "--host", "0.0.0.0"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "--api-key-file" in ended.stderr


def test_a_key_is_asked_for_and_a_full_queue_says_so_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    options = ("--together", "1", "--queue", "1", "--api-key-file", str(key))
    with serving(tmp_path, *options) as server:
        assert httpx.get(f"{server.url}/models").status_code == 401
        held = openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0)
        assert [model.id for model in held.models.list()] == ["upcycled"]
        ask = functools.partial(
            held.completions.create, model="upcycled", prompt=PROMPT, max_tokens=400, stream=True
        )
        with ask() as running, ask() as waiting:
            next(iter(running))
            with pytest.raises(openai.RateLimitError, match="1 requests are waiting"):
                ask()
            waiting.close()
