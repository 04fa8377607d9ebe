"""How a model spreads its users: t-SNE with a density, and the density over angles.

The figure of MLLMRec (Dang et al., Fig. 6): users drawn at random, their final embeddings brought
to two dimensions by t-SNE, a Gaussian kernel density over the plane (above) and over the points'
angles around the centre (below). Runs stand side by side, with the same users on the same data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from sklearn.manifold import TSNE

from recbole_llm.record import RunRecord
from recbole_llm.reload import load_run

Points = NDArray[np.float64]
_GRID = 100


class UserMap(NamedTuple):
    """One run's users in the plane.

    Attributes:
        record: of the run.
        points: (n, 2) t-SNE coordinates, centred, the farthest at distance 1.
    """

    record: RunRecord
    points: Points


def plot_embeddings(
    runs: Sequence[str | Path],
    output: str | Path,
    n_users: int = 500,
    seed: int = 2020,
    data_path: str | None = None,
) -> list[Path]:
    """Draw the figure of finished runs from their checkpoints.

    Args:
        runs: folders with ``record.json``; models that rank by user embeddings.
        output: folder for ``user-embeddings.pdf``, ``.png`` and the points' ``.csv``.
        n_users: users drawn at random, all if there are fewer. Paper: 500.
        seed: of the draw and of t-SNE.
        data_path: parent of the data sets' folders, if the data has moved.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: a record, checkpoint or data set is missing.
        ValueError: a model has no user embeddings, or there are too few users for t-SNE.
    """
    maps = [user_map(run, n_users, seed, data_path) for run in runs]
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "user-embeddings.csv"
    lines = [f"{each.record.id},{x:.6f},{y:.6f}" for each in maps for x, y in each.points.tolist()]
    table.write_text("\n".join(["run,x,y", *lines]) + "\n", encoding="utf-8")
    return [*_draw(maps, folder / "user-embeddings"), table]


def user_map(run: str | Path, n_users: int, seed: int, data_path: str | None = None) -> UserMap:
    """Return one run's users in the plane; see ``plot_embeddings``."""
    loaded = load_run(run, data_path)
    if not hasattr(loaded.model, "embeddings"):
        raise ValueError(
            f"run {loaded.record.id}: {loaded.record.model} does not rank by user embeddings, "
            f"which this figure is about."
        )
    model: Any = loaded.model
    emb = model.embeddings()[0].cpu().double().numpy()  # (U, d)
    tokens = loaded.split.dataset.field2id_token[loaded.split.dataset.uid_field]
    order = np.argsort(tokens[1:].astype(str)) + 1  # the same users in every run on the same data
    chosen = np.random.default_rng(seed).permutation(order)[:n_users]
    if len(chosen) < 5:
        raise ValueError(f"t-SNE needs at least 5 users, got {len(chosen)}; raise --n_users.")
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    points = TSNE(perplexity=perplexity, random_state=seed).fit_transform(emb[chosen])
    points = points - points.mean(axis=0)
    return UserMap(loaded.record, points / np.linalg.norm(points, axis=1).max())


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


def _draw(maps: Sequence[UserMap], stem: Path) -> list[Path]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(maps), figsize=(3.2 * len(maps), 4.8), squeeze=False, height_ratios=(2.2, 1)
    )
    side = np.linspace(-1.1, 1.1, _GRID)
    mesh = np.stack(np.meshgrid(side, side)).reshape(2, -1)
    angles = np.linspace(-np.pi, np.pi, 361)
    for column, each in enumerate(maps):
        above, below = axes[:, column]
        density = gaussian_kde(each.points.T)(mesh).reshape(_GRID, _GRID)
        above.contourf(side, side, density, levels=12, cmap="Greys")
        above.plot(*each.points.T, ".", markersize=1.5, color="tab:blue", alpha=0.5)
        above.set(xticks=[], yticks=[], aspect="equal")
        above.set_title(f"{each.record.model} on {each.record.dataset}", fontsize=9)
        below.plot(angles, angle_density(each.points, angles), color="black", linewidth=1)
        below.set(xlim=(-np.pi, np.pi), xlabel="angle [rad]", ylim=(0, None))
        below.set_xticks([-np.pi, 0, np.pi], ["-π", "0", "π"])
    axes[0, 0].set_ylabel("t-SNE, Gaussian KDE")
    axes[1, 0].set_ylabel("density")
    top = max(axis.get_ylim()[1] for axis in axes[1])
    for axis in axes[1]:
        axis.set_ylim(0, top)
    figure.tight_layout()
    files = [stem.with_suffix(suffix) for suffix in (".pdf", ".png")]
    for path in files:
        figure.savefig(path, dpi=200)
    plt.close(figure)
    return files
