"""URLs with credentials are refused, by a message that does not repeat them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec import storage
from mlrec.config import Config, DataConfig, load, load_saved
from mlrec.runtime.credentials import check_no_credentials

SECRET = "hunter2"
URLS = [
    f"s3://AKIA:{SECRET}@bucket/set",
    f"s3://AKIA:a/{SECRET}/b@bucket/set",
    f"s3://{SECRET}@bucket/set",
    f"https://user:{SECRET}@host/set",
    f"https://user%3A{SECRET}@host/set",
    f"https://{SECRET}@host/set",
    f"HTTPS://user:{SECRET}@host",
    f"https:/user:{SECRET}@host/set",
    f"https://host/set?X-Amz-Signature={SECRET}",
    f"https://host/set?sv=2024&sig={SECRET}",
    f"https://host/set?a=1&Token={SECRET}",
    f"https://host/set?tok%65n={SECRET}",
    f"https://host/set?a=1;api_key={SECRET}",
    f"https://host/set#access_token={SECRET}",
    f"https://host/set?AWSAccessKeyId={SECRET}",
    f"gs://bucket/set?X-Goog-Signature={SECRET}",
    f"abfs://container:{SECRET}@account.dfs.core.windows.net/set",
    f"sftp://user:{SECRET}@host/set",
    f"simplecache::s3://AKIA:{SECRET}@bucket/set",
    f"zip://x::http://user:{SECRET}@host/x",
    f"//user:{SECRET}@host/x",
    f"//user:a/{SECRET}@host/x",
    f"user:{SECRET}@host/x",
    f"user:{SECRET}@host",
]
HARMLESS = [
    "s3://bucket/set",
    "http://127.0.0.1:9000/set",
    "http://[::1]:80/set",
    "az://container@account.dfs.core.windows.net/set",
    "abfss://container@account.dfs.core.windows.net/set",
    "https://host/weights.safetensors?download=true",
    "https://host/a@b/c:d",
    "/data/a@b:c?token=x",
    "MCG-NJU/videomae-base",
    "data/a:b@c",
    "user@host",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "key", ["data.url", "run_dir", "train.start_from", "item.options.id/embedding.checkpoint"]
)
def test_config_with_credentials_is_refused_without_repeating_them(key: str, url: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: the URL holds credentials") as raised:
        load([], [f"{key}={url}"])
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", URLS)
def test_config_in_a_file_with_credentials_is_refused_with_its_name(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(f'data: {{url: "{url}"}}\n')
    words = r"run\.yaml: data\.url: the URL holds credentials"
    with pytest.raises(ValueError, match=words) as raised:
        load_saved(tmp_path / "run.yaml")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", HARMLESS)
def test_check_no_credentials_of_a_harmless_url_passes(url: str) -> None:
    check_no_credentials(url)
    assert load([], [f"data.url={url}"]).data.url == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://a:b@c/d", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("gs://a:b@c/d", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://a:b@c/d", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("https://a:b@c/d", r"~/\.netrc"),
    ],
)
def test_check_no_credentials_names_the_environment_variables(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_no_credentials(url)


@pytest.mark.parametrize("url", URLS)
def test_storage_with_credentials_in_the_url_is_refused_before_connecting(url: str) -> None:
    for function in (
        storage.exists,
        storage.read_bytes,
        storage.list_files,
        storage.size_of,
        storage.remove,
    ):
        with pytest.raises(ValueError, match="holds credentials") as raised:
            function(url)
        assert SECRET not in str(raised.value)


def test_config_made_in_code_with_credentials_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.url: the URL holds credentials"):
        Config(data=DataConfig(url=f"s3://user:{SECRET}@bucket/set"))
