"""A model as it came: read, and checked as far as everything after it takes for granted."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from pulsify.errors import ModelError
from pulsify.graph import captured

__all__ = ["OLDEST_OPSET", "Source", "fault", "first_line", "read"]

OLDEST_OPSET = 9
NEWEST_OPSET = 26


@dataclass(frozen=True, slots=True)
class Source:
    """A batch model in memory and where it came from.

    ``edited`` tells that ``model`` is no longer what ``path`` holds; ``sha256`` and ``opset`` stay those of the file.
    ``notes`` tell what was changed.
    """

    model: ir.Model
    sha256: str
    path: Path | None
    opset: int
    edited: bool = False
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Where external data lies."""
        return None if self.path is None else self.path.parent


def read(path: str | Path | onnx.ModelProto) -> Source:
    """Read a model. External data stays on disk, memory-mapped. ModelError if it is not one."""
    if isinstance(path, onnx.ModelProto):
        data = path.SerializeToString(deterministic=True)
        proto = onnx.ModelProto.FromString(data)  # tensors are those of the proto they are read from: the caller's stay as they are
        source, where = ir.from_proto(proto), None
    else:
        where = Path(path)
        try:
            data = where.read_bytes()
        except OSError as e:
            raise ModelError(f"cannot read model {str(where)!r}", why=e.strerror or str(e), hint=_near(where)) from e
        try:
            proto = onnx.ModelProto.FromString(data)
            if not proto.HasField("graph") or not (proto.graph.output or proto.graph.node):
                raise ValueError("it holds no graph")
            source = ir.load(where)
        except Exception as e:
            raise ModelError(
                f"cannot read model {str(where)!r}",
                why=f"it is not a complete ONNX model ({len(data)} bytes: {first_line(_root(e))})",
                hint="check that the file is an .onnx file and was downloaded in full",
            ) from e
    _keep_input_shapes(source, proto)
    _check(source)
    _order(source)
    opset = source.opset_imports.get("", source.opset_imports.get("ai.onnx", 0))
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelError(
            f"cannot take opset {opset}",
            why=f"this version reads opsets {OLDEST_OPSET} to {NEWEST_OPSET}",
            hint="convert the model with onnx.version_converter, or export it again",
        )
    return Source(source, hashlib.sha256(data).hexdigest(), where, opset)


def _near(path: Path) -> str:
    """A model beside the missing one whose name is close to its, as a hint."""
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix == ".onnx"]
    except OSError:
        names = []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"did you mean {str(path.with_name(close[0]))!r}?" if close else "check the path"


def _check(model: ir.Model) -> None:
    """ModelError where weights are missing or a wire comes from nowhere."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            size = os.path.getsize(tensor.path) if os.path.isfile(tensor.path) else None
            if size is None or size < (tensor.offset or 0) + (tensor.length or 0):
                raise ModelError(
                    f"cannot read the weights of {value.name!r}",
                    why=f"{os.fspath(tensor.path)!r} " + ("does not exist" if size is None else f"ends at {size} bytes"),
                    hint="put the file with the model's external data back beside it",
                )
    names = [v.name for v in model.graph.outputs]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ModelError(
            "the model is invalid", why=f"it lists the output {twice!r} twice", hint="list it once; an Identity gives it a second name"
        )
    produced = {v for n in model.graph for v in n.outputs} | set(model.graph.inputs)
    produced |= set(model.graph.initializers.values())
    used = [(v, f"{n.op_type} node {n.name!r}") for n in model.graph for v in n.inputs if v is not None]
    for value, user in [*used, *((v, "the graph, as an output,") for v in model.graph.outputs)]:
        if value not in produced:
            raise ModelError(
                "the model is invalid",
                why=f"{user} takes {value.name!r}, which nothing makes",
                hint="check the model with onnx.checker",
            )


def _order(model: ir.Model) -> None:
    """Nodes behind those they read from, as the standard wants it; runtimes take files where they are not."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        seen: set[ir.Value] = set()
        made = {v for n in graph for v in n.outputs}
        for node in graph:
            if any(v in made and v not in seen for v in (*node.inputs, *captured(node)) if v is not None):
                try:
                    graph.sort()
                except ValueError as e:
                    raise ModelError(
                        "the model is invalid", why="its nodes read from each other in a circle", hint="check it with onnx.checker"
                    ) from e
                break
            seen.update(node.outputs)


def fault(source: Source) -> str | None:
    """What onnx's checker has against a model, in a line; None if nothing. Models with external data are not checked."""
    try:
        proto = onnx.load(source.path, load_external_data=False) if source.path is not None else ir.to_proto(source.model)
        if any(t.external_data for t in proto.graph.initializer):
            return None
        for output in proto.graph.output:
            # The checker wants a shape where runtimes do not.
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(proto)
    except Exception as e:
        return first_line(e)
    return None


def _root(e: BaseException) -> BaseException:
    while e.__cause__ is not None:
        e = e.__cause__
    return e


def _keep_input_shapes(model: ir.Model, proto: onnx.ModelProto) -> None:
    """An input that is an output as well keeps the shape declared for the input."""
    for value, info in zip(model.graph.inputs, proto.graph.input, strict=False):
        if value.is_graph_output() and info.type.tensor_type.HasField("shape"):
            value.shape = ir.Shape(
                [
                    d.dim_value if d.HasField("dim_value") else (d.dim_param or None)
                    for d in info.type.tensor_type.shape.dim
                ]
            )


def first_line(e: BaseException) -> str:
    """What an error says, in a line."""
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
