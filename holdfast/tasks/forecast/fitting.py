"""From a checked panel to trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from holdfast.data.panel import Panel
from holdfast.data.scaling import Scaling, fit_scales
from holdfast.data.windows import Recipe, Windows, make_windows
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.forecast.nets import NETS, ForecastNet, Shape, make_net
from holdfast.tasks.forecast.origins import training_origins
from holdfast.tasks.forecast.recipe import choose_recipe, held_out
from holdfast.tasks.forecast.settings import FREE_TO_CHANGE, head_of
from holdfast.tasks.forecast.short import without_short
from holdfast.tasks.forecast.training import Training
from holdfast.tasks.forecast.transfer import check_start, take_over
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours
from holdfast.tasks.team import Team
from holdfast.tasks.trainer import Plan, Trainer

if TYPE_CHECKING:
    from holdfast.tasks.forecast.estimator import Forecaster

# Seeds of the members of an ensemble are so far apart that nobody's next seed meets them.
STRIDE = 1_000_003


@dataclass(frozen=True)
class Fitted:
    """What training leaves: the shape of the windows, the scales, the networks, their losses.

    `panel` holds the series that trained, `left_out` the ids of those too short to.
    """

    panel: Panel
    left_out: tuple[str, ...]
    recipe: Recipe
    scaling: Scaling
    calendar: int
    nets: nn.ModuleList
    progress: list[Progress]


@dataclass(frozen=True)
class Course:
    """What a training begins with, how it is kept, and who shares it."""

    run: Run
    start: Forecaster | None = None
    team: Team | None = None


def fit_networks(model: Forecaster, panel: Panel, course: Course) -> Fitted:
    """Train the networks of `model`, one for each of its members, on `panel`."""
    if course.start is not None:
        check_start(course.start, model, panel)
    recipe = choose_recipe(model, panel) if course.start is None else course.start.recipe_
    rows = np.array(list(training_rows(model, panel).values()))
    joint = NETS[model.model].joint
    panel, left_out = without_short(panel, rows, recipe, joint)
    counts = training_rows(model, panel)
    scaling = fit_scales(panel, counts, model.scaling)
    known = {series.id: place for place, series in enumerate(panel.series)}
    windows = make_windows(panel, scaling, recipe, panel.schema, known)
    nets, progresses = nn.ModuleList(), []
    for member in range(model.members):
        net, progress = _fit_member(model, panel, windows, list(counts.values()), course, member)
        nets.append(net)
        progresses.append(progress)
    return Fitted(panel, left_out, recipe, scaling, windows.calendar.shape[1], nets, progresses)


def training_rows(model: Forecaster, panel: Panel) -> dict[str, int]:
    """How many rows of each series train; early stopping watches the rest."""
    return {
        series.id: len(series) - held_out(model.validation, len(series), model.horizon)
        for series in panel.series
    }


def _fit_member(
    model: Forecaster,
    panel: Panel,
    windows: Windows,
    counts: list[int],
    course: Course,
    member: int,
) -> tuple[nn.Module, Progress]:
    """Train one network."""
    settings = model.get_params()
    identity = {k: v for k, v in settings.items() if k not in FREE_TO_CHANGE}
    identity = {**identity, "data": panel.digest, "member": member}
    if course.start is not None:
        identity["start"] = course.start.data_["sha256"]
    progress = course.run.progress(identity, member)
    calendar = windows.calendar.shape[1]
    net = new_network(model, windows.recipe, panel.schema, calendar, len(panel.series), member)
    if course.start is not None:
        theirs: Any = course.start.nets_[member % len(course.start.nets_)]
        take_over(theirs, net)
    data = training_origins(model, net, windows, counts)
    plan = Plan.of(settings, seed=model.seed + STRIDE * member, averaged_by="epochs")
    work = Training(net, data, model.batch_size, tuple(model.augment), model.device, course.team)
    trained = Trainer(work, plan, progress).run(course.run.file(member), course.run.report)
    return trained.cpu(), progress


def new_network(
    model: Forecaster, recipe: Recipe, schema: Any, calendar: int, series: int, member: int
) -> ForecastNet:
    """A network before training; its numbers come from the seed alone."""
    shape = Shape(
        recipe=recipe,
        schema=schema,
        calendar=calendar,
        series=series,
        head=head_of(model.get_params()),
        cell=model.cell,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        dropout=model.dropout,
        options=model.options,
    )
    with own_random_numbers():
        seed_everything_of_ours(model.seed + STRIDE * member, 0)
        return make_net(model.model, shape)
