// What the page knows of its images, and how they are decided at a threshold.

const data = JSON.parse(document.getElementById('data').textContent);
const images = Array.from(data.names, (_, i) => i);
const VERDICTS = { missed: 'missed', alarm: 'false alarm', found: 'found', passed: 'passed' };

// All thresholds are multiplied by this factor; 1 is what the model shipped with.
let factor = 1;
const followers = [];

const anomalous = (i) => data.bad[i] === '1';
const shippedThreshold = (i) => (data.thresholds ? data.thresholds[i] : data.threshold);

function flagged(i) {
  return factor === 1 ? data.flagged[i] === '1' : data.scores[i] >= shippedThreshold(i) * factor;
}

function verdictOf(i) {
  if (anomalous(i)) return flagged(i) ? 'found' : 'missed';
  return flagged(i) ? 'alarm' : 'passed';
}

function tally() {
  const counts = { missed: 0, alarm: 0, found: 0, passed: 0 };
  for (const i of images) counts[verdictOf(i)] += 1;
  return counts;
}

// Score over threshold, less 1: above 0 is flagged.
const margin = (i) => data.scores[i] / (shippedThreshold(i) * factor) - 1;

function setFactor(value) {
  factor = value;
  for (const follow of followers) follow();
}

const scoreText = (score) => String(Number(score.toPrecision(4)));
const signed = (share) => `${share < 0 ? '−' : '+'}${decimal(Math.abs(100 * share))} %`;

// A p-value as people say it.
function rarity(p) {
  if (p >= 0.5) return 'as ordinary good images';
  return `at most 1 in ${whole(Math.floor(1 / p + 1e-9))} good images scores as high`;
}

const fileName = (i) => data.names[i].split('/').pop() || data.names[i];
const address = (i) => data.prefix + data.names[i];
