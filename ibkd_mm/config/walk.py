"""The one recursive walk over the nested settings of a config."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

DROP = object()
"""Returned by a `change` function to remove a value."""


def walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all settings below a node as (dotted path, value), a container before its content."""
    for name, value in _children(node):
        inner = f"{path}.{name}" if path else str(name)
        yield inner, value
        yield from walk(value, inner)


def dicts(node: Any) -> Iterator[Any]:
    """Yield a node and all settings below it that are dictionaries, from the outside in."""
    if isinstance(node, Mapping):
        yield node
    for _, value in _children(node):
        yield from dicts(value)


def changed(node: Any, change: Callable[[Any, Any], Any], key: Any = None) -> Any:
    """Copy nested settings, replacing each value by `change(value, key)`.

    A value for which `change` returns the value itself is searched further; one for which it returns `DROP`
    is removed from its container. List elements have the key None.
    """
    replaced = change(node, key)
    if replaced is not node:
        return replaced
    if isinstance(node, Mapping):
        pairs = ((name, changed(value, change, name)) for name, value in node.items())
        return {name: value for name, value in pairs if value is not DROP}
    if isinstance(node, list | tuple):
        kept = (changed(value, change) for value in node)
        return type(node)(value for value in kept if value is not DROP)
    return node


def to_builtin(node: Any) -> Any:
    """Copy settings into plain dictionaries and lists, without mmengine's marks of inheritance."""
    if isinstance(node, Mapping):
        return {str(name): to_builtin(value) for name, value in node.items() if name != "_scope_"}
    return [to_builtin(value) for value in node] if isinstance(node, list | tuple) else node


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the settings of the datasets that others wrap (`dataset`) or join (`datasets`)."""
    inner = [*dataset.get("datasets", []), *([dataset["dataset"]] if "dataset" in dataset else [])]
    if not inner:
        yield dataset
    for each in inner:
        yield from leaf_datasets(each)


def innermost_dataset(dataset: Any) -> Any:
    """Return the settings of the first dataset inside all wrappers."""
    return next(leaf_datasets(dataset))


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
