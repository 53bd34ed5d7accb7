"""What is refused is named without a word of what may be a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysvq import cli
from raysvq.errors import SettingsError
from raysvq.settings import Settings, StorageSettings, describe, load_settings
from raysvq.settings.refusals import RENAMED

SECRET = "S3CR3Tkey"


@pytest.mark.parametrize(
    "override",
    [
        "storage.secret_access_key:{}",
        "storage.secret_access_key:{}=",
        "storage.secret_access_key {}",
        "storage.secret_access_key.x={}",
        "storage.secret_access_key.{}=",
        "storage.secret_acces_key={}",
        "storage.secret-access-key={}",
        "storage.{}=x",
        "storage={{secret_access_key: {}}}",
        "storage={{secret_access_key: {}",
        "storage={{{}}}",
        "storage={{[{}]: 1}}",
        "storage={}",
        "storage=[{}]",
        "={}",
        "{}",
        "secret_access_key={}",
        "secret_access_key:{}",
        "Storage.secret_access_key={}",
        " storage.secret_access_key={}",
        "storage:secret_access_key={}",
        "storage.secret_access_key={}",
        "storage.access_key_id={}",
        "storage.region=[{}",
        "storage.region=*{}",
        "storage.retry_s={}",
        "storage.endpoint_url=https://user:{}@host",
        "model.secret_access_key={}",
    ],
)
def test_a_malformed_override_is_quoted_up_to_its_key(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["settings", "--set", override.format(SECRET)])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.err.startswith("raysvq: error: ")
    assert len(said.err.splitlines()) == 1
    assert SECRET not in said.err + said.out


def test_as_much_as_is_surely_the_key_is_quoted() -> None:
    for override in ("storage.secret_access_key:x", "storage.secret_access_key x"):
        with pytest.raises(SettingsError, match=r"override 'storage\.secret_access_key': expected section"):
            load_settings(None, [override])
    with pytest.raises(SettingsError, match=r"unknown setting `storage\.secret_acces_key`: expected one of"):
        load_settings(None, ["storage.secret_acces_key=x"])


@pytest.mark.parametrize(
    "text",
    [
        "storage:\n  secret_access_key\n  {}\n",
        "storage: {{secret_access_key:{}}}",
        "storage:\n - secret_access_key: {}\n",
        "storage: {}",
        "storage: {{secret_access_key: *{}}}",
        "storage: {{secret_access_key: !{} x}}",
        "storage: {{secret_access_key: @{}}}",
        "storage: {{secret_access_key: '{}",
        'storage: {{secret_access_key: "\\q{}"}}',
        "storage:\n\tsecret_access_key: {}",
        "storage: {{? [{}] : x}}",
        "storage: {{{}}}",
        "storage: {{1: {}}}",
        "storage: {{secret_access_key: [{}], access_key_id: {{a: {}}}}}",
        "secret_access_key: {}",
        "model: {{secret_access_key: {}}}",
    ],
)
def test_a_file_is_refused_without_what_stands_in_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text.replace("{}", SECRET).replace("{{", "{").replace("}}", "}"))
    with pytest.raises(SettingsError) as failure:
        load_settings(path)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["settings", "--set", "storage.secret_access_key", SECRET],
        ["settings", "--set", "storage.secret_access_key=", f"--{SECRET}=x"],
        ["score", "--set", "storage.secret_access_key=", "m", SECRET],
        ["--set", f"storage.secret_access_key={SECRET}", "settings"],
        [f"--set=storage.secret_access_key={SECRET}"],
    ],
)
def test_a_call_that_is_not_understood_repeats_no_secret(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert "Error: " in said.err
    assert SECRET not in said.err + said.out


def test_pydantic_repeats_no_value() -> None:
    for values in ({"storage": SECRET}, {"storage": {"access_key_id": [SECRET]}}):
        with pytest.raises(ValueError, match="storage") as failure:
            Settings.model_validate(values)
        assert SECRET not in str(failure.value)
    with pytest.raises(ValueError, match="region") as failure:
        StorageSettings.model_validate({"region": [SECRET]})
    assert SECRET not in str(failure.value) + repr(failure.value)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(SettingsError, match=f"^setting `{old}` is now called `{new}`$"):
        load_settings(None, [f"{old}=1"])
    assert new in {name for name, _, _ in describe()}
