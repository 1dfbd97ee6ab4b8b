"""Writes the test cases that the `onnx` package carries, with the types that its own inference finds.

    onnx_cases.py FOLDER

`FOLDER/N.onnx` is a case; `FOLDER/expected.json` lists each with the types of its values: those of the graph by
name, those of subgraphs below the first output of their node.
"""

import glob
import json
import os
import sys

import onnx
from onnx.backend.test.case.node import collect_testcases


def text(of):
    """A type in the words of the tool; none if it is not known."""
    kind = of.WhichOneof("value")
    element = lambda number: onnx.TensorProto.DataType.Name(number).lower()
    if kind in ("tensor_type", "sparse_tensor_type"):
        number = getattr(of, kind).elem_type
        return element(number) if number else None
    if kind in ("sequence_type", "optional_type"):
        return f"{kind[: -len('_type')]}{' of' if kind[0] == 's' else ''} {text(getattr(of, kind).elem_type)}"
    if kind == "map_type":
        return f"map from {element(of.map_type.key_type)} to {text(of.map_type.value_type)}"
    return None


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def forget(graph):
    del graph.value_info[:]
    for node in graph.node:
        for inner in subgraphs(node):
            forget(inner)


def types(graph):
    values = {v.name: text(v.type) for v in [*graph.input, *graph.output, *graph.value_info]}
    inner = {node.output[0]: [types(g) for g in subgraphs(node)] for node in graph.node if node.output}
    return {
        "values": {name: of for name, of in values.items() if of},
        "inner": {name: graphs for name, graphs in inner.items() if graphs},
    }


def models():
    for case in collect_testcases(None):
        if case.model is not None:
            yield case.name, case.model
    data = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    for path in sorted(glob.glob(os.path.join(data, "**", "*.onnx"), recursive=True)):
        yield os.path.relpath(path, data), onnx.load(path)


def main():
    (folder,) = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    expected = []
    for number, (name, model) in enumerate(models()):
        file = f"{number}.onnx"
        onnx.save(model, os.path.join(folder, file))
        forget(model.graph)
        inferred = onnx.shape_inference.infer_shapes(model)
        expected.append({"name": name, "file": file, "graph": types(inferred.graph)})
    # Last, since it says that all is there.
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as out:
        json.dump(expected, out)


main()
