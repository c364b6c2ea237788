// The page: who is logged in, which view is shown, and what holds for all views.

import { calls } from './calls.js';
import { explain } from './explain.js';
import { field, h, set, write } from './dom.js';
import { enter, kept, leave, may, onChange, retry, state } from './gateway.js';
import { refusals } from './refusals.js';
import { tokens } from './revoke.js';
import { tenant, tenants } from './tenants.js';
import { lasting, sorry } from './words.js';

const THEMES = ['auto', 'light', 'dark'];
const KEYS_OFF = 'tollgate-keys-off';
const THEME = 'tollgate-theme';

/// Path, name, who sees it, and what makes it.
const VIEWS = [
  ['tenants', 'Tenants', may.see, tenants],
  ['refusals', 'Refusals', may.see, refusals],
  ['calls', 'Calls', may.see, calls],
  ['explain', 'Explain', may.see, explain],
  ['tokens', 'Tokens', () => true, tokens],
];

const part = (id) => document.getElementById(id);
let view = null;
let shown = null;
let drawn = false;

function offered() {
  return VIEWS.filter(([, , sees]) => sees());
}

/// Shows what the address says, or what comes first for this role.
function route() {
  const [name, rest] = location.hash.replace(/^#\/?/, '').split(/\/(.*)/s);
  const found = offered().find(([path]) => path === name) ?? offered()[0];
  let id = '';
  try { id = decodeURIComponent(rest ?? ''); } catch { id = rest; }
  const here = `${found[0]}/${found[0] === 'tenants' ? id : ''}`;
  if (shown === here) return;
  const first = shown === null;
  shown = here;
  view?.close?.();
  view = found[0] === 'tenants' && id ? tenant(id) : found[3]();
  part('main').replaceChildren(view.node);
  document.title = `${view.title} · Tollgate console`;
  for (const link of part('views').querySelectorAll('a')) {
    set(link, 'aria-current', link.hash === `#/${found[0]}` ? 'page' : null);
  }
  if (!first) part('main').focus({ preventScroll: true });
  scrollTo(0, 0);
  draw();
}

function login() {
  const input = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'tga_…' });
  const keep = h('input', { type: 'checkbox', id: 'keep' });
  const problem = h('p', { role: 'alert', class: 'problem', hidden: true });
  const button = h('button', { type: 'submit', class: 'main' }, 'Log in');
  const sorrow = (why) => { write(problem, sorry(why)); problem.hidden = false; };
  const form = h('form', {
    class: 'box login',
    async onsubmit(event) {
      event.preventDefault();
      button.disabled = true;
      problem.hidden = true;
      try {
        await enter(input.value.trim(), keep.checked);
      } catch (why) {
        sorrow(why);
        input.select();
      }
      button.disabled = false;
    },
  }, h('h1', {}, 'Tollgate console'),
  field('Admin credential', input, 'It is sent to this gateway alone, and forgotten when the page is reloaded or left.'),
  h('div', { class: 'check' }, keep, h('label', { for: 'keep' }, 'Keep it in this tab until the tab is closed')),
  problem, h('div', { class: 'buttons' }, button),
  h('details', {}, h('summary', {}, 'Where is a credential to be had?'),
    h('p', {}, 'An operator makes one: ', h('code', {}, 'tollgate admin add --role auditor --tenant acme --name alice'),
      '. The first start of a gateway leaves an operator’s in ', h('code', {}, 'keys/admin.token'), ' of its data directory.')));
  if (state.why) sorrow(state.why);
  view?.close?.();
  [view, shown] = [null, null];
  part('main').replaceChildren(form);
  document.title = 'Log in · Tollgate console';
  input.focus();
}

function tellLink() {
  const words = { opening: 'connecting', live: 'live', lost: 'disconnected' };
  part('link').hidden = !(state.link in words);
  write(part('link'), words[state.link] ?? '');
  set(part('link'), 'data-link', state.link);
  const lost = state.link === 'lost' && state.me !== null;
  const banner = part('stale');
  if (lost && banner.hidden) {
    const again = h('button', { type: 'button', class: 'small', onclick: retry }, 'Try now');
    banner.replaceChildren(h('span', {}), h('span', { 'aria-hidden': 'true' }), again);
  }
  banner.hidden = !lost;
  set(document.documentElement, 'data-stale', lost ? 'true' : null);
  if (lost) {
    const age = state.heardAt ? `Figures are from ${new Date(state.heardAt).toISOString().slice(11, 19)} UTC.` : 'There are no figures yet.';
    write(banner.firstChild, `${sorry(state.why ?? { code: 'unreachable' })} ${age} `);
    write(banner.children[1], `Next try in ${lasting((state.retryAt - Date.now()) / 1000)}. `);
  }
}

