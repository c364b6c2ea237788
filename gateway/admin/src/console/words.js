// Figures and codes as people read them. Money stays text; numbers are made of it for bars alone.

/// US dollars: to the cent from a dollar on, to four digits below.
export function usd(text) {
  if (text === null || text === undefined) return '–';
  const amount = Number(text);
  if (amount === 0) return '$0';
  const size = Math.abs(amount);
  if (size >= 1) {
    const digits = Number.isInteger(amount) ? 0 : 2;
    return `$${amount.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
  }
  const digits = Math.min(12, Math.max(2, 3 - Math.floor(Math.log10(size))));
  return `$${amount.toFixed(digits).replace(/(\.\d\d+?)0+$/, '$1')}`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1048576) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1048576).toFixed(1)} MiB`;
}

export function count(number) {
  if (Math.abs(number) < 10_000) return number.toLocaleString('en-US');
  return number.toLocaleString('en-US', { notation: 'compact', maximumFractionDigits: 1 });
}

/// A length of time in its two largest units.
export function lasting(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(whole / unit));
  if (hours < 1) return `${minutes} min ${whole % 60} s`;
  if (days < 1) return `${hours} h ${minutes % 60} min`;
  return `${days} d ${hours % 24} h`;
}

export function roughly(seconds) {
  if (seconds >= 86400) return `${Math.floor(seconds / 86400)} d`;
  if (seconds >= 5400) return `${Math.round(seconds / 3600)} h`;
  return seconds >= 60 ? `${Math.round(seconds / 60)} min` : `${Math.max(0, Math.round(seconds))} s`;
}

/// The time of day, in UTC like everything that the gateway writes.
export function clock(at) {
  return String(at).slice(11, 19);
}

/// `acme/agent=bot/day:2026-11-29` in its parts. A model's pattern may hold a slash.
export function cap(key) {
  const [first, last] = [key.indexOf('/'), key.lastIndexOf('/')];
  const scope = key.slice(first + 1, last);
  const window = key.slice(last + 1);
  return { scope: scope === 'tenant' ? 'whole tenant' : scope.replace('=', ' '), window: window.replace(':', ' ') };
}

/// When a cap will be reached, as the gateway foresees it.
export function reach(standing, now) {
  const { reaches_limit: word, reaches_limit_at: at } = standing.burn.last_5_minutes;
  if (word === 'at') return `in ${roughly((Date.parse(at) - now) / 1000)}`;
  return { reached: 'reached', not_before_reset: 'not before reset', never: '–' }[word] ?? word;
}

const REFUSED = {
  invalid_api_key: 'no task token that holds',
  not_allowed: 'policy does not allow it',
  credential_denied: 'no such credential for this request',
  handle_repeated: 'a handle in more than one place',
  bad_handle: 'a malformed handle',
  model_not_priced: 'no price, and the tenant has a cap',
  batch_not_bounded: 'nobody knows what the batch may cost',
  rate_limit_exceeded: 'over a limit on requests, tokens or calls at once',
  spend_limit_exceeded: 'a spend cap is reached',
  request_exceeds_headroom: 'may cost more than a cap has left',
  body_too_large: 'the body is too large',
  ledger_unavailable: 'money or records cannot be kept',
  overloaded: 'no room for more calls',
  malformed_request: 'it can be read in two ways, or in none',
};

/// What a code means, in a few words.
export function meaning(code) {
  return REFUSED[code] ?? String(code ?? '').replaceAll('_', ' ');
}

const ENDED = {
  completed: 'completed',
  client_gone: 'client left',
  upstream_failed: 'provider failed',
  revoked: 'revoked',
  interrupted: 'interrupted',
  failed: 'failed',
  refused: 'refused',
};

export function outcome(word) {
  return ENDED[word] ?? word;
}

const PROBLEMS = {
  forbidden: 'Your credential’s role does not reach so far, or the tenant is not one of yours.',
  admin_credential_required: 'This credential opens nothing: it is unknown, removed or expired.',
  credentials_unavailable: 'The gateway cannot read who may log in; its log says why.',
  ledger_unavailable: 'It could not be put on record, so nothing was done.',
  tenant_unknown: 'No policy file defines this tenant.',
  task_complete: 'The task is over already.',
  too_many_followers: 'As many consoles are open as may be at one time. It is tried again.',
  unreachable: 'The gateway does not answer.',
};

/// Why something was not done, in words.
export function sorry(problem) {
  return PROBLEMS[problem.code] ?? problem.detail ?? `The gateway answered ${problem.status}.`;
}
