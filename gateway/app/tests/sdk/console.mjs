// The console in a real browser, against a running gateway.
//
// Usage: node console.mjs walk
// Reads TOLLGATE_URL and CONSOLE_URL (the gateway's roots for agents and for operators), OPERATOR,
// AUDITOR and MINTER (credentials; the last two of `acme`), STREAMED and QUICK (task tokens of
// `acme`), POOR (one of `globex`, whose day is worth four calls of a tool), TOLLGATE (the program)
// and SDK_MODULES; exits non-zero at the first surprise. The browser is Debian's.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { env } = process;
const require = createRequire(join(env.SDK_MODULES, "index.js"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(join(env.SDK_MODULES, "axe-core/axe.min.js"), "utf8");
const CONSOLE = `${env.CONSOLE_URL}/console`;
const MARKUP = '<img src=x onerror="window.hacked=1">';

const asked = [];
const complaints = [];

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

/// A page of its own, as nobody yet. What it asks for and complains of is kept.
async function opened() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("request", (request) => asked.push(request.url()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${message.text()} ${message.location().url}`);
  });
  await page.goto(CONSOLE);
  return page;
}

async function logIn(page, credential) {
  await page.getByLabel("Admin credential").fill(credential);
  await page.keyboard.press("Enter");
}

/// The browser's own word for an answer that says no, which the page has to show in words.
function expect(status) {
  const at = complaints.findIndex((text) => text.includes(`status of ${status}`));
  assert.notEqual(at, -1, `${status}: ${complaints}`);
  complaints.splice(at, 1);
}

/// Nothing that keeps anybody from using the page, in light and in dark.
async function isAccessible(page, what) {
  for (const [colorScheme, rules] of [["light", "{}"], ["dark", '{ runOnly: ["color-contrast"] }']]) {
    await page.emulateMedia({ colorScheme });
    const found = await page.evaluate(`window.axe ?? (() => { ${AXE} })(); axe.run(document, ${rules})`);
    const faults = found.violations.map(({ id, impact, nodes }) =>
      `${impact} ${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
    assert.deepEqual(faults, [], `${what}, ${colorScheme}`);
  }
}

function call(token, method, path, body) {
  return fetch(`${env.TOLLGATE_URL}${path}`, {
    method,
    headers: { ...(token && { authorization: `Bearer ${token}` }), "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
}

async function statusOf(...what) {
  const answer = await call(...what);
  await answer.arrayBuffer();
  return answer.status;
}

function chat(model, more) {
  return { model, max_tokens: 64, messages: [{ role: "user", content: "Say something." }], ...more };
}

async function logsIn(page) {
  await page.getByRole("heading", { name: "Tollgate console" }).waitFor();
  await isAccessible(page, "log in");
  await logIn(page, "tga_wrong");
  await page.getByRole("alert").getByText("opens nothing").waitFor();
  expect(401);
  await logIn(page, "‘quoted’");
  await page.getByRole("alert").getByText("opens nothing").waitFor();
  await logIn(page, env.OPERATOR);
  await page.getByRole("rowheader", { name: "globex" }).waitFor();
  await page.getByText("operator · replica").waitFor();
}

async function watchesACapFill(page) {
  const bar = await page.getByRole("meter", { name: "globex, day cap" }).elementHandle();
  const share = (percent) => page.waitForFunction(
    ([bar, percent]) => bar.getAttribute("aria-valuenow") === percent, [bar, percent]);
  await share("0");
  for (const percent of ["25", "50"]) {
    assert.equal(await statusOf(env.POOR, "GET", "/github/user"), 200);
    await share(percent);
  }
  await isAccessible(page, "tenants");
  for (const status of [200, 200, 429]) {
    assert.equal(await statusOf(env.POOR, "GET", "/github/user"), status);
  }
  await share("100");
  const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "globex" }) });
  await row.getByText("reached").waitFor();
}

async function seesRefusals(page) {
  await page.keyboard.press("2");
  await page.getByRole("heading", { name: "Refusals" }).waitFor();
  const rows = page.locator("tbody tr");
  const full = rows.filter({ hasText: "spend_limit_exceeded" });
  await full.getByText(/globex\/tenant\/day:/).waitFor();
  assert.equal(await statusOf(env.QUICK, "POST", "/openai/v1/chat/completions", chat(MARKUP)), 403);
  await rows.filter({ hasText: MARKUP }).filter({ hasText: "model_not_priced" }).waitFor();
  assert.equal(await statusOf(env.QUICK, "GET", "/openai/v1/%3Cimg%20src=x%3E"), 403);
  await rows.filter({ hasText: "GET /openai/v1/%3Cimg" }).waitFor();
  assert.equal(await statusOf(null, "GET", "/openai/v1/models"), 401);
  await rows.filter({ hasText: "stranger" }).filter({ hasText: "invalid_api_key" }).waitFor();
  assert.equal(await page.locator("main img").count(), 0, "text became markup");
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  await isAccessible(page, "refusals");
  await page.keyboard.press("p");
  assert.equal(await statusOf(env.QUICK, "GET", "/nowhere"), 403);
  await page.getByText("1 new since").waitFor();
  assert.equal(await rows.filter({ hasText: "/nowhere" }).count(), 0, "it is paused");
  await page.keyboard.press("p");
  await rows.filter({ hasText: "/nowhere" }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("stranger");
  await rows.filter({ hasText: "/nowhere" }).waitFor({ state: "detached" });
  assert.equal(await rows.count(), 1);
  await page.keyboard.press("Tab");
  await page.locator("main").focus();
}

/// By the keyboard alone.
async function endsAStream(page) {
  const answer = await call(env.STREAMED, "POST", "/openai/v1/chat/completions?mock=stall-after-3,chunks-20",
    chat("gpt-4o-mini", { stream: true }));
  assert.equal(answer.status, 200);
  const reader = answer.body.getReader();
  await reader.read();
  const ends = (async () => {
    try {
      while (!(await reader.read()).done);
      return "whole";
    } catch {
      return "cut";
    }
  })();
  await page.keyboard.press("3");
  const row = page.locator("tbody tr").filter({ hasText: "streamed-task" });
  await row.getByText("200, streaming").waitFor();
  await isAccessible(page, "calls");
  await page.keyboard.press("j");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "End task");
  await page.keyboard.press("Enter");
  const question = page.getByRole("dialog", { name: "End task streamed-task?" });
  await question.waitFor();
  await isAccessible(page, "a question");
  await page.keyboard.press("Escape");
  await question.waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "End task", "the focus is back");
  await page.keyboard.press("Enter");
  await question.waitFor();
  await page.keyboard.press("Enter");
  await row.getByText("revoked").waitFor();
  assert.equal(await ends, "cut", "the client's stream has ended, and does not look whole");
  assert.equal(await statusOf(env.STREAMED, "GET", "/openai/v1/models"), 401);
}

async function hasACallExplained(page) {
  await page.keyboard.press("4");
  await page.getByLabel("Tenant").fill("globex");
  await page.getByLabel("Method").selectOption("GET");
  await page.getByLabel("Path").fill("/github/user");
  await page.getByLabel("Body").fill("");
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByText("would be refused at “money”").waitFor();
  await page.getByRole("region", { name: "What the caller would see" }).getByText("429 spend_limit_exceeded").waitFor();
  await isAccessible(page, "explain");
}

async function looksAtAToken(page) {
  await page.keyboard.press("Escape");
  await page.locator("main").focus();
  await page.keyboard.press("5");
  await page.getByRole("heading", { name: "Tokens", exact: true }).waitFor();
  await page.keyboard.press("/");
  await page.locator("input:focus, textarea:focus").waitFor();
  await page.keyboard.type(env.QUICK);
  await page.keyboard.press("Enter");
  await page.getByText("This token is live.").waitFor();
  await isAccessible(page, "tokens");
  await page.getByLabel("Tenant").fill("acme");
  await page.getByLabel("Name or id").fill("quick-task");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("button", { name: "End" }).click();
  await page.getByText("1 live tokens of task quick-task ended.").waitFor();
}

async function seesOneTenant(page) {
  await page.goto(`${CONSOLE}#/tenants/globex`);
  await page.getByRole("heading", { name: "globex" }).waitFor();
  await page.locator("tbody tr").filter({ hasText: "whole tenant" }).first().waitFor();
  await page.locator("tbody tr").filter({ hasText: "spend_limit_exceeded" }).waitFor();
  await isAccessible(page, "one tenant");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await isAccessible(page, "keys");
  await page.keyboard.press("Escape");
  await page.setViewportSize({ width: 360, height: 640 });
  for (const view of ["tenants", "refusals", "calls", "explain", "tokens", "tenants/globex"]) {
    await page.goto(`${CONSOLE}#/${view}`);
    await page.locator("main h1").waitFor();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${view} is ${width} pixels wide`);
  }
}

/// An auditor is shown its tenant, and out as soon as its credential is.
async function seesAsAuditor() {
  const page = await opened();
  await logIn(page, env.AUDITOR);
  await page.getByRole("rowheader", { name: "acme" }).waitFor();
  assert.equal(await page.locator("tbody tr").count(), 1, "no other tenant");
  await page.keyboard.press("5");
  await page.getByRole("heading", { name: "Tokens" }).waitFor();
  assert.equal(await page.getByRole("button", { name: /End/ }).count(), 0, "what it may not do is not offered");
  await page.goto(`${CONSOLE}#/tenants/globex`);
  await page.getByRole("alert").getByText("not one of yours").waitFor();
  expect(403);
  assert.ok(!(await page.content()).includes("spend_limit_exceeded"), "nor its refusals");
  execFileSync(env.TOLLGATE, ["admin", "remove", "--name", "alice"], { stdio: "pipe" });
  await page.getByRole("alert").getByText("opens nothing").waitFor();
  assert.equal(await page.getByLabel("Admin credential").inputValue(), "");
}

/// A minter mints and ends; it is not shown what it may not read.
async function seesAsMinter() {
  const page = await opened();
  await logIn(page, env.MINTER);
  await page.getByRole("heading", { name: "Tokens", exact: true }).waitFor();
  assert.deepEqual(await page.getByRole("navigation").getByRole("link").allTextContents(), ["Tokens"]);
}

try {
  const page = await opened();
  await page.evaluate(() => { window.same = true; });
  await logsIn(page);
  await watchesACapFill(page);
  await seesRefusals(page);
  await endsAStream(page);
  await hasACallExplained(page);
  await looksAtAToken(page);
  await seesOneTenant(page);
  assert.equal(await page.evaluate(() => window.same), true, "it was never loaded anew");
  await seesAsAuditor();
  await seesAsMinter();
  const elsewhere = asked.filter((url) => !url.startsWith(`${env.CONSOLE_URL}/`) && !url.startsWith("data:"));
  assert.deepEqual(elsewhere, [], "nothing comes from elsewhere");
  for (const secret of [env.OPERATOR, env.AUDITOR, env.MINTER, env.QUICK]) {
    assert.ok(!asked.some((url) => url.includes(secret)), "no credential stands in an address");
  }
  assert.deepEqual(complaints, [], "the browser complains of nothing");
} finally {
  await browser.close();
}
