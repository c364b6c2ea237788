// Ending tokens: from a row, or by hand. Each act says what it does before it is done.

import { choices, field, h, write } from './dom.js';
import { ask, may, state } from './gateway.js';
import { clock, sorry } from './words.js';

const EFFECTS = {
  token: ({ tenant, token }) => [`End token ${token}?`, `Tenant ${tenant}. The token opens nothing within a second, and its open streams end within five. Other tokens of its task go on.`],
  task: ({ tenant, task }) => [`End task ${task}?`, `Tenant ${tenant}. All live tokens of the task open nothing within a second, its open streams end within five, and its name gets no tokens again.`],
  agent: ({ tenant, agent }) => [`End the tokens of agent ${agent}?`, `Tenant ${tenant}. All live tokens of the agent open nothing within a second, and its open streams end within five. It can get new ones; to lock it out, disable it in the tenant’s policy file.`],
  tenant: ({ tenant }) => [`End every token of tenant ${tenant}?`, 'Every agent of the tenant stops: its tokens open nothing within a second, and its open streams end within five. It can get new ones; to lock it out, disable it in its policy file.'],
};

/// Asks for leave, then does it. Returns what the gateway answers, or null.
async function revoke(what) {
  const [title, effect] = EFFECTS[what.kind](what);
  const { kind, tenant } = what;
  const asked = { kind, tenant, ...(kind !== 'tenant' && { [kind]: what[kind] }) };
  return sure(title, effect, 'End', () => ask('POST', 'v1/tokens/revoke', asked));
}

/// A dialog that is a question. Enter and Escape do what they say; the focus comes back.
function sure(title, effect, word, act) {
  const dialog = document.getElementById('sure');
  const before = document.activeElement;
  const problem = h('p', { role: 'alert', class: 'problem', hidden: true });
  const no = h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
  const yes = h('button', { type: 'submit', class: 'danger' }, word);
  let done = null;
  dialog.replaceChildren(h('form', {
    async onsubmit(event) {
      event.preventDefault();
      yes.disabled = true;
      try {
        done = await act();
        dialog.close();
      } catch (why) {
        write(problem, sorry(why));
        problem.hidden = false;
        yes.disabled = false;
      }
    },
  }, h('h2', { id: 'sure-title' }, title), h('p', { id: 'sure-effect' }, effect), problem,
  h('div', { class: 'buttons' }, no, yes)));
  dialog.setAttribute('aria-describedby', 'sure-effect');
  dialog.showModal();
  yes.focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      (before?.isConnected ? before : document.getElementById('main')).focus();
      resolve(done);
    }, { once: true });
  });
}

/// A button that ends what `what()` says when it is pressed.
export function revocation(label, what) {
  const said = h('span', { role: 'status' });
  const button = h('button', {
    type: 'button',
    class: 'danger small',
    async onclick() {
      const done = await revoke(what());
      if (done) write(said, `${done.revoked} ended`);
    },
  }, label);
  return h('span', { class: 'act' }, button, said);
}

export function tokens() {
  const told = h('div', { 'aria-live': 'polite' });
  const token = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'data-first': true });
  const tenants = state.me.tenants ?? state.figures?.tenants.map((of) => of.tenant) ?? [];

  async function look(event) {
    event.preventDefault();
    try {
      show(await ask('POST', 'v1/tokens/introspect', { token: token.value.trim() }));
    } catch (why) {
      told.replaceChildren(h('p', { role: 'alert', class: 'problem' }, sorry(why)));
    }
  }

  function show(found) {
    if (!found.active) {
      const reason = found.reason ? `: ${found.reason.replaceAll('_', ' ')}` : '';
      told.replaceChildren(h('p', { class: 'verdict', 'data-level': 'full' }, `This token opens nothing${reason}.`));
      return;
    }
    const facts = [['Tenant', found.tenant], ['Agent', found.sub], ['Task', found.task], ['Token id', found.jti],
      ['Ends', `${clock(new Date(1000 * found.exp).toISOString())} UTC`],
      ...(found.cnf ? [['Bound to certificate', found.cnf['x5t#S256']]] : [])];
    const { tenant, task, jti, sub } = found;
    told.replaceChildren(
      h('p', { class: 'verdict', 'data-level': 'low' }, 'This token is live.'),
      h('dl', { class: 'facts' }, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))),
      may.revoke() ? h('div', { class: 'buttons' },
        revocation('End this token', () => ({ kind: 'token', tenant, token: jti })),
        revocation('End its task', () => ({ kind: 'task', tenant, task })),
        revocation('End its agent’s tokens', () => ({ kind: 'agent', tenant, agent: sub }))) : h('span', {}));
  }

  const node = h('section', {}, h('h1', {}, 'Tokens'), h('div', { class: 'halves' },
    h('form', { class: 'box', onsubmit: look },
      h('h2', {}, 'What is a token worth?'),
      field('Task token', token, 'It is sent to this gateway alone, and kept nowhere.'),
      h('div', { class: 'buttons' }, h('button', { type: 'submit' }, 'Look')), told),
    may.revoke() ? byName(tenants) : null));
  return { title: 'Tokens', node, update: () => {}, close: () => { token.value = ''; } };
}

/// Ends what is called by name.
function byName(tenants) {
  const text = (more) => h('input', { autocomplete: 'off', spellcheck: 'false', required: true, maxlength: 128, ...more });
  const tenant = text({ list: 'revoke-tenants', value: tenants.length === 1 ? tenants[0] : null });
  const kind = h('select', {}, [['task', 'task (complete it)'], ['agent', 'agent'], ['token', 'token, by its id']].map(([value, label]) => h('option', { value }, label)));
  const name = text({});
  const said = h('p', { role: 'status' });
  return h('form', {
    class: 'box',
    async onsubmit(event) {
      event.preventDefault();
      const what = { kind: kind.value, tenant: tenant.value.trim(), [kind.value]: name.value.trim() };
      write(said, '');
      const done = await revoke(what);
      if (done) write(said, `${done.revoked} live tokens of ${kind.value} ${name.value.trim()} ended.`);
    },
  }, h('h2', {}, 'End tokens by name'), choices('revoke-tenants', tenants),
  h('div', { class: 'fields' }, field('Tenant', tenant), field('End a', kind), field('Name or id', name)),
  h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'danger' }, 'End …')), said);
}
