"""LangChain and LangGraph, unmodified, against a running gateway: one process, two tenants.

The lines between the marks are those of docs/guides/sdks.md.
"""

import tenants

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph


def order_status(order: str) -> str:
    """Says how an order stands."""
    return f"order {order} has been sent"


def calls(gateway: str, token: str) -> None:
    # --- guide
    model = ChatOpenAI(model="gpt-4o-mini", base_url=f"{gateway}/openai/v1", api_key=token)
    agent = create_agent(model, tools=[order_status])
    # --- end

    # LangChain's agent, which is a graph of LangGraph: the model, the tool, the model again.
    ask = {"messages": [{"role": "user", "content": tenants.CALL_A_TOOL}]}
    messages = agent.invoke(ask)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"], messages
    assert "4711 has been sent" in messages[2].content, messages
    assert messages[-1].usage_metadata["output_tokens"] == tenants.OUTPUT, messages[-1]

    # A graph of one's own, streamed token by token.
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": model.invoke(state["messages"])})
    graph.add_edge(START, "answer")
    said = ""
    for chunk, _ in graph.compile().stream({"messages": "hello"}, stream_mode="messages"):
        said += chunk.text
    assert said == tenants.SAID, said


tenants.play(calls)
