"""The verbs ``forecast`` and ``demo``; what they do stands in `holdfast.tasks.forecast`."""

from __future__ import annotations

import argparse
from typing import Any

from holdfast.verbs.forecast_settings import SETTINGS
from holdfast.verbs.jobs import add_again, add_job, runs
from holdfast.verbs.parser import count, numbers, whole
from holdfast.verbs.settings import add_settings

TABLE_HELP = "CSV or Parquet file (also .gz, .xz), or a folder of Parquet files"


def add_forecast(verbs: Any) -> None:
    """``holdfast forecast fit|predict|evaluate|cross-validate|samples|models``."""
    meaning = "train a forecaster on a table, predict with it, and score it"
    add_job(verbs, "forecast", meaning, STEPS)


def add_demo(verbs: Any) -> None:
    """``holdfast demo``: the whole way from the table that ships with the package to a report."""
    parser = verbs.add_parser(
        "demo", help="train on two years of highway traffic and write a report (no network)"
    )
    parser.add_argument("--out", default="demo", help="folder for the results (default: demo)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
    parser.add_argument(
        "--max-epochs", type=count, help="stop after this many epochs (default: the task's)"
    )
    parser.set_defaults(run=_run_demo)


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser(
        "fit",
        usage="%(prog)s DATA --out MODEL [OPTIONS]",
        help="train on DATA and write the model folder",
    )
    parser.add_argument("data", metavar="DATA", help=TABLE_HELP)
    parser.add_argument("--out", required=True, metavar="MODEL", help="folder to write")
    parser.add_argument("--holdout", type=count, metavar="N", help="score on the last N rows")
    parser.add_argument("--report", metavar="HTML", help="page to write: data, scores, pictures")
    _add_static(parser)
    parser.add_argument("--start", metavar="MODEL", help="go on from an earlier model's weights")
    parser.add_argument("--no-autoets", action="store_true", help="leave AutoETS out of scores")
    _add_on(parser)
    add_again(parser)
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=runs("forecast", "fit", SETTINGS))


def _add_predict(steps: Any) -> None:
    parser = steps.add_parser("predict", help="forecast what follows DATA")
    _add_model_and_data(parser, "table that ends where the forecast begins")
    parser.add_argument("--levels", type=numbers, default=(), metavar="80,95", help="intervals, %%")
    parser.add_argument(
        "--quantiles", type=numbers, default=(), metavar="0.1,0.9", help="shares between 0 and 1"
    )
    _add_static(parser)
    _add_future(parser)
    parser.add_argument("--samples", type=count, metavar="N", help="columns of N whole futures")
    parser.add_argument(
        "--groups", metavar="FILE", help="forecasts that add up: JSON of sums and parts, or a table"
    )
    parser.add_argument(
        "--reconcile", metavar="HOW", help="bottom_up (default), ols, wls or mint_shrink"
    )
    parser.add_argument("--residuals", metavar="FILE", help="of cross-validate, for the last two")
    parser.add_argument("--out", metavar="FILE", help=".csv or .parquet to write (default: stdout)")
    _add_on(parser)
    parser.add_argument("--plot", metavar="PNG", help="picture to write")
    parser.add_argument("--report", metavar="HTML", help="page to write")
    parser.set_defaults(run=runs("forecast", "predict"))


def _add_evaluate(steps: Any) -> None:
    parser = steps.add_parser("evaluate", help="rolling-origin scores beside the baselines")
    _add_model_and_data(parser, "table with rows after those of training")
    parser.add_argument("--last", type=count, metavar="N", help="score the last N rows instead")
    parser.add_argument("--step", type=count, help="rows between origins (default: horizon)")
    parser.add_argument("--no-autoets", action="store_true", help="leave AutoETS out")
    _add_static(parser)
    parser.add_argument("--plot", metavar="PNG", help="picture of forecasts and errors to write")
    parser.add_argument("--report", metavar="HTML", help="page to write")
    parser.set_defaults(run=runs("forecast", "evaluate_model"))


def _add_cross_validate(steps: Any) -> None:
    parser = steps.add_parser(
        "cross-validate",
        usage="%(prog)s DATA [OPTIONS]",
        help="scores of several cutoffs, each trained as if nothing later existed",
    )
    parser.add_argument("data", metavar="DATA", help=TABLE_HELP)
    parser.add_argument("--windows", type=count, default=3, metavar="N", help="cutoffs (3)")
    parser.add_argument("--step", type=count, metavar="ROWS", help="between cutoffs (horizon)")
    parser.add_argument("--refit", type=count, metavar="N", help="train anew at every N-th cutoff")
    parser.add_argument("--levels", type=numbers, default=(), metavar="80,95", help="intervals, %%")
    _add_static(parser)
    parser.add_argument("--out", metavar="FILE", help=".csv or .parquet with every forecast")
    parser.add_argument("--residuals", metavar="FILE", help="the same with what they missed by")
    parser.add_argument("--plot", metavar="PNG", help="picture of forecasts to write")
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=runs("forecast", "cross_validate", SETTINGS))


def _add_samples(steps: Any) -> None:
    parser = steps.add_parser("samples", help="whole futures after DATA, each as likely as another")
    _add_model_and_data(parser, "table that ends where the futures begin")
    parser.add_argument("--count", type=count, default=100, metavar="N", help="futures (100)")
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="chooses them (0)")
    _add_static(parser)
    _add_future(parser)
    parser.add_argument("--out", metavar="FILE", help=".csv or .parquet to write (default: stdout)")
    parser.set_defaults(run=runs("forecast", "samples"))


def _add_models(steps: Any) -> None:
    parser = steps.add_parser("models", help="list the models, and when to take them")
    parser.set_defaults(run=runs("forecast", "models"))


def _add_model_and_data(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument("data", metavar="DATA", help=data)


def _add_static(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--static-table", metavar="TABLE", help="one row for each id, with the static covariates"
    )


def _add_future(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--future-table", metavar="TABLE", help="id, time and future covariates after the end"
    )


def _add_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", choices=("here", "ray"), default="here", help="ray: on a cluster, or one made here"
    )
    parser.add_argument("--workers", type=count, default=2, metavar="N", help="for --on ray (2)")


def _run_demo(arguments: argparse.Namespace) -> int:
    from holdfast.tasks.forecast import demo

    return demo.run(arguments.out, seed=arguments.seed, max_epochs=arguments.max_epochs)


STEPS = (
    _add_fit,
    _add_predict,
    _add_evaluate,
    _add_cross_validate,
    _add_samples,
    _add_models,
)
