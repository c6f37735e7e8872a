"""The tables of a device check in Markdown, from the files that its steps wrote."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write_report(out: Path) -> str:
    """Write OUT/report.md from the results of all steps that have any.

    Args:
        out: the folder of the device check.

    Returns:
        The text of the report.
    """
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*.json")}
    parts = [
        _machine(found.get("machine")), _steps(found.get("steps")), _parity(found.get("parity")),
        _tuning(found.get("tuning")), _kernels(found.get("kernels")),
        _encoders([*found.get("encoders", {}).get("rows", ()), *found.get("peers", {}).get("rows", ())]),
        _training(found.get("training")), _compiled(found.get("compiled")),
    ]  # fmt: skip
    text = "\n\n".join(part for part in parts if part) + "\n"
    (out / "report.md").write_text(text, encoding="utf-8")
    return text


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def _machine(machine: dict[str, Any] | None) -> str:
    if machine is None:
        return ""
    return "## Machine\n\n" + ", ".join(
        f"{key} {_number(value, 4) if isinstance(value, float) else value}" for key, value in machine.items()
    )


def _steps(steps: dict[str, str] | None) -> str:
    return "" if steps is None else "## Steps\n\n" + "; ".join(f"{step}: {how}" for step, how in steps.items())


def _parity(parity: dict[str, Any] | None) -> str:
    if parity is None:
        return ""
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in parity["cases"]:
        groups.setdefault(_kind(case["name"]), []).append(case)
    rows = [
        (kind, len(cases), f"{max(case['error'] for case in cases):.1e}", f"{cases[0]['limit']:.0e}")
        for kind, cases in groups.items()
    ]
    failed = [case for case in parity["cases"] if case["name"] in parity["failed"]]
    lines = [f"- {case['name']}: {case['error']:.2e}, limit {case['limit']:.0e}" for case in failed]
    title = f"## Parity: {len(parity['cases']) - len(failed)} of {len(parity['cases'])} cases hold"
    table = _table(("what", "cases", "worst", "limit"), rows)
    return "\n\n".join(part for part in (title, "\n".join(lines), table) if part)


def _kind(name: str) -> str:
    words = name.replace(",", "").split()
    dtype = next((word.removeprefix("torch.") for word in words if word.startswith("torch.")), "")
    what = "gradients" if words[-1] == "gradients" else "forward"
    return f"{words[0]}, {what}, {dtype}".rstrip(", ")


def _tuning(tuning: dict[str, Any] | None) -> str:
    if tuning is None:
        return ""
    parts = [f"## Tiles of {tuning['architecture']}"]
    for kind, table in tuning["tables"].items():
        rows = [
            (*setting.values(), *(_number(ms) for ms in times), "chosen" if setting == table["chosen"] else "")
            for setting, times in zip(table["settings"], table["ms"], strict=True)
        ]
        header = (*table["settings"][0], *(f"ms at {tuple(size)}" for size in table["sizes"]), "")
        parts += [f"### {kind}", _table(header, rows)]
    return "\n\n".join(parts)


def _kernels(kernels: dict[str, Any] | None) -> str:
    if kernels is None:
        return ""
    rows = [
        (r["what"], r["model"], r["batch"], r["tokens"], r["chunks"], _number(r["ms"]), _number(r["floor_ms"]),
         f"{r['times_floor']:.2f}")
        for r in kernels["rows"]
    ]  # fmt: skip
    header = ("operation", "model", "batch", "tokens", "chunks", "ms", "floor, ms", "times floor")
    parts = [
        f"{name}, us: " + ", ".join(f"{kernel.split('(')[0][:40]} {us:.0f}" for kernel, us in list(found.items())[:8])
        for name, found in kernels["parts"].items()
    ]
    return "\n\n".join(["## Operations", _table(header, rows), *parts])


def _encoders(measured: list[dict[str, Any]]) -> str:
    if not measured:
        return ""
    sizes = list(dict.fromkeys(row["size"] for row in measured))
    measured = sorted(measured, key=lambda row: (sizes.index(row["size"]), row["batch"], row["frames"]))
    keys = ("eager_ms", "graph_ms", "clips_s", "extra_memory_mb")
    rows = [
        (r["size"], r["batch"], r["frames"], r["model"], *(_number(r.get(key)) for key in keys), r.get("absent", ""))
        for r in measured
    ]
    header = ("size", "batch", "frames", "model", "eager, ms", "graph, ms", "clips/s", "memory beyond weights, MB", "")
    return "## Encoders\n\n" + _table(header, rows)


def _training(training: dict[str, Any] | None) -> str:
    if training is None:
        return ""
    keys = ("forward_ms", "backward_ms", "optimizer_ms", "step_ms", "floor_ms", "peak_memory_gb", "last_loss")
    rows = []
    for r in training["rows"]:
        numbers = (_number(r.get(key)) for key in keys)
        rows.append((r["backend"], "yes" if r["graphs"] else "no", r.get("batch", "-"), *numbers, r.get("absent", "")))
    return "## Training step, M, 8 frames, 80 % masked\n\n" + _table(("backend", "graphs", "batch", *keys, ""), rows)


def _compiled(compiled: dict[str, Any] | None) -> str:
    if compiled is None:
        return ""
    return "## Compiled and replayed, relative to eager\n\n" + _table(
        ("what", "error"), [(key, f"{value:.1e}") for key, value in compiled.items()]
    )