function tellWho() {
  const { me } = state;
  const nav = part('views');
  nav.hidden = part('leave').hidden = part('help').hidden = !me;
  if (!me) {
    write(part('foot'), 'This page comes from the gateway itself and loads nothing from anywhere else.');
    return;
  }
  const tenants = me.tenants ? ` of ${me.tenants.join(', ')}` : '';
  const own = may.see() ? ' Calls and refusals are those of this replica; caps are those that its calls are held to.' : '';
  write(part('foot'), `${me.name}, ${me.role}${tenants} · replica ${me.replica} · Tollgate ${me.version}.${own}`);
  nav.replaceChildren(h('ul', {}, offered().map(([path, name], at) =>
    h('li', {}, h('a', { href: `#/${path}`, 'aria-keyshortcuts': at + 1 }, name)))));
}

function draw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    tellLink();
    view?.update();
  });
}

let who = null;
function changed() {
  if (who !== state.me) {
    who = state.me;
    tellWho();
    if (who) route();
    else login();
  }
  draw();
}

function theme(name) {
  const chosen = THEMES.includes(name) ? name : 'auto';
  set(document.documentElement, 'data-theme', chosen === 'auto' ? null : chosen);
  write(part('theme'), `Theme: ${chosen}`);
  localStorage.setItem(THEME, chosen);
}

function nextTheme() {
  const at = THEMES.indexOf(localStorage.getItem(THEME));
  theme(THEMES[(Math.max(at, 0) + 1) % THEMES.length]);
}

function keysOn() {
  return localStorage.getItem(KEYS_OFF) === null;
}

function help() {
  const keys = [
    ...offered().map(([, name], at) => [String(at + 1), name]),
    ['/', 'To the first field of the view'],
    ['j  k', 'To the next or previous row that can be acted upon'],
    ['p', 'Pause the refusals, or go on'],
    ['t', 'Light, dark, or as the system has it'],
    ['?', 'These keys'],
    ['Esc', 'Close a dialog'],
  ];
  const on = h('input', { type: 'checkbox', id: 'keys-on' });
  on.checked = keysOn();
  on.addEventListener('change', () => {
    if (on.checked) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, 'off');
  });
  const dialog = part('keys');
  dialog.replaceChildren(h('h2', { id: 'keys-title' }, 'Keys'),
    h('dl', { class: 'facts' }, keys.map(([key, what]) => h('div', {}, h('dt', {}, h('kbd', {}, key)), h('dd', {}, what)))),
    h('div', { class: 'check' }, on, h('label', { for: 'keys-on' }, 'Single keys are shortcuts')),
    h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: () => dialog.close() }, 'Close')));
  dialog.showModal();
}

function step(by) {
  const links = [...part('main').querySelectorAll('tbody tr')].map((row) => row.querySelector('a, button')).filter(Boolean);
  const at = links.findIndex((link) => link.closest('tr').contains(document.activeElement));
  links[Math.min(links.length - 1, Math.max(0, at < 0 ? 0 : at + by))]?.focus();
}

function pressed(event) {
  const { target, key } = event;
  const writes = target instanceof Element && target.matches('input:not([type=checkbox]), textarea, select');
  const elsewhere = event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]');
  if (writes || elsewhere || !state.me || !keysOn()) return;
  const acts = { '?': help, j: () => step(1), k: () => step(-1), t: nextTheme };
  const at = offered()[Number(key) - 1];
  if (at) location.hash = `#/${at[0]}`;
  else if (acts[key]) acts[key]();
  else if (key === '/') document.querySelector('[data-first]')?.focus();
  else if (key === 'p') document.querySelector('[data-pause]')?.click();
  else return;
  event.preventDefault();
}

theme(localStorage.getItem(THEME));
part('theme').addEventListener('click', nextTheme);
part('help').addEventListener('click', help);
part('leave').addEventListener('click', () => leave());
part('skip').addEventListener('click', (event) => { event.preventDefault(); part('main').focus(); });
addEventListener('hashchange', () => { if (state.me) route(); });
addEventListener('keydown', pressed);
onChange(changed);
// Ages and pauses go on between events.
setInterval(draw, 1000);
tellWho();
if (kept()) enter(kept(), true).catch((why) => { state.why = why; login(); });
else login();
