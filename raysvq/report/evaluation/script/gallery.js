// The gallery: images that match the filters, as pictures where the page has them, else as rows.

const PICTURES = 48; // on a page of the gallery
const ROWS = 100;
const filters = { verdicts: new Set(), text: '', columns: new Map() };
const pages = { pictures: 0, rows: 0 };
const lowered = data.names.map((name) => name.toLowerCase());
const cards = new Map(); // image -> its card, made once: pictures are not decoded again
let shown = []; // images with a picture that match, in order
let current = 0; // position in `shown` that the Tab key reaches

const RANKS = { missed: 0, alarm: 1, found: 2, passed: 2 };
const rank = (i) => RANKS[verdictOf(i)];
const distance = (i) => Math.abs(Math.log(Math.max(1 + margin(i), 1e-9)));
const ORDERS = {
  mistakes: (a, b) => rank(a) - rank(b) || (rank(a) < 2 ? 1 : -1) * (distance(b) - distance(a)),
  near: (a, b) => distance(a) - distance(b),
  high: (a, b) => data.scores[b] - data.scores[a],
  low: (a, b) => data.scores[a] - data.scores[b],
  name: (a, b) => (lowered[a] < lowered[b] ? -1 : 1),
};

function matches(i) {
  if (filters.text && !lowered[i].includes(filters.text)) return false;
  for (const [place, value] of filters.columns) if (data.columns[place].of[i] !== value) return false;
  return true;
}

function valueOf(column, i) {
  return column.of[i] < 0 ? '' : column.values[column.of[i]];
}

function kindOf(i) {
  const types = data.columns.find((column) => column.name === 'defect_type');
  if (!anomalous(i)) return 'good';
  const type = types ? valueOf(types, i) : '';
  return type ? `defective: ${type}` : 'defective';
}

function layers(i) {
  const picture = data.pictures[i];
  const made = element('span', 'layers');
  if (picture.problem) {
    made.classList.add('none');
    made.textContent = picture.problem;
    return made;
  }
  made.style.setProperty('--w', picture.w);
  made.style.setProperty('--h', picture.h);
  const photo = element('img');
  photo.alt = '';
  photo.src = picture.image;
  made.append(photo);
  if (picture.heat) {
    const heat = element('img', 'heat');
    heat.alt = '';
    heat.src = picture.heat;
    made.append(heat);
  }
  const lines = drawing('svg', { viewBox: `0 0 ${picture.w} ${picture.h}`, 'aria-hidden': 'true' });
  if (picture.mask) lines.append(drawing('path', { d: picture.mask, class: 'mask' }));
  if (picture.contour) lines.append(drawing('path', { d: picture.contour, class: 'contour' }));
  made.append(lines);
  return made;
}

function badge(verdict) {
  return element('span', `badge ${verdict}`, VERDICTS[verdict]);
}

function card(i) {
  if (!cards.has(i)) {
    const made = element('button', 'shot');
    made.type = 'button';
    made.dataset.image = i;
    const frame = element('span', 'frame');
    frame.append(layers(i));
    const facts = element('span', 'facts');
    facts.append(element('b', '', scoreText(data.scores[i])), badge('passed'));
    made.append(frame, facts, element('bdi', 'name', kindOf(i)), element('bdi', 'name', fileName(i)));
    const item = element('li');
    item.append(made);
    cards.set(i, item);
  }
  const item = cards.get(i);
  const verdict = verdictOf(i);
  const mark = item.querySelector('.badge');
  if (mark.textContent !== VERDICTS[verdict]) mark.replaceWith(badge(verdict));
  item.firstChild.setAttribute(
    'aria-label', `${fileName(i)}, ${kindOf(i)}, ${VERDICTS[verdict]}, score ${scoreText(data.scores[i])}`);
  return item;
}

function row(i) {
  const made = element('tr');
  const name = element('th');
  name.scope = 'row';
  name.append(element('bdi', 'mono', data.names[i]));
  const verdict = element('td', 'text');
  verdict.append(badge(verdictOf(i)));
  const kind = element('td', 'text');
  kind.append(element('bdi', '', kindOf(i)));
  made.append(name, verdict, kind);
  for (const text of [scoreText(data.scores[i]), signed(margin(i)), data.p[i] === null ? 'n/a' : data.p[i]]) {
    made.append(element('td', '', text));
  }
  return made;
}

function filterText() {
  const parts = [...filters.verdicts].map((key) => VERDICTS[key]);
  for (const [place, value] of filters.columns) {
    parts.push(`${data.columns[place].name.replaceAll('_', ' ')} ${data.columns[place].values[value] || 'none'}`);
  }
  if (filters.text) parts.push(`name with "${filters.text}"`);
  return parts.length ? `Only: ${parts.join(', ')}` : '';
}

function slice(list, size, kind) {
  pages[kind] = Math.min(pages[kind], Math.max(0, Math.ceil(list.length / size) - 1));
  const from = pages[kind] * size;
  const part = list.slice(from, from + size);
  const pager = byId(`${kind}-pager`);
  pager.hidden = list.length <= size;
  pager.querySelector('span').textContent = `${whole(from + 1)} to ${whole(from + part.length)} of ${whole(list.length)}`;
  pager.querySelector('[data-step="-1"]').disabled = from === 0;
  pager.querySelector('[data-step="1"]').disabled = from + size >= list.length;
  return part;
}

