"""make: what it writes, what it refuses, and that a killed run continues to the same bytes."""

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
    """Return the raw item ids of each user."""
    runs_by_user = {}
    for line in (raw / "synthetic_pairs.tsv").read_text().splitlines():
        user, _, items = line.partition("\t")
        runs_by_user[int(user)] = items.split()
    return runs_by_user


def member_names(sample: dict[str, bytes]) -> set[str]:
    """Return the names of a sample's members, without those that webdataset adds."""
    return {name for name in sample if not name.startswith("__")}


def test_make_items_are_readable_by_webdataset_alone(raw_dir: Path, dataset_dir: Path) -> None:
    info, catalogue = open_packed(dataset_dir)
    item_samples = samples(dataset_dir, "items")
    assert len(item_samples) == info.counts["items"] == catalogue.size
    for item, sample in enumerate(item_samples, start=1):
        about = json.loads(sample["json"])
        assert (about["item"], sample["__key__"]) == (item, f"{item:09d}")
        assert sample["txt"].decode() == about["title"] == catalogue.title(item)
        members = catalogue.members(item)
        assert member_names(sample) == {member.name for member in members}
        for member in members:
            assert len(sample[member.name]) == member.size
    assert {"0.jpg", "4.jpg", "cover.jpg"} <= item_samples[0].keys()


def test_make_sequences_are_readable_by_webdataset_alone(raw_dir: Path, dataset_dir: Path) -> None:
    info, catalogue = open_packed(dataset_dir)
    raw_ids = ["", *catalogue.table["raw_id"].to_pylist()]
    raw_ids_by_user = {}
    for user, run in runs(dataset_dir).items():
        raw_ids_by_user[user] = [raw_ids[item] for item in run]
    assert raw_ids_by_user == raw_runs(raw_dir)
    assert len(info.shards("sequences")) == 3
    # no times, and no raw ids, as the users are numbers
    names = member_names(samples(dataset_dir, "sequences")[0])
    assert names == {"users.npy", "offsets.npy", "items.npy"}


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
    lines = (raw_dir / "synthetic_likes_and_views.txt").read_text().splitlines()
    item, likes, views = lines[0].split("\t")
    rows = {row["raw_id"]: row for row in catalogue.table.to_pylist()}
    assert (rows[item]["likes"], rows[item]["views"]) == (int(likes), int(views))


def test_make_csv_packs_as_the_tsv_with_times(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    rows = []
    for user, run in raw_runs(raw_copy).items():
        for time, item in enumerate(run):
            rows.append(f"{user},{item},{time}")
    (raw_copy / "synthetic_pairs.tsv").unlink()
    # latest first: the reader sorts each user's rows by time
    header = "user,item,timestamp"
    (raw_copy / "synthetic_pairs.csv").write_text("\n".join([header, *reversed(rows)]))
    # without media it packs in no time
    shutil.rmtree(raw_copy / "videos")
    shutil.rmtree(raw_copy / "covers")
    info = pack(raw_copy, tmp_path / "out")
    assert runs(tmp_path / "out") == runs(dataset_dir)
    times = read_npy(samples(tmp_path / "out", "sequences")[0]["times.npy"])
    assert times[:5].tolist() == [0, 1, 2, 3, 4]
    assert (info.media.kind, info.media.has_cover) == ("none", False)
    assert member_names(samples(tmp_path / "out", "items")[0]) == {"txt", "json"}


def test_make_clips_are_packed_as_mp4(raw_copy: Path, tmp_path: Path) -> None:
    info = pack(raw_copy, tmp_path / "out", Settings(media="clip", size=32))
    assert info.media.kind == "clip"
    for sample in samples(tmp_path / "out", "items"):
        # the box with which every MP4 begins
        assert sample["mp4"][4:8] == b"ftyp"


def test_make_complete_data_set_stays_as_it_is(raw_dir: Path, dataset_dir: Path) -> None:
    # nothing is written, not even a record
    before = tree(dataset_dir)
    pack(raw_dir, dataset_dir)
    assert tree(dataset_dir) == before


def test_make_onto_other_settings_or_input_raises(raw_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw_copy / "videos")
    pack(raw_copy, tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"was begun with size 32 \(now 64\)\. Choose another place"
    ):
        pack(raw_copy, tmp_path / "out", Settings(size=64, items_per_shard=16, users_per_shard=50))
    (raw_copy / "covers" / "1.jpg").write_bytes(b"another")
    with pytest.raises(
        ValueError,
        match=r"the raw folder has changed since .*out was packed: .*\. Restore what it held, or",
    ):
        pack(raw_copy, tmp_path / "out")
    with pytest.raises(
        ValueError,
        match=r"was begun with size 32 \(now 64\), another raw folder\. Choose another place",
    ):
        pack(raw_copy, tmp_path / "out", Settings(size=64, items_per_shard=16, users_per_shard=50))
    # without its settings a data set is somebody else's
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
    # before the first shard, and after some
    for records in (0, 3, 8):
        packer = start_packer(raw_dir, out, "--items-per-shard", "4")
        wait_for(partial(has_begun, out, records))
        os.kill(packer.pid, signal.SIGKILL)
        packer.communicate()
        # workers follow their parent
        wait_for(partial(is_gone, packer.pid))
        assert not (out / "dataset.json").exists()
    packer = start_packer(raw_dir, out, "--items-per-shard", "4")
    _, log = packer.communicate()
    assert packer.returncode == 0
    # not from the start
    assert b"packing items: 60 of 60" not in log
    assert tree(out) == tree(whole)


@needs_proc
def test_make_and_push_onto_a_running_make_fail(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, out = Pipe(raw_copy / "videos" / "30.mp4"), tmp_path / "out"
    first = start_packer(raw_copy, out, "--items-per-shard", "16")
    with pipe.reader():
        # while the first run waits for the video
        for command in (["make", str(raw_copy)], ["push", str(dataset_dir)]):
            assert main([*command, str(out)]) == 1
            assert capsys.readouterr().err == (
                f"error: {out} is being written by another process. "
                "Wait for its end, or choose another place\n"
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
    # to the whole group, as a terminal does it
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
    # cut short, as by a full disk
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
    assert info.counts["users"] == 50_000
    assert info.counts["interactions"] == 359_708
    assert info.counts["items"] == 19_220
    used_items = []
    for run in runs(tmp_path / "out").values():
        used_items += run[-SplitInfo().keep_last :]
    # training and evaluation see the last 13 of each user, and an item may be in none of them
    assert (len(used_items), len(set(used_items))) == (339_511, 19_099)
    raw_ids = ["", *catalogue.table["raw_id"].to_pylist()]
    first = [raw_ids[item] for item in runs(tmp_path / "out")[1]]
    assert first == ["1958", "6346", "15223", "17700", "1707"]


@pytest.mark.parametrize(
    "path", ["items/items-00000.tar", "items/mine.txt", "catalogue.parquet", "failures.jsonl"]
)
def test_make_into_a_folder_with_foreign_files_raises(
    path: str, raw_dir: Path, tmp_path: Path
) -> None:
    foreign_file = tmp_path / "out" / path
    foreign_file.parent.mkdir(parents=True)
    # at the path of a file that a data set would have
    foreign_file.write_text("precious")
    with pytest.raises(
        ValueError, match=rf"holds 1 file that a data set would replace, such as {path}"
    ):
        pack(raw_dir, tmp_path / "out")
    assert foreign_file.read_text() == "precious"
    # the lock may stay, because it is released by its process
    assert tree(tmp_path / "out").keys() - {"_work/lock"} == {path}
