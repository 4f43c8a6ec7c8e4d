from __future__ import annotations

import pytest

from dataengine.cli import output


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (815_585_330, "816 MB"), (999_900_000, "1 GB"),
     (19_336_861_798, "19.3 GB"), (4_000_000_000_000, "4 TB")],
)  # fmt: skip
def test_bytes_are_told_in_three_digits(count: int, text: str) -> None:
    assert output.size_text(count) == text


def test_a_log_gets_a_line_every_ten_seconds_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("dataengine.cli.output.time.monotonic", lambda: clock[0])
    with output.transfers() as shown:
        update = shown("a.zip")
        # 100 MB were there before: they are no part of the rate.
        for clock[0], done in (
            (0.0, 100_000_000),
            (5.0, 150_000_000),
            (10.0, 200_000_000),
            (12.0, 220_000_000),
        ):
            update(done, 1_000_000_000)
        clock[0] = 20.0
        update(300_000_000, None)

    assert capsys.readouterr().err.splitlines() == [
        "a.zip: 200 MB of 1 GB, 10 MB/s, 1:20 left",
        "a.zip: 300 MB, 10 MB/s",
    ]
