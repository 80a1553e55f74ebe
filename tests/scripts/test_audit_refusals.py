"""What a user of each package is told where its store holds too little for an audit: the next step, not the layout."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trak_theory.cli.main import app

STORES = Path(__file__).parents[1] / "fixtures" / "stores"
TRAK = "`bergson trak RUN --loss_fn log_odds --projection_target global`"
LACKS = [
    ("bergson/trak/scores", ["scores only", "`bergson build RUN/index` with the model, data, loss and projection"]),
    ("bergson/trak/index", ["no query gradients", TRAK]),
    ("bergson/score/index", ["each of its 2 modules", TRAK]),
    ("bergson/score/scores", ["scores only", TRAK]),
    ("kronfluence/digits/scores_all", ["scores only", "`trak-theory features`"]),
    ("dattri/logra", ["each of its 2 modules", "`trak-theory features`"]),
    ("logix/full", ["each of its 2 modules", "`trak-theory features`"]),
]
HOLDS = [
    ("logix", ["full (logix)", "lora (logix)"]),
    ("kronfluence", ["digits (kronfluence)"]),
    ("traker", ["ensemble (traker)", "half (traker)", "single (traker)"]),
    (".", ["bergson/trak (bergson)"]),
]


def refused(path, tmp_path):
    done = CliRunner().invoke(app, ["audit", str(path), "--out", str(tmp_path / "report")])
    assert done.exit_code == 2, done.output
    assert done.output.count("\n") == 1
    return done.output


@pytest.mark.parametrize(("name", "told"), LACKS)
def test_a_store_that_lacks_something_names_the_next_step(name, told, tmp_path):
    message = refused(STORES / name, tmp_path)
    assert all(words in message for words in told), message


@pytest.mark.parametrize(("name", "told"), HOLDS)
def test_a_folder_of_stores_names_them(name, told, tmp_path):
    message = refused(STORES / name, tmp_path)
    assert "is no store itself, but holds" in message
    assert all(words in message for words in told), message


def test_a_run_of_bergson_that_failed_is_called_so(tmp_path):
    """`bergson trak` with options it refuses leaves config.yaml and nothing else."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(STORES / "bergson" / "trak" / "config.yaml", run)
    assert "not finished, or failed" in refused(run, tmp_path)


def test_queries_that_cannot_be_recovered_say_why(tmp_path):
    run = shutil.copytree(STORES / "bergson" / "trak", tmp_path / "run")
    config = run / "query" / "config.yaml"
    config.write_text(config.read_text().replace("unit_normalize: false", "unit_normalize: true"))
    assert "rows were normalised" in refused(run, tmp_path)
    shutil.rmtree(run / "query")
    assert "only the training gradients were read" in refused(run, tmp_path)
