// Calls under way, and how those ended that were seen a moment ago.

import { h, set, table, write } from './dom.js';
import { may, state } from './gateway.js';
import { revocation } from './revoke.js';
import { bytes, clock, lasting, outcome, usd } from './words.js';

/// A table of calls, of one tenant or of all.
export function callsOf(tenant = null) {
  const columns = [
    { label: 'Since', class: 'number', text: (call) => (call.end ? clock(call.started_at) : lasting((Date.now() - Date.parse(call.started_at)) / 1000)), title: (call) => call.started_at },
    ...(tenant ? [] : [{
      label: 'Tenant',
      head: true,
      make(cell, row) { cell.append(h('a', { href: `#/tenants/${row.item.tenant}` }, row.item.tenant)); },
    }]),
    { label: 'Agent', head: Boolean(tenant), text: (call) => call.agent },
    { label: 'Task', text: (call) => call.task, title: (call) => `token ${call.token}` },
    { label: 'Provider', text: (call) => call.provider ?? '–' },
    { label: 'Model', class: 'free', text: (call) => call.model ?? '–' },
    { label: 'Answer', draw: drawAnswer },
    { label: 'Bytes', class: 'number', text: (call) => bytes(call.answer_bytes) },
    { label: 'Cost', class: 'number', text: (call) => (call.end ? usd(call.end.cost_usd) : `≤ ${usd(call.reserved_usd)}`), title: (call) => (call.end ? `${call.end.cost_usd} USD` : `${call.reserved_usd} USD are reserved`) },
    ...(may.revoke() ? [{
      label: 'End',
      class: 'actions',
      make(cell, row) {
        const task = revocation('End task', () => ({ kind: 'task', tenant: row.item.tenant, task: row.item.task }));
        const token = revocation('End token', () => ({ kind: 'token', tenant: row.item.tenant, token: row.item.token, task: row.item.task }));
        cell.append(task, token);
      },
      draw(cell, call) {
        for (const button of cell.children) set(button, 'hidden', Boolean(call.end));
      },
    }] : []),
  ];
  const list = table('Calls under way, the oldest first', columns, { empty: 'No call is under way.', key: (call) => call.id });
  const more = h('p', { class: 'note', hidden: true });
  const waiting = h('p', { class: 'empty' }, 'Waiting for the first look …');
  const node = h('div', {}, waiting, list.node, more);
  function update() {
    waiting.hidden = Boolean(state.calls);
    list.node.hidden = !state.calls;
    if (!state.calls) return;
    const open = state.calls.calls.filter((call) => !state.ended.has(call.id));
    const shown = [...open, ...state.ended.values()].filter((call) => !tenant || call.tenant === tenant);
    shown.sort((a, b) => a.started_at.localeCompare(b.started_at));
    list.update(shown);
    more.hidden = state.calls.left_out === 0;
    write(more, `${state.calls.left_out} younger calls are not listed.`);
  }
  return { node, update };
}

function drawAnswer(cell, call) {
  const [word, level] = call.end
    ? [outcome(call.end.outcome), call.end.outcome === 'completed' ? 'low' : 'high']
    : [call.status === null ? 'awaited' : `${call.status}${call.stream ? ', streaming' : ''}`, null];
  write(cell, word);
  set(cell, 'data-level', level);
}

export function calls() {
  const list = callsOf();
  const node = h('section', {}, h('h1', {}, 'Calls'),
    h('p', { class: 'note' }, 'Calls that this replica has let through and that have not ended.'), list.node);
  return { title: 'Calls', node, update: list.update };
}
