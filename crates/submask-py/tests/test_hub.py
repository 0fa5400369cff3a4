"""Models by their names on the Hub, from a server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import submask
from submask._hub import path_of
from submask.errors import DownloadError, InvalidError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1", COMMIT)


class Hub(ThreadingHTTPServer):
    """A hub with one repository, `owner/repo`, for who has the token."""

    def __init__(self, files: dict[str, bytes], token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Routes)
        self.files, self.token = files, token
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Routes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append(self.path)
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        of_revision, of_file = "/api/models/owner/repo/revision/", "/owner/repo/resolve/"
        if self.path.startswith(of_revision):
            known = self.path.removeprefix(of_revision) in REVISIONS
            siblings = ", ".join(f'{{"rfilename": "{name}"}}' for name in hub.files)
            return self.answer(200 if known else 404, f'{{"sha": "{COMMIT}", "siblings": [{siblings}]}}'.encode())
        revision, _, name = self.path.removeprefix(of_file).partition("/")
        if not self.path.startswith(of_file) or revision not in REVISIONS or name not in hub.files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = hub.files[name]
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, len(content)) if last else len(content)
        headers = {"ETag": f'"{len(content):x}"', "X-Repo-Commit": COMMIT}
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self.answer(206, content[start:end], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def files(models: Path) -> dict[str, bytes]:
    newest = max((models / "prime/checkpoints").iterdir(), key=lambda folder: int(folder.name.split("-")[1]))
    names = ("config.json", "model.safetensors", "tokenizer.json")
    return {name: (newest / name).read_bytes() for name in names if (newest / name).exists()}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return monkeypatch


@pytest.fixture
def hub(files: dict[str, bytes], environment: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Hub]:
    hub = Hub(files, getattr(request, "param", None))
    environment.setenv("HF_ENDPOINT", hub.endpoint)
    yield hub
    hub.shutdown()


def has_downloads() -> bool:
    try:
        submask.Model.open("hub://owner/repo")
    except InvalidError as error:
        assert "without the feature `hub`" in str(error)
        return False
    except DownloadError:
        return True
    raise AssertionError("there is no such repository")


@pytest.fixture
def downloads(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HF_HUB_OFFLINE", "1")
    here = has_downloads()
    environment.delenv("HF_HUB_OFFLINE")
    if not here:
        pytest.skip("this build is without the feature `hub`")


def test_a_model_of_the_hub_is_that_of_its_files(downloads: None, hub: Hub, models: Path, tmp_path: Path) -> None:
    own = submask.Model.open(models / "prime").sample(2, seed=3).texts
    cache = tmp_path / "cache"
    assert submask.Model.open("hub://owner/repo").sample(2, seed=3).texts == own
    assert submask.Model.from_pretrained("owner/repo", revision="v1", cache_dir=cache).sample(2, seed=3).texts == own
    assert any("/v1" in path for path in hub.asked) and any(cache.iterdir())
    with pytest.raises(DownloadError, match="other"):
        submask.Model.from_pretrained("owner/other")


@pytest.mark.parametrize("hub", ["a-token"], indirect=True)
def test_a_token_opens_what_is_closed(downloads: None, hub: Hub) -> None:
    with pytest.raises(DownloadError):
        submask.Model.from_pretrained("owner/repo")
    with pytest.raises(DownloadError):
        submask.Model.from_pretrained("owner/repo", token="another")
    assert submask.Model.from_pretrained("owner/repo", token="a-token").vocab_size > 1


def test_a_build_without_downloads_says_so_and_one_with_them_that_it_is_offline(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((InvalidError, DownloadError), match="owner/repo"):
        submask.Model.from_pretrained("owner/repo")


@pytest.mark.parametrize(
    ("repository", "revision", "path"),
    [
        ("owner/repo", None, "hub://owner/repo"),
        ("hub://owner/repo", "v1", "hub://owner/repo@v1"),
        ("owner/repo/sub/model.ckpt", "v1", "hub://owner/repo@v1/sub/model.ckpt"),
    ],
)
def test_names_become_those_of_the_program(repository: str, revision: str | None, path: str) -> None:
    assert path_of(repository, revision) == path


def test_names_and_revisions_that_are_none_are_refused(tmp_path: Path) -> None:
    refused: list[tuple[str | Path, str | None, str]] = [
        (tmp_path, "main", "revision"),
        ("owner/repo@v1", "v2", "revision"),
        ("repo", None, "repository"),
    ]
    for repository, revision, field in refused:
        with pytest.raises(InvalidError) as raised:
            submask.Model.from_pretrained(repository, revision=revision)
        assert raised.value.field == field
