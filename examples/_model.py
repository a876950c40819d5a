"""The model that the examples talk to: a scripted one that runs offline, or a real one.

The environment variable `STRANDS_EXAMPLE_MODEL` chooses: unset is the scripted model; `bedrock`, `openai:<model>`,
`anthropic:<model>` and `ollama:<model>` are the SDK's own, which need their packages and keys.
"""

import ast
import json
import os
import re
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from strands.models import Model
from strands.types.content import Message, Messages
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolSpec

MODEL_VARIABLE = "STRANDS_EXAMPLE_MODEL"


def is_scripted() -> bool:
    """Return whether the examples run with the scripted model."""
    return not os.environ.get(MODEL_VARIABLE)


def make_model() -> Model:
    """Return the model that `STRANDS_EXAMPLE_MODEL` names.

    Raises:
        ValueError: If it names none.
    """
    if is_scripted():
        return ScriptedModel()
    choice = os.environ[MODEL_VARIABLE]
    provider, _, model_id = choice.partition(":")
    # Each provider needs a package of its own, so each is imported only when it is chosen.
    if choice == "bedrock":
        from strands.models.bedrock import BedrockModel

        return BedrockModel()
    if provider == "openai" and model_id:
        from strands.models.openai import OpenAIModel

        return OpenAIModel(model_id=model_id)
    if provider == "anthropic" and model_id:
        from strands.models.anthropic import AnthropicModel

        return AnthropicModel(model_id=model_id, max_tokens=1024)
    if provider == "ollama" and model_id:
        from strands.models.ollama import OllamaModel

        return OllamaModel(None, model_id=model_id)  # None: the host that OLLAMA_HOST names, else this machine.
    raise ValueError(
        f"{MODEL_VARIABLE}={choice!r}: must be bedrock, openai:<model>, anthropic:<model> or ollama:<model>, "
        "or unset for the scripted model"
    )


class ScriptedModel(Model):
    """Follows fixed rules and keeps nothing: all that it knows is in the messages that it is sent.

    If it answers "Your name is Ada.", then the message "My name is Ada." was among them.
    """

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Stream tool calls or an answer, word by word, to the last of the messages."""
        system_prompt = system_prompt or ""
        calls = _tool_calls(messages, tool_specs or [], system_prompt)
        yield {"messageStart": {"role": "assistant"}}
        for name, arguments in calls:
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": uuid.uuid4().hex}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}}
            yield {"contentBlockStop": {}}
        if not calls:
            yield {"contentBlockStart": {"start": {}}}
            for word in re.findall(r"\S+\s*", _answer(messages, system_prompt)):
                yield {"contentBlockDelta": {"delta": {"text": word}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if calls else "end_turn"}}

    def structured_output(self, *args: Any, **kwargs: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Not offered: no example uses it."""
        raise NotImplementedError

    def update_config(self, **model_config: Any) -> None:
        """Do nothing: there is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """Return no configuration."""
        return {}


def _tool_calls(messages: Messages, tool_specs: list[ToolSpec], system_prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the tools that the prompt names, with the literals behind each name as its arguments.

    `multiply 6 and 7` calls the tool `multiply` with 6 and 7; `add note 'buy milk'` calls `add_note`.
    """
    if _tool_results(messages[-1]):
        return []
    prompt = f"{system_prompt}\n{_text(messages[-1])}"
    calls = []
    for spec in tool_specs:
        mentions = re.split(rf"\b{spec['name'].replace('_', '[ _]')}\b", prompt, flags=re.IGNORECASE)
        for behind in mentions[1:]:
            literals = [
                ast.literal_eval(literal) for literal in re.findall(r"\{[^}]*\}|\[[^\]]*\]|'[^']*'|\d+", behind)
            ]
            calls.append((spec["name"], dict(zip(spec["inputSchema"]["json"]["properties"], literals, strict=False))))
    return calls


def _answer(messages: Messages, system_prompt: str) -> str:
    """Return the answer of the first rule that applies."""
    prompt = _text(messages[-1])
    if results := _tool_results(messages[-1]):
        return f"The tool says: {'; '.join(results)}"
    # "What is my name?" is answered from "My name is Ada." in any message of the user or in the system prompt.
    if questions := re.findall(r"what is (my|your) ([\w ]+)\?", prompt, re.IGNORECASE):
        whose, topic = questions[-1]
        heard = [system_prompt, *(_text(message) for message in messages if message["role"] == "user")]
        facts = re.findall(rf"\b{whose} {topic} is ([^.?!\n]+)", "\n".join(heard), re.IGNORECASE)
        mine = "Your" if whose.lower() == "my" else "My"
        return f"{mine} {topic} is {facts[-1]}." if facts else f"I do not know {whose} {topic}."
    # A system prompt with questions is an interviewer's. The next one is that which has not been asked yet.
    if to_ask := re.findall(r"'([^']+\?)'", system_prompt):
        asked = sum(message["role"] == "assistant" for message in messages)
        return to_ask[asked] if asked < len(to_ask) else "Thank you, that was all."
    if begin := re.search(r"[Bb]egin your answer with '([^']+)'", system_prompt):
        # A graph gives the result of the node before as the last line, behind "- Agent:".
        return f"{begin[1]} {prompt.splitlines()[-1].strip().removeprefix('- Agent: ')}"
    return f"Message {len(messages)} of this conversation says: {prompt}"


def _text(message: Message) -> str:
    return "\n".join(block["text"] for block in message["content"] if "text" in block)


def _tool_results(message: Message) -> list[str]:
    return [
        item["text"]
        for block in message["content"]
        if "toolResult" in block
        for item in block["toolResult"]["content"]
        if "text" in item
    ]
