"""The exception tree: everything that a user can put right derives from `EverycellError`."""


class EverycellError(Exception):
    """Something the user can put right; the message says what, where and what to try."""


class DataError(EverycellError):
    """An image, mask or data set cannot be used as given."""


class UnknownSizeError(DataError):
    """Cells cannot be read before the size of their image is known."""


class ModelError(EverycellError):
    """A model is unknown, damaged, or does not fit the task."""


class ConfigError(EverycellError):
    """A setting is unknown or outside its range."""


class OutputError(EverycellError):
    """A result could not be written; nothing half-written is left behind."""


class TrainingError(EverycellError):
    """Training cannot go on, for example because the loss is not finite."""
