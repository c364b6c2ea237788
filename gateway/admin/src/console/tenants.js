// Tenants: how each stands with its caps, and one of them in full.

import { callsOf } from './calls.js';
import { bar, h, set, svg, table, write } from './dom.js';
import { ask, may, state } from './gateway.js';
import { refusalsOf } from './refusals.js';
import { revocation } from './revoke.js';
import { cap, count, reach, roughly, sorry, usd } from './words.js';

const POLL_MS = 5_000;
const MINUTE_MS = 60_000;

function whole(of, window) {
  return of.caps.find((standing) => {
    const { scope, window: its } = cap(standing.key);
    return scope === 'whole tenant' && its.startsWith(window);
  });
}

function now() {
  return Date.parse(state.figures?.at ?? new Date());
}

/// What a bar shows of a cap.
function share(standing) {
  const [spent, held, limit] = ['settled_usd', 'reserved_usd', 'limit_usd'].map((name) => Number(standing[name]));
  const percent = limit > 0 ? Math.floor((100 * spent) / limit) : 100;
  return {
    limit, spent, held,
    text: `${usd(standing.settled_usd)} of ${usd(standing.limit_usd)}`,
    exact: `${standing.settled_usd} of ${standing.limit_usd} USD spent (${percent} %), ${standing.reserved_usd} reserved, ${standing.remaining_usd} left`,
  };
}

function barColumn(label, window) {
  return {
    label,
    class: 'bars',
    make(cell, row) {
      row.bars = { ...row.bars, [window]: bar(`${row.item.tenant}, ${label.toLowerCase()}`) };
      cell.bar = row.bars[window];
      cell.append(cell.bar.node, h('span', { class: 'none' }, 'no cap'));
    },
    draw(cell, of) {
      const standing = whole(of, window);
      cell.bar.node.hidden = !standing;
      cell.lastChild.hidden = Boolean(standing);
      if (standing) cell.bar.update(share(standing));
    },
  };
}

function soonest(of) {
  const foreseen = ['day', 'month'].map((window) => whole(of, window)).filter(Boolean);
  const rank = { reached: 0, at: 1, not_before_reset: 2, never: 3 };
  const by = (standing) => standing.burn.last_5_minutes;
  foreseen.sort((a, b) => rank[by(a).reaches_limit] - rank[by(b).reaches_limit]
    || String(by(a).reaches_limit_at).localeCompare(String(by(b).reaches_limit_at)));
  return foreseen[0];
}

function drawPace(cell, of) {
  const samples = state.paces.get(of.tenant) ?? [];
  const most = Math.max(...samples, 1e-12);
  const last = Math.max(1, samples.length - 1);
  const points = samples.map((pace, at) => `${((72 * at) / last).toFixed(1)},${(18 - (16 * pace) / most).toFixed(1)}`);
  if (!cell.line) {
    cell.line = svg('polyline', { class: 'pace' });
    cell.append(svg('svg', { viewBox: '0 0 72 20', class: 'spark', 'aria-hidden': 'true' }, cell.line));
  }
  set(cell.line, 'points', points.join(' '));
}

export function tenants() {
  const tiles = h('dl', { class: 'tiles' });
  const tile = (label) => {
    const figure = h('dd', {}, '–');
    tiles.append(h('div', {}, h('dt', {}, label), figure));
    return figure;
  };
  const [burn, calls, refusals, full] = ['Burn now', 'Calls under way', 'Refusals, last minute', 'Caps reached'].map(tile);
  const list = table('Tenants, the one that money goes fastest in first', [
    {
      label: 'Tenant',
      head: true,
      class: 'name',
      make(cell, row) {
        cell.append(h('a', { href: `#/tenants/${row.item.tenant}` }, row.item.tenant));
      },
    },
    barColumn('Day cap', 'day'),
    barColumn('Month cap', 'month'),
    { label: 'Burn / h', class: 'number', text: (of) => usd(of.burn.last_5_minutes.usd_per_hour), title: (of) => `${of.burn.last_5_minutes.usd_per_hour} USD an hour in the last five minutes, ${of.burn.last_hour.usd_per_hour} in the last hour` },
    { label: 'Last 2 min', class: 'wide', draw: drawPace },
    {
      label: 'Cap reached',
      draw(cell, of) {
        const standing = soonest(of);
        write(cell, standing ? reach(standing, now()) : '–');
        set(cell, 'data-level', standing?.burn.last_5_minutes.reaches_limit === 'reached' ? 'full' : null);
        set(cell, 'title', standing?.burn.last_5_minutes.reaches_limit_at);
      },
    },
    { label: 'Calls', class: 'number', text: (of) => count(openOf(of.tenant)) },
  ], { empty: 'Policy defines no tenant that you may see.', key: (of) => of.tenant });
  const more = h('p', { class: 'note', hidden: true });
  const waiting = h('p', { class: 'empty' }, 'Waiting for the first figures …');
  const node = h('section', {}, h('h1', {}, 'Tenants'), tiles, waiting, list.node, more);

  function update() {
    const { figures } = state;
    waiting.hidden = Boolean(figures);
    list.node.hidden = !figures;
    if (!figures) return;
    const sum = figures.tenants.reduce((sum, of) => sum + Number(of.burn.last_5_minutes.usd_per_hour), 0);
    write(burn, `${usd(sum)} / h`);
    write(calls, count((state.calls?.calls.length ?? 0) + (state.calls?.left_out ?? 0)));
    write(refusals, count(state.news.filter((news) => Date.now() - Date.parse(news.at) < MINUTE_MS).length));
    const reached = figures.tenants.flatMap((of) => of.caps)
      .filter((standing) => standing.burn.last_5_minutes.reaches_limit === 'reached').length;
    write(full, count(reached));
    set(full, 'data-level', reached > 0 ? 'full' : null);
    list.update(figures.tenants);
    more.hidden = figures.tenants_left_out === 0;
    write(more, `${figures.tenants_left_out} more tenants, in which money goes more slowly, are not listed. Open one at #/tenants/NAME.`);
  }
  return { title: 'Tenants', node, update };
}

