"""The errors a user can meet. Each says what is wrong, where, and what to do next."""


class XlstError(Exception):
    """Base of every error that is the input's or the configuration's fault, not a bug of ours.

    Jobs print it without a traceback and exit with 2; anything else is a bug and keeps its traceback.

    Args:
        what: what is wrong, in one sentence.
        where: the file, row or configuration key.
        hint: the next step for the user.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.hint is not None:
            lines.append(f"  -> {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries under Ray; keyword-only fields need their own way through pickle.
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[XlstError], what: str, where: str | None, hint: str | None) -> XlstError:
    return kind(what, where=where, hint=hint)


class ConfigError(XlstError):
    """A key, a value or a combination of values that cannot be what was meant."""


class DataError(XlstError):
    """A corpus, a shard, a label file or a manifest that cannot be used."""


class LeakageError(DataError):
    """Test sentences stand in a training text."""


class TransferError(XlstError):
    """A pre-trained model that cannot give what the transfer plan asks of it."""


class TranslationError(XlstError):
    """An engine that cannot translate at all (a single failed sentence is a row with a status instead)."""


class TrainingError(XlstError):
    """Training that cannot go on: not enough data, a loss that is no number."""


class Stopped(SystemExit):
    """The process was asked to end (SIGTERM). No error: what is done stays, and the same command goes on from there.

    A `SystemExit`, for `ray.get` loses whatever else a signal's handler raises while it waits.
    """
