"""`advise`: facts about the data that its choice must follow, its statistics against NumPy, its command, its errors."""

import json
import shlex

import numpy as np
import pytest

import zipml_codec
from zipml_codec.advise import KINDS, Trial, _choose, _Sample, _trial, advise, command, table
from zipml_codec.cli import main
from zipml_codec.errors import DataError, OptionError
from zipml_codec.rows import Chunk


def made(rows=4000, features=6, noise=1.0, heavy=False, seed=0):
    """Rows and labels of a linear model."""
    generator = np.random.default_rng(seed)
    X = generator.standard_t(2.5, (rows, features)) if heavy else generator.standard_normal((rows, features))
    X = X.astype(np.float32)
    return X, (X @ np.arange(1, features + 1) + noise * generator.standard_normal(rows)).astype(np.float32)


def trial(bits, levels, excess, error, within):
    return Trial(bits, levels, 1, 1, 1.0, 1.0, excess, error, None, within)


def test_noisy_labels_need_few_bits_and_exact_ones_many():
    """Rounding adds x'Dx / 2, small beside a great noise of the labels, and all of the loss where they have next to none."""
    noisy, exact = (advise(*made(noise=noise), bits=(2, 4, 8)) for noise in (20.0, 0.01))
    assert noisy.sure and noisy.best.bits < 8
    assert not exact.sure or exact.best.bits == 8
    assert exact.trials[0].excess > 1 > abs(noisy.trials[-1].excess)


def test_heavy_tails_ask_for_optimal_levels():
    """Uniform levels from the least to the greatest value leave the bulk between two of them."""
    found = advise(*made(20_000, heavy=True), bits=(4,))
    excess = {(one.levels, one.samples): one.excess for one in found.trials}
    assert excess["optimal", 1] < excess["uniform", 1]
    assert found.best.levels == "optimal"


def test_figures_are_those_of_the_held_out_rows():
    X, y = made()
    found = advise(X, y, bits=(3,), test_fraction=0.3)
    assert found.rows == found.sampled == len(X) == found.train_rows + found.test_rows
    assert abs(found.test_rows / len(X) - 0.3) < 5 * np.sqrt(0.21 / len(X))
    assert 0.4 < found.float32_loss < 0.6  # half the noise's variance
    assert [(one.levels, one.samples) for one in found.trials] == list(KINDS)
    for one in found.trials:
        assert one.excess == pytest.approx(one.loss / found.float32_loss - 1)
        assert one.row_bytes == 3 and one.ratio == 24 / 3
    assert found.options == {"bits": found.best.bits, "samples": found.best.samples, "levels": found.best.levels}


