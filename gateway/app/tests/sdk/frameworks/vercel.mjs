// The Vercel AI SDK, unmodified, against a running gateway: one process, two tenants.
//
// Reads TOLLGATE_URL (the gateway's root), ACME_TOKEN, GLOBEX_TOKEN and SDK_MODULES (the node_modules
// directory that holds the pinned packages); exits non-zero at the first surprise. The lines between the
// marks are those of docs/guides/sdks.md.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Socket } from "node:net";
import { join } from "node:path";

const require = createRequire(join(process.env.SDK_MODULES, "index.js"));
const { generateText, stepCountIs, streamText, tool } = require("ai");
const { createAnthropic } = require("@ai-sdk/anthropic");
const { createOpenAI } = require("@ai-sdk/openai");
const { z } = require("zod");

// Whatever tries to reach another host than the gateway ends the script.
const connect = Socket.prototype.connect;
Socket.prototype.connect = function (...given) {
  const [options] = Array.isArray(given[0]) ? given[0] : given;
  assert.equal(options.host, "127.0.0.1");
  return connect.apply(this, given);
};

const said = "Hello from the mock provider. All is well.";
const prompt = 'Call order_status({"order":"4711"}) and say how it stands.';
const order_status = tool({
  description: "Says how an order stands.",
  inputSchema: z.object({ order: z.string() }),
  execute: async ({ order }) => `order ${order} has been sent`,
});

async function calls(gateway, token) {
  // --- guide
  const openai = createOpenAI({ baseURL: `${gateway}/openai/v1`, apiKey: token });
  const anthropic = createAnthropic({ baseURL: `${gateway}/anthropic/v1`, apiKey: token });
  // --- end

  // `openai(…)` calls /responses, `openai.chat(…)` calls /chat/completions.
  for (const model of [openai("gpt-4o-mini"), openai.chat("gpt-4o-mini"), anthropic("claude-sonnet-4-5")]) {
    const answer = await generateText({ model, prompt, tools: { order_status }, stopWhen: stepCountIs(3) });
    assert.equal(answer.text, said);
    assert.equal(answer.steps[0].toolResults[0].output, "order 4711 has been sent");
    assert.equal(answer.totalUsage.outputTokens, 40);
    let streamed = "";
    for await (const piece of streamText({ model, prompt: "hello" }).textStream) streamed += piece;
    assert.equal(streamed, said);
  }
}

for (const token of [process.env.ACME_TOKEN, process.env.GLOBEX_TOKEN]) {
  await calls(process.env.TOLLGATE_URL, token);
}
