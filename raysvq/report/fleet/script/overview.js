// The table of cameras: filtered by state, text and fields, sorted by a column, walked by keys.
// The filter stands in the address, so that it is there on the way back from a camera, and can be sent.

const data = JSON.parse(byId('data').textContent);
const rows = [...document.querySelectorAll('#rows > tr')];
const links = rows.map((row) => row.querySelector('th a'));
const texts = rows.map((row) => row.textContent.toLowerCase());
const STATES = ['failed', 'error', 'warning', 'ok', 'quiet'];
const DOWN_FIRST = new Set(['images', 'rate']); // the greatest is looked for
const everyone = rows.map((_, i) => i);
let order = everyone; // of all rows
let shown = everyone; // of those that match
const chosen = { states: new Set(), text: '', columns: new Map(), key: 'states', down: false };
let current = 0; // place in `shown` that the Tab key reaches

function matches(i) {
  if (chosen.states.size && !chosen.states.has(data.states[i])) return false;
  for (const [place, value] of chosen.columns) if (data.columns[place].of[i] !== value) return false;
  return !chosen.text || texts[i].includes(chosen.text);
}

const KEYS = {
  states: (i) => STATES.indexOf(data.states[i]),
  names: (i) => i,
  finding: (i) => data.finding[i],
  last: (i) => data.last[i],
  images: (i) => data.images[i],
  rate: (i) => data.rate[i],
};

const collator = new Intl.Collator('en', { numeric: true });
const byName = new Map(everyone.slice().sort((a, b) => collator.compare(data.names[a], data.names[b])).map((i, at) => [i, at]));
KEYS.names = (i) => byName.get(i);

function compare(a, b) {
  const [one, other] = [KEYS[chosen.key](a), KEYS[chosen.key](b)];
  if (one === null || other === null) return (one === null) - (other === null) || byName.get(a) - byName.get(b);
  return (chosen.down ? other - one : one - other) || byName.get(a) - byName.get(b);
}

function sort() {
  order = everyone.slice().sort(compare);
  byId('rows').append(...order.map((i) => rows[i]));
  for (const header of document.querySelectorAll('th[data-key]')) {
    if (header.dataset.key === chosen.key) header.setAttribute('aria-sort', chosen.down ? 'descending' : 'ascending');
    else header.removeAttribute('aria-sort');
  }
  byId('order').value = chosen.key;
}

function show() {
  const fits = everyone.map(matches);
  rows.forEach((row, i) => { if (row.hidden === fits[i]) row.hidden = !fits[i]; });
  shown = order.filter((i) => fits[i]);
  byId('matching').textContent = `${whole(shown.length)} of ${whole(rows.length)} cameras`;
  byId('nothing').hidden = shown.length > 0;
  byId('filter').textContent = inWords();
  reach(0);
}

function inWords() {
  const parts = [...chosen.states].map((state) => `state ${state}`);
  for (const [place, value] of chosen.columns) parts.push(`${data.columns[place].name} ${data.columns[place].values[value] || 'none'}`);
  if (chosen.text) parts.push(`with "${chosen.text}"`);
  return parts.length ? `Only: ${parts.join(', ')}` : '';
}

// One link at a time is in the order of the Tab key; arrows move among them.
let reached = null;
function reach(place) {
  current = Math.max(0, Math.min(place, shown.length - 1));
  if (reached) reached.tabIndex = -1;
  reached = shown.length ? links[shown[current]] : null;
  if (reached) reached.tabIndex = 0;
}

function remember() {
  const parts = new URLSearchParams();
  if (chosen.states.size) parts.set('state', [...chosen.states].join(','));
  if (chosen.text) parts.set('find', chosen.text);
  for (const [place, value] of chosen.columns) parts.set(`in.${data.columns[place].name}`, data.columns[place].values[value] ?? '');
  if (chosen.key !== 'states' || chosen.down) parts.set('by', `${chosen.key}${chosen.down ? '.down' : ''}`);
  history.replaceState(null, '', `#${parts}`);
}

