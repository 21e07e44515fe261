"""Measure everything on one real broker; results.json, results.md and pictures in a folder.

python -m tests.benchmarks.run --only w1 w2 --repeats 5
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.benchmarks import broker, machine, plots, stored
from tests.benchmarks.model_files import prepared
from tests.benchmarks.peer_commands import ANABRANCH, NAMES, RAW
from tests.benchmarks.report import markdown
from tests.benchmarks.results import Results
from tests.benchmarks.session import Bench
from tests.benchmarks.suite import PARTS, Benchmark, Options
from tests.benchmarks.w3 import RATES

_LEAST_MINUTES = 0.5

console = Console()


def main() -> None:
    """Measure, report, compare."""
    given = _arguments()
    options = _options(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: processes are ended
    # A broker that is not up yet, a new topic without a leader: tried again, and no news.
    logging.getLogger("aiokafka").propagate = False
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    given.out.mkdir(parents=True, exist_ok=True)
    results = Results(machine.described(), {**vars(given), "out": str(given.out)})
    console.print("models …")
    files = prepared(given.out / "models")
    with (
        TemporaryDirectory(prefix="anabranch-bench-") as folder,
        broker.running(Path(folder)) as running,
    ):
        bench = Bench(running, files, options.target_s, options.warm_s)
        Benchmark(bench, options, results, given.out / "results.json", console).run()
    report(results, given.out)
    sys.exit(compare(results, store=given.store, strict=given.strict))


def _options(given: argparse.Namespace) -> Options:
    if given.quick:
        return Options(
            parts=("w1", "micro"), peers=given.peers or (ANABRANCH, RAW), repeats=3,
            target_s=4.0, warm_s=1.0, memory_minutes=0,
        )  # fmt: skip
    return Options(
        parts=given.only, peers=given.peers or NAMES, repeats=given.repeats,
        target_s=5.0, warm_s=3.0, memory_minutes=given.memory_minutes, rates=given.rates,
    )  # fmt: skip


def report(results: Results, folder: Path) -> None:
    """Write and print what was measured."""
    results.write(folder / "results.json")
    text = markdown(results)
    (folder / "results.md").write_text(text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    try:
        drawn = plots.drawn(results, folder)
    except ImportError:
        console.print("no pictures: they need the extra 'bench'")
    else:
        console.print(f"{folder / 'results.json'}, results.md, {len(drawn)} pictures")


def compare(results: Results, *, store: bool, strict: bool) -> int:
    """Say which ratios are others than the stored ones; 1 when some are and that matters."""
    now = results.ratios()
    for name, value in now.items():
        if not name.startswith("micro"):
            console.print(f"{name}: {value:.2f}", highlight=False)
    if store:
        stored.store(stored.read() | now)
        console.print(f"stored in {stored.STORED}")
        return 0
    before = stored.read()
    found = stored.moved(now, before)
    for moved in found:
        console.print(f"moved: {moved}", highlight=False)
    if now and before and not found:
        console.print(f"no ratio has moved by more than {stored.TOLERANCE:.0%}")
    return 1 if strict and found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts [all]")
    add("--repeats", type=int, default=5, help="runs of each peer [5]")
    add("--peers", nargs="+", metavar="NAME",
        help=f"these [{' '.join(NAMES)}]; NAME=EXECUTABLE for one of your own")  # fmt: skip
    add("--rates", type=float, nargs="+", default=RATES, metavar="N",
        help="events a second of W3, for Anabranch [100 1000 5000]")  # fmt: skip
    add(
        "--memory-minutes",
        type=float,
        default=10.0,
        help="how long W4 watches memory, 0 for not [10]",
    )
    add("--out", type=Path, default=Path(".bench"), help="folder of the results [.bench]")
    add("--quick", action="store_true", help="W1 of anabranch and raw, and micro; 2 minutes")
    add("--store", action="store_true", help="keep the ratios for later comparisons")
    add("--strict", action="store_true", help="exit code 1 when a ratio has moved")
    given = parser.parse_args()
    for peer in given.peers or ():
        if peer not in NAMES and "=" not in peer:
            parser.error(f"no peer {peer!r}: there are {', '.join(NAMES)}")
    if 0 < given.memory_minutes < _LEAST_MINUTES or given.memory_minutes < 0:
        parser.error(f"--memory-minutes: 0 for none, or {_LEAST_MINUTES} at least")
    return given


if __name__ == "__main__":
    main()
