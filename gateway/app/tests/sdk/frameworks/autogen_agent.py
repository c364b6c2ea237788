"""Microsoft's AutoGen, unmodified, against a running gateway: one process, two tenants.

The lines between the marks are those of docs/guides/sdks.md.
"""

import tenants

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_ext.models.openai import OpenAIChatCompletionClient


async def order_status(order: str) -> str:
    """Says how an order stands."""
    return f"order {order} has been sent"


async def calls(gateway: str, token: str) -> None:
    # --- guide
    model = OpenAIChatCompletionClient(
        model="gpt-4o-mini",
        base_url=f"{gateway}/openai/v1",
        api_key=token,
        model_info={  # needed for models that AutoGen does not know, such as aliases of yours
            "family": "gpt-4o",
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "vision": True,
        },
    )
    agent = AssistantAgent("clerk", model, tools=[order_status], reflect_on_tool_use=True)
    # --- end

    result = await agent.run(task=tenants.CALL_A_TOOL)
    assert result.messages[-1].content == tenants.SAID, result
    results = [m for m in result.messages if m.type == "ToolCallExecutionEvent"]
    assert "4711 has been sent" in results[0].content[0].content, result
    assert model.actual_usage().completion_tokens == 2 * tenants.OUTPUT, model.actual_usage()

    streaming = AssistantAgent("reader", model, model_client_stream=True)
    said = ""
    async for event in streaming.run_stream(task="hello"):
        if isinstance(event, ModelClientStreamingChunkEvent):
            said += event.content
    assert said == tenants.SAID, said
    await model.close()


tenants.play(calls)
