// The gateway as the page knows it: who is logged in, what it says, and what it told of late.
//
// The credential stays in this module, or in this tab's session storage where somebody asked for
// that. It is sent in a header to this page's own origin and stands in no address.

const KEPT = 'tollgate-credential';
const NEWS_KEPT = 500;
const ENDED_SHOWN_MS = 15_000;
const SILENCE_MS = 6_000;
const PAUSES_S = [1, 2, 4, 8, 15, 30];
const SAMPLES = 120;

export const state = {
  me: null,
  figures: null,
  calls: null,
  /// Refusals and failures, the newest first; each has a `serial`.
  news: [],
  serial: 0,
  missed: 0,
  /// How calls ended that were under way a moment ago, by id.
  ended: new Map(),
  /// Burn rates of late, by tenant.
  paces: new Map(),
  /// `off`, `opening`, `live` or `lost`.
  link: 'off',
  heardAt: 0,
  retryAt: 0,
  why: null,
};

let credential = null;
let stop = null;
let wake = null;
/// The calls under way of the look before.
let before = null;
const watchers = new Set();

export function onChange(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

function changed() {
  for (const watcher of watchers) watcher();
}

/// A path of the admin API, beside this page whatever stands in front of it.
function address(path) {
  return new URL(path, new URL('.', document.baseURI));
}

/// Asks the admin API. What it does not do is thrown, as the problem that it answers.
export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(address(path), {
      method,
      headers: { authorization: `Bearer ${credential}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
    });
  } catch {
    throw { status: 0, code: 'unreachable' };
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  const problem = { status: answer.status, code: told.code, detail: told.detail };
  if (answer.status === 401 && state.me) leave(problem);
  throw problem;
}

/// Logs in, and remembers the credential as long as this tab lives if `keep` says so.
export async function enter(text, keep) {
  credential = text;
  try {
    // What is not 7-bit text is no credential, and cannot stand in a header.
    if (!/^[\x21-\x7e]+$/.test(text)) throw { status: 401, code: 'admin_credential_required' };
    state.me = await ask('GET', 'v1/self');
  } catch (problem) {
    credential = null;
    if (problem.status === 401) sessionStorage.removeItem(KEPT);
    throw problem;
  }
  if (keep) sessionStorage.setItem(KEPT, text);
  state.why = null;
  if (may.see()) follow();
  changed();
}

export function kept() {
  return sessionStorage.getItem(KEPT);
}

export function leave(why = null) {
  credential = null;
  sessionStorage.removeItem(KEPT);
  stop?.abort();
  Object.assign(state, {
    me: null, figures: null, calls: null, news: [], missed: 0, link: 'off', why,
  });
  state.ended.clear();
  state.paces.clear();
  changed();
}

/// What the role is for. The gateway decides; here it is only not offered.
export const may = {
  see: () => state.me !== null && state.me.role !== 'minter',
  revoke: () => state.me !== null && state.me.role !== 'auditor',
  seeStrangers: () => state.me?.role === 'operator',
};

/// Tries at once instead of at the end of a pause.
export function retry() {
  wake?.();
}

async function follow() {
  stop?.abort();
  stop = new AbortController();
  const { signal } = stop;
  for (let tries = 0; !signal.aborted; tries += 1) {
    state.link = state.link === 'lost' ? 'lost' : 'opening';
    const began = Date.now();
    const problem = await listen(signal).catch((problem) => problem);
    if (signal.aborted) return;
    if (problem?.status === 401) return leave(problem);
    if (Date.now() - began > 30_000) tries = 0;
    const pause = PAUSES_S[Math.min(tries, PAUSES_S.length - 1)];
    state.link = 'lost';
    state.why = problem?.code ? problem : { code: 'unreachable' };
    state.retryAt = Date.now() + 1000 * pause;
    changed();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 1000 * pause);
      wake = () => { clearTimeout(timer); resolve(); };
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}

/// Reads events until there are no more.
async function listen(signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const answer = await fetch(address('v1/events'), {
    headers: { authorization: `Bearer ${credential}`, accept: 'text/event-stream' },
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
    signal: AbortSignal.any([signal, silence.signal]),
  });
  try {
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw { status: answer.status, code: told.code, detail: told.detail };
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return null;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const events = (rest + value).split('\n\n');
      rest = events.pop();
      for (const event of events) heard(event);
      state.link = 'live';
      state.why = null;
      state.heardAt = Date.now();
      changed();
    }
  } finally {
    clearTimeout(timer);
  }
}

function heard(event) {
  const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? [];
  if (!name) return;
  const told = JSON.parse(data);
  if (name === 'figures') figures(told);
  else if (name === 'calls') [before, state.calls] = [state.calls, told];
  else if (name === 'turned_away') tell({ ...told, reached: false });
  else if (name === 'missed') state.missed += told.events;
  else if (name === 'ended') ended(told);
  else if (name === 'closed' && told.reason === 'credential') {
    leave({ status: 401, code: 'admin_credential_required' });
  }
}

function figures(told) {
  state.figures = told;
  for (const { tenant, burn } of told.tenants) {
    const samples = state.paces.get(tenant) ?? [];
    samples.push(Number(burn.last_5_minutes.usd_per_hour));
    if (samples.length > SAMPLES) samples.shift();
    state.paces.set(tenant, samples);
  }
  const now = Date.now();
  for (const [id, { until }] of state.ended) if (until < now) state.ended.delete(id);
}

function ended(told) {
  const seen = [...(state.calls?.calls ?? []), ...(before?.calls ?? [])];
  const call = seen.find((call) => call.id === told.id);
  if (call) state.ended.set(told.id, { ...call, end: told, until: Date.now() + ENDED_SHOWN_MS });
  if (told.outcome !== 'completed' && told.outcome !== 'client_gone') {
    tell({ ...told, code: told.code ?? told.outcome, reason: told.outcome, reached: true });
  }
}

function tell(news) {
  state.serial += 1;
  state.news.unshift({ ...news, serial: state.serial });
  state.news.length = Math.min(state.news.length, NEWS_KEPT);
}