def test_standard_error_is_that_of_the_ratio():
    """Against its spread over many sets of rows, and none where losses are in proportion."""
    generator = np.random.default_rng(1)
    found = []
    for _ in range(400):
        exact = generator.exponential(size=300)
        found.append(
            _trial(4, "uniform", 1, 8, exact, exact * (1.1 + 0.5 * generator.standard_normal(300)), None, 0.01)
        )
    spread = np.std([one.excess for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.1)
    proportional = _trial(4, "uniform", 1, 8, exact, 1.005 * exact, None, 0.01)
    assert proportional.error < 1e-12 and proportional.within == "yes"


@pytest.mark.parametrize(
    ("excess", "spread", "within"), [(0.0, 0.0, "yes"), (0.05, 0.0, "no"), (0.0, 1.0, "unsure"), (0.01, 1.0, "unsure")]
)
def test_noise_does_not_decide(excess, spread, within):
    noise = np.tile([1.0, -1.0], 50)
    assert _trial(4, "uniform", 1, 8, np.ones(100), 1 + excess + spread * noise, None, 0.01).within == within


def test_the_smallest_width_then_the_simplest_that_is_sure():
    trials = [
        trial(2, "uniform", 0.0, 0.1, "unsure"),
        trial(3, "uniform", 0.1, 0, "no"),
        trial(3, "optimal", 0, 0, "yes"),
        trial(4, "uniform", 0, 0, "yes"),
    ]
    assert _choose(trials) == (trials[2], True)
    assert _choose(trials[:2]) == (trials[1], False)  # 0.1 + 2 * 0 is less than 0 + 2 * 0.1
    assert _choose([trial(2, "uniform", np.inf, np.inf, "no"), trials[1]]) == (trials[1], False)


def test_the_sample_is_uniform_and_the_same_for_any_blocks():
    X, y = np.arange(5000, dtype=np.float32)[:, None], np.arange(5000, dtype=np.float32)
    found = []
    for size in (5000, 64, 1000, 17):
        sample = _Sample(500, 3, Chunk(X[:1], y[:1], 0, 1, {}))
        for start in range(0, 5000, size):
            sample.add(X[start : start + size], y[start : start + size])
        found.append(sample.finish().values[:, 0])
        assert np.array_equal(sample.labels, found[-1]) and len(np.unique(found[-1])) == 500
    assert all(np.array_equal(one, found[0]) for one in found)
    assert np.all(np.diff(found[0]) > 0)
    assert abs(found[0].mean() - 2499.5) < 5 * 5000 / np.sqrt(12 * 500)


def test_a_sample_of_a_larger_source(tmp_path):
    X, y = made(9000)
    found = advise(((X[at : at + 700], y[at : at + 700]) for at in range(0, 9000, 700)), rows=2000, bits=(6,))
    assert (found.rows, found.sampled) == (9000, 2000)
    same = advise(X, y, rows=2000, bits=(6,), threads=1)
    assert same == found


@pytest.mark.parametrize("loss", ["lssvm", "logistic", "hinge"])
def test_classes(loss):
    X, y = made()
    found = advise(X, (y > 0).astype(np.float32), loss=loss, bits=(2, 6), strength=1e-3)
    assert found.float32_accuracy > 0.9
    assert found.trials[4].accuracy > 0.9 and found.trials[4].bits == 6
    head, rows = table(found)
    assert head[-1] == "accuracy" and rows[0][-1] == f"{found.float32_accuracy:.2%}"


def test_more_than_two_classes():
    X, y = made()
    found = advise(X, np.digitize(y, [-5, 5]), loss="logistic", bits=(6,))
    assert found.float32_accuracy > 0.6 and abs(found.trials[0].excess) < 0.1


def test_labels_of_next_to_no_noise_leave_nothing_sure_and_a_note():
    found = advise(*made(noise=0.0), bits=(2,))
    assert not found.sure and "need more than these widths" in found.notes[0]


def test_the_command_to_run(tmp_path, monkeypatch, capsys):
    """What it prints is run as it is."""
    monkeypatch.chdir(tmp_path)
    X, y = made(1000)
    np.savetxt("some rows.csv", np.column_stack([y, X]), delimiter=",", header="y,a,b,c,d,e,f", comments="")
    assert main(["advise", "some rows.csv", "--label", "y", "--bits", "3,6", "--plot", "p.png"]) == 0
    out = capsys.readouterr().out
    assert "held-out loss" in out and "picture: p.png" in out and (tmp_path / "p.png").stat().st_size > 5000
    assert main(["advise", "some rows.csv", "--label", "y", "--bits", "3,6", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["command"] == out.splitlines()[-1] and about["picture"] is None
    words = shlex.split(about["command"])
    assert words[0] == "zipml" and main(words[1:]) == 0
    with zipml_codec.open("some rows.zipml.h5") as data:
        assert {"bits": data.bits, "samples": data.samples} == {
            key: about["options"][key] for key in ("bits", "samples")
        }
        assert data.shape == X.shape and data.has_labels


def test_the_command_names_what_reads_the_source():
    found = advise(*made(500), bits=(4,))
    line = command(found, ["a folder/part-*.csv", "b.csv"], ["--label", "y z"])
    assert line.startswith(
        "zipml compress 'a folder/part-*.csv' b.csv -o part.zipml.h5 --label 'y z' --bits 4 --samples"
    )
    head, rows = table(found)
    assert len(rows) == 1 + len(KINDS) and {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bits": ()}, "names no width"),
        ({"bits": (9,)}, "bits must be"),
        ({"loss": "l1"}, "loss"),
        ({"tolerance": 0}, "tolerance"),
        ({"test_fraction": 1.5}, "test_fraction"),
        ({"rows": 2}, "rows"),
        ({"nonfinite": "fill"}, "nonfinite"),
    ],
)
def test_options_that_do_not_fit(options, says):
    with pytest.raises(OptionError, match=says):
        advise(*made(50), **options)


def test_data_that_do_not_fit():
    X, y = made(200)
    with pytest.raises(DataError, match="no labels"):
        advise(X)
    with pytest.raises(OptionError, match="one label; 2"):
        advise(X, np.stack([y, y], axis=1))
    with pytest.raises(DataError, match="too few"):
        advise(X[:3], y[:3])
    with pytest.raises(DataError, match="takes -1 and \\+1"):
        advise(X, y, loss="logistic")
    X[7, 2] = np.nan
    with pytest.raises(DataError, match="nan.*nonfinite='drop'"):
        advise(X, y)
    assert advise(X, y, nonfinite="drop", bits=(8,)).rows == 199


def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", made(100)[0])
    for words, says in (
        (["rows.npy"], "--label"),
        (["none.csv"], "no such file"),
        (["rows.npy", "--label", "0", "--bits", "x"], "bits"),
    ):
        assert main(["advise", *words]) == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and says in err
