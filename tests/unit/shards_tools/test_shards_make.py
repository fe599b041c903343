"""The packer: what it writes, and that a run that was killed goes on."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from packed import open_packed, pack, runs, samples
from packing import REPOSITORY, Pipe, has_begun, is_gone, start_packer, tree, wait_for

from mlrec.data.format import DATASET_FILE, ORACLE_FILE, SplitInfo, read_dataset_info, read_npy
from shards_tools.cli import main
from shards_tools.pack.settings import Settings

MICROLENS_50K = REPOSITORY.parent / "shared" / "data" / "microlens-50k"


def raw_runs(raw: Path) -> dict[int, list[str]]:
    lines = (line.split("\t") for line in (raw / "synthetic_pairs.tsv").read_text().splitlines())
    return {int(user): items.split() for user, items in lines}


def test_make_items_are_readable_by_webdataset_alone(raw_dir: Path, dataset_dir: Path) -> None:
    info, catalogue = open_packed(dataset_dir)
    found = samples(dataset_dir, "items")
    assert len(found) == info.counts["items"] == catalogue.size
    for item, sample in enumerate(found, start=1):
        about = json.loads(sample["json"])
        assert (about["item"], sample["__key__"]) == (item, f"{item:09d}")
        assert sample["txt"].decode() == about["title"] == catalogue.title(item)
        assert {name for name in sample if not name.startswith("__")} == {
            member.name for member in catalogue.members(item)
        }
        assert all(len(sample[member.name]) == member.size for member in catalogue.members(item))
    assert {"0.jpg", "4.jpg", "cover.jpg"} <= found[0].keys()


def test_make_sequences_are_readable_by_webdataset_alone(raw_dir: Path, dataset_dir: Path) -> None:
    info, catalogue = open_packed(dataset_dir)
    raw_ids = ["", *catalogue.table["raw_id"].to_pylist()]
    assert {
        user: [raw_ids[item] for item in run] for user, run in runs(dataset_dir).items()
    } == raw_runs(raw_dir)
    assert len(info.shards("sequences")) == 3
    assert len(samples(dataset_dir, "sequences")[0]) == 3 + len(
        ["__key__", "__url__", "__local_path__"]
    )


def test_make_popularity_counts_training_interactions(dataset_dir: Path) -> None:
    info, catalogue = open_packed(dataset_dir)
    expected = np.zeros(catalogue.size + 1, dtype=int)
    for run in runs(dataset_dir).values():
        np.add.at(expected, run[-13:-2], 1)
    assert catalogue.popularity_N1.tolist() == expected.tolist()
    assert info.counts["train"] == expected.sum()


def test_make_copies_oracle_and_likes(raw_dir: Path, dataset_dir: Path) -> None:
    info, catalogue = open_packed(dataset_dir)
    assert info.has(ORACLE_FILE)
    assert (dataset_dir / ORACLE_FILE).read_bytes() == (raw_dir / ORACLE_FILE).read_bytes()
    item, likes, views = (
        (raw_dir / "synthetic_likes_and_views.txt").read_text().splitlines()[0].split("\t")
    )
    row = next(row for row in catalogue.table.to_pylist() if row["raw_id"] == item)
    assert (row["likes"], row["views"]) == (int(likes), int(views))


def test_make_csv_packs_as_the_tsv_with_times(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    rows = [
        f"{user},{item},{at}"
        for user, run in raw_runs(raw_copy).items()
        for at, item in enumerate(run)
    ]
    (raw_copy / "synthetic_pairs.tsv").unlink()
    (raw_copy / "synthetic_pairs.csv").write_text(
        "\n".join(["user,item,timestamp", *reversed(rows)])
    )
    shutil.rmtree(raw_copy / "videos")
    shutil.rmtree(raw_copy / "covers")
    info = pack(raw_copy, tmp_path / "out")
    assert runs(tmp_path / "out") == runs(dataset_dir)
    assert read_npy(samples(tmp_path / "out", "sequences")[0]["times.npy"])[:5].tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert (info.media.kind, info.media.has_cover) == ("none", False)
    assert {"txt", "json"} == {
        name for name in samples(tmp_path / "out", "items")[0] if not name.startswith("__")
    }


def test_make_clips_are_packed_as_mp4(raw_copy: Path, tmp_path: Path) -> None:
    info = pack(raw_copy, tmp_path / "out", Settings(media="clip", size=32))
    assert info.media.kind == "clip"
    assert all(sample["mp4"][4:8] == b"ftyp" for sample in samples(tmp_path / "out", "items"))


def test_make_complete_data_set_stays_as_it_is(raw_dir: Path, dataset_dir: Path) -> None:
    before = tree(dataset_dir)
    pack(raw_dir, dataset_dir)
    assert tree(dataset_dir) == before


def test_make_onto_other_settings_or_input_raises(raw_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw_copy / "videos")
    pack(raw_copy, tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"was begun with size 32 \(now 64\); choose another place"
    ):
        pack(raw_copy, tmp_path / "out", Settings(size=64, items_per_shard=16, users_per_shard=50))
    (raw_copy / "covers" / "1.jpg").write_bytes(b"another")
    with pytest.raises(
        ValueError,
        match=r"the raw folder has changed since .*out was begun: .*; put back what it held, or choose",
    ):
        pack(raw_copy, tmp_path / "out")
    with pytest.raises(
        ValueError,
        match=r"was begun with size 32 \(now 64\), another raw folder; choose another place",
    ):
        pack(raw_copy, tmp_path / "out", Settings(size=64, items_per_shard=16, users_per_shard=50))
    shutil.rmtree(tmp_path / "out" / "_work")
    with pytest.raises(ValueError, match="holds a data set that was not packed here"):
        pack(raw_copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("size", 33, "--size is 33"),
        ("size", 8194, "--size is 8194"),
        ("quality", 0, "--quality is 0"),
        ("items_per_shard", 0, "--items-per-shard is 0"),
        ("frames", 10_001, "--frames is 10001; it must be 10000 or less"),
        ("interval", 1_000_001, "--interval is 1000001"),
        ("keep_last", 1001, "at most 1000"),
        ("name", "x" * 501, "--name has 501 characters"),
    ],
)
def test_settings_out_of_range_raise(key: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**{key: value})  # type: ignore[arg-type]


needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


@needs_proc
def test_make_killed_three_times_continues_to_the_same_bytes(raw_dir: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    pack(raw_dir, whole, Settings(size=32, items_per_shard=4, users_per_shard=50))
    for records in (0, 3, 8):
        packer = start_packer(raw_dir, out, "--items-per-shard", "4")
        wait_for(partial(has_begun, out, records))
        os.kill(packer.pid, signal.SIGKILL)
        packer.communicate()
        wait_for(partial(is_gone, packer.pid))  # workers follow their parent
        assert not (out / "dataset.json").exists()
    packer = start_packer(raw_dir, out, "--items-per-shard", "4")
    _, log = packer.communicate()
    assert packer.returncode == 0
    assert b"packing items: 60 of 60" not in log  # not from the start
    assert tree(out) == tree(whole)


@needs_proc
def test_make_and_push_onto_a_running_make_fail(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, out = Pipe(raw_copy / "videos" / "30.mp4"), tmp_path / "out"
    first = start_packer(raw_copy, out, "--items-per-shard", "16")
    with pipe.reader():
        for command in (["make", str(raw_copy)], ["push", str(dataset_dir)]):
            assert main([*command, str(out)]) == 1
            said = capsys.readouterr().err
            assert (
                said
                == f"error: {out} is being written by another process; wait for its end, or choose another place\n"
            )
    _, log = first.communicate()
    assert first.returncode == 0, log
    assert [path.name for path in (out / "_work").iterdir()] == ["settings.json"]
    assert main(["check", str(out)]) == 0


@needs_proc
def test_make_ctrl_c_ends_all_processes_and_says_how_to_continue(
    raw_dir: Path, tmp_path: Path
) -> None:
    packer = start_packer(raw_dir, tmp_path / "out", "--items-per-shard", "4")
    wait_for(lambda: list((tmp_path / "out" / "_work" / "staging").glob("*.tar")))
    os.killpg(packer.pid, signal.SIGINT)
    _, log = packer.communicate()
    assert packer.returncode == 130, log
    assert log.splitlines()[-1] == b"stopped; the same command goes on from here"
    assert b"Traceback" not in log
    wait_for(partial(is_gone, packer.pid))


def test_make_damaged_dataset_json_is_rewritten(
    raw_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(dataset_dir, tmp_path / "out"))
    (out / DATASET_FILE).write_bytes((out / DATASET_FILE).read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"is invalid: .* mlrec-shards make"):
        read_dataset_info(str(out))
    pack(raw_dir, out)
    assert tree(out) == tree(dataset_dir)


def test_make_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", str(tmp_path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} holds no interactions")
    assert error.count("\n") == 1


@pytest.mark.skipif(not MICROLENS_50K.is_dir(), reason=f"no real data at {MICROLENS_50K}")
def test_make_microlens_50k_has_its_published_counts(tmp_path: Path) -> None:
    info = pack(MICROLENS_50K, tmp_path / "out", Settings(items_per_shard=8192))
    _, catalogue = open_packed(tmp_path / "out")
    assert (info.counts["users"], info.counts["interactions"], info.counts["items"]) == (
        50_000,
        359_708,
        19_220,
    )
    kept = [
        item for run in runs(tmp_path / "out").values() for item in run[-SplitInfo().keep_last :]
    ]
    assert (len(kept), len(set(kept))) == (339_511, 19_099)
    raw_ids = ["", *catalogue.table["raw_id"].to_pylist()]
    first = [raw_ids[item] for item in runs(tmp_path / "out")[1]]
    assert first == ["1958", "6346", "15223", "17700", "1707"]


@pytest.mark.parametrize(
    "path", ["items/items-00000.tar", "items/mine.txt", "catalogue.parquet", "failures.jsonl"]
)
def test_make_into_a_folder_with_foreign_files_raises(
    path: str, raw_dir: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "out" / path
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    with pytest.raises(
        ValueError, match=rf"holds 1 file that a data set would replace, such as {path}"
    ):
        pack(raw_dir, tmp_path / "out")
    assert theirs.read_text() == "precious"
    assert [
        file for file in (tmp_path / "out").rglob("*") if file.is_file() and file.name != "lock"
    ] == [theirs]
