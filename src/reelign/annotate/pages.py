"""Templates and assets, read once from the package: no request reaches a file by its name."""

from __future__ import annotations

import functools
import math
from importlib import resources
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from reelign.annotate.access import csrf_of

ASSET_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A template filled in."""
    values["csrf"] = csrf_of(request)
    return HTMLResponse(_templates().get_template(template).render(**values), status_code=status)


def asset(name: str) -> Response | None:
    """A script or style of the pages; None where there is none of that name."""
    found = _assets().get(name)
    if found is None:
        return None
    content, kind = found
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


@functools.cache
def _assets() -> dict[str, tuple[bytes, str]]:
    files = resources.files("reelign.annotate").joinpath("static").iterdir()
    return {
        file.name: (file.read_bytes(), kind)
        for file in files
        for suffix, kind in ASSET_TYPES.items()
        if file.name.endswith(suffix)
    }


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reelign.annotate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent)
    return environment


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"
