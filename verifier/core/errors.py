"""Errors that are the input's fault.

Every one of them reaches a user as a single line and exit status 2. A message says what was
found, where (file, position, node), and what was expected. Anything else that is raised is a
defect of relucid itself.
"""


class RelucidError(Exception):
    """Base of all errors that the input causes."""


class NetworkError(RelucidError):
    """Layers whose shapes do not fit, or weights that are not finite numbers."""


class ModelError(RelucidError):
    """An ONNX file that cannot be read, trusted or represented."""


class UnsupportedOperatorError(ModelError):
    """An ONNX node that has no exact piecewise-linear form here.

    Args:
        node: name of the node in the graph.
        operator: its ONNX operator type.
        reason: why it cannot be handled, and what could.
    """

    def __init__(self, node: str, operator: str, reason: str) -> None:
        self.node, self.operator, self.reason = node, operator, reason
        super().__init__(f"node {node!r}: operator {operator} is not supported: {reason}")


class PropertyError(RelucidError):
    """A property that cannot be read, or that does not fit the network."""


class DataError(RelucidError):
    """A data set that cannot be read or whose contents are not what was announced."""


class SolverError(RelucidError):
    """A solver that was asked for by name and is not installed."""


class ExportError(RelucidError):
    """A network or a result that cannot be written as asked."""


class CertificateError(RelucidError):
    """A certificate that does not prove what it claims."""
