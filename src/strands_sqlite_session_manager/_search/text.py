"""Text for people and for the index: words, snippets, and a search that reads everything."""

import re
import unicodedata
from collections.abc import Iterable

# What is indexed of one text: it goes into one transaction.
LONGEST_TEXT = 100_000

# What counts of a query. Of scripts without spaces, each character makes SQLite go through a list of its own.
LONGEST_QUERY, MOST_WORDS = 1_000, 100

# Around what was found, until it is shown: characters that no text needs, and blanks where one has them.
START, END = "\2", "\3"

# Thai to Myanmar, Khmer, Chinese, Japanese, Korean.
_SCRIPTS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
# Symbols and emoji are words too, but not parts of those beside them ("20°C").
_SYMBOLS = "\u00a6\u00a9\u00ae\u00b0\u0482\u2100-\u2bff\ufe0f\ufffd\U0001f000-\U0001faff"
_SPACELESS = _SCRIPTS + _SYMBOLS
_AROUND_SPACELESS = re.compile(f"(?=[{_SPACELESS}])|(?<=[{_SPACELESS}])")
# A flag is two symbols.
_RUNS = re.compile(f"[{_SCRIPTS}]+|[\U0001f1e6-\U0001f1ff]{{2}}|[{_SYMBOLS}]|[^{_SPACELESS}]+")
_SEPARATOR = "\u200b"

# Marks are parts of words: in Thai and Hindi they are vowels.
TOKENIZER = """porter unicode61 remove_diacritics 2 categories 'L* M* N* Co So'"""
_IS_WORD = ("L", "M", "N", "Co", "So")

# Words of a question that say nothing about what is looked for.
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about above after again all although an and any are as at be because been before being below between both but
        by can could did do does doing down during each few for from further had has have having he her here hers him
        his how i if in into is it its just me more most my no nor not now of off on once only or other our out over own
        same she should so some such than that the their theirs them then there these they this those through to too
        under until up us very was we were what when where which while who whom why will with would you your yours
        """,
    )
)


# The same of Chinese characters.
_STOP_CHARACTERS = frozenset(
    "一上下不个中为么也了什从他以们会你几到去吗吧呢和哪啊在多她它对少就很怎我把是有来样的给能被要让谁这那都里"
)

# What memories are found without: accents of Greek and the Russian "ё", and points of Hebrew and Arabic, for all of
# which SQLite does nothing; letters that many keyboards lack; full and half width; what makes a symbol an emoji.
_SPELLINGS = str.maketrans(
    {
        **{
            code: unicodedata.normalize("NFD", chr(code))[0]
            for code in (0x401, 0x451, *range(0x370, 0x400), *range(0x1F00, 0x2000))
        },
        **dict.fromkeys((*range(0x591, 0x5BE), 0x5BF, 0x5C1, 0x5C2, *range(0x64B, 0x653), 0xFE0F), ""),
        **dict(zip("ßẞœŒæÆøØłŁđĐı", ("ss", "SS", "oe", "OE", "ae", "AE", *"oOlLdDi"), strict=True)),
        **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFEF)},
    }
)
# How many characters one character may become.
MOST_RESPELT = 3


def respelt(text: str) -> str:
    """Return a text in the plainest of its usual spellings: "sœur" is "soeur", and "ёлка" is "елка"."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_SPELLINGS))


def segment(text: str) -> str:
    """Return a text as it is indexed, with the words of scripts without spaces separated."""
    text = _without_controls(text[:LONGEST_TEXT])
    if text.isascii():
        return text
    # SQLite cannot hold lone surrogates.
    text = unicodedata.normalize("NFC", text.encode(errors="replace").decode())
    return _AROUND_SPACELESS.sub(_SEPARATOR, text)


def _without_controls(text: str) -> str:
    for control in ("\0", START, END):
        if control in text:
            text = text.replace(control, " ")
    return text


def word_count(segmented: str) -> int:
    """Return about how many words an indexed text has."""
    return segmented.count(" ") + segmented.count(_SEPARATOR) + 1


