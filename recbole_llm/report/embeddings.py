"""How a model spreads its users: t-SNE with a density, and the density over angles.

The figure of MLLMRec (Dang et al., Fig. 6): users drawn at random, their final embeddings brought
to two dimensions by t-SNE, a Gaussian kernel density over the plane (above) and over the points'
angles around the centre (below). Each run has a column, with the same users on the same data.
A model that reads users in several ways has a column for each: GALRec its prompts of 0, 1, 2 hops
(Guan et al., Fig. 4).
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from scipy.stats import gaussian_kde
from sklearn.manifold import TSNE
from torch import Tensor

from recbole_llm.data.loader import FullRankLoader
from recbole_llm.model.base import hooks_of
from recbole_llm.plotting import (
    ACCENT,
    GREYS,
    figure_style,
    panel_width,
    panels,
    plain_text,
    save_figure,
)
from recbole_llm.record import RunRecord
from recbole_llm.report.csv_files import to_csv
from recbole_llm.runs.reload import ReloadedRun, load_run

Points = NDArray[np.float64]
_STEM, _POINTS = "user-embeddings", "user-embeddings.csv"
_GRID = 100  # points of the density along each side of the plane


class UserMap(NamedTuple):
    """One run's users in the plane, as its model reads them in one way.

    Attributes:
        record: record of the run.
        title: text above the column: model, dataset, and view.
        points: (n, 2) float64 t-SNE coordinates, centred, the farthest at distance 1.
    """

    record: RunRecord
    title: str
    points: Points


def plot_embeddings(
    runs: Sequence[str | Path],
    output: str | Path,
    n_users: int = 500,
    seed: int = 2020,
    data_path: str | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> list[Path]:
    """Draw the figure of finished runs from their checkpoints.

    Args:
        runs: folders with ``record.json``; the models have user embeddings, or ``user_views``.
        output: folder for ``user-embeddings.pdf``, ``.png`` and the points' ``.csv``.
        n_users: number of users drawn at random; all users if there are fewer. Paper: 500.
        seed: seed of the draw and of t-SNE.
        data_path: parent of the datasets' folders, if the data has moved.
        labels: a name for each run; None: the names of the models.
        title: title of the figure; may be empty.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: a record, checkpoint or dataset is missing.
        ValueError: a model has no user embeddings, or there are too few users for t-SNE.
    """
    names = labels or [RunRecord.load(run).model for run in runs]
    maps = [
        user_map
        for run, label in zip(runs, names, strict=True)
        for user_map in user_maps(run, label, n_users, seed, data_path)
    ]
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / _POINTS
    rows: list[list[object]] = [
        [user_map.record.id, user_map.title, round(x, 6), round(y, 6)]
        for user_map in maps
        for x, y in user_map.points.tolist()
    ]
    table.write_text(to_csv([["run", "title", "x", "y"], *rows]), encoding="utf-8")
    return [*draw_maps(maps, folder / _STEM, title), table]


def redraw_embeddings(records: Sequence[RunRecord], output: Path, title: str = "") -> list[Path]:
    """Draw the figure again from the points of an earlier one, without any checkpoint.

    Args:
        records: records of the runs that the figure is to show.
        output: folder of the earlier figure.
        title: title of the figure; may be empty.

    Returns:
        The files, or none if there are no points, or not those of exactly these runs.
    """
    table = output / _POINTS
    if not table.is_file():
        return []
    known = {record.id: record for record in records}
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for run, *parts, x, y in list(csv.reader(file))[1:]:
                name = ",".join(parts).removeprefix("'")  # older files do not quote a comma
                points.setdefault((run, name), []).append((float(x), float(y)))
    except ValueError:  # damaged
        return []
    if {run for run, _ in points} != known.keys():
        return []
    maps = [UserMap(known[run], text, np.array(found)) for (run, text), found in points.items()]
    return [*draw_maps(maps, output / _STEM, title), table]


def user_maps(
    run: str | Path, label: str, n_users: int, seed: int, data_path: str | None = None
) -> list[UserMap]:
    """Return one run's users in the plane, once for each way its model reads them.

    Users are drawn by their tokens, so two runs on the same data show the same users.

    Args:
        run: folder of the run, or its ``record.json``.
        label: name of the run in the title.
        n_users: number of users drawn at random.
        seed: seed of the draw and of t-SNE.
        data_path: parent of the dataset's folder, if the data has moved.

    Raises:
        FileNotFoundError: the record, its checkpoint or the dataset is missing.
        ValueError: the model has no user embeddings, or fewer than 5 users are drawn.
    """
    loaded = load_run(run, data_path)
    tokens = loaded.split.dataset.field2id_token[loaded.split.dataset.uid_field]
    order = np.argsort(tokens[1:].astype(str)) + 1  # the same users in every run on the same data
    chosen = np.random.default_rng(seed).permutation(order)[:n_users]
    if len(chosen) < 5:
        raise ValueError(f"t-SNE needs at least 5 users, got {len(chosen)}; raise --n_users.")
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    maps = []
    for view, emb in _user_views(loaded, chosen).items():
        points = TSNE(perplexity=perplexity, random_state=seed).fit_transform(emb)
        points = points - points.mean(axis=0)
        points /= np.linalg.norm(points, axis=1).max()
        title = ", ".join(filter(None, [f"{label} on {loaded.record.dataset}", view]))
        maps.append(UserMap(loaded.record, title, points))
    return maps


def _user_views(loaded: ReloadedRun, users: NDArray[np.int64]) -> dict[str, Points]:
    """Return the embeddings (n, d) of users by name of the view; "" where there is but one."""
    hooks = hooks_of(loaded.model)
    parts: dict[str, list[Tensor]] = {}
    for batch in _user_batches(loaded, users, hooks.needs_history):
        for view, emb in hooks.user_views(batch.to(loaded.config["device"])).items():
            parts.setdefault(view, []).append(emb.cpu().double())
    if not parts:
        raise ValueError(
            f"run {loaded.record.id}: {loaded.record.model} does not rank by user embeddings, "
            f"which this figure is about."
        )
    return {view: torch.cat(embs).numpy() for view, embs in parts.items()}


def _user_batches(
    loaded: ReloadedRun, users: NDArray[np.int64], with_history: bool
) -> Iterator[Interaction]:
    """Yield batches of users, with their training items where the model reads them.

    Of the latter, users without a training item are left out.
    """
    config, train = loaded.config, loaded.split.train
    if not with_history:
        yield Interaction({train.uid_field: torch.from_numpy(users)})
        return
    loader = FullRankLoader(config, train, [train], with_sequence=True)  # training items alone
    row_of = {user: row for row, user in enumerate(loader.row_user.tolist())}
    rows = [row_of[user] for user in users.tolist() if user in row_of]
    for start in range(0, len(rows), config["eval_users"]):
        yield loader.collate_fn(rows[start : start + config["eval_users"]])[0]


def angle_density(points: Points, angles: Points) -> Points:
    """Return the density of the points' angles around the origin, per radian, at ``angles``.

    A Gaussian kernel on the circle: the angles are repeated one turn to either side, so that the
    density is as high at pi as at -pi and integrates to 1 over a turn.
    """
    theta = np.arctan2(points[:, 1], points[:, 0])
    width = theta.std() * len(theta) ** -0.2  # Scott's rule, of one turn alone
    around = (
        angles[:, None] - np.concatenate([theta - 2 * np.pi, theta, theta + 2 * np.pi])
    ) / width
    return np.exp(-0.5 * around**2).sum(axis=1) / (len(theta) * width * np.sqrt(2 * np.pi))


def draw_maps(maps: Sequence[UserMap], stem: Path, title: str) -> list[Path]:
    """Draw a column for each map: the plane with its density above, the angles below.

    Returns:
        The PDF and the PNG.
    """
    with figure_style():
        width = max(panel_width(len(maps)), 1.6)
        figure, axes = panels(2, len(maps), width=width, height=1.6, height_ratios=(2.2, 1))
        for column, user_map in enumerate(maps):
            _draw_plane(axes[0, column], user_map)
            _draw_angles(axes[1, column], user_map.points)
        axes[0, 0].set_ylabel("t-SNE, Gaussian KDE")
        axes[1, 0].set_ylabel("density")
        top = max(axis.get_ylim()[1] for axis in axes[1])
        for axis in axes[1]:
            axis.set_ylim(0, top)
        if title:
            figure.suptitle(plain_text(title))
        return save_figure(figure, stem)


def _draw_plane(axis: Any, user_map: UserMap) -> None:
    side = np.linspace(-1.1, 1.1, _GRID)
    mesh = np.stack(np.meshgrid(side, side)).reshape(2, -1)
    density = gaussian_kde(user_map.points.T)(mesh).reshape(_GRID, _GRID)
    axis.contourf(side, side, density, levels=12, cmap=GREYS)
    axis.plot(*user_map.points.T, ".", markersize=1.5, color=ACCENT, alpha=0.5)
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.set_title(plain_text(user_map.title))


def _draw_angles(axis: Any, points: Points) -> None:
    angles = np.linspace(-np.pi, np.pi, 361)
    axis.plot(angles, angle_density(points, angles), color="black", linewidth=1)
    axis.set(xlim=(-np.pi, np.pi), xlabel="angle [rad]", ylim=(0, None))
    axis.set_xticks([-np.pi, 0, np.pi], ["−π", "0", "π"])
