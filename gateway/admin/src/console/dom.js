// Elements out of plain values. Whatever a value holds becomes text, never markup.

const SVG = 'http://www.w3.org/2000/svg';

/// An element with properties, listeners (`onclick`) and children: nodes, texts, or nothing.
export function h(name, properties = {}, ...children) {
  return dressed(document.createElement(name), properties, children);
}

/// The same for drawings.
export function svg(name, properties = {}, ...children) {
  return dressed(document.createElementNS(SVG, name), properties, children);
}

function dressed(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/// Changes a text only if it is another one, so that selections and screen readers are left alone.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function set(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/// A table whose rows are kept by key while its items change.
///
/// A column has a `label` and `text(item)`, or `draw(cell, item)`, or `make(cell, row)` for what is
/// made once and looks at `row.item` when it is used.
export function table(caption, columns, { empty, key, order = true }) {
  const body = h('tbody', { role: 'rowgroup' });
  const heads = columns.map((column) =>
    h('th', { scope: 'col', role: 'columnheader', class: column.class }, column.label));
  const nothing = h('p', { class: 'empty' }, empty);
  const whole = h('table', { role: 'table' },
    h('caption', {}, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)),
    body);
  const node = h('div', { class: 'table' }, whole, nothing);
  const rows = new Map();

  function made(item) {
    const row = { item, cells: [] };
    row.node = h('tr', { role: 'row' });
    for (const column of columns) {
      const cell = h(column.head ? 'th' : 'td', {
        role: column.head ? 'rowheader' : 'cell',
        scope: column.head ? 'row' : null,
        class: column.class,
        'data-label': column.label,
      });
      column.make?.(cell, row);
      row.cells.push(cell);
      row.node.append(cell);
    }
    return row;
  }

  function update(items) {
    const kept = new Set();
    // Rows do not move away under a pointer or the keyboard's focus.
    const still = order && !whole.matches(':hover, :focus-within');
    let place = body.firstElementChild;
    for (const item of items) {
      const id = key(item);
      kept.add(id);
      let row = rows.get(id);
      if (!row) {
        row = made(item);
        rows.set(id, row);
        body.insertBefore(row.node, place);
      } else if (row.node === place) {
        place = place.nextElementSibling;
      } else if (still) {
        body.insertBefore(row.node, place);
      }
      row.item = item;
      columns.forEach((column, at) => {
        if (column.text) {
          write(row.cells[at], column.text(item));
          set(row.cells[at], 'title', column.title?.(item));
        } else column.draw?.(row.cells[at], item);
      });
    }
    for (const [id, row] of rows) {
      if (kept.has(id)) continue;
      if (row.node.contains(document.activeElement)) document.getElementById('main').focus();
      row.node.remove();
      rows.delete(id);
    }
    whole.hidden = items.length === 0;
    nothing.hidden = items.length > 0;
  }

  return { node, update };
}

/// A field with its label.
export function field(label, input, hint) {
  input.id ||= `field-${label.toLowerCase().replace(/[^a-z]+/g, '-')}`;
  const note = hint ? h('span', { class: 'hint', id: `${input.id}-hint` }, hint) : null;
  if (note) input.setAttribute('aria-describedby', note.id);
  return h('div', { class: 'field' }, h('label', { for: input.id }, label), input, note);
}

/// A list of names to choose from while typing; anything else may be typed, too.
export function choices(id, names) {
  return h('datalist', { id }, names.map((name) => h('option', { value: name })));
}

/// A share of a cap: what is settled, what is reserved, and where both end.
export function bar(what) {
  const settled = h('span', { class: 'settled' });
  const reserved = h('span', { class: 'reserved' });
  const track = h('div', {
    class: 'track', role: 'meter', 'aria-label': what, 'aria-valuemin': 0, 'aria-valuemax': 100,
  }, settled, reserved);
  const said = h('span', { class: 'said' });
  const node = h('div', { class: 'bar' }, track, said);
  function update({ limit, spent, held, text, exact }) {
    const part = (amount) => (limit > 0 ? Math.min(100, (100 * amount) / limit) : 100);
    const [done, both] = [part(spent), part(spent + held)];
    settled.style.setProperty('width', `${done}%`);
    reserved.style.setProperty('width', `${both - done}%`);
    set(track, 'aria-valuenow', Math.round(done));
    set(track, 'aria-valuetext', exact);
    set(node, 'title', exact);
    set(node, 'data-level', done >= 100 ? 'full' : done >= 80 ? 'high' : 'low');
    write(said, text);
  }
  return { node, update };
}
