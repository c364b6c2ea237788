// The `openai` Node SDK, unmodified, against a running gateway.
//
// Usage: node openai_node.mjs plain|stream|cap
// Reads TOLLGATE_URL (the gateway's root), TASK_TOKEN and SDK_MODULES (the node_modules directory
// that holds the pinned SDK); exits non-zero at the first surprise.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.SDK_MODULES, "index.js"));
const { OpenAI, RateLimitError } = require("openai");

const ask = {
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "Say something." }],
  max_tokens: 64,
};
const client = new OpenAI({
  baseURL: `${process.env.TOLLGATE_URL}/openai/v1`,
  apiKey: process.env.TASK_TOKEN,
});

const modes = {
  async plain() {
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => client.chat.completions.create(ask)),
    );
    for (const answer of answers) {
      assert.equal(answer.object, "chat.completion");
      assert.ok(answer.choices[0].message.content);
      assert.ok(answer.usage.total_tokens > 0);
    }
    const { data, response } = await client.chat.completions.create(ask).withResponse();
    assert.ok(data.id);
    assert.ok(response.headers.get("x-tollgate-request-id"));
  },

  async stream() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      assert.ok(chunk.choices.length > 0, "the usage chunk was not taken out");
      text += chunk.choices[0].delta.content ?? "";
    }
    assert.ok(text);

    let usage;
    const asked = { ...ask, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(asked)) {
      usage = chunk.usage ?? usage;
    }
    assert.ok(usage.total_tokens > 0);
  },

  async cap() {
    await assert.rejects(client.chat.completions.create(ask), (error) => {
      assert.ok(error instanceof RateLimitError, String(error));
      assert.equal(error.status, 429);
      assert.equal(error.type, "insufficient_quota");
      assert.equal(error.headers.get("x-should-retry"), "false");
      return true;
    });
  },
};

await modes[process.argv[2]]();
