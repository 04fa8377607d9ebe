"""Build the graphs of a model with hypergraphs: seconds, and peak memory above their inputs.

Each graph is checked against SciPy in float64, and then built in a process of its own, so that the
peak is that graph's. The U x U and I x I matrices that the graphs stand for would take 5.1 and
1.3 GB at Sports' size in float32.

``--electronics`` measures instead the exact neighbours of as many items as Amazon Electronics has,
in wide features of which there is room for no second copy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from common import (
    Report,
    data_settings,
    make_config,
    make_split,
    markdown,
    memory_now,
    parse_arguments,
    reset_peak,
    scratch,
    show_seconds,
    summary,
)
from torch import Tensor

from recbole_llm.graph.adjacency import bipartite_norm_adj
from recbole_llm.graph.hypergraph import i2i_hypergraph, u2u_hypergraph
from recbole_llm.graph.knn import knn_graph

GRAPHS = ("bipartite", "U2U", "I2I")
DIMS = (384, 64)  # widths of the generated modalities
KNN_K = 5  # neighbours, the item itself included
TARGET_S, TARGET_MB = 5.0, 300.0
N_CHECKED = 300  # rows compared
ELECTRONICS = 63_001, 4096, 10  # items, width, neighbours
ELECTRONICS_MB = 2000.0  # target


def load_inputs(folder: Path, graph: str) -> dict[str, object]:
    """Read what a graph is made of, and no more."""
    names = ["features"] if graph == "I2I" else ["user", "item"]
    inputs: dict[str, object] = {"sizes": json.loads((folder / "sizes.json").read_text())}
    if names == ["features"]:
        files = sorted(folder.glob("feature*.npy"))
        return inputs | {"features": [torch.from_numpy(np.load(file)) for file in files]}
    return inputs | {name: np.load(folder / f"{name}.npy") for name in names}


def build(graph: str, inputs: dict) -> torch.nn.Module | Tensor:
    n_users, n_items = inputs["sizes"]
    if graph == "bipartite":
        return bipartite_norm_adj(inputs["user"], inputs["item"], n_users, n_items)
    if graph == "U2U":
        return u2u_hypergraph(inputs["user"], inputs["item"], n_users, n_items)
    features = inputs["features"]
    edges = [knn_graph(feature, KNN_K, include_self=True).edge_index for feature in features]
    return i2i_hypergraph(edges, n_items)


# -- checks ------------------------------------------------------------------------------------


def check(report: Report, folder: Path) -> None:
    """Compare every graph with SciPy's in float64; the neighbours with a dense ranking."""
    rng = np.random.default_rng(0)
    inputs = {graph: load_inputs(folder, graph) for graph in GRAPHS}
    n_users, n_items = inputs["U2U"]["sizes"]
    user, item = inputs["U2U"]["user"], inputs["U2U"]["item"]
    ones = np.ones(len(user))
    incidence = sp.csr_matrix((ones, (user, item)), shape=(n_users, n_items))

    whole = sp.block_array([[None, incidence], [incidence.T, None]]).tocsr()
    scale = sp.diags_array(_power(whole.sum(axis=1), -0.5))
    expected = (scale @ whole @ scale).tocsr()
    found = build("bipartite", inputs["bipartite"])
    csr = found.values().numpy(), found.col_indices().numpy(), found.crow_indices().numpy()
    gap = abs(sp.csr_matrix(csr, shape=expected.shape) - expected).max()
    report.check("bipartite: largest difference of an entry", gap, 1e-6)

    rows = rng.choice(n_users, N_CHECKED, replace=False)
    product = (incidence[rows] @ incidence.T).tolil()
    product[np.arange(len(rows)), rows] = 0
    weight = product.tocsr()
    weight = sp.diags_array(_power(weight.sum(axis=1), -1.0)) @ weight
    _compare_rows(report, "U2U", build("U2U", inputs["U2U"]), weight, rows)

    rows = rng.choice(np.arange(1, n_items), N_CHECKED, replace=False)
    blocks, gap = [], 0.0
    for feature in inputs["I2I"]["features"]:
        graph = knn_graph(feature, KNN_K, include_self=True)
        source, target = graph.edge_index.numpy()
        blocks.append(sp.csr_matrix((np.ones(len(source)), (source, target)), (n_items, n_items)))
        found = sp.csr_matrix((graph.similarity, (source, target)), (n_items, n_items))[rows]
        unit = feature.double().numpy()
        norm = np.linalg.norm(unit, axis=1, keepdims=True)
        unit /= np.where(norm == 0, 1, norm)
        best = np.sort(unit[rows] @ unit[1:].T, axis=1)[:, : -KNN_K - 1 : -1]
        for row, cosine in enumerate(best):
            # a row without a feature has no neighbours; equal cosines leave ids open, values not
            known = np.sort(found[[row]].data)[::-1]
            if norm[rows[row], 0] > 0:
                gap = max(gap, np.abs(known - cosine).max())
            elif len(known):
                gap = np.inf
    report.check("I2I: largest difference of a neighbour's cosine", gap, 1e-5)
    incidence = sp.hstack(blocks).tocsr()
    power = _power(incidence @ (incidence.T @ np.ones(n_items)), -0.5)
    weight = sp.diags_array(power[rows]) @ (incidence[rows] @ incidence.T) @ sp.diags_array(power)
    _compare_rows(report, "I2I", build("I2I", inputs["I2I"]), weight, rows)


