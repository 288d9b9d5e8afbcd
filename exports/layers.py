"""Layers (optional content) of papers in one document: what was hidden stays hidden, under the paper's name.

A document has one configuration in force, so each paper's own is reckoned out and told layer by layer.
"""

from collections.abc import Sequence
from typing import Any

from pikepdf import Array, Dictionary, Name, Object, Pdf, Stream, String

from exports.actions import Left

GROUP = {"/Type", "/Name", "/Intent", "/Usage"}
LEVELS = 8  # of layers under layers


def read(source: Pdf, left: Left) -> Dictionary | None:
    """The layers of a file as lists that can be merged; None if it has none."""
    told = source.Root.get("/OCProperties")
    if not isinstance(told, Dictionary):
        return None
    groups = [one for one in _list(told, "/OCGs") if isinstance(one, Dictionary) and one.is_indirect]
    groups = list({one.objgen: one for one in groups}.values())
    config = told.get("/D")
    config = config if isinstance(config, Dictionary) else Dictionary()
    if others := len(_list(told, "/Configs")):
        left.add("other arrangements of its layers", others)
    known = {one.objgen for one in groups}
    free = _free(groups, config)
    found = Dictionary(
        OCGs=Array(groups),
        OFF=Array([one for one in groups if one.objgen in _off(groups, config) - free]),
        Order=_order(config.get("/Order"), known, 0),
        RBGroups=Array([_known(one, known) for one in _list(config, "/RBGroups")]),
        Locked=_known(config.get("/Locked"), known),
        AS=Array(_automatic(config, known - free)),
    )
    for one in groups:
        for key in set(one.keys()) - GROUP:
            del one[key]
        one.Type, one.Intent = Name.OCG, Name.View
        if one.objgen in free and "/Usage" in one:
            del one["/Usage"]
    return found


def _list(of: Any, key: str) -> list[Any]:
    value = of.get(key)
    return list(value) if isinstance(value, Array) else []


def _known(value: Any, known: set[Any]) -> Array:
    """The layers of a list that the paper does list."""
    listed = list(value) if isinstance(value, Array) else []
    return Array([one for one in listed if isinstance(one, Dictionary) and one.objgen in known])


def _off(groups: Sequence[Object], config: Object) -> set[Any]:
    """The layers that are hidden when the file is opened."""
    off = {one.objgen for one in groups} if config.get("/BaseState") == Name.OFF else set()
    off -= {one.objgen for one in _list(config, "/ON") if isinstance(one, Dictionary)}
    return off | {one.objgen for one in _list(config, "/OFF") if isinstance(one, Dictionary)}


def _free(groups: Sequence[Object], config: Object) -> set[Any]:
    """The layers that the configuration does not govern, by its intent and theirs: they are always shown."""
    wanted = _intents(config.get("/Intent"))
    if "/All" in wanted:
        return set()
    return {one.objgen for one in groups if not _intents(one.get("/Intent")) & (wanted | {"/All"})}


def _intents(value: Any) -> set[str]:
    if isinstance(value, Array):
        return {str(one) for one in value if isinstance(one, Name)}
    return {str(value)} if isinstance(value, Name) else {"/View"}


def _order(value: Any, known: set[Any], level: int) -> Array:
    """The outline of layers, with its headings; not deeper than any that people made."""
    kept: list[Any] = []
    for one in list(value) if isinstance(value, Array) and level < LEVELS else []:
        if isinstance(one, Array):
            kept.append(_order(one, known, level + 1))
        elif isinstance(one, String) or (isinstance(one, Dictionary) and one.objgen in known):
            kept.append(one)
    return Array(kept)


def _automatic(config: Object, known: set[Any]) -> list[Dictionary]:
    """When layers show and hide by themselves: as one views, prints or exports."""
    found = []
    for one in _list(config, "/AS"):
        if isinstance(one, Dictionary) and one.get("/Event") in (Name.View, Name.Print, Name.Export):
            categories = Array([name for name in _list(one, "/Category") if isinstance(name, Name)])
            found.append(Dictionary(Event=one.Event, OCGs=_known(one.get("/OCGs"), known), Category=categories))
    return found


def keep_on_appearances(source: Pdf) -> None:
    """Give the appearance of each annotation of a layer that layer: it stays there when a form becomes its page."""
    for page in source.pages:
        for one in _list(page.obj, "/Annots"):
            if not isinstance(one, Dictionary) or not isinstance(layer := one.get("/OC"), Dictionary):
                continue
            normal = one.AP.get("/N") if isinstance(one.get("/AP"), Dictionary) else None
            states = list(normal.values()) if isinstance(normal, Dictionary) else [normal]
            for stream in states:
                if isinstance(stream, Stream) and "/OC" not in stream:
                    stream.OC = layer


def merge(pdf: Pdf, found: list[tuple[str, Object]]) -> None:
    """The layers of all papers, (title, layers as they are in `pdf`), as those of the document."""
    if not found:
        return
    every: dict[str, list[Any]] = {key: [] for key in ("/OCGs", "/OFF", "/Order", "/RBGroups", "/Locked", "/AS")}
    for title, layers in found:
        for key in every:
            if key != "/Order":
                every[key] += list(layers[key])
            elif len(layers.Order):
                every[key].append(Array([String(title), *layers.Order]))
    config = Dictionary(Name=String("As in the papers"), BaseState=Name.ON, Intent=Name.View, ListMode=Name.AllPages)
    for key in ("/OFF", "/Order", "/RBGroups", "/Locked", "/AS"):
        config[key] = Array(every[key])
    pdf.Root.OCProperties = Dictionary(OCGs=Array(every["/OCGs"]), D=config)
