"""croissant: a table of labels described by a Croissant 1.1 file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from alm_proxies.stages.export.items import Items
from alm_proxies.stages.export.writers.tables import flat

_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(items: Items, folder: Path) -> None:
    """The table as CSV, and croissant.json that describes every column."""
    name = items.settings.name
    frame = flat(items)
    path = folder / f"{name}.csv"
    frame.write_csv(path)
    content = path.read_bytes()
    licences = sorted({str(value) for value in items.frame["licence"].unique()})
    fields = [
        {
            "@type": "cr:Field", "@id": f"items/{column}", "name": column, "description": _meaning(column),
            "dataType": "sc:Float" if dtype.is_numeric() else "sc:Text",
            "source": {"fileObject": {"@id": path.name}, "extract": {"column": column}},
        }
        for column, dtype in frame.schema.items()
    ]  # fmt: skip
    described = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "name": name, "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": "Label distributions of spoken emotion, fused from human and proxy votes.",
        "license": licences, "url": "https://example.org/" + name, "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": path.name, "name": path.name, "contentUrl": path.name,
                "encodingFormat": "text/csv", "contentSize": f"{len(content)} B",
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "items", "name": "items", "field": fields}],
    }  # fmt: skip
    (folder / "croissant.json").write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")


def _meaning(column: str) -> str:
    if column.startswith("p_"):
        return f"expected share of listeners who vote for {column[2:]}"
    if column.startswith("votes_"):
        return f"human votes for {column[6:]}"
    return _MEANINGS.get(column, column)


_MEANINGS = {
    "label": "the most likely label; empty if several are equally likely",
    "weight": "how often a trainer sees the row",
    "concentration": "strength of the distribution in votes",
    "entropy": "entropy of the distribution, 0 to 1",
    "ambiguity": "low, medium or high, by entropy",
    "file": "the recording",
}
