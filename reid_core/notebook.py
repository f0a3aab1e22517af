"""What a notebook calls: strict parameters, the source under its equation, and a run that is loaded or trained."""

import html
import inspect
import json
from types import SimpleNamespace

from IPython.display import HTML
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from reid_core import figures, reported, results, tables
from reid_core.data import ROOT
from reid_core.recipe import profile_called

BOOKS = "laptop"  # the profile of the book's runs


class ParameterError(ValueError):
    """One sentence; Jupyter and papermill show it without the frames of this file."""

    def _render_traceback_(self):
        return [f"ParameterError: {self}"]


def start(namespace):
    """Check the parameters of the notebook whose globals are `namespace`; returns them as a page. To be called right after
    the imports: a plain value that no cell declared by then was injected. When the cell runs again, the other names are the
    notebook's own. `committed` says whether the page shows the runs of the book alone, all of the profile laptop, or a reader's
    own before them.

    papermill passes `true`, `[0,1]`, `1e-4` and names that no cell declares, wrongly and in silence. Here every value
    is brought to the type that the cell tagged `parameters` annotates, or refused.
    """
    declared = annotations(namespace)
    unknown = [name for name, value in namespace.items() if name not in declared and injected(name, value)]
    if unknown and "_started" not in namespace:
        raise ParameterError(
            f"expected parameters among {', '.join(declared)}, found {unknown[0]!r}; correct the name."
        )
    values = {name: coerced(name, kind, namespace[name]) for name, kind in declared.items()}
    check_words(values)
    namespace.update(values, _started=True)
    return SimpleNamespace(**values, committed=values.get("profile") == BOOKS and not values.get("retrain"))


def annotations(namespace):
    """{name: kind in words} of the annotated globals."""
    found = namespace.get("__annotations__") or namespace["__annotate__"](1)  # a function since Python 3.14
    return {
        name: str(kind) if getattr(kind, "__args__", None) else kind.__name__ for name, kind in found.items()
    }


def injected(name, value):
    """Whether a global is plain data that neither Python nor Jupyter put there."""
    plain = value is None or isinstance(value, bool | int | float | str | list | tuple | dict)
    return plain and name[0] != "_" and name not in ("In", "Out")


def coerced(name, kind, value):
    """`value` as the annotated kind; a ParameterError where that would be a guess."""
    try:
        return KINDS[kind](value)
    except (TypeError, ValueError, json.JSONDecodeError):
        raise ParameterError(f"expected {name} to be {kind}, found {value!r}; correct the value.") from None


def as_bool(value):
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError


def as_int(value):
    if isinstance(value, bool) or (isinstance(value, float) and value % 1):
        raise ValueError
    return int(value)


def as_float(value):
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def as_str(value):
    if not isinstance(value, str):
        raise ValueError
    return value


def as_list(item):
    def read(value):
        value = json.loads(value) if isinstance(value, str) else value
        if not isinstance(value, list | tuple):
            raise ValueError
        return [item(one) for one in value]

    return read


KINDS = {"bool": as_bool, "int": as_int, "float": as_float, "str": as_str, "list[int]": as_list(as_int),
         "list[float]": as_list(as_float), "list[str]": as_list(as_str)}  # fmt: skip


def check_words(values):
    if "profile" in values:
        try:
            profile_called(values["profile"])
        except ValueError as error:
            raise ParameterError(str(error)) from None
    if values.get("seed", 0) < 0:
        raise ParameterError(f"expected seed to be 0 or more, found {values['seed']}; correct the value.")


def reproduce(page, method, variant, row="full", seed=None):
    """The run of a row in the page's profile: trained if `retrain` asks for it (always in `smoke`, once for all pages),
    else loaded. None where there is none: every table prints that as "not run"."""
    spec = results.Spec(method, variant, row, page.data, page.profile, page.seed if seed is None else seed)
    try:
        if page.profile == "smoke":
            run = results.find(spec, committed=False)
            return results.measure(spec, log=quiet) if run is None or results.outdated(run) else run
        return results.measure(spec) if page.retrain else results.find(spec, page.committed)
    except ValueError as error:
        raise ParameterError(str(error)) from None


def quiet(*_):
    """Progress lines do not belong in a page."""


def show(*things):
    """The real source of functions and classes, with the place where it stands."""
    parts = []
    for thing in things:
        source, line = inspect.getsourcelines(thing)
        path = inspect.getsourcefile(inspect.unwrap(thing))
        place = f"{path.removeprefix(str(ROOT) + '/')}, line {line}"
        code = highlight(
            "".join(source), PythonLexer(), HtmlFormatter(noclasses=True, style="tango", nobackground=True)
        )
        parts.append(f'<div class="source"><div class="place">{html.escape(place)}</div>{code}</div>')
    return HTML("".join(parts))


def figure(plot, caption, alt):
    """A plot with its caption (what was found) and alt text (what it looks like)."""
    return HTML(figures.as_html(plot, caption, alt))


def missing(what):
    """A placeholder for a figure whose run does not exist: the page says so instead of showing something else."""
    return HTML(f'<p class="empty">{html.escape(what)}: {tables.NOT_RUN}.</p>')


__all__ = ["figure", "figures", "missing", "reported", "reproduce", "results", "show", "start", "tables"]