def _compare_rows(
    report: Report, graph: str, module: Callable[[Tensor], Tensor], weight: object, rows: np.ndarray
) -> None:
    x = torch.randn(weight.shape[1], 8, generator=torch.Generator().manual_seed(1))  # (V, 8)
    gap = np.abs(module(x)[rows].numpy() - weight @ x.double().numpy()).max()
    report.check(f"{graph}: largest difference of {len(rows)} propagated rows", gap, 1e-5)


def _power(degree: np.ndarray, exponent: float) -> np.ndarray:
    degree = np.asarray(degree, dtype=np.float64).ravel()
    return np.where(degree > 0, np.maximum(degree, 1) ** exponent, 0)


# -- measurement -------------------------------------------------------------------------------


def measure_here(graph: str, folder: Path, repeats: int) -> dict[str, object]:
    """Build one graph in this fresh process: its peak the first time, then seconds."""
    inputs = load_inputs(folder, graph)
    tiny = {"sizes": (50, 50), "user": np.arange(1, 50), "item": np.arange(1, 50)}
    build(graph, tiny | {"features": [torch.eye(50)]})  # what torch loads at its first call
    before, peak_before = memory_now("VmRSS"), reset_peak()
    seconds, cpu_seconds = [], []
    for nth in range(repeats + 1):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        kept = build(graph, inputs)
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
        if nth == 0:
            peak = max(memory_now("VmHWM"), peak_before) - before
            held = memory_now("VmRSS") - before
        del kept
    cpu = statistics.median(cpu_seconds[1:])
    memory = {"peak_mb": peak / 1e6, "held_mb": held / 1e6}
    return {"seconds": seconds[1:], "cpu_seconds": cpu, **memory}