function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  chosen.states = new Set((parts.get('state') || '').split(',').filter((state) => STATES.includes(state)));
  chosen.text = parts.get('find') || '';
  chosen.columns.clear();
  data.columns.forEach((column, place) => {
    const value = parts.get(`in.${column.name}`);
    const found = value === null ? -2 : column.values.indexOf(value);
    if (found !== -2) chosen.columns.set(place, found);
  });
  const [key, down] = (parts.get('by') || '').split('.');
  chosen.key = Object.hasOwn(KEYS, key) ? key : 'states';
  chosen.down = down === 'down';
  byId('search').value = chosen.text;
  for (const select of document.querySelectorAll('select.of-column')) {
    select.value = String(chosen.columns.get(Number(select.dataset.place)) ?? -2);
  }
  pressChips();
  sort();
  show();
}

function pressChips() {
  for (const chip of document.querySelectorAll('.chip')) {
    chip.setAttribute('aria-pressed', String(chosen.states.has(chip.dataset.state)));
  }
}

function change() {
  show();
  remember();
}

function sortBy(key, down) {
  chosen.key = key;
  chosen.down = down;
  sort();
  change();
}

function addColumnFilters() {
  data.columns.forEach((column, place) => {
    if (column.values.length > 200) return;
    const label = element('label', 'field', column.name.replaceAll('_', ' '));
    const select = element('select', 'of-column');
    select.dataset.place = place;
    select.append(new Option('all', '-2'));
    column.values.forEach((value, index) => select.append(new Option(value, String(index))));
    if (column.of.includes(-1)) select.append(new Option('(none)', '-1'));
    select.addEventListener('change', () => {
      if (select.value === '-2') chosen.columns.delete(place);
      else chosen.columns.set(place, Number(select.value));
      change();
    });
    label.append(select);
    byId('columns').append(label);
  });
}

function addSorting() {
  for (const header of document.querySelectorAll('th[data-key]')) {
    const button = element('button', 'sort', header.textContent);
    button.type = 'button';
    const { key } = header.dataset;
    button.addEventListener('click', () => sortBy(key, chosen.key === key ? !chosen.down : DOWN_FIRST.has(key)));
    header.replaceChildren(button);
  }
}

function clearFilters() {
  chosen.states.clear();
  chosen.columns.clear();
  chosen.text = byId('search').value = '';
  for (const select of document.querySelectorAll('select.of-column')) select.value = '-2';
  pressChips();
  change();
}

function onKey(event) {
  const typing = event.target.matches('input, select');
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === '/' && !typing) {
    byId('search').focus();
    byId('search').select();
  } else if (event.key === 'Escape') {
    clearFilters();
    byId('search').focus();
  } else {
    const at = shown.findIndex((i) => links[i] === document.activeElement);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 };
    const fromSearch = event.target === byId('search') && (event.key === 'ArrowDown' || event.key === 'Enter');
    if (!shown.length || (at < 0 && !fromSearch) || !(event.key in moves || fromSearch)) return;
    reach(fromSearch ? 0 : moves[event.key]);
    reached.focus();
    reached.closest('tr').scrollIntoView({ block: 'nearest' });
  }
  event.preventDefault();
}

function sayWhetherStale() {
  const ended = document.querySelector('aside time');
  if (!ended || !every) return;
  const late = secondsSince(ended.dateTime);
  byId('stale').hidden = late < 2 * every;
  byId('stale').textContent = `No run for ${span(late)}: they came every ${span(every)}.`;
}

if (rows.length) {
  addColumnFilters();
  addSorting();
  for (const link of links) link.tabIndex = -1;
  for (const chip of document.querySelectorAll('.chip')) {
    chip.addEventListener('click', () => {
      const { state } = chip.dataset;
      if (!chosen.states.delete(state)) chosen.states.add(state);
      pressChips();
      change();
    });
  }
  byId('search').addEventListener('input', (event) => {
    chosen.text = event.target.value.trim().toLowerCase();
    change();
  });
  byId('order').addEventListener('change', (event) => sortBy(event.target.value, DOWN_FIRST.has(event.target.value)));
  byId('clear').addEventListener('click', clearFilters);
  document.addEventListener('keydown', onKey);
  window.addEventListener('hashchange', () => { if (location.hash !== '#cameras') recall(); });
  document.querySelector('.filters').hidden = false;
  recall();
}
sayWhetherStale();
