from __future__ import annotations

import pytest
from samples import run_record

from pipelines.redaction import redact, redacted, secrets_of

TEXT = "url: https://${env:TOKEN}@example.org\nseed: ${env:SEED}\nother: ${env:UNSET}\n"


def test_secrets_are_the_values_that_the_config_names() -> None:
    environment = {"TOKEN": "s3cret-token", "SEED": "7", "UNRELATED": "another-secret"}
    assert secrets_of(TEXT, environment) == {"s3cret-token": "${env:TOKEN}"}


def test_longer_secret_goes_first() -> None:
    assert redact("abcdef-more abcdef", {"abcdef": "A", "abcdef-more": "B"}) == "B A"


def test_secret_with_quotes_is_taken_out_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", 'pass"word\\1')
    record = run_record("failed").model_copy(update={"message": 'no access with pass"word\\1'})
    assert redacted(record, TEXT).message == "no access with ${env:TOKEN}"


def test_record_of_a_config_without_secrets_is_the_same() -> None:
    record = run_record()
    assert redacted(record, record.config_text) is record
