"""The report of an audit: one HTML page that needs nothing else, JSON for machines, Parquet for the error bars."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from trak_theory.auditing.audit import Audit

FILES = ("report.html", "audit.json", "error_bars.parquet")


def write_report(audit: Audit, out: Path) -> list[Path]:
    """Write report.html, audit.json and error_bars.parquet into `out`; nothing appears there before all are complete.

    error_bars.parquet has columns point, query, score (its mean over projections) and sd; it is left out where no
    law applies. Files of an earlier report are replaced.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file, not a folder for the report")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staging:
        stage = Path(staging)
        (stage / "report.html").write_text(_page(audit), encoding="utf-8")
        (stage / "audit.json").write_text(json.dumps(as_json(audit), indent=2, ensure_ascii=False), encoding="utf-8")
        _write_error_bars(audit, stage / "error_bars.parquet")
        out.mkdir(exist_ok=True)
        (out / "error_bars.parquet").unlink(missing_ok=True)
        written = []
        for name in FILES:
            if (stage / name).exists():
                os.replace(stage / name, out / name)
                written.append(out / name)
    return written


def as_json(audit: Audit) -> dict[str, Any]:
    """Everything but the arrays; numbers that are not finite become null."""
    record = {entry.name: getattr(audit, entry.name) for entry in fields(audit) if entry.name not in ("mean", "sd")}
    return _finite(record)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _write_error_bars(audit: Audit, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if audit.mean is None or audit.sd is None:
        return
    n, q = audit.mean.shape
    points, queries = np.divmod(np.arange(n * q), q)
    columns = {
        "point": points.astype(np.int32),
        "query": queries.astype(np.int32),
        "score": audit.mean.ravel(),
        "sd": audit.sd.ravel(),
    }
    pq.write_table(pa.table(columns), path)


STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #ddd;padding:.25rem .8rem;text-align:left}
td.number{text-align:right;font-variant-numeric:tabular-nums}.warning{background:#fff3e0;border-left:4px solid #d55e00;
padding:.5rem .8rem;margin:.5rem 0}img{max-width:100%}"""


def _page(audit: Audit) -> str:
    setting = audit.setting
    law = {
        "implicit ridge γ": audit.implicit_ridge,
        "effective dimension df(γ)": audit.effective_dimension,
        "degrees of freedom of the error bars, k − df₂": audit.spare,
        f"top-{setting['top']} overlap with a fresh projection": audit.top_overlap,
    }
    parts = [
        "<h1>Audit of TRAK scores</h1>",
        *[f'<p class="warning">{html.escape(warning)}</p>' for warning in audit.warnings],
        "<h2>Setting</h2>",
        _table([{"": key.replace("_", " "), "value": value} for key, value in setting.items()]),
        "<h2>What the projection is</h2>",
        "<p>k random dimensions are a ridge γ, plus noise with a known variance.</p>",
        _table([{"": key, "value": value} for key, value in law.items()]),
        _figures(audit),
    ]
    if audit.projection_loss:
        row = {key: value for key, value in audit.projection_loss.items() if value is not None}
        parts += [
            "<h2>Projection loss</h2>",
            "<p>Predicted agreement with the unprojected kernel at the same γ: what noise alone takes away.</p>",
            _table([row]),
        ]
    if audit.ridge_loss:
        parts += [
            "<h2>Ridge loss</h2>",
            "<p>Agreement of that unprojected kernel with the reference: curvature weights kept, ridge from the recipe."
            " It loses by the ridge and by the curvature weights; the budget tells them apart.</p>",
            _table([audit.ridge_loss]),
        ]
    if audit.budget:
        parts += [
            "<h2>Budget</h2>",
            "<p>Kendall's τ with the reference, rung by rung, and what each step takes away.</p>",
            _table(list(audit.budget)),
        ]
    if audit.scores_check:
        parts += ["<h2>The given scores against the law</h2>", _table([audit.scores_check])]
    recommendation = [
        {"": key.replace("_", " "), "value": value} for key, value in audit.recommendation.items() if value is not None
    ]
    parts += ["<h2>Recommendation</h2>", _table(recommendation)]
    if audit.sensitivity:
        parts += [
            "<h2>If the training ridge were other</h2>",
            "<p>Kendall's τ of the present scores with that reference, and the projected ridge μ of the rule.</p>",
            _table(list(audit.sensitivity)),
        ]
    parts.append("<p>Ridges in the sum convention unless a package's parameter is named; errors are one s.e.</p>")
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><title>Audit of TRAK scores</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{body}</html>\n'


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(str(key).replace('_', ' '))}</th>" for key in rows[0])
    lines = ["<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f'<td class="number">{value:.4g}</td>'
    if value is None:
        return "<td>–</td>"
    return f"<td>{html.escape(str(value))}</td>"


def _figures(audit: Audit) -> str:
    """Error bars of one query's largest scores, and the budget."""
    from matplotlib.figure import Figure

    if audit.mean is None or audit.sd is None:
        return ""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    bars, budget = figure.subplots(1, 2)
    query = 0
    order = np.argsort(-audit.mean[:, query])[: min(40, len(audit.mean))]
    bars.errorbar(
        np.arange(order.size), audit.mean[order, query], yerr=1.96 * audit.sd[order, query], fmt=".", color="black"
    )
    bars.axhline(0, color="0.7", linewidth=0.8)
    bars.set_xlabel(f"training points, largest mean scores of query {query}")
    bars.set_ylabel("score, 95 % of projections")
    if audit.budget:
        names = [row["rung"] for row in audit.budget]
        budget.barh(names, [row["kendall"] for row in audit.budget], color="#0072B2")
        budget.invert_yaxis()
        budget.set_xlim(0, 1)
        budget.set_xlabel("Kendall's τ with the reference")
    else:
        budget.hist(np.abs(audit.mean / audit.sd).ravel(), bins=60, range=(0, 6), color="#0072B2")
        budget.set_xlabel("|score|/standard deviation over projections")
        budget.set_ylabel("scores")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=130, metadata={"Software": None})
    data = base64.b64encode(sink.getvalue()).decode()
    return f'<img alt="error bars of scores and the budget of rungs" src="data:image/png;base64,{data}">'
