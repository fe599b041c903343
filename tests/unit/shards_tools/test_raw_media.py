"""Media files of a raw folder, recognized by the names of files and folders."""

import unicodedata
from pathlib import Path

import pytest
from raw_media import ALL_PARTS, RAW_IDS, find, paths, put, put_zip

from mlrec import storage
from mlrec.data.raw_ids import IdMatcher
from shards_tools.raw.media.files import find_media
from shards_tools.raw.media.listing import list_raw
from shards_tools.raw.media.names import NO_ITEM, Part, kind_of, read_name


@pytest.mark.parametrize(
    ("path", "part", "raw_id", "number"),
    [
        # what the published download command leaves
        ("1.mp4", "videos", "1", 0),
        ("1.jpg", "covers", "1", 0),
        ("1.wav", "audio", "1", 0),
        ("17-3.jpg", "frames", "17", 3),
        ("17_12.png", "frames", "17", 12),
        ("17/4.jpg", "frames", "17", 4),
        # folders of any case, doubled, and in another folder
        ("MicroLens-50k_VIDEOS/1.mp4", "videos", "1", 0),
        ("x_videos/x_videos/1.webm", "videos", "1", 0),
        ("media/Covers/1.png", "covers", "1", 0),
        ("thumbnails/1.jpg", "covers", "1", 0),
        ("item_images/1.jpg", "covers", "1", 0),
        ("item_images/1-2.jpg", "frames", "1", 2),
        ("sounds/1.mp4", "audio", "1", 0),
        ("frames_interval_1_number_5/17-3.jpg", "frames", "17", 3),
        ("video_frames/17/img_00003.jpg", "frames", "17", 3),
        ("frames.zip/frames/17-3.jpg", "frames", "17", 3),
        ("frames/17.jpg", "frames", "17", 0),
        # a folder of videos also holds files without a known suffix, and animations
        ("videos/17", "videos", "17", 0),
        ("videos/17.bin", "videos", "17", 0),
        ("videos/17.gif", "videos", "17", 0),
        # a file that its suffix contradicts
        ("videos/17.jpg", "covers", "17", 0),
        # ids may look like ID-K, and the id itself comes first
        ("a-3.jpg", "covers", "a-3", 0),
        ("a-3-4.jpg", "frames", "a-3", 4),
        ("x_9_1.jpg", "frames", "x_9", 1),
        # other spellings of an id
        ("videos/00017.mp4", "videos", "17", 0),
        ("videos/17.0.mp4", "videos", "17", 0),
    ],
)
def test_read_name_known_layouts(path: str, part: Part, raw_id: str, number: int) -> None:
    kind = kind_of(path)
    assert kind is not None
    readings = read_name(path, kind, IdMatcher(RAW_IDS))
    name = readings.by_folder or readings.by_name
    assert name is not None
    assert (name.part, name.raw_id, name.number) == (part, raw_id, number)


@pytest.mark.parametrize(
    "path", ["videos/5.json", "videos/5.mp4.part", "covers/5.txt", "1.dat", "features/1.npy"]
)
def test_kind_of_sidecar_or_unknown_file_is_none(path: str) -> None:
    assert kind_of(path) is None


@pytest.mark.parametrize("path", ["videos/video_0001.mp4", "18.jpg", "covers/17-1.jpg", "18-2.jpg"])
def test_read_name_of_no_item_is_none(path: str) -> None:
    kind = kind_of(path)
    assert kind is not None
    assert read_name(path, kind, IdMatcher(RAW_IDS)) == NO_ITEM


def test_find_media_sidecar_and_unknown_suffix_lose_to_the_video(tmp_path: Path) -> None:
    put(tmp_path, "x_videos/1.json", "x_videos/1.bin", "x_videos/1.mp4", "x_videos/1.webm")
    media = find(tmp_path)
    assert paths(tmp_path, media, "videos") == {"1": ["x_videos/1.mp4"]}
    assert media.report.remarks() == [
        "1 item with several videos: the exact id, or else the first by name, is packed, "
        "such as x_videos/1.mp4 and not x_videos/1.bin"
    ]


def test_find_media_named_folder_wins_over_other_places(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "covers/1.jpg", "2.jpg")
    put_zip(tmp_path / "a_covers.zip", "1.jpg", "17.jpg")
    media = find(tmp_path)
    assert paths(tmp_path, media, "covers") == {
        "1": ["covers/1.jpg"],
        "2": ["2.jpg"],
        "17": ["a_covers.zip"],
    }


def test_find_media_frames_are_in_numeric_order_and_of_one_folder(tmp_path: Path) -> None:
    put(tmp_path, "frames/17-10.jpg", "frames/17-9.jpg", "frames/17-9.png", "frames_b/17-1.jpg")
    media = find(tmp_path)
    assert paths(tmp_path, media, "frames") == {"17": ["frames/17-9.jpg", "frames/17-10.jpg"]}
    assert "1 item with several sets of frames" in media.report.remarks()[0]


