// The threshold: a slider over the scores, and what it gives in images, parts and money.

const STEPS = 1000; // of the slider, over the whole scale
const slider = byId('threshold');
const shipped = tally();

function shareOf(value) {
  const { low, high, log } = data.scale;
  return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
}

function valueAt(share) {
  const { low, high, log } = data.scale;
  return log ? low * Math.pow(high / low, share) : low + share * (high - low);
}

const shippedValue = data.threshold === null ? 1 : data.threshold;
const named = (value) => (data.threshold === null ? `${value.toFixed(3)} × own threshold` : scoreText(value));

function write(name, text) {
  for (const place of document.querySelectorAll(`[data-out="${name}"]`)) place.textContent = text;
}

function typed(id) {
  const number = byId(id).valueAsNumber;
  return Number.isFinite(number) && number >= 0 ? number : null;
}

function showThreshold() {
  const value = shippedValue * factor;
  const share = Math.min(1, Math.max(0, shareOf(value)));
  const counts = tally();
  const bad = counts.found + counts.missed;
  const good = counts.alarm + counts.passed;
  const moved = factor !== 1;
  if (Number(slider.value) !== Math.round(share * STEPS)) slider.value = Math.round(share * STEPS);
  byId('plot').style.setProperty('--at', share);
  const summary = `${counts.found} of ${bad} defective images found, ${counts.alarm} of ${good} good ones flagged`;
  slider.setAttribute('aria-valuetext', `${named(value)}: ${summary}`);
  write('threshold', named(value));
  write('state', moved ? `moved; shipped with ${named(shippedValue)}` : 'as shipped');
  write('found', whole(counts.found));
  write('missed', whole(counts.missed));
  write('alarm', whole(counts.alarm));
  write('passed', whole(counts.passed));
  write('found-share', percent(counts.found, bad));
  write('missed-share', percent(counts.missed, bad));
  write('alarm-share', percent(counts.alarm, good));
  write('passed-share', percent(counts.passed, good));
  write('precision', percent(counts.found, counts.found + counts.alarm));
  for (const key of Object.keys(VERDICTS)) {
    write(`${key}-shipped`, moved ? `shipped threshold: ${whole(shipped[key])}` : '');
  }
  byId('reset').disabled = !moved;
  showParts(bad ? counts.missed / bad : null, good ? counts.alarm / good : null);
  showOperatingPoint(bad ? counts.found / bad : null, good ? counts.alarm / good : null);
}

function showParts(missedShare, alarmShare) {
  const defective = typed('rate');
  const share = defective === null ? null : Math.min(100, defective) / 100;
  const escapes = missedShare === null || share === null ? null : 1000 * share * missedShare;
  const alarms = alarmShare === null || share === null ? null : 1000 * (1 - share) * alarmShare;
  write('escapes', escapes === null ? 'n/a' : decimal(escapes));
  write('alarms', alarms === null ? 'n/a' : decimal(alarms));
  const [miss, alarm] = [typed('miss-cost'), typed('alarm-cost')];
  const known = escapes !== null && alarms !== null && miss !== null && alarm !== null;
  write('money', known ? decimal(escapes * miss + alarms * alarm, 2) : 'n/a');
  write('money-how', known ? `${decimal(escapes * miss, 2)} for escapes, ${decimal(alarms * alarm, 2)} for false alarms`
    : 'type what a miss and a false alarm cost');
}

function showOperatingPoint(found, alarms) {
  const dot = document.querySelector('#roc circle.moves');
  if (!dot || found === null || alarms === null) return;
  const [left, bottom] = byId('roc').dataset.origin.split(' ').map(Number);
  const [right, top] = byId('roc').dataset.far.split(' ').map(Number);
  dot.setAttribute('cx', left + alarms * (right - left));
  dot.setAttribute('cy', bottom + found * (top - bottom));
}

if (slider) {
  slider.max = STEPS;
  let asked = 0;
  slider.addEventListener('input', () => {
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => setFactor(valueAt(slider.value / STEPS) / shippedValue));
  });
  byId('reset').addEventListener('click', () => {
    setFactor(1);
    slider.focus();
  });
  if (data.costs.rate !== null) byId('rate').value = 100 * data.costs.rate;
  if (data.costs.miss !== null) byId('miss-cost').value = data.costs.miss;
  if (data.costs.alarm !== null) byId('alarm-cost').value = data.costs.alarm;
  for (const id of ['rate', 'miss-cost', 'alarm-cost']) byId(id).addEventListener('input', showThreshold);
  followers.push(showThreshold);
}
