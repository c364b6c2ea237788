"""CrewAI, unmodified, against a running gateway: one process, two tenants.

The lines between the marks are those of docs/guides/sdks.md.
"""

import tenants

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool


@tool
def order_status(order: str) -> str:
    """Says how an order stands."""
    CALLED.append(order)
    return f"order {order} has been sent"


CALLED = []


def calls(gateway: str, token: str) -> None:
    # --- guide
    llm = LLM(model="openai/gpt-4o-mini", base_url=f"{gateway}/openai/v1", api_key=token)
    clerk = Agent(role="clerk", goal="answer", backstory="knows orders", llm=llm, tools=[order_status])
    # --- end

    CALLED.clear()
    task = Task(description=tenants.CALL_A_TOOL, expected_output="a sentence", agent=clerk)
    result = Crew(agents=[clerk], tasks=[task]).kickoff()
    assert result.raw == tenants.SAID, result
    assert CALLED == ["4711"], CALLED

    streaming = LLM(
        model="openai/gpt-4o-mini", base_url=f"{gateway}/openai/v1", api_key=token, stream=True
    )
    assert streaming.call("hello") == tenants.SAID


tenants.play(calls)
