// What would become of a call, and which rule decides.

import { choices, field, h, write } from './dom.js';
import { ask, state } from './gateway.js';
import { meaning, sorry } from './words.js';

const EXAMPLE = '{"model": "gpt-4o-mini", "max_tokens": 64,\n "messages": [{"role": "user", "content": "hi"}]}';

function headers(text) {
  const lines = text.split('\n').map((line) => line.trim()).filter(Boolean);
  return lines.map((line) => {
    const at = line.indexOf(':', 1);
    return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  });
}

export function explain() {
  const tenants = state.me.tenants ?? state.figures?.tenants.map((of) => of.tenant) ?? [];
  const text = (more) => h('input', { autocomplete: 'off', spellcheck: 'false', required: true, ...more });
  const tenant = text({ list: 'explain-tenants', value: tenants.length === 1 ? tenants[0] : null, 'data-first': true });
  const agent = text({ value: 'agent' });
  const task = text({ value: 'explained' });
  const method = h('select', {}, ['POST', 'GET', 'PUT', 'PATCH', 'DELETE'].map((name) => h('option', {}, name)));
  const path = text({ value: '/openai/v1/chat/completions' });
  const lines = h('textarea', { rows: 3, spellcheck: 'false' });
  lines.value = 'content-type: application/json';
  const body = h('textarea', { rows: 6, spellcheck: 'false' });
  body.value = EXAMPLE;
  const button = h('button', { type: 'submit' }, 'Explain');
  const told = h('div', { class: 'told', 'aria-live': 'polite' });

  async function asked(event) {
    event.preventDefault();
    button.disabled = true;
    const question = {
      identity: { tenant: tenant.value.trim(), agent: agent.value.trim(), task: task.value.trim() },
      method: method.value,
      path: path.value.trim(),
      headers: headers(lines.value),
      ...(body.value && { body: body.value }),
    };
    try {
      told.replaceChildren(...explained(await ask('POST', 'v1/explain', question)));
    } catch (why) {
      told.replaceChildren(h('p', { role: 'alert', class: 'problem' }, why.status === 422 ? why.detail : sorry(why)));
    }
    button.disabled = false;
  }

  const node = h('section', {}, h('h1', {}, 'Explain'),
    h('p', { class: 'note' }, 'The stages that judge calls judge what you describe. Nothing is contacted, no secret is fetched, nothing is reserved.'),
    h('div', { class: 'halves' },
      h('form', { class: 'box', onsubmit: asked },
        choices('explain-tenants', tenants),
        h('div', { class: 'fields' }, field('Tenant', tenant), field('Agent', agent), field('Task', task)),
        h('div', { class: 'fields call' }, field('Method', method), field('Path', path, 'As the agent calls it, with its query.')),
        field('Headers', lines, 'One a line. Handles such as $CRED{openai_key} stand as the agent would write them.'),
        field('Body', body),
        h('div', { class: 'buttons' }, button)),
      told));
  write(told, '');
  return { title: 'Explain', node, update: () => {} };
}

function explained(answer) {
  const { allowed, refusal, steps, notes } = answer;
  const last = steps.at(-1);
  const verdict = h('p', { class: 'verdict', 'data-level': allowed ? 'low' : 'full' },
    allowed ? 'The call would be made.' : `The call would be refused at “${last?.stage}”.`);
  const seen = refusal ? h('section', { class: 'box', 'aria-label': 'What the caller would see' },
    h('h2', {}, 'The caller would see'),
    h('p', {}, h('code', {}, `${refusal.status} ${refusal.code}`), ` ${meaning(refusal.code)}`),
    h('p', {}, refusal.message),
    h('p', { class: 'note' }, `Only the record keeps: ${[refusal.reason, refusal.limit].filter(Boolean).join(', ')}`)) : null;
  const list = h('ol', { class: 'steps' }, steps.map((step) => h('li', { 'data-level': step.passed ? 'low' : 'full' },
    h('h3', {}, step.stage, h('span', { class: 'tag' }, step.passed ? 'goes on' : 'ends here')),
    h('p', {}, step.decision),
    step.decided_by ? h('p', { class: 'by' }, 'by ', step.decided_by) : null,
    step.hint ? h('p', { class: 'by' }, step.hint) : null,
    step.facts ? h('details', {}, h('summary', {}, 'Facts'), h('pre', { tabindex: 0 }, JSON.stringify(step.facts, null, 1))) : null)));
  const noted = notes?.length ? h('p', { class: 'note' }, `The record would note: ${notes.join(', ')}`) : null;
  return [verdict, seen, list, noted].filter(Boolean);
}
