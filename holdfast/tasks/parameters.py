"""Settings of estimators in scikit-learn's manner, without the second that importing it takes."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from holdfast.data.optional import require
from holdfast.errors import DataError, did_you_mean


class Estimator:
    """What scikit-learn's clones, pipelines and searches ask of an estimator.

    >>> class Mean(Estimator):
    ...     def __init__(self, power: int = 1) -> None:
    ...         self.power = power
    >>> Mean().get_params(), Mean().set_params(power=2)
    ({'power': 1}, Mean(power=2))

    The arguments of `__init__`, all with names, are the settings; it keeps them as they are, under
    the same names. `kind` is ``"classifier"``, ``"regressor"`` or None.

    Errors: `DataError`, a `ValueError`, for a setting that there is not.
    """

    kind: ClassVar[str | None] = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name; with `deep` those of estimators among them, as ``name__its``."""
        found: dict[str, Any] = {}
        for name in sorted(_defaults(type(self))):
            value = found[name] = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                theirs = value.get_params().items()
                found |= {f"{name}__{their}": setting for their, setting in theirs}
        return found

    def set_params(self, **params: Any) -> Any:
        """Change settings, also those of estimators among them, and return self."""
        known = _defaults(type(self))
        inner: dict[str, dict[str, Any]] = {}
        for given, value in params.items():
            name, nested, theirs = given.partition("__")
            if name not in known:
                raise DataError(
                    f"{name!r} is no parameter of {type(self).__name__}; it has "
                    f"{', '.join(sorted(known))}{did_you_mean(name, known)}"
                )
            if nested:
                inner.setdefault(name, {})[theirs] = value
            else:
                setattr(self, name, value)
        for name, values in inner.items():
            getattr(self, name).set_params(**values)
        return self

    def __repr__(self) -> str:
        """The call that makes it, with what differs from the defaults."""
        told = (
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if repr(value) != repr(_defaults(type(self))[name])
        )
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know of an estimator before it uses it."""
        utils: Any = require("sklearn.utils")
        return utils.Tags(
            estimator_type=self.kind,
            target_tags=utils.TargetTags(required=self.kind is not None),
            classifier_tags=utils.ClassifierTags() if self.kind == "classifier" else None,
            regressor_tags=utils.RegressorTags() if self.kind == "regressor" else None,
        )


Kind = TypeVar("Kind", bound=Estimator)


def unfitted(model: Kind) -> Kind:
    """An estimator with the same settings that has learned nothing."""
    return type(model)(**copy.deepcopy(model.get_params(deep=False)))


def as_model(
    given: Kind | str | os.PathLike[str], load: Callable[[str | os.PathLike[str]], Kind]
) -> Kind:
    """A model as it is given, or the one in a folder.

    Errors: `DataError` for what is neither; those of `load`.
    """
    if isinstance(given, (str, os.PathLike)):
        return load(given)
    if not isinstance(given, Estimator):
        kind = type(given).__name__
        raise DataError(f"start: expected a fitted model, or the path of its folder, got {kind}")
    return given


def tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that were written.

    >>> tuples({"quantiles": [0.1, 0.9], "horizon": 24})
    {'quantiles': (0.1, 0.9), 'horizon': 24}
    """
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


@lru_cache(maxsize=64)
def _defaults(kind: type) -> dict[str, Any]:
    """The settings of a class and what they are unless given."""
    arguments = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return {argument.name: argument.default for argument in arguments}
