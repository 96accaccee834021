"""The repairs of JSON that are allowed, and nothing else: what people paste out of documents and published examples.

Only a body that is not JSON is mended, outside of its strings, and each kind of repair is named in the answer.
"""

_CURLY = "\u201c\u201d\u201e\u201f"

CURLY = "replaced typographic quotes by straight ones"
COMMENTS = "left out // comments"
COMMA = "left out a comma before a closing bracket"


def mend(text: str) -> tuple[str, tuple[str, ...]]:
    """The mended text and what was done, in words; nothing was done if there are none."""
    out: list[str] = []
    done: set[str] = set()
    at = 0
    while at < len(text):
        char = text[at]
        if char == '"':
            end = _end_of_string(text, at)
            out.append(text[at:end])
        elif char in _CURLY:
            end = _end_of_curly(text, at)
            inside = text[at + 1 : end - 1]
            if '"' in inside:
                return text, ()  # which of the quotes end the string can't be told
            out.append(f'"{inside}"')
            done.add(CURLY)
        elif text.startswith("//", at):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            done.add(COMMENTS)
        else:
            end = at + 1
            if char in "}]" and _drop_comma(out):
                done.add(COMMA)
            out.append(char)
        at = end
    return "".join(out), tuple(one for one in (CURLY, COMMENTS, COMMA) if one in done)


def _end_of_string(text: str, start: int) -> int:
    at = start + 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return min(at + 1, len(text))


def _end_of_curly(text: str, start: int) -> int:
    at = start + 1
    while at < len(text) and text[at] not in _CURLY:
        at += 2 if text[at] == "\\" else 1
    return min(at + 1, len(text))


def _drop_comma(out: list[str]) -> bool:
    """Take back a comma that nothing but white space follows."""
    at = len(out) - 1
    while at >= 0 and out[at].isspace():
        at -= 1
    if at < 0 or out[at] != ",":
        return False
    # Two commas in a row are a missing value, which nobody may leave out.
    before = at - 1
    while before >= 0 and out[before].isspace():
        before -= 1
    if before < 0 or out[before] in (",", "{", "[", ":"):
        return False
    out[at] = ""
    return True
