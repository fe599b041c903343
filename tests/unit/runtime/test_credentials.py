"""URLs with credentials are refused where they come in, by a message that does not repeat them."""

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
def test_a_configuration_refuses_credentials_without_repeating_them(
    key: str, url: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{key}: the URL holds credentials") as error:
        load([], [f"{key}={url}"])
    assert SECRET not in str(error.value)
    (tmp_path / "run.yaml").write_text(f'data: {{url: "{url}"}}\n')
    with pytest.raises(
        ValueError, match=r"run\.yaml: data\.url: the URL holds credentials"
    ) as error:
        load_saved(tmp_path / "run.yaml")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("url", HARMLESS)
def test_other_urls_are_accepted(url: str) -> None:
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
def test_the_message_names_the_environment_variables(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_no_credentials(url)


@pytest.mark.parametrize("url", URLS)
def test_storage_refuses_credentials_before_it_connects(url: str) -> None:
    for call in (
        storage.exists,
        storage.read_bytes,
        storage.list_files,
        storage.size_of,
        storage.remove,
    ):
        with pytest.raises(ValueError, match="holds credentials") as error:
            call(url)
        assert SECRET not in str(error.value)


def test_a_configuration_made_in_code_cannot_hold_a_password_either() -> None:
    with pytest.raises(ValueError, match=r"data\.url: the URL holds credentials"):
        Config(data=DataConfig(url=f"s3://user:{SECRET}@bucket/set"))
