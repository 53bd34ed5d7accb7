// One image in a dialog: zoom by wheel, pinch, buttons or keys, and what is known of it.

const dialog = byId('zoom');
const stage = byId('stage');
const MOST = 12;
const view = { image: 0, scale: 1, x: 0, y: 0 };
const fingers = new Map(); // pointer id -> last position

function place() {
  const room = (view.scale - 1) / 2; // how far the image reaches beyond the stage, in stages
  const limit = (value, size) => Math.min(room * size, Math.max(-room * size, value));
  view.x = limit(view.x, stage.clientWidth);
  view.y = limit(view.y, stage.clientHeight);
  stage.firstElementChild.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  stage.classList.toggle('near', view.scale > 1);
  write('zoom-scale', `${Math.round(100 * view.scale)} %`);
}

// Zoom by a factor; the point under (x, y), in pixels of the window, stays where it is.
function zoomBy(by, x, y) {
  const box = stage.getBoundingClientRect();
  const scale = Math.min(MOST, Math.max(1, view.scale * by));
  const [across, down] = x === undefined ? [0, 0]
    : [x - box.left - box.width / 2, y - box.top - box.height / 2];
  view.x = across - (across - view.x) * (scale / view.scale);
  view.y = down - (down - view.y) * (scale / view.scale);
  view.scale = scale;
  place();
}

function fact(name, value) {
  const detail = element('dd');
  detail.append(element('bdi', '', value));
  byId('zoom-facts').append(element('dt', '', name), detail);
}

function showImage(i) {
  view.image = i;
  Object.assign(view, { scale: 1, x: 0, y: 0 });
  const picture = layers(i);
  stage.replaceChildren(picture);
  stage.setAttribute('aria-label', `${fileName(i)}: ${kindOf(i)}. Plus and minus zoom, Shift with arrows moves.`);
  byId('zoom-name').textContent = fileName(i);
  byId('zoom-verdict').replaceChildren(badge(verdictOf(i)));
  const place_ = shown.indexOf(i);
  write('zoom-place', `${whole(place_ + 1)} of ${whole(shown.length)}`);
  byId('zoom-facts').replaceChildren();
  fact('score', `${scoreText(data.scores[i])} (threshold ${scoreText(shippedThreshold(i) * factor)}, margin ${signed(margin(i))})`);
  if (data.p[i] !== null) fact('rarity', `${rarity(data.p[i])} (p = ${data.p[i]})`);
  fact('label', kindOf(i));
  const defects = data.defects[i];
  if (defects) fact('defects', defects[1] === null ? `${defects[0]} marked` : `${defects[1]} of ${defects[0]} found by the map`);
  if (data.area[i] !== undefined) fact('marked area', `${Number((100 * data.area[i]).toPrecision(3))} %`);
  for (const column of data.columns) {
    if (column.name !== 'defect_type' && column.of[i] >= 0) fact(column.name.replaceAll('_', ' '), valueOf(column, i));
  }
  fact('size', `${data.size[i][0]} × ${data.size[i][1]} pixels`);
  fact('file', address(i));
  if (!data.pictures[i].problem && !data.pictures[i].mapped) fact('map', 'none was kept');
  place();
}

function openZoom(i) {
  showImage(i);
  dialog.showModal();
  place();
  stage.focus();
}

function walk(step) {
  const next = shown.indexOf(view.image) + step;
  if (next >= 0 && next < shown.length) showImage(shown[next]);
}

// Focus goes back to the card of the image that was looked at last.
function onClose() {
  const position = Math.max(0, shown.indexOf(view.image));
  pages.pictures = Math.floor(position / PICTURES);
  current = position % PICTURES;
  showGallery();
  rove(true);
}

function onZoomKey(event) {
  const far = 60;
  const pans = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
  const deeds = {
    ArrowLeft: () => walk(-1), ArrowRight: () => walk(1),
    '+': () => zoomBy(1.5), '=': () => zoomBy(1.5), '-': () => zoomBy(1 / 1.5), 0: () => zoomBy(0),
    h: () => toggleLayer('heat'), c: () => toggleLayer('contour'), m: () => toggleLayer('mask'),
  };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.shiftKey && event.key in pans) {
    view.x += pans[event.key][0];
    view.y += pans[event.key][1];
    place();
  } else if (event.key in deeds) deeds[event.key]();
  else return;
  event.preventDefault();
}

function onMove(event) {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY };
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  fingers.set(event.pointerId, now);
  if (other) {
    const gap = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
    zoomBy(gap(now) / gap(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
  } else {
    view.x += now.x - before.x;
    view.y += now.y - before.y;
    place();
  }
}

function startZoom() {
  dialog.addEventListener('close', onClose);
  dialog.addEventListener('keydown', onZoomKey);
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
    const deed = event.target.dataset.deed;
    if (deed === 'close') dialog.close();
    else if (deed === 'in') zoomBy(1.5);
    else if (deed === 'out') zoomBy(1 / 1.5);
    else if (deed === 'fit') zoomBy(0);
    else if (deed === 'previous') walk(-1);
    else if (deed === 'next') walk(1);
  });
  stage.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  }, { passive: false });
  stage.addEventListener('dblclick', (event) => zoomBy(view.scale > 1 ? 0 : 3, event.clientX, event.clientY));
  stage.addEventListener('pointerdown', (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener('pointermove', onMove);
  for (const name of ['pointerup', 'pointercancel']) {
    stage.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
}

if (images.length) {
  startGallery();
  startZoom();
  setFactor(1);
}
for (const event of ['beforeprint', 'afterprint']) {
  window.addEventListener(event, () => {
    for (const part of document.querySelectorAll('details')) part.open = event === 'beforeprint' || part.dataset.open === '';
  });
}
