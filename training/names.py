"""Label and field names as words.

The model reads names the way people say them, so that `timeRange`, `time_range` and `time range` are one
question. The agent does exactly the same (Sources/Jobs), and the two must stay in step: `test_names.py`.
"""
import re

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATOR = re.compile(r"[\s_\-./]+")


def words(name: str) -> str:
    """Splits camelCase, `_`, `-`, `.` and `/` into spaces, lower case.

    A word begins where a lower-case letter or digit meets an upper-case letter, and before the last capital of a
    run that a lower-case letter follows (ASCII only; other letters are lowered but never split):

    >>> words("GetWeather"), words("alarm_query"), words("timeRange"), words("HTTPError2")
    ('get weather', 'alarm query', 'time range', 'http error2')
    """
    return _SEPARATOR.sub(" ", _BOUNDARY.sub(" ", name)).strip().lower()