def test_find_media_other_parts_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, "1.mp4", "song.wav", "1.jpg")
    media = find(tmp_path, frozenset({"videos"}))
    assert paths(tmp_path, media, "videos") == {"1": ["1.mp4"]}
    assert not media.files["covers"]
    # audio that matches nothing is no error, because it is not wanted
    assert media.report.remarks() == []


def test_find_media_no_file_matches_raises_with_examples(tmp_path: Path) -> None:
    put(tmp_path, "x_videos/video_0001.mp4", "covers/1.jpg")
    message = (
        r"no video file name matches an item id: 1 file \(0.0 MB\) such as "
        r"'video_0001.mp4', while ids are like '1' and '2'.*--without videos"
    )
    with pytest.raises(ValueError, match=message):
        find(tmp_path)


def test_find_media_unmatched_files_are_remarked_by_suffix(tmp_path: Path) -> None:
    put(tmp_path, "1.mp4", "18.mp4", "19.mp4", "x_covers/1.jpg", "x_covers/z.png")
    remarks = find(tmp_path).report.remarks()
    assert remarks == [
        "3 files (0.0 MB) of media match no item: 1 .png in x_covers such as z.png, "
        "2 .mp4 such as 18.mp4"
    ]


def test_media_report_sources_and_unused_files(tmp_path: Path) -> None:
    put(tmp_path, "1.mp4", "x_covers/1.jpg", "readme.txt", "x_pairs.csv", "code/a/b/c/d.py")
    files = list_raw(str(tmp_path))
    report = find_media(str(tmp_path), files, RAW_IDS, ALL_PARTS).report
    report.add_unused(files, {"x_pairs.csv"})
    assert report.sources() == [
        "videos: 1 item, 1 file in the raw folder itself",
        "covers: 1 item, 1 file in x_covers",
        "not used: 1 file (0.0 MB): 1 .txt such as readme.txt",
        "not looked into: 1 folder: code/a/b/c",
    ]


@pytest.mark.parametrize("folder", ["media/stuff", "a/b/videos", "site/name/x_videos"])
def test_find_media_in_folders_of_other_names_is_recognized(folder: str, tmp_path: Path) -> None:
    put(tmp_path, f"{folder}/17.mp4")
    assert paths(tmp_path, find(tmp_path), "videos") == {"17": [f"{folder}/17.mp4"]}


def test_find_media_frames_of_one_number_are_remarked(tmp_path: Path) -> None:
    put(tmp_path, "frames/17-9.jpg", "frames/17-9.png", "frames/17-1.jpg")
    media = find(tmp_path)
    assert paths(tmp_path, media, "frames") == {"17": ["frames/17-1.jpg", "frames/17-9.jpg"]}
    assert "such as frames/17-9.jpg and not frames/17-9.png" in media.report.remarks()[0]


def test_find_media_empty_folder_of_media_is_remarked(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    (tmp_path / "x_videos").mkdir()
    assert find(tmp_path).report.remarks() == ["the folder x_videos is empty"]


def test_find_media_name_in_unicode_nfd_matches(tmp_path: Path) -> None:
    put(tmp_path, f"x_videos/{unicodedata.normalize('NFD', 'é')}.mp4")
    files = list_raw(str(tmp_path))
    assert list(find_media(str(tmp_path), files, ["é"], ALL_PARTS).files["videos"]) == ["é"]


def test_list_raw_data_set_within_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "out/_work/settings.json", "out/dataset.json", "out/items/items-00000.tar")
    files = list_raw(str(tmp_path))
    assert not files.others and not files.unlisted and not files.unread_archives


def test_find_media_remote_storage_is_listed_by_one_call_per_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = "memory://layout-remote"
    names = ["x_pairs.csv", "1.jpg", "x_videos/x_videos/1.mp4", "x_frames/17/1.jpg"]
    for name in names:
        storage.write_bytes(f"{root}/{name}", b"a")
    calls = []
    find_files = storage.find_files
    monkeypatch.setattr(
        "mlrec.storage.find_files", lambda url: calls.append(url) or find_files(url)
    )
    media = find_media(root, list_raw(root), RAW_IDS, ALL_PARTS)
    assert calls == [f"{root}/x_frames", f"{root}/x_videos"]
    video = media.file("videos", "1")
    assert video is not None
    assert (video.url, video.size) == (f"{root}/x_videos/x_videos/1.mp4", 1)
    assert list(media.files["frames"]) == ["17"]
    assert list(media.files["covers"]) == ["1"]


def test_list_raw_hidden_files_and_loops_of_links_end(tmp_path: Path) -> None:
    put(tmp_path, "videos/1.mp4", "videos/.DS_Store", "__MACOSX/._1.mp4", ".git/2.mp4")
    (tmp_path / "videos" / "again").symlink_to(tmp_path / "videos")
    files = list_raw(str(tmp_path))
    listed = [file.path for file in files.media]
    assert listed[0] == "videos/1.mp4"
    assert all("again" in path for path in listed[1:])
    assert len(listed) <= 5
    assert not files.others