function showGallery(everything = false) {
  const inFilter = images.filter(matches);
  const counts = { missed: 0, alarm: 0, found: 0, passed: 0 };
  for (const i of inFilter) counts[verdictOf(i)] += 1;
  for (const key of Object.keys(VERDICTS)) write(`chip-${key}`, whole(counts[key]));
  const chosen = inFilter.filter((i) => !filters.verdicts.size || filters.verdicts.has(verdictOf(i)));
  chosen.sort((a, b) => ORDERS[byId('order').value](a, b) || a - b);
  shown = chosen.filter((i) => data.pictures[i]);
  const rest = chosen.filter((i) => !data.pictures[i]);
  const [pictureSize, rowSize] = everything ? [shown.length || 1, 5 * ROWS] : [PICTURES, ROWS];
  byId('cards').replaceChildren(...slice(shown, pictureSize, 'pictures').map(card));
  byId('rows').replaceChildren(...slice(rest, rowSize, 'rows').map(row));
  byId('rest').hidden = !rest.length;
  write('matching', `${whole(chosen.length)} of ${whole(images.length)} images`);
  write('filter', filterText());
  write('pictured', whole(shown.length));
  write('without-picture', whole(rest.length));
  byId('nothing').hidden = chosen.length > 0;
  current = Math.min(current, Math.max(0, byId('cards').children.length - 1));
  rove(false);
}

// One card at a time is in the order of the Tab key; arrows move among them.
function rove(focus) {
  const buttons = byId('cards').querySelectorAll('button');
  buttons.forEach((button, place) => { button.tabIndex = place === current ? 0 : -1; });
  if (focus && buttons[current]) buttons[current].focus();
}

function turn(kind, step) {
  pages[kind] += step;
  current = 0;
  showGallery();
}

function onCardKey(event) {
  const buttons = [...byId('cards').querySelectorAll('button')];
  const across = buttons.filter((button) => button.offsetTop === buttons[0].offsetTop).length;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
  let target = current + (moves[event.key] || 0);
  if (event.key === 'Home') target = 0;
  else if (event.key === 'End') target = buttons.length - 1;
  else if (!(event.key in moves)) return;
  event.preventDefault();
  const forward = byId('pictures-pager').querySelector('[data-step="1"]');
  if (target >= buttons.length && event.key === 'ArrowRight' && !byId('pictures-pager').hidden && !forward.disabled) {
    turn('pictures', 1);
    target = 0;
  }
  if (target >= 0 && target < byId('cards').children.length) current = target;
  rove(true);
}

function startOver() {
  pages.pictures = pages.rows = current = 0;
  showGallery();
}

function addColumnFilters() {
  data.columns.forEach((column, place) => {
    if (column.values.length < 2 || column.values.length > 200) return;
    const label = element('label', 'field', column.name.replaceAll('_', ' '));
    const select = element('select', 'of-column');
    select.append(new Option('all', '-2'));
    column.values.forEach((value, index) => select.append(new Option(value, String(index))));
    if (column.of.includes(-1)) select.append(new Option('(none)', '-1'));
    select.addEventListener('change', () => {
      if (select.value === '-2') filters.columns.delete(place);
      else filters.columns.set(place, Number(select.value));
      startOver();
    });
    label.append(select);
    byId('columns').append(label);
  });
}

function clearFilters() {
  filters.verdicts.clear();
  filters.columns.clear();
  filters.text = byId('search').value = '';
  for (const select of byId('columns').querySelectorAll('select.of-column')) select.value = '-2';
  for (const chip of document.querySelectorAll('.chip')) chip.setAttribute('aria-pressed', 'false');
  startOver();
}

function toggleLayer(name) {
  const hidden = document.body.classList.toggle(`no-${name}`);
  for (const button of document.querySelectorAll(`[data-layer="${name}"]`)) {
    button.setAttribute('aria-pressed', String(!hidden));
  }
}

function startGallery() {
  addColumnFilters();
  for (const chip of document.querySelectorAll('.chip')) {
    chip.addEventListener('click', () => {
      const on = !filters.verdicts.delete(chip.dataset.verdict);
      if (on) filters.verdicts.add(chip.dataset.verdict);
      chip.setAttribute('aria-pressed', String(on));
      startOver();
    });
  }
  byId('search').addEventListener('input', (event) => {
    filters.text = event.target.value.trim().toLowerCase();
    startOver();
  });
  byId('order').addEventListener('change', startOver);
  byId('clear').addEventListener('click', clearFilters);
  for (const button of document.querySelectorAll('[data-layer]')) {
    button.addEventListener('click', () => toggleLayer(button.dataset.layer));
  }
  for (const kind of ['pictures', 'rows']) {
    byId(`${kind}-pager`).addEventListener('click', (event) => {
      if (event.target.dataset.step) turn(kind, Number(event.target.dataset.step));
    });
  }
  byId('cards').addEventListener('keydown', onCardKey);
  byId('cards').addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button) return;
    current = [...byId('cards').querySelectorAll('button')].indexOf(button);
    openZoom(Number(button.dataset.image));
  });
  window.addEventListener('beforeprint', () => showGallery(true));
  window.addEventListener('afterprint', () => showGallery());
  followers.push(showGallery);
}
