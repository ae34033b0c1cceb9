import pickle

import pytest

from xlst_ray import errors
from xlst_ray.errors import ConfigError, DataError, LeakageError, XlstError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, XlstError)]


def test_message_says_where_what_and_what_next() -> None:
    assert (
        str(DataError("is empty", where="a.tsv, row 3", hint="delete it")) == "a.tsv, row 3: is empty\n  -> delete it"
    )
    assert str(DataError("is empty")) == "is empty"
    assert str(DataError("is empty", hint="delete it")) == "is empty\n  -> delete it"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_from_process_to_process_whole(kind: type[XlstError]) -> None:
    error = kind("is empty", where="a.tsv", hint="delete it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  what Ray does with exceptions
    assert type(again) is kind
    assert (again.what, again.where, again.hint, str(again)) == ("is empty", "a.tsv", "delete it", str(error))


def test_leakage_is_an_error_of_data_but_not_of_configuration() -> None:
    assert issubclass(LeakageError, DataError)
    assert not issubclass(DataError, ConfigError)
