// Elements and numbers as text. Names come from file systems: they reach a page as text only, never as markup.

const byId = (id) => document.getElementById(id);

function element(tag, css, text) {
  const made = document.createElement(tag);
  if (css) made.className = css;
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawing(tag, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const whole = (number) => number.toLocaleString('en-US');
const decimal = (number, digits = 1) =>
  number.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (part, all) => (all ? `${decimal((100 * part) / all)} %` : 'n/a');
