"""Whether scikit-learn is installed."""

from __future__ import annotations

from pretextkit.errors import PretextkitError

__all__ = ["require_sklearn"]


def require_sklearn() -> None:
    """Import scikit-learn.

    Raises:
        PretextkitError: scikit-learn is missing, or older than 1.6.1.
    """
    fix = 'Run: pip install "pretextkit[sklearn]"'
    try:
        from sklearn.utils.validation import validate_data  # noqa: F401 - since 1.6
    except ModuleNotFoundError as error:
        text = "Estimators need scikit-learn, which is not installed."
        raise PretextkitError(text, fix=fix) from error
    except ImportError as error:
        import sklearn

        raise PretextkitError("scikit-learn 1.6.1 or newer", got=sklearn.__version__, fix=fix) from error
