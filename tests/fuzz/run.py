"""Fuzz the container's reader and the sources of text: python tests/fuzz/run.py TARGET [seconds] [seed]

TARGET is container, structures (only what HDF5 interprets), or the suffix of a table: .csv, .tsv, .svm. With atheris, changes are
kept that reach new code; without it, with ZIPML_FUZZ=plain and for structures, they are random, from the same mutator. An input
that raises anything but a ZipMLError, hangs or crashes is left in the folder that is named. HDF5 may crash or loop in structures
that were changed on purpose: that is counted, not a failure.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
os.chdir("/")  # not where ./zipml_codec would be taken for the package

TARGET, SECONDS, SEED = [kind(word) for kind, word in zip((str, float, int), [*sys.argv[1:], "10", "0"], strict=False)]
CASE_SECONDS = 3 if TARGET == "structures" else 20


def plain(targets):
    """Random changes, in children of 200 cases each."""
    pool, begun, cases, crashes = targets.seeds(TARGET), time.monotonic(), 0, {"crashes": 0, "loops": 0}
    batch = SEED * 1_000_003
    while time.monotonic() - begun < SECONDS:
        batch += 1
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            status = 0
            for number in range(200):
                if time.monotonic() - begun > SECONDS:
                    break
                os.write(writer, b".")
                signal.alarm(CASE_SECONDS)
                try:
                    targets.once(TARGET, random.Random(batch * 1000 + number), pool)
                except BaseException:
                    print(f"seed {SEED}, batch {batch}, case {number}, in {targets.FOLDER}", file=sys.stderr)
                    traceback.print_exc()
                    status = 1
                    break
            os._exit(status)
        os.close(writer)
        cases += len(b"".join(iter(lambda end=reader: os.read(end, 4096), b"")))
        os.close(reader)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if TARGET == "structures" and status < 0:
            crashes["loops" if status == -signal.SIGALRM else "crashes"] += 1
        elif status:
            sys.exit(f"{TARGET}: failed with {status} after {cases} cases, seed {SEED}: see {targets.FOLDER}")
    said = f", HDF5: {crashes}" if TARGET == "structures" else ""
    print(f"{TARGET}: {cases} cases in {time.monotonic() - begun:.0f} s{said}")


def guided(atheris):
    """Changes that reach new code are kept; an input is a seed's number and the mutator's, so that digests stay right."""
    with atheris.instrument_imports(include=["zipml_codec.formats", "zipml_codec.repair", "zipml_codec.dataset"]):
        import targets
    pool = targets.seeds(TARGET)
    begun = time.monotonic()

    def one(data):
        if TARGET == "container" and data[:1] == b"@":  # a seed of the mutator
            targets.once(TARGET, random.Random(data), pool)
        elif TARGET == "container":
            targets.container(data)
        else:
            targets.text(data, TARGET)

    def change(data, most, seed):
        rng = random.Random(seed)
        if TARGET == "container":
            return b"@" + rng.randbytes(8) if rng.random() < 0.5 else targets.mutate_container(data, rng)[0][:most]
        return targets.mutate_text(data, rng)[:most]

    corpus = targets.FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(pool):
        (corpus / str(number)).write_bytes(seed)
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={int(SECONDS)}",
        f"-timeout={CASE_SECONDS}",
        "-max_len=65536",
        "-rss_limit_mb=3000",
    ]
    atheris.Setup([*arguments, f"-artifact_prefix={targets.FOLDER}/", f"-seed={SEED + 1}"], one, custom_mutator=change)
    print(f"fuzzing with coverage, in {targets.FOLDER}, {begun:.0f}", file=sys.stderr)
    atheris.Fuzz()


def main():
    """With atheris where it is installed."""
    if os.environ.get("ZIPML_FUZZ") != "plain" and TARGET != "structures":
        try:
            import atheris
        except ImportError:
            pass
        else:
            return guided(atheris)
    import targets

    return plain(targets)


if __name__ == "__main__":
    main()