function openOf(tenant) {
  return (state.calls?.calls ?? []).filter((call) => call.tenant === tenant && !state.ended.has(call.id)).length;
}

export function tenant(id) {
  const problem = h('p', { role: 'alert', class: 'problem', hidden: true });
  const caps = table('Caps', [
    { label: 'Of', head: true, text: (of) => cap(of.key).scope },
    { label: 'Window', text: (of) => cap(of.key).window },
    {
      label: 'Spent',
      class: 'bars',
      make(cell, row) { cell.bar = bar(row.item.key); cell.append(cell.bar.node); },
      draw: (cell, of) => cell.bar.update(share(of)),
    },
    { label: 'Reserved', class: 'number', text: (of) => usd(of.reserved_usd) },
    { label: 'Left', class: 'number', text: (of) => usd(of.remaining_usd) },
    { label: 'Burn / h', class: 'number', text: (of) => usd(of.burn.last_5_minutes.usd_per_hour) },
    { label: 'Reached', text: (of) => reach(of, now()), title: (of) => of.burn.last_5_minutes.reaches_limit_at },
    { label: 'Resets', text: (of) => (of.resets_at ? `in ${roughly((Date.parse(of.resets_at) - now()) / 1000)}` : 'never'), title: (of) => of.resets_at },
  ], { empty: 'No cap is set: what this tenant spends is counted and not limited.', key: (of) => of.key });
  const limits = table('Limits on pace', [
    { label: 'Of', head: true, text: (of) => cap(of.key).scope },
    { label: 'Counts', text: (of) => cap(of.key).window.replaceAll('_', ' ') },
    { label: 'Limit', class: 'number', text: (of) => count(of.limit) },
    { label: 'Left now', class: 'number', text: (of) => count(of.left) },
  ], { empty: 'No limit is set.', key: (of) => of.key });
  const agents = table('Agents that policy names, or that call now', [
    { label: 'Agent', head: true, text: (of) => of.agent },
    { label: 'State', text: (of) => (of.enabled ? 'enabled' : 'disabled by policy') },
    { label: 'Calls', class: 'number', text: (of) => count(of.calls) },
    ...(may.revoke() ? [{
      label: 'End',
      class: 'actions',
      make(cell, row) {
        cell.append(revocation('End agent’s tokens', () => ({ kind: 'agent', tenant: id, agent: row.item.agent })));
      },
    }] : []),
  ], { empty: 'None.', key: (of) => of.agent });
  const open = callsOf(id);
  const refused = refusalsOf(id);
  const ends = may.revoke() ? h('section', { class: 'ends', 'aria-labelledby': 'ends' },
    h('h2', { id: 'ends' }, 'End tokens'),
    h('p', { class: 'note' }, 'One task’s or one token’s from the calls above, or under “Tokens”. All of the tenant’s:'),
    revocation('End every token of this tenant', () => ({ kind: 'tenant', tenant: id }))) : null;
  const node = h('section', {},
    h('p', { class: 'way' }, h('a', { href: '#/tenants' }, 'Tenants'), ' / ', id),
    h('h1', {}, id), problem, caps.node,
    h('div', { class: 'pair' }, limits.node, agents.node),
    open.node, refused.node, ends);
  let told = null;
  let polled = null;

  const sorrow = (why) => { write(problem, sorry(why)); problem.hidden = false; };
  ask('GET', `v1/tenants/${encodeURIComponent(id)}`).then((answer) => { told = answer; update(); }, sorrow);
  // A tenant at rest among thousands is not in the figures that come by themselves.
  const poll = () => {
    if (!state.figures || state.figures.tenants.some((of) => of.tenant === id) || state.link !== 'live') return;
    ask('GET', `v1/live?tenant=${encodeURIComponent(id)}`).then((answer) => { [polled] = answer.tenants; update(); }, sorrow);
  };
  const timer = setInterval(poll, POLL_MS);

  function update() {
    const of = state.figures?.tenants.find((of) => of.tenant === id) ?? polled;
    if (of) {
      caps.update(of.caps);
      limits.update(of.limits);
    }
    const named = new Map();
    for (const { agent } of told?.agents ?? []) named.set(agent, { agent, enabled: true, calls: 0 });
    for (const { agent } of (state.calls?.calls ?? []).filter((call) => call.tenant === id)) {
      const known = named.get(agent) ?? { agent, enabled: true, calls: 0 };
      named.set(agent, { ...known, calls: known.calls + 1 });
    }
    for (const agent of told?.disabled_agents ?? []) named.set(agent, { agent, enabled: false, calls: 0 });
    agents.update([...named.values()].sort((a, b) => a.agent.localeCompare(b.agent)));
    open.update();
    refused.update();
  }
  return { title: id, node, update, close: () => clearInterval(timer) };
}