def snippet(highlighted: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the part of an indexed text around the first hit, with [brackets] around hits, and where the hits are.

    FTS5 has a function `snippet`, which takes minutes for a text that is one word over and over.

    Args:
        highlighted: The text with `START` and `END` around hits.
    """
    text = highlighted.replace(_SEPARATOR, "")
    hit = text.find(START)
    start, end = max(hit - 40, 0), hit + 120
    if start:
        start = text.find(" ", start, hit) + 1 or start  # Not in the middle of a word, if there are words.
    part = text[start:end]
    if part.rfind(START) > part.rfind(END):
        part += END
    part = ("…" if start else "") + part + ("…" if end < len(text) else "")
    hits = tuple((match.start() + 1, match.end() - 1) for match in re.finditer(f"{START}[^{END}]*{END}", part))
    return part.replace(START, "[").replace(END, "]"), hits


def after(highlighted: str, prefix: str) -> str:
    """Return what comes after a prefix in an indexed text with `START` and `END` around hits."""
    rest = iter(highlighted)
    for expected in segment(prefix).replace(_SEPARATOR, ""):
        for character in rest:
            if character == expected:
                break
    return "".join(rest)


def query_words(query: str) -> list[str]:
    """Return the words of a query, each once: what stands between blanks, if there is anything to be found in it."""
    return [word for word in dict.fromkeys(query[:LONGEST_QUERY].split()) if _has_word(word)][:MOST_WORDS]


def _has_word(text: str) -> bool:
    return any(unicodedata.category(character).startswith(_IS_WORD) for character in text)


def question_words(question: str) -> list[str]:
    """Return what to look for one by one where some of it is enough: words that say something, and pairs of characters.

    Of scripts without spaces, each two characters that stand together are looked for, as most words there have two. Of
    Chinese, which has no kana, so is each alone, which says something too: "喝茶" finds "喝绿茶".
    """
    words = all_words(question)

    def says_something(word: str) -> bool:
        if _AROUND_SPACELESS.search(word):
            return True
        if word[0].isupper() and word != "I" and (len(words) == 1 or (word != words[0] and not question.isupper())):
            return True  # A name: "Who is Will?"
        # What apostrophes leave ("Ada's", "l'été") is no word.
        return word.lower() not in STOP_WORDS and (len(word) > 1 or not word.isalpha())

    text = question[:LONGEST_QUERY]
    chinese = "" if re.search("[\u3041-\u30fa]", text) else text
    alone = (c for c in chinese if "\u3400" <= c <= "\u9fff" and c not in _STOP_CHARACTERS)
    return [*dict.fromkeys((*filter(says_something, words), *alone))][:MOST_WORDS]


def all_words(query: str) -> list[str]:
    """Return the words, and pairs of characters, that a text must have if it has all of a query."""
    words: list[str] = []
    for word in query_words(without_punctuation(_without_controls(query))):
        for run in _RUNS.findall(word):
            if not _has_word(run):  # What joins emoji, say, or gives them a colour.
                continue
            if _AROUND_SPACELESS.search(run):
                words += [run[start : start + 2] for start in range(max(len(run) - 1, 1))]
            else:
                words.append(run)
    return [*dict.fromkeys(words)]


def has_every_word(text: str, query: str) -> bool:
    """Tell whether a text has all words of a query as they are, but for case, accents and spellings of letters."""
    text = _folded(respelt(text))
    # No underscore: to the index too, it stands between words.
    letter = rf"[^\W_{_SPACELESS}]"
    patterns = (
        re.escape(word) if _AROUND_SPACELESS.search(word) else rf"(?<!{letter}){re.escape(word)}(?!{letter})"
        for word in _folded(respelt(without_punctuation(query))).split()
    )
    return all(re.search(pattern, text) for pattern in patterns)


def without_punctuation(query: str) -> str:
    """Return a query with blanks for its punctuation: "dark-mode" is two words."""
    # Not for what cannot be seen, such as the joiners inside of words and emoji.
    return "".join(c if unicodedata.category(c).startswith((*_IS_WORD, "C")) else " " for c in query[:LONGEST_QUERY])


def match_expression(words: Iterable[str], operator: str) -> str:
    """Return an FTS5 query: quoted, so that nothing in the words is an operator. "dark-mode" is a phrase of two."""
    return f" {operator} ".join('"' + segment(word).replace('"', " ") + '"' for word in words)


# Latin letters without their accents, one for one.
_WITHOUT_ACCENTS = {
    code: unicodedata.normalize("NFD", chr(code))[0]
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))
    if unicodedata.normalize("NFD", chr(code))[0].isascii()
}


class Scan:
    """A search without the index: for words as they are, or as the start of longer ones."""

    def __init__(self, words: Iterable[str]):
        """Prepare to look for words."""
        self._patterns = [
            re.compile(("" if re.match(f"[{_SPACELESS}]", word) else rf"(?<![^\W{_SPACELESS}])") + re.escape(word))
            for word in map(_folded, words)
        ]

    def count(self, text: str) -> list[int]:
        """Return how often each word is in a text."""
        text = _folded(text)
        return [len(pattern.findall(text)) for pattern in self._patterns]

    def highlighted(self, text: str) -> str:
        """Return a text with `START` and `END` around the words."""
        text = unicodedata.normalize("NFC", _without_controls(text))
        parts = []
        last = 0
        for start, end in sorted(hit.span() for pattern in self._patterns for hit in pattern.finditer(_folded(text))):
            if start >= last:
                parts += [text[last:start], START, text[start:end], END]
                last = end
        return "".join((*parts, text[last:]))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(_WITHOUT_ACCENTS).lower()
