"""What can go wrong, one class per condition.

Every error a user can cause is an :class:`FxrebasinError` and a subclass of the builtin exception
that fits it, so that ``except ValueError`` keeps working. The text of each names what was
expected, what was found, and what to do about it.
"""

from __future__ import annotations


class FxrebasinError(Exception):
    """The base of every error that fxrebasin raises on purpose."""


class InvalidArgumentError(FxrebasinError, ValueError):
    """An option has a value that makes no sense."""


class ArchitectureMismatchError(FxrebasinError, ValueError):
    """Two models, or a model and a symmetry, do not have the same parameters."""


class InvalidSymmetryError(FxrebasinError, ValueError):
    """A symmetry contradicts itself."""


class InvalidParameterError(FxrebasinError, ValueError):
    """A parameter is not finite, on the meta device, quantised, sparse, or absent."""


class InvalidInputError(FxrebasinError, ValueError):
    """The model does not run on the example inputs."""


class TraceError(FxrebasinError, RuntimeError):
    """The model cannot be traced into a graph."""


class SignatureError(FxrebasinError, ValueError):
    """A rule's signature string cannot be read or does not fit its operands."""


class RuleError(FxrebasinError, RuntimeError):
    """A rule failed, or says something about shapes that is not so."""


class PassOrderError(FxrebasinError, RuntimeError):
    """A pass was run before one that it depends on."""


class VerificationError(FxrebasinError, RuntimeError):
    """A rewritten model does not compute what the original computes."""


class FileFormatError(FxrebasinError, ValueError):
    """A file does not hold what it should."""


class UnsupportedSymmetryError(FxrebasinError, ValueError):
    """A symmetry cannot be written in the form that was asked for."""


class ClosureWarning(UserWarning):
    """Units were pinned because a parameter does not close under their permutations."""


class RefutedWarning(UserWarning):
    """Units were pinned because permuting them changed what the model computes."""


class ConvergenceWarning(UserWarning):
    """A solver stopped at its iteration limit."""


class SlowerWarning(UserWarning):
    """Something that would be faster does not work here, and the same is done by other means."""


class UnmatchedBlocksWarning(UserWarning):
    """Blocks of a symmetry have no counterpart in what is compared, and stay where they are."""


class UntouchedWarning(UserWarning):
    """Parameters are not used on the example inputs: other inputs, or training, may use them."""


class WorseMidpointWarning(UserWarning):
    """Alignment made the model half way between two others worse, and was left out."""
