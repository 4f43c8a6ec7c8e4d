"""Side-by-side speed: `make bench`. Ratios and spread are only appended; nothing here is asserted, as tests do.

`run.py [--size small|full] [--repeats N] [--missing] [NAME...]`: names are C1 to C12 and those of `conversion`; all
of them without any. A result is kept as soon as it is measured: a run that was stopped goes on with `--missing`.
"""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import argparse
import time

import conversion
import environments
import page
import streaming
from data import SIZES, Data

NAMES = [*conversion.BENCHMARKS, "memory", *streaming.BENCHMARKS]


def main() -> None:
    """Run the benchmarks that the command line names and write the page of tables anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--repeats", type=int, help="instead of those of the size")
    parser.add_argument("--missing", action="store_true", help="pass over what this revision has a result of")
    given = parser.parse_args()
    wrong = [name for name in given.names if name not in NAMES]
    if wrong:
        parser.error(f"no benchmark {wrong[0]!r}; there are {', '.join(NAMES)}")
    data = Data(environments.ROOT / "data", given.size, given.repeats, given.missing)
    try:
        for name in given.names or NAMES:
            started = time.monotonic()
            if name in streaming.BENCHMARKS:
                streaming.BENCHMARKS[name](data)
            else:
                conversion.run(name, given.missing)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    finally:
        page.write()


if __name__ == "__main__":
    main()
