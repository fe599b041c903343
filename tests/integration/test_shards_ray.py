"""make on a Ray cluster: the same bytes as on one machine, whatever is killed or continued."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from packing import (
    REPOSITORY,
    Pipe,
    data_set,
    has_begun,
    is_gone,
    parent_of,
    start_packer,
    wait_for,
)
from published_checkpoints import save_clip

from mlrec import storage
from mlrec.data.format import FAILURES_FILE


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all bound at once so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Yield the addresses of a cluster of two CPUs: one for nodes, and one for Ray clients."""
    # in /tmp, because the names of its sockets may have at most 107 characters
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    port, client = free_ports(2)
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
    ]
    places = [
        f"--port={port}",
        f"--ray-client-server-port={client}",
        f"--temp-dir={folder}",
        "--node-ip-address=127.0.0.1",
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "USAGE_STATS_ENABLED": "0",
            "AUTH_MODE": "token",
            "AUTH_TOKEN": secrets.token_hex(32),
        }.items():
            patch.setenv(f"RAY_{name}", value)
        head = subprocess.Popen(
            [*command, *places, "--include-dashboard=false"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert head.stdout is not None
            if not any(b"Ray runtime started" in line for line in head.stdout):
                pytest.fail("the cluster did not start")
            yield {"inside": f"127.0.0.1:{port}", "outside": f"ray://127.0.0.1:{client}"}
        finally:
            head.terminate()
            head.communicate()
            wait_for(lambda: is_gone(head.pid))
            shutil.rmtree(folder)


@pytest.fixture
def raw_copy(raw_dir: Path, tmp_path: Path) -> Path:
    """Return a copy of the raw folder to damage."""
    return Path(shutil.copytree(raw_dir, tmp_path / "raw"))


def files_in(folders: Iterable[Path]) -> set[Path]:
    """Return the files and folders directly in some folders."""
    paths: set[Path] = set()
    for folder in folders:
        paths |= set(folder.iterdir())
    return paths


def on(address: str) -> list[str]:
    """Return the options for the cluster at an address."""
    return ["--items-per-shard", "16", "--engine", "ray", "--address", address]


def test_ray_engine_on_this_machine_packs_from_s3_to_s3(
    s3: str, raw_dir: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(raw_dir.rglob("*")):
        if path.is_file():
            storage.write_bytes(f"{s3}/ray/raw/{path.relative_to(raw_dir)}", path.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    places = (Path("/tmp"), Path("/dev/shm"), tmp_path)
    before = files_in(places)
    url = f"{s3}/ray/data"
    packer = start_packer(f"{s3}/ray/raw", url, "--items-per-shard", "16", "--engine", "ray")
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    wait_for(lambda: is_gone(packer.pid))
    for path in files_in(places) - before:
        # other programs of this machine may leave files of their own meanwhile
        assert path.parent != tmp_path
        assert "ray" not in path.name
        assert "plasma" not in path.name
    packed = {}
    for path_in_set in storage.list_files(url):
        if not path_in_set.startswith("_work/"):
            packed[path_in_set] = storage.read_bytes(storage.join(url, path_in_set))
    assert packed == data_set(dataset_dir)
    # the other engine finds it complete
    packer = start_packer(f"{s3}/ray/raw", url, "--items-per-shard", "16")
    assert b"complete already" in packer.communicate()[1]


def test_ray_engine_by_title_packs_the_bytes_of_the_local_engine(
    cluster: dict[str, str], raw_dir: Path, tmp_path: Path
) -> None:
    save_clip(tmp_path / "clip")
    # a relative path, because workers of the cluster run in other folders
    checkpoint = os.path.relpath(tmp_path / "clip", REPOSITORY)
    by_title = ["--policy", "title", "--title-checkpoint", checkpoint]
    with_ray = ["--engine", "ray", "--address", cluster["inside"]]
    for name, options in (("local", []), ("ray", with_ray)):
        packer = start_packer(raw_dir, tmp_path / name, *by_title, *options)
        _, log = packer.communicate()
        assert packer.returncode == 0, log
    assert data_set(tmp_path / "ray") == data_set(tmp_path / "local")


def test_ray_engine_killed_worker_changes_nothing(
    cluster: dict[str, str], raw_copy: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    pipe = Pipe(raw_copy / "videos" / "30.mp4")
    packer = start_packer(raw_copy, tmp_path / "out", *on(cluster["inside"]))
    # the process that decodes is a child of Ray's worker, and ends with it
    pipe.kill(victim=parent_of)
    pipe.give()
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    assert data_set(tmp_path / "out") == data_set(dataset_dir)
    assert [path.name for path in (tmp_path / "out" / "_work").iterdir()] == ["settings.json"]


def test_ray_engine_video_that_kills_its_process_twice_fails_alone(
    cluster: dict[str, str], raw_copy: Path, tmp_path: Path
) -> None:
    pipe = Pipe(raw_copy / "videos" / "30.mp4")
    packer = start_packer(raw_copy, tmp_path / "out", *on(cluster["outside"]))
    pipe.kill()
    pipe.kill()
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    (failure,) = (tmp_path / "out" / FAILURES_FILE).read_text().splitlines()
    assert '"crashed the decoder"' in failure
    assert '"raw_id": "30"' in failure


@pytest.mark.parametrize(("first", "then"), [("local", "ray"), ("ray", "local")])
def test_engines_one_continues_where_the_other_was_killed(
    cluster: dict[str, str],
    raw_copy: Path,
    dataset_dir: Path,
    tmp_path: Path,
    first: str,
    then: str,
) -> None:
    options = {"local": ["--items-per-shard", "16"], "ray": on(cluster["inside"])}
    out = tmp_path / "out"
    # a video of the last shard
    pipe = Pipe(raw_copy / "videos" / "60.mp4")
    packer = start_packer(raw_copy, out, *options[first])
    with pipe.reader():
        wait_for(lambda: has_begun(out, 1))
        packer.send_signal(signal.SIGKILL)
        packer.communicate()
        wait_for(lambda: is_gone(packer.pid))
        # the cluster ends the tasks of a driver that is gone
        wait_for(pipe.is_left)
    done = {path.name: path.stat().st_mtime_ns for path in (out / "items").iterdir()}
    packer = start_packer(raw_copy, out, *options[then])
    pipe.give()
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    assert data_set(out) == data_set(dataset_dir)
    # not from the start
    assert b"packing items: 60 of 60" not in log
    times = {path.name: path.stat().st_mtime_ns for path in (out / "items").iterdir()}
    assert done.items() & times.items(), "no shard was taken over"


def test_ray_engine_error_in_a_task_reads_as_with_the_local_engine(
    cluster: dict[str, str], raw_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    errors = []
    for engine in (["--items-per-shard", "16"], on(cluster["inside"])):
        out.mkdir()
        # a broken link in the place of the shards' folder
        (out / "items").symlink_to(out / "nowhere")
        packer = start_packer(raw_dir, out, *engine)
        errors.append(packer.communicate()[1].splitlines()[-1])
        assert packer.returncode == 1
        shutil.rmtree(out)
    assert errors[0] == errors[1] == f"error: [Errno 17] File exists: '{out}/items'".encode()


def test_ray_engine_wrong_address_is_bad_input(raw_dir: Path, tmp_path: Path) -> None:
    packer = start_packer(raw_dir, tmp_path / "out", *on("nonsense"))
    assert (
        b"error: --address nonsense: no ray cluster can be joined there: Invalid address"
        in packer.communicate()[1]
    )
    assert packer.returncode == 2


def test_ray_engine_on_this_machine_listens_on_loopback_only(raw_dir: Path, tmp_path: Path) -> None:
    packer = start_packer(raw_dir, tmp_path / "out", "--engine", "ray")
    addresses: set[str] = set()
    while packer.poll() is None:
        for process in psutil.Process(packer.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        addresses.add(connection.laddr.ip)
        time.sleep(0.1)
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    assert addresses and addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
