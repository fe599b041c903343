import base64
import errno
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlrec import storage
from mlrec.config import load
from mlrec.storage import objects


def test_a_missing_file_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(str(tmp_path / "nothing"))


def test_a_range_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert storage.read_range(str(tmp_path / "file"), 3, 4) == b"3456"
    with pytest.raises(RuntimeError, match="asked for 4 bytes at 8, got 2: the file is cut short"):
        storage.read_range(str(tmp_path / "file"), 8, 4)


def test_writes_are_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "folder" / "file")
    storage.write_bytes(url, b"first")

    def fail(source: Path, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mlrec.storage.objects.publish", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_bytes(url, b"second")
    assert storage.read_bytes(url) == b"first"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"], "no half file stays"


def test_files_are_listed_relative_to_the_folder(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b"), b"123")
    assert storage.list_files(str(tmp_path)) == {"a/b": 3}
    assert storage.list_files(str(tmp_path / "nothing")) == {}


def test_the_home_folder_has_its_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage.write_bytes("~/data/file", b"0123")
    assert (tmp_path / "data" / "file").exists() and storage.read_range(
        "~/data/file", 1, 2
    ) == b"12"


def test_a_listing_has_more_time_than_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, float] = {}

    def call(
        fs: object, method: str, path: str, limit_s: float, **options: object
    ) -> dict[str, int]:
        limits[method] = limit_s
        return {}

    monkeypatch.setattr(storage.transfer, "call", call)
    storage.list_folder("memory://videos")
    storage.list_files("memory://videos")
    storage.exists("memory://videos")
    assert limits["ls"] == limits["find"] > 20 * limits["exists"]


UNSUPPORTED = [
    (
        "ftps://host/x",
        "unknown storage scheme 'ftps'; name a folder, or a URL such as s3://, gs://, az:// or http(s)://",
    ),
    ("zip://x", "unknown storage scheme 'zip'"),
    ("simplecache:///tmp/x", "unknown storage scheme 'simplecache'"),
    ("HTTPS://host/x", "unknown storage scheme 'HTTPS'"),
    ("zip://x::http://host/x", "URLs chained with '::' are not supported"),
    ("simplecache::/tmp/x", "URLs chained with '::' are not supported"),
    ("filecache::s3://bucket/x", "URLs chained with '::' are not supported"),
    ("x.zip::y", "URLs chained with '::' are not supported"),
]


@pytest.mark.parametrize(("url", "words"), UNSUPPORTED)
@pytest.mark.parametrize(
    "key",
    ["data.url", "item.options.id/embedding.checkpoint", "item.options.id/embedding.features"],
)
def test_config_with_a_url_of_an_unsupported_kind_names_key_value_and_schemes(
    url: str, words: str, key: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{key} is {re.escape(repr(url))}: {re.escape(words)}"):
        load([], [f"{key}={url}"])


@pytest.mark.parametrize(("url", "words"), UNSUPPORTED)
def test_storage_with_a_url_of_an_unsupported_kind_names_value_and_schemes(
    url: str, words: str
) -> None:
    for call in (
        storage.exists,
        storage.read_bytes,
        storage.list_files,
        storage.size_of,
        storage.remove,
    ):
        with pytest.raises(ValueError, match=rf"^{re.escape(url)}: {re.escape(words)}"):
            call(url)


def test_storage_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(
        RuntimeError, match=r"^ftp://127\.0\.0\.1:1/x: this storage cannot be opened \(.*refused"
    ):
        storage.exists("ftp://127.0.0.1:1/x")


def test_other_schemes_of_fsspec_are_accepted() -> None:
    assert load([], ["data.url=hf://datasets/a/b"]).data.url == "hf://datasets/a/b"


def test_local_path_with_colons_is_read_as_it_is(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a::b" / "file"), b"0123")
    assert (tmp_path / "a::b" / "file").read_bytes() == b"0123"
    assert storage.list_files(str(tmp_path / "a::b")) == {"file": 4}


def test_http_url_of_an_ipv6_address_keeps_its_host() -> None:
    assert objects._filesystem("http://[::1]:80/set")[1] == "http://[::1]:80/set"


def test_train_start_from_at_a_url_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^train\.start_from is 's3://bucket/run'; it must be a folder on this machine",
    ):
        load([], ["train.start_from=s3://bucket/run"])


def test_a_scheme_without_its_package_names_the_extra() -> None:
    with pytest.raises(
        ValueError, match=r"the scheme 'gs' needs a package .*pip install 'mlrec\[gs\]'"
    ):
        storage.read_bytes("gs://bucket/x")


class _Guarded(BaseHTTPRequestHandler):
    """Serves a file to a user with a password."""

    def do_GET(self) -> None:
        is_known = (
            self.headers.get("Authorization")
            == f"Basic {base64.b64encode(b'user:hunter2').decode()}"
        )
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"abc")

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


def test_the_password_of_a_web_server_comes_from_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert storage.read_bytes(f"http://127.0.0.1:{server.server_port}/file") == b"abc"
        server.shutdown()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EFBIG, "File too large")],
)
def test_writing_names_the_place_that_is_full(error: OSError) -> None:
    with (
        pytest.raises(OSError, match=r": 'runs/a/state\.json'$"),
        storage.writing("runs/a/state.json"),
    ):
        raise error


def test_writing_keeps_the_place_that_an_error_names() -> None:
    with pytest.raises(FileNotFoundError, match=r"'elsewhere'$"), storage.writing("here"):
        open("elsewhere")  # noqa: SIM115
