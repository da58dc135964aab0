"""The one recursive walk over the nested settings of a config."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

DROP = object()  # returned by a `change` function to remove a value


def walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all settings below a node as (dotted path, value), a container before its content."""
    is_dict, is_list = isinstance(node, Mapping), isinstance(node, list | tuple)
    for name, value in node.items() if is_dict else enumerate(node) if is_list else ():
        inner = f"{path}.{name}" if path else str(name)
        yield inner, value
        yield from walk(value, inner)


def dicts(node: Any) -> Iterator[Any]:
    """Yield a node and all settings below it that are dictionaries, from the outside in."""
    if isinstance(node, Mapping):
        yield node
    yield from (value for _, value in walk(node) if isinstance(value, Mapping))


def changed(node: Any, change: Callable[[Any, Any], Any], key: Any = None) -> Any:
    """Copy nested settings, replacing each value by `change(value, key)`; elements of a list have no key.

    A value for which `change` returns the value itself is searched further; `DROP` removes it.
    """
    replaced = change(node, key)
    if replaced is not node:
        return replaced
    if isinstance(node, Mapping):
        return {name: new for name, old in node.items() if (new := changed(old, change, name)) is not DROP}
    if isinstance(node, list | tuple):
        return type(node)(new for old in node if (new := changed(old, change)) is not DROP)
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
