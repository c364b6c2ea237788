// What the `openai` Node SDK, unmodified, makes of every refusal. All rows run at once.
//
// Reads TOLLGATE_URL (the gateway's root), TOKENS (a JSON object: a task token for each row) and
// SDK_MODULES. Prints a JSON object: for each row, how many calls the gateway should have refused
// and served.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.SDK_MODULES, "index.js"));
const openai = require("openai");

const tokens = JSON.parse(process.env.TOKENS);
const ask = {
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "Say something." }],
  max_tokens: 64,
};
// More than the gateway of this test reads of a body that it judges.
const tooLarge = [{ role: "user", content: "x".repeat((1 << 20) + 1) }];

function create(token, { provider = "openai", retries, ...changes } = {}) {
  const client = new openai.OpenAI({
    baseURL: `${process.env.TOLLGATE_URL}/${provider}/v1`,
    apiKey: token,
    ...(retries === undefined ? {} : { maxRetries: retries }),
  });
  return client.chat.completions.create({ ...ask, ...changes });
}

async function raisedBy(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "the call went through" });
}

// A row: `served` calls go through, the next one is refused after so many tries.
const refused =
  (kind, status, code, type, { tries = 1, served = 0, ...options } = {}) =>
  async (token) => {
    for (let i = 0; i < served; i++) await create(token);
    const error = await raisedBy(create(token, options));
    assert.equal(error.constructor, kind, String(error));
    assert.deepEqual([error.status, error.code, error.type], [status, code, type]);
    assert.equal(error.headers.get("x-tollgate-error"), code);
    return [tries, served];
  };

async function headroom(token) {
  const huge = 100_000;
  const error = await raisedBy(create(token, { max_tokens: huge }));
  assert.equal(error.constructor, openai.RateLimitError, String(error));
  assert.deepEqual([error.code, error.type], ["request_exceeds_headroom", "insufficient_quota"]);
  const fits = error.error.tollgate.largest_output_tokens_that_fit;
  assert.ok(64 < fits && fits < huge && error.message.includes(String(fits)), String(error));
  await create(token, { max_tokens: fits });
  return [1, 1];
}

// The second call is told when to come again; the SDK waits so long and is served.
async function wait(token) {
  await create(token);
  await create(token);
  return [1, 2];
}

const invalid = "invalid_request_error";
const { RateLimitError, PermissionDeniedError } = openai;
const rows = {
  unauthenticated: refused(openai.AuthenticationError, 401, "invalid_api_key", invalid),
  not_allowed: refused(PermissionDeniedError, 403, "not_allowed", invalid, { model: "gpt-4o" }),
  credential_denied: refused(PermissionDeniedError, 403, "credential_denied", invalid),
  model_not_priced: refused(PermissionDeniedError, 403, "model_not_priced", invalid, {
    model: "acme-own-7",
  }),
  // Asking again would wait a minute, as told.
  requests: refused(RateLimitError, 429, "rate_limit_exceeded", "requests", {
    served: 1,
    retries: 0,
  }),
  tokens: refused(RateLimitError, 429, "rate_limit_exceeded", "tokens", { served: 1, retries: 0 }),
  concurrent: refused(RateLimitError, 429, "rate_limit_exceeded", "requests", { tries: 3 }),
  cap: refused(RateLimitError, 429, "spend_limit_exceeded", "insufficient_quota"),
  malformed: refused(openai.BadRequestError, 400, "invalid_field", invalid, { max_tokens: "many" }),
  too_large: refused(openai.APIError, 413, "body_too_large", invalid, { messages: tooLarge }),
  unreachable: refused(openai.InternalServerError, 502, "upstream_unreachable", "server_error", {
    tries: 3,
    provider: "down",
  }),
  headroom,
  wait,
};

const tries = await Promise.all(
  Object.entries(rows).map(async ([name, row]) => {
    try {
      return [name, await row(tokens[name])];
    } catch (error) {
      throw new Error(`row ${name}`, { cause: error });
    }
  }),
);
console.log(JSON.stringify(Object.fromEntries(tries)));