def measure_electronics(n_items: int, dim: int, k: int) -> dict[str, float]:
    """Find the neighbours in this fresh process; compare some rows with a float64 ranking."""
    feature = torch.empty(n_items, dim)
    generator = torch.Generator().manual_seed(0)
    for block in feature.split(1024):
        block.normal_(generator=generator)
    knn_graph(torch.eye(50), 5)  # what torch loads at its first call
    before, peak_before = memory_now("VmRSS"), reset_peak()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    graph = knn_graph(feature, k, include_self=True)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu_begin
    peak = max(memory_now("VmHWM"), peak_before) - before

    row = torch.arange(1, n_items)[:: max(1, n_items // N_CHECKED)]
    unit = torch.nn.functional.normalize(feature[row].double())  # (R, F)
    cosine = torch.cat(
        [unit @ torch.nn.functional.normalize(b.double()).T for b in feature.split(1024)], dim=1
    )
    expected = cosine[:, 1:].topk(k).values  # (R, k), padding is nobody's neighbour
    found = graph.similarity.view(n_items - 1, k)[row - 1]
    gap = float((found - expected).abs().max())
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak / 1e6, "gap": gap}


def electronics(arguments: argparse.Namespace) -> None:
    n_items = arguments.electronics_items
    _, dim, k = ELECTRONICS
    report = Report("graphs_electronics", arguments)
    label = f"generated, {n_items:,} x {dim:,} float32"
    report.data(label, {"n_items": n_items, "dim": dim, "k": k})
    found = json.loads(_alone("--measure_electronics", n_items, dim, k, arguments.threads))
    # measured and checked in the same process, so here the check comes last
    report.check(f"largest difference of a neighbour's cosine, k = {k}", found.pop("gap"), 1e-5)
    report.add(data=label, what="neighbours", target_mb=ELECTRONICS_MB, **found)
    cells = f"{found['seconds']:.0f}", f"{found['cpu_seconds']:.0f}", f"**{found['peak_mb']:.0f}**"
    head = ["data", "graph", "seconds", "CPU seconds", "peak above features, MB", "target"]
    line = [label, f"{k} neighbours", *cells, f"< {ELECTRONICS_MB:.0f} MB"]
    report.finish(markdown(head, [line]))


def _alone(*arguments: object) -> str:
    """Run this file in a process of its own; return what it prints."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write_inputs(folder: Path, settings: dict, arguments: argparse.Namespace) -> dict[str, int]:
    """Save the training edges and the features, the data set's own or generated, as arrays."""
    split, size = make_split(make_config("LightGCN", settings))
    edges = split.train.inter_matrix(form="coo")
    np.save(folder / "user.npy", edges.row)
    np.save(folder / "item.npy", edges.col)
    n_items = edges.shape[1]
    (folder / "sizes.json").write_text(json.dumps(edges.shape))
    rng = np.random.default_rng(0)
    features = [split.dataset.modality(name).numpy() for name in split.dataset.modality_names]
    for dim in () if features else DIMS:
        feature = rng.standard_normal((n_items, dim), dtype=np.float32)
        # one item in a hundred has the text or the image of another
        copies = rng.choice(n_items, (2, n_items // 100), replace=False)
        feature[copies[0]] = feature[copies[1]]
        feature[0] = 0
        features.append(feature)
    for nth, feature in enumerate(features):
        np.save(folder / f"feature{nth}.npy", feature)
        size[f"feature_{nth}_dim"] = feature.shape[1]
    return size


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        graph, folder, repeats, threads = sys.argv[2:]
        torch.set_num_threads(int(threads))
        print(json.dumps(measure_here(graph, Path(folder), int(repeats))))
        return
    if sys.argv[1:2] == ["--measure_electronics"]:
        n_items, dim, k, threads = map(int, sys.argv[2:])
        torch.set_num_threads(threads)
        print(json.dumps(measure_electronics(n_items, dim, k)))
        return
    arguments = parse_arguments(
        __doc__, repeats=3, electronics=False, electronics_items=ELECTRONICS[0]
    )
    if arguments.electronics:
        electronics(arguments)
        return
    arguments.dataset = arguments.dataset or ["sports"]
    report = Report("graphs", arguments)
    lines = []
    with scratch() as folder:
        for label, settings in data_settings(arguments, folder):
            report.data(label, write_inputs(folder, settings, arguments))
            check(report, folder)
            total, peak = np.zeros(2), 0.0  # wall, CPU
            for graph in GRAPHS:
                options = folder, arguments.repeats, arguments.threads
                found = json.loads(_alone("--measure", graph, *options))
                seconds = summary(found.pop("seconds"))
                report.add(data=label, what=graph, seconds=seconds, **found)
                cpu, peak_mb = found["cpu_seconds"], found["peak_mb"]
                cells = f"{cpu:.2f}", f"{peak_mb:.0f}", f"{found['held_mb']:.0f}"
                lines.append([label, graph, show_seconds(seconds), *cells, ""])
                total += np.array([seconds["median"], cpu])
                peak = max(peak, peak_mb)
            wall, cpu = total.tolist()
            targets = {"target_s": TARGET_S, "target_mb": TARGET_MB}
            report.add(
                data=label, what="all", seconds=wall, cpu_seconds=cpu, peak_mb=peak, **targets
            )
            target = f"< {TARGET_S:g} s, < {TARGET_MB:g} MB"
            cells = f"**{wall:.2f}**", f"**{cpu:.2f}**", f"**{peak:.0f}**"
            lines.append([label, "all", *cells, "", target])
    head = ["data", "graph", "seconds", "CPU seconds", "peak above inputs, MB", "kept, MB"]
    head.append("target")
    report.finish(markdown(head, lines))


if __name__ == "__main__":
    main()
