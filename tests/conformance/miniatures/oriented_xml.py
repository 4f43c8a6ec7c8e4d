"""Turned objects in XML, in the three layouts; DIOR-R's corners where the middle and the angle are not written."""

from __future__ import annotations

from pathlib import Path

from converters.formats.oriented_xml import Source
from dataengine.annotation import Box
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, classes_of, corners, draw, write

CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects and one without."""
    names = classes_of(spec, source.labels or tuple(source.names))
    folder = source.images if isinstance(source.images, str) else source.images[0]
    for number, shown in enumerate((names, names[:1], names[-1:], ()), start=1):
        draw(root / folder / f"{number}.{source.extensions[0]}")
        objects = "".join(_OBJECTS[source.layout](name, box_of(place)) for place, name in enumerate(shown))
        write(root / source.annotations / f"{number}.xml", _DOCUMENTS[source.layout].format(objects))
    if source.image_set is not None:
        write(root / source.image_set, "1\n2\n3\n4\n")
    return Made(4, frozenset(source.names.get(name, name) for name in names))


_SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
_DOCUMENTS = {
    "robndbox": f"<annotation>{_SIZE}{{}}</annotation>",
    "fair1m": f"<annotation>{_SIZE}<objects>{{}}</objects></annotation>",
    "hrsc": f"<HRSC_Image><Img_SizeWidth>{WIDTH}</Img_SizeWidth><Img_SizeHeight>{HEIGHT}</Img_SizeHeight>"
    "<HRSC_Objects>{}</HRSC_Objects></HRSC_Image>",
}


def _robndbox(name: str, box: Box) -> str:
    points = corners(box)
    said = "".join(
        f"<x_{corner}>{points[2 * place]}</x_{corner}><y_{corner}>{points[2 * place + 1]}</y_{corner}>"
        for place, corner in enumerate(CORNERS)
    )
    return f"<object><name>{name}</name><type>robndbox</type><robndbox>{said}</robndbox></object>"


def _fair1m(name: str, box: Box) -> str:
    points = [*corners(box), *corners(box)[:2]]
    said = "".join(f"<point>{points[at]},{points[at + 1]}</point>" for at in range(0, 10, 2))
    return (
        "<object><coordinate>pixel</coordinate>"
        f"<possibleresult><name>{name}</name></possibleresult><points>{said}</points></object>"
    )


def _hrsc(name: str, box: Box) -> str:
    x0, y0, x1, y1 = box
    facts = {"cx": (x0 + x1) / 2, "cy": (y0 + y1) / 2, "w": x1 - x0, "h": y1 - y0, "ang": 0.0}
    said = "".join(f"<mbox_{key}>{value}</mbox_{key}>" for key, value in facts.items())
    return f"<HRSC_Object><Class_ID>{name}</Class_ID>{said}</HRSC_Object>"


_OBJECTS = {"robndbox": _robndbox, "fair1m": _fair1m, "hrsc": _hrsc}
