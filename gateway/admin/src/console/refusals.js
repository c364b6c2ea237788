// Refusals as they happen, and failures of calls that had been let through.

import { field, h, set, table, write } from './dom.js';
import { may, state } from './gateway.js';
import { clock, meaning } from './words.js';

const OF_ONE_TENANT = 20;

function columns(withTenant) {
  return [
    { label: 'Time', class: 'number', text: (news) => clock(news.at), title: (news) => `${news.at}, request ${news.id}` },
    ...(withTenant ? [{
      label: 'Tenant',
      head: true,
      make(cell, { item }) {
        if (item.tenant) cell.append(h('a', { href: `#/tenants/${item.tenant}` }, item.tenant));
        else cell.append(h('span', { class: 'stranger' }, 'stranger'), ` ${item.client ?? ''}`);
      },
    }] : []),
    { label: 'Agent, task', head: !withTenant, make: (cell, { item }) => two(cell, item.agent, item.task) },
    { label: 'Model, provider', class: 'free', make: (cell, { item }) => two(cell, item.model, item.provider) },
    {
      label: 'Code',
      make(cell, { item }) {
        set(cell, 'data-level', item.outcome === 'refused' ? 'high' : 'full');
        cell.append(h('code', {}, item.code), h('span', { class: 'under' },
          `${item.status ?? ''} ${meaning(item.code)}${item.reached ? ', after contact' : ''}`.trim()));
      },
    },
    {
      label: 'Reason, and limit or path',
      class: 'free',
      make: (cell, { item }) => two(cell, item.reason, item.limit ?? `${item.method ?? ''} ${item.path ?? ''}`.trim()),
    },
  ];
}

/// One word above another; both stay what they are.
function two(cell, above, below) {
  cell.append(h('span', {}, above || '–'));
  if (below) cell.append(h('span', { class: 'under' }, below));
}

/// The last few of one tenant.
export function refusalsOf(tenant) {
  const list = table('Refusals of late', columns(false), { empty: 'None since this page was opened.', key: (news) => news.serial });
  const update = () => list.update(state.news.filter((news) => news.tenant === tenant).slice(0, OF_ONE_TENANT));
  return { node: list.node, update };
}

export function refusals() {
  const tenant = h('input', { type: 'search', autocomplete: 'off', spellcheck: 'false', 'data-first': true, oninput: () => update() });
  const code = h('select', { onchange: () => update() }, h('option', { value: '' }, 'every code'));
  const pause = h('button', { type: 'button', 'aria-pressed': 'false', 'data-pause': true, 'aria-keyshortcuts': 'p', onclick: () => hold(!held) }, 'Pause');
  const waiting = h('span', { class: 'note' });
  const missed = h('p', { class: 'note', hidden: true });
  const list = table('Refusals, the newest first', columns(true), {
    empty: 'None that fits, since this page was opened. They appear here as they happen.',
    key: (news) => news.serial,
  });
  const node = h('section', {}, h('h1', {}, 'Refusals'),
    h('p', { class: 'note' }, 'Requests that went no further than this replica, and calls that failed or were cut after it. Nothing is shown of before this page was opened: ',
      h('code', {}, 'tollgate report --refusals'), ' is for that.'),
    h('form', { class: 'filters', onsubmit: (event) => event.preventDefault() },
      field('Tenant', tenant, may.seeStrangers() ? '“stranger” for those without a token' : null),
      field('Code', code), h('div', { class: 'field' }, pause, waiting)),
    missed, list.node);
  let held = null;

  function hold(on) {
    held = on ? state.news.slice() : null;
    set(pause, 'aria-pressed', on);
    write(pause, on ? 'Go on' : 'Pause');
    update();
  }

  function update() {
    const known = new Set([...code.options].map((option) => option.value));
    for (const news of state.news) {
      if (!known.has(news.code)) {
        known.add(news.code);
        code.append(h('option', { value: news.code }, news.code));
      }
    }
    const wanted = tenant.value.trim().toLowerCase();
    list.update((held ?? state.news).filter((news) =>
      (news.tenant ?? 'stranger').includes(wanted) && (!code.value || news.code === code.value)));
    write(waiting, held ? `${state.news.filter((news) => news.serial > (held[0]?.serial ?? 0)).length} new since` : '');
    missed.hidden = state.missed === 0;
    write(missed, `${state.missed} more came faster than this page could read them, and are not shown.`);
  }
  return { title: 'Refusals', node, update };
}
