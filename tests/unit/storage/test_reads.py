"""Reading and listing files by URL."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlrec import storage

USER_AND_PASSWORD = "user:hunter2"


def test_read_bytes_of_a_missing_file_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(str(tmp_path / "nothing"))


def test_read_range_past_the_end_raises(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    assert storage.read_range(str(file), 3, 4) == b"3456"
    with pytest.raises(RuntimeError, match="asked for 4 bytes at 8, got 2: the file is cut short"):
        storage.read_range(str(file), 8, 4)


def test_list_files_returns_paths_relative_to_the_folder(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b"), b"123")
    assert storage.list_files(str(tmp_path)) == {"a/b": 3}
    assert storage.list_files(str(tmp_path / "nothing")) == {}


def test_listing_has_a_longer_time_limit_than_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, float] = {}

    def call(
        fs: object, method: str, path: str, limit_s: float, **options: object
    ) -> dict[str, int]:
        limits[method] = limit_s
        return {}

    monkeypatch.setattr("mlrec.storage.transfer.call", call)
    storage.list_folder("memory://videos")
    storage.list_files("memory://videos")
    storage.exists("memory://videos")
    assert limits["ls"] == limits["find"]
    assert limits["find"] > 20 * limits["exists"]


class _ProtectedFile(BaseHTTPRequestHandler):
    """A server of one file, for a user with a password."""

    def do_GET(self) -> None:
        expected = f"Basic {base64.b64encode(USER_AND_PASSWORD.encode()).decode()}"
        is_known = self.headers.get("Authorization") == expected
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"abc")

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


def test_read_bytes_over_http_takes_the_password_from_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with ThreadingHTTPServer(("127.0.0.1", 0), _ProtectedFile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert storage.read_bytes(f"http://127.0.0.1:{server.server_port}/file") == b"abc"
        server.shutdown()


def test_why_absent_tells_a_missing_folder_from_one_of_another_kind(tmp_path: Path) -> None:
    for name in ("quickstart_id", "video"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "notes").mkdir()

    def why(url: object) -> str:
        return storage.why_absent(str(url), "a run", "config.yaml", "Name a folder")

    near, far, other = (tmp_path / name for name in ("quickstart_ids", "x", "notes"))
    assert why(near) == f"{near} is missing. Did you mean {tmp_path}/quickstart_id?"
    assert why(far) == f"{far} is missing. Name a folder"
    assert why(tmp_path / "absent" / "x") == f"{tmp_path}/absent/x is missing. Name a folder"
    assert why(other) == f"{other} is not a run: it has no config.yaml. Name a folder"
    # a folder that lacks the file suggests nothing
    assert why(tmp_path / "note") == f"{tmp_path}/note is missing. Name a folder"
    assert why("s3://a/b") == "There is no run at s3://a/b: config.yaml is missing. Name a folder"
