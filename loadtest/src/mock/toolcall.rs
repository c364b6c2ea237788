//! Which tool a conversation asks the mock to call, if any.
//!
//! A user's message says it in so many words: `Call order_status({"order":"4711"})`, where
//! `order_status` is among the tools that the request offers. Whoever then sends the tool's result gets
//! the usual text. So an agent's loop can be played to its end by any framework, without a steering word
//! that frameworks have no place for. Knows where the dialects put messages and tools; how an answer
//! spells a call is each dialect's own business.

use serde_json::Value;

/// A call of a tool that a request offers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

impl ToolCall {
    /// The call that the last message of a request asks for.
    pub(crate) fn asked_by(body: &Value) -> Option<Self> {
        let said = last_words(body)?;
        let tools = body.get("tools")?.as_array()?;
        let names = tools.iter().filter_map(name);
        names.filter_map(|name| spelt_out(&said, name)).next()
    }

    /// The arguments as the text that OpenAI's dialects hold.
    pub(crate) fn text(&self) -> String {
        self.arguments.to_string()
    }
}

/// A tool's name in a list of OpenAI's two shapes or Anthropic's.
fn name(tool: &Value) -> Option<&str> {
    let function = tool.get("function").unwrap_or(tool);
    function.get("name")?.as_str()
}

/// What the user has said last; `None` if somebody else did, or a tool has answered.
fn last_words(body: &Value) -> Option<String> {
    let messages = body.get("messages").or_else(|| body.get("input"))?;
    if let Value::String(text) = messages {
        return Some(text.clone());
    }
    let last = messages.as_array()?.last()?;
    if last.get("role")?.as_str() != Some("user") {
        return None;
    }
    match last.get("content")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let has_result = parts.iter().any(|part| part["type"] == "tool_result");
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            (!has_result).then(|| texts.collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    }
}

fn spelt_out(said: &str, name: &str) -> Option<ToolCall> {
    let (_, rest) = said.split_once(&format!("Call {name}("))?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let arguments = values.next()?.ok()?;
    rest.get(values.byte_offset()..)?
        .starts_with(')')
        .then(|| ToolCall {
            name: name.to_owned(),
            arguments,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call() -> Option<ToolCall> {
        Some(ToolCall {
            name: "order_status".to_owned(),
            arguments: json!({"order": "4711"}),
        })
    }

    #[test]
    fn a_call_is_read_from_the_users_last_words_in_each_dialect() {
        let said = "Call order_status({\"order\": \"4711\"}) and tell me.";
        let function = json!({"type": "function", "function": {"name": "order_status"}});
        let flat = json!({"name": "order_status"});
        for body in [
            json!({"tools": [function], "messages": [{"role": "user", "content": said}]}),
            json!({"tools": [flat], "input": said}),
            json!({"tools": [flat], "messages": [{"role": "user", "content": [{"type": "text", "text": said}]}]}),
        ] {
            assert_eq!(ToolCall::asked_by(&body), call(), "{body}");
        }
    }

    #[test]
    fn without_such_words_or_after_a_result_no_tool_is_called() {
        let said = "Call order_status({\"order\":\"4711\"})";
        let user = json!({"role": "user", "content": said});
        let flat = json!({"name": "order_status"});
        let result = json!({"type": "tool_result", "content": said});
        for body in [
            json!({"messages": [user]}),
            json!({"tools": [{"name": "other"}], "messages": [user]}),
            json!({"tools": [flat], "messages": [user, {"role": "tool", "content": said}]}),
            json!({"tools": [flat], "messages": [{"role": "user", "content": [result]}]}),
            json!({"tools": [flat], "input": "Call order_status(4711"}),
            json!({"tools": [flat], "input": "order_status({})"}),
        ] {
            assert_eq!(ToolCall::asked_by(&body), None, "{body}");
        }
    }
}
