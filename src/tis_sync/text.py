"""Text from elsewhere that is shown to people: control characters are shown, and do not act."""

import unicodedata

# Control characters, format characters such as U+202E (which reverses what follows), halves of
# surrogate pairs; and what separates lines.
ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, *, keep: str = "") -> str:
    r"""Return a text in which escapes such as \x1b stand for characters that would act.

    A terminal obeys control characters: a value that contains them could clear the screen, change
    other lines, or pretend to be one.

    Args:
        text: any text.
        keep: characters that stay as they are.

    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in ACTING
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
