"""Prompt templates: a small subset of jinja2 that limits the length of a rendered prompt.

There are no functions and no arithmetic. Loops go over the labels or the turns only and are at most two deep. Values
in `set` are never composed of other values. So a rendered prompt is at most as long as its template times the
utterance's context, and that product is limited as well.
"""

from __future__ import annotations

from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 1_000_000
"""Maximum number of characters of a rendered prompt."""
_LONGEST_SOURCE = 100_000
_LOOPED_OVER = ("labels", "turns")
_DEEPEST = 2
_FILTERS = (
    *("abs", "capitalize", "count", "default", "d", "e", "escape", "first", "float", "int", "join", "last", "length"),
    *("list", "lower", "max", "min", "reverse", "round", "safe", "sort", "string", "title", "trim", "truncate"),
    *("unique", "upper", "wordcount"),
)
_DEEPEST_NODE = 40
_GROW = (nodes.Concat, nodes.Add, nodes.List, nodes.Tuple, nodes.Dict)
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.NSRef, nodes.If, nodes.CondExpr, nodes.For,
    nodes.Assign, nodes.Const, nodes.List, nodes.Tuple, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter,
    nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub,
    nodes.Neg, nodes.Pos, nodes.Keyword,
)  # fmt: skip


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """A sandboxed subset of jinja2 for prompts."""

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_something)
        self.globals.clear()
        self.filters = {name: kept for name, kept in self.filters.items() if name in _FILTERS}

    def checked(self, source: str) -> nodes.Template:
        """Parse a template; raises TemplateError for syntax that prompts may not use."""
        if len(source) > _LONGEST_SOURCE:
            raise TemplateError(f"is longer than {_LONGEST_SOURCE:,} characters")
        try:
            parsed = self.parse(source)
            _check(parsed, loops=0, depth=0, is_set=False)
        except RecursionError:
            raise TemplateError("is nested too deeply") from None
        except ValueError:
            raise TemplateError("contains a number that is too long") from None
        return parsed


def rendered(template: Template, values: dict[str, Any]) -> str:
    """Render a template with its values; raises TemplateError if the result is too long."""
    parts, length = [], 0
    for part in template.generate(values):
        parts.append(part)
        length += len(part)
        if length > LONGEST:
            raise TemplateError(f"comes to more than {LONGEST:,} characters")
    return "".join(parts)


def _check(node: nodes.Node, *, loops: int, depth: int, is_set: bool) -> None:
    where = f"in line {node.lineno}"
    if depth > _DEEPEST_NODE:
        raise TemplateError(f"is nested too deeply {where}")
    if not isinstance(node, _ALLOWED):
        name = type(node).__name__.lower()
        raise TemplateError(f"uses {_WORDS.get(name, repr(name))} {where}, which prompts do not support")
    if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
        raise TemplateError(f"uses the filter {node.name!r} {where}; there are: {', '.join(sorted(_FILTERS))}")
    if is_set and (isinstance(node, _GROW) or (isinstance(node, nodes.Filter) and node.name == "join")):
        raise TemplateError(f"combines values in a set {where}: combine them where they are shown")
    if isinstance(node, nodes.Name) and node.ctx != "load" and node.name in _LOOPED_OVER:
        raise TemplateError(f"assigns a value to {node.name!r} {where}")
    if isinstance(node, nodes.For):
        over: nodes.Node | None = node.iter
        while isinstance(over, nodes.Filter | nodes.Getitem):
            over = over.node
        if not (isinstance(over, nodes.Name) and over.name in _LOOPED_OVER) or node.recursive:
            raise TemplateError(f"loops over something other than labels or turns {where}")
        loops += 1
        if loops > _DEEPEST:
            raise TemplateError(f"has loops more than {_DEEPEST} deep {where}")
    for child in node.iter_child_nodes():
        _check(child, loops=loops, depth=depth + 1, is_set=is_set or isinstance(node, nodes.Assign))


def _something(value: Any) -> Any:
    if value is None:
        raise TemplateError("prints a value that is missing")
    return value


_WORDS = {
    "call": "a function",
    "mul": "multiplication",
    "pow": "a power",
    "mod": "formatting with %",
    "assignblock": "a block that is set",
    "callblock": "a macro",
    "filterblock": "a filter block",
}
