"""Whatever text stands in a row, reading it gives a message or a `SessionException`, and never anything else."""

import json
import random
import time
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from helpers import text_message, tool_use
from strands_sqlite_session_manager._codec import decode_message, encode_message

SECONDS = 60
TOKENS = (
    *'{}[]":,\\',
    *("null", "true", "NaN", "-Infinity", "1e999", "-0", "9" * 5000, '"\\ud800"', "\x00", "\ufeff", "é", "[" * 2000),
    *('"__encoded__"', '{"__encoded__":', '["bytes","aGk="]', '["attachment",0,2]', '["float","nan"]', '["dict",[['),
)


def seeds() -> list[str]:
    contents: list[Any] = [
        [{"text": 'hello "world" \\ é 🎉 \ud800'}],
        [{"image": {"format": "png", "source": {"bytes": b"ab"}}}, {"x": float("nan"), "y": {"__encoded__": 1}}],
        [tool_use("add", "1"), {"toolResult": {"content": [{"json": {"deep": [[[1.5e300, -0.0, None]]]}}]}}],
    ]
    texts = []
    for content in contents:
        message = text_message(0)
        message.message["content"] = content
        texts.append(encode_message(message)[0])
    return texts


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randrange(1, 8)):
        start, end = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
        match chance.randrange(4):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:start] + chance.choice(TOKENS) + text[start:]
            case 2:
                text = text[:start] + chance.choice(TOKENS) + text[min(end, start + 12) :]
            case 3:
                text = text[:start] + text[start : start + 200] + text[start:]
    return text


@pytest.mark.parametrize("seed", [time.time_ns()])
def test_codec(report: Any, seed: int) -> None:
    chance = random.Random(seed)
    starts, loaded, refused = seeds(), 0, 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        text = mutated(chance.choice(starts), chance)
        redaction = mutated(chance.choice(starts), chance) if chance.random() < 0.3 else None
        try:
            message = decode_message((0, text, redaction, chance.choice([None, b"", b"ab"]), "", ""), "s", "a")
        except SessionException:
            refused += 1
        except BaseException as error:
            pytest.fail(f"{error!r} for {text!r} and {redaction!r}")
        else:
            loaded += 1
            # What was read can be written again, and reads the same.
            again = decode_message((0, *encode_message(message), "", ""), "s", "a")
            assert json.dumps(again.message, default=repr) == json.dumps(message.message, default=repr)
    assert loaded
    assert refused
    report(texts=loaded + refused, loaded=loaded)
