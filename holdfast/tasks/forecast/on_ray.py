"""Training and forecasts on the machines of a Ray cluster.

Ray tasks read the groups of a folder, Ray Train runs workers that share every batch, and forecasts
are made group by group in tasks again. Without a cluster in ``RAY_ADDRESS`` one is started on this
machine and ended with the job.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.data.folder import GROUP_ROWS, Folder, Reading, hold, is_folder
from holdfast.data.optional import require
from holdfast.data.panel import Panel
from holdfast.errors import HoldfastError, ModelError
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.settings import check_settings, columns_of
from holdfast.tasks.forecast.shards import write_frames
from holdfast.tasks.team import Team

PROGRESS, MODEL = "progress", "model"
# Workers that die are started again so often.
FAILURES = 5
STORE = 256 << 20


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """Ray, connected: to ``RAY_ADDRESS``, to what is connected already, or to a cluster of our own.

    Our own listens on this machine alone and ends with the block.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    alone = "RAY_ADDRESS" not in os.environ
    if alone:
        # Ray reads this when it is imported. Its name is older than its use: Ray then stays on the
        # loopback address, where `_node_ip_address` would be turned into that of the machine.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ray = require("ray", "ray")
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if alone:
        options |= {
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": STORE,
        }
    ray.init(**options)
    try:
        yield ray
    finally:
        ray.shutdown()


def fit_on_ray(
    model: Forecaster,
    data: Any,
    *,
    workers: int = 2,
    static: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    report: Callable[[Reading], None] | None = None,
) -> Forecaster:
    """Train `model` with `workers` processes and return it; the scores are those of `fit`.

    Every worker takes its share of every batch. A worker that dies is started again, and training
    goes on after its last whole epoch. `checkpoint` and `resume` are those of `Forecaster.fit`;
    where workers run on several machines, the file must lie on all of them.

    Raises `ModelError` when training ends without a model.
    """
    check_settings(model.get_params())
    file = None if checkpoint is None else Path(checkpoint).absolute()
    begin = file.read_bytes() if resume and file is not None and file.exists() else b""
    with cluster(workers) as ray, tempfile.TemporaryDirectory() as storage:
        panel = read_on_ray(ray, model, data, static, workers, report)
        config = {
            "settings": model.get_params(),
            "panel": [ray.put(panel)],
            "begin": begin,
            "checkpoint": file,
        }
        folder = _train(ray, config, workers, storage)
        trained = Forecaster.load(folder / MODEL)
    for name, value in vars(trained).items():
        if name.endswith("_"):
            setattr(model, name, value)
    return model


def read_on_ray(
    ray: Any, model: Forecaster, data: Any, static: Any, workers: int, report: Any
) -> Panel:
    """The table as a panel; the groups of a folder are read by tasks."""
    if not is_folder(data):
        return model.read(data, static=static)
    folder = Folder(Path(data), columns_of(vars(model)), GROUP_ROWS)
    options = folder.options(model.missing, static, None, None)

    def read(options: dict[str, Any]) -> Iterator[Panel]:
        shared = ray.put((folder, options))
        task = ray.remote(_read_group)
        return _in_order(ray, workers, ((task, (shared, ids)) for ids in folder.groups))

    return hold(folder, folder.panels(options, report, read))


def _read_group(shared: tuple[Folder, dict[str, Any]], ids: list[str]) -> Panel:
    folder, options = shared
    return folder.group(ids, **options)


def _in_order(ray: Any, workers: int, calls: Any) -> Iterator[Any]:
    """The results of tasks in their order, few more of them under way than there are workers."""
    waiting: deque[Any] = deque()
    for task, arguments in calls:
        waiting.append(task.remote(*arguments))
        if len(waiting) > 2 * workers:
            yield _result(ray, waiting.popleft())
    while waiting:
        yield _result(ray, waiting.popleft())


def _result(ray: Any, reference: Any) -> Any:
    """A task's result, or its own error."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, HoldfastError):
            raise error.cause from None
        raise


def _train(ray: Any, config: dict[str, Any], workers: int, storage: str) -> Path:
    """Run the workers; the folder of what the last report held."""
    train, torch_train = require("ray.train", "ray"), require("ray.train.torch", "ray")
    trainer = torch_train.TorchTrainer(
        _work,
        train_loop_config=config,
        torch_config=torch_train.TorchConfig(backend="gloo"),
        scaling_config=train.ScalingConfig(num_workers=workers, use_gpu=False),
        run_config=train.RunConfig(
            name="holdfast",
            storage_path=storage,
            failure_config=train.FailureConfig(max_failures=FAILURES),
            checkpoint_config=train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except train.TrainingFailedError as error:
        causes = getattr(error, "worker_failures", {}).values()
        own = next((c for c in causes if isinstance(c, HoldfastError)), None)
        raise own or ModelError(f"training on Ray failed: {str(error).splitlines()[0]}") from error
    if result.checkpoint is None:
        raise ModelError("training on Ray ended without a model; look into Ray's logs")
    return Path(result.checkpoint.path)


def _work(config: dict[str, Any]) -> None:
    """What a worker does: train with its share of every batch, from the last whole epoch on."""
    ray, train = require("ray", "ray"), require("ray.train", "ray")
    context = train.get_context()
    team = Team(context.get_world_rank(), context.get_world_size())
    model = Forecaster(**config["settings"])
    (reference,) = config["panel"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if config["begin"]:
            (folder / PROGRESS).write_bytes(config["begin"])
        last = train.get_checkpoint()
        if last is not None:
            with last.as_directory() as found:
                shutil.copytree(found, folder, dirs_exist_ok=True)

        def report(values: dict[str, float]) -> None:
            """Every worker reports; the first one hands over the folder."""
            mine = None if team.rank else train.Checkpoint.from_directory(folder)
            train.report(values, checkpoint=mine)

        def note(progress: Any) -> None:
            if not team.rank and config["checkpoint"] is not None:
                for file in folder.glob(f"{PROGRESS}*"):
                    target = config["checkpoint"]
                    shutil.copy(file, target.with_name(target.name + file.name[len(PROGRESS) :]))
            report(progress.history[-1])

        panel = ray.get(reference)
        model.fit(panel, checkpoint=folder / PROGRESS, resume=True, report=note, team=team)
        if not team.rank:
            model.save(folder / MODEL)
        report(model.history_[-1])


def predict_on_ray(
    model: Forecaster,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int = 2,
    static: Any = None,
    future: Any = None,
    **options: Any,
) -> int:
    """Write the forecasts of a folder to `out`, made by tasks, a group each; how many rows.

    `options` are those of `Forecaster.predict`. The file is that of `write_forecasts`.
    """
    folder = Folder(Path(path), columns_of(vars(model)), GROUP_ROWS)
    reading = folder.options(model.missing, static, future, model.frequency_)
    with cluster(workers) as ray, tempfile.TemporaryDirectory() as name:
        model.save(Path(name) / MODEL)
        files = {f.name: f.read_bytes() for f in (Path(name) / MODEL).iterdir()}
        shared = ray.put((folder, reading, files, options))
        task = ray.remote(_predict_group)
        calls = ((task, (shared, ids)) for ids in folder.groups)
        return write_frames(_in_order(ray, workers, calls), out)


def _predict_group(shared: tuple[Any, ...], ids: list[str]) -> Any:
    folder, reading, files, options = shared
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        model = Forecaster.load(name)
    return model.predict(folder.group(ids, **reading), **options)
