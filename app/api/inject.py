"""What handlers are given, and what every request is checked for before its handler runs."""

from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from app.api.problems import Problem
from app.resources import Resources

# Ours, made by ourselves: there is nothing to validate, and validation would try to rebuild it.
Injected = NamedDependency[SkipValidation[Resources]]


def resources_of(state: State) -> Resources:
    found: Resources = state.resources
    return found


async def refuse_unknown_query(request: Request[Any, Any, State]) -> None:
    """A misspelt filter would silently list everything."""
    known = request.route_handler.parsed_fn_signature.parameters
    for name in request.query_params:
        if name not in known:
            raise Problem(422, "unknown_parameter", f"?{name}= is not a parameter here: see /schema.", name)
