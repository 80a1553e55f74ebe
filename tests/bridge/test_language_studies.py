"""The language studies compute tiny cells, and their figures are drawn from what was stored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is an optional extra")
pytest.importorskip("transformers", reason="transformers comes with the extra `torch`")
pytest.importorskip("peft", reason="peft comes with the extra `torch`")

from support.networks import languages  # noqa: E402

import paper_figures.__main__ as figures  # noqa: E402
from simulations.engine.runner import run  # noqa: E402
from simulations.engine.store import Store  # noqa: E402
from simulations.studies.networks import torch_gpt2, torch_llama  # noqa: E402
from trak_theory.torch_bridge.settings import language as settings_language  # noqa: E402

SHORT = replace(languages.TINY, n=8, steps=3, warm_up=2)
LORA = settings_language.Size(length=40, n=8, batch=4, steps=3, warm_up=2, held_out=2, at_once=4)


def in_the_corner(params):
    """Two runs after a warm-up, one from scratch."""
    warm = (params["start"], params["learning_rate"]) == ("warm", 1e-4) and params["replicate"] < 2
    return warm or (params["start"], params["learning_rate"], params["replicate"]) == ("scratch", 3e-3, 0)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A few cells of both studies, computed on tiny models."""
    out, folder = (tmp_path_factory.mktemp(name) for name in ("results", "llama"))
    languages.saved_llama(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_language, "gpt2", lambda rng: languages.tiny("gpt2", SHORT))
        patch.setattr(settings_language, "llama", lambda rng: languages.tiny("llama", SHORT))
        patch.setattr(
            settings_language, "smollm2", lambda rng: settings_language.from_pretrained(folder, LORA, rng=rng)
        )
        for study in (torch_gpt2.STUDY, torch_llama.STUDY):
            small = [params for params in study.full if params.get("model") != "SmolLM2" and in_the_corner(params)]
            adapted = [params for params in study.full if params.get("model") == "SmolLM2"][:1]
            (outcome,) = run([replace(study, quick=small + adapted)], out=out)
            assert not outcome.failures, outcome.failures
    return out


@pytest.mark.slow
def test_every_cell_checks_first_order_and_repeats_its_run(results):
    frame = Store(results).load(torch_gpt2.STUDY)
    runs = frame[frame["part"] == "run"]
    assert len(runs) == 3
    assert runs.loc[runs["start"] == "warm", "derivative_error"].max() < 1e-4
    assert runs["null_effect"].max() < 1e-6
    lora = Store(results).load(torch_llama.STUDY)
    lora = lora[lora["model"] == "SmolLM2"]
    assert set(lora["estimator"].dropna()) == set(torch_llama.EXACT_CURVATURE)
    assert lora.loc[lora["part"] == "sample", "truth"].abs().min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch_gpt2", "torch_llama", "torch_failures"])
def test_a_figure_is_drawn_from_stored_rows(results, name, tmp_path):
    answer = CliRunner().invoke(figures.app, [name, "--results", str(results), "--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".png", ".csv", ".txt"}
    assert (tmp_path / f"{name}.csv").read_text().count("\n") > 10
    assert " nan" not in (tmp_path / f"{name}.txt").read_text()
