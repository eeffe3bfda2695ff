"""Key files and allow-lists, valid and damaged."""

from __future__ import annotations

import os
import stat

import pytest

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.errors import ConfigError, KeyUnusable
from siftmoe.agent.security.keys import KeyPair, is_public_key, load_allowed, load_credentials


@pytest.fixture
def pair():
    return KeyPair.generate()


def test_a_key_file_is_private_and_comes_back_as_it_was(pair, tmp_path):
    path = tmp_path / "board.key"
    umask = os.umask(0)
    try:
        pair.save(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyPair.load(path) == pair


def test_a_secret_is_in_no_representation(pair):
    assert pair.secret not in f"{pair!r} {pair} {[pair]} { ({'k': pair}) }"
    assert pair.public in repr(pair)


def test_a_key_is_never_overwritten(pair, tmp_path):
    pair.save(tmp_path / "k")
    with pytest.raises(FileExistsError):
        KeyPair.generate().save(tmp_path / "k")
    assert KeyPair.load(tmp_path / "k") == pair


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_read_is_refused(pair, tmp_path, mode):
    path = tmp_path / "k"
    pair.save(path)
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match=f"mode {mode:04o}.*chmod 600"):
        KeyPair.load(path)


def test_what_is_no_key_file_is_told_without_its_content(pair, tmp_path):
    path = tmp_path / "k"
    other = KeyPair.generate()
    for text, reason in [
        (pair.secret, "no key file"),
        (f'public = "{pair.public}"\nsecret = "{pair.secret[:-1]}"', "no key file"),
        (f'public = "{pair.public}"\nsecret = "{pair.secret}"\nmore = 1', "no key file"),
        (f'public = "{other.public}"\nsecret = "{pair.secret}"', "do not belong together"),
    ]:
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(KeyUnusable, match=reason) as caught:
            KeyPair.load(path)
        assert pair.secret[:-1] not in f"{caught.value} {caught.value.__context__}"
        path.unlink()
    with pytest.raises(KeyUnusable, match="No such file"):
        KeyPair.load(path)


def test_an_allow_list_names_keys_and_takes_comments(tmp_path):
    keys = [KeyPair.generate().public for _ in range(40)]  # some begin with '#', by chance
    path = tmp_path / "allowed"
    lines = ["# who may connect", "", *[f"{key}  user {n}" for n, key in enumerate(keys)]]
    path.write_text("\n".join(lines))
    assert load_allowed(path) == {key: f"user {n}" for n, key in enumerate(keys)}


@pytest.mark.parametrize("line", ["short name", "x" * 40, f'{"x" * 39}" name'])
def test_a_wrong_line_is_named(tmp_path, line):
    path = tmp_path / "allowed"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(KeyUnusable, match="line 2: expected a public key"):
        load_allowed(path)


def test_keys_and_list_go_together(pair, tmp_path):
    pair.save(tmp_path / "k")
    (tmp_path / "allowed").write_text(f"{KeyPair.generate().public} me\n")
    (tmp_path / "nobody").write_text("# nobody\n")
    key = str(tmp_path / "k")
    assert load_credentials(None, None) is None
    credentials = load_credentials(key, str(tmp_path / "allowed"))
    assert credentials is not None
    assert credentials.keys == pair
    with pytest.raises(KeyUnusable, match="needs an allow-list"):
        load_credentials(key, None)
    with pytest.raises(KeyUnusable, match="nobody could connect"):
        load_credentials(key, str(tmp_path / "nobody"))
    with pytest.raises(ConfigError, match="key and allow go together"):
        AgentConfig.from_options({"bundle": "b", "key": key})
    with pytest.raises(ConfigError, match="insecure means without keys"):
        AgentConfig.from_options({"bundle": "b", "key": key, "allow": "a", "insecure": True})


def test_public_keys_are_told_from_other_text(pair):
    assert is_public_key(pair.public)
    assert not is_public_key(pair.public[:-1])
    assert not is_public_key(pair.public[:-1] + "é")
    assert not is_public_key("#" * 40)  # more than 32 bits in five characters
