"""The OpenAI Agents SDK, unmodified, against a running gateway: one process, two tenants.

The lines between the marks are those of docs/guides/sdks.md.
"""

import asyncio
import os

import tenants

from agents import Agent, Runner, flush_traces, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesModel
from openai import AsyncOpenAI


@function_tool
def order_status(order: str) -> str:
    """Says how an order stands."""
    return f"order {order} has been sent"


async def calls(gateway: str, token: str) -> None:
    # --- guide
    set_tracing_disabled(True)  # else traces, and the token with them, go to api.openai.com
    client = AsyncOpenAI(base_url=f"{gateway}/openai/v1", api_key=token)
    model = OpenAIResponsesModel(model="gpt-4o-mini", openai_client=client)
    agent = Agent(name="clerk", model=model, tools=[order_status])
    # --- end

    result = await Runner.run(agent, tenants.CALL_A_TOOL)
    assert result.final_output == tenants.SAID, result
    kinds = [item.type for item in result.new_items]
    assert kinds == ["tool_call_item", "tool_call_output_item", "message_output_item"], kinds
    assert result.context_wrapper.usage.output_tokens == 2 * tenants.OUTPUT, result

    said = ""
    streamed = Runner.run_streamed(agent, "hello")
    async for event in streamed.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            said += event.data.delta
    assert said == tenants.SAID, said
    await client.close()


async def traced() -> None:
    """What the guide warns of: left on, tracing takes the key of the environment to OpenAI's own host."""
    set_tracing_disabled(False)
    os.environ["OPENAI_API_KEY"] = os.environ["ACME_TOKEN"]
    client = AsyncOpenAI(base_url=os.environ["TOLLGATE_URL"] + "/openai/v1")
    model = OpenAIResponsesModel(model="gpt-4o-mini", openai_client=client)
    await Runner.run(Agent(name="clerk", model=model), "hello")
    await client.close()


tenants.play(calls)
asyncio.run(traced())
flush_traces()
assert set(tenants.STRANGERS) == {"api.openai.com"}, tenants.STRANGERS
