// How long ago a time is, as people say it, in the place beside it.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

function span(seconds) {
  if (seconds < 90 * MINUTE) return `${Math.round(seconds / MINUTE)} min`;
  if (seconds < 36 * HOUR) return `${Math.round(seconds / HOUR)} h`;
  return `${Math.round(seconds / DAY)} days`;
}

const secondsSince = (stamp) => (Date.now() - Date.parse(stamp)) / 1000;

function showAges() {
  for (const place of document.querySelectorAll('.age')) {
    const seconds = secondsSince(place.previousElementSibling.dateTime);
    place.textContent = seconds < 0 ? 'in the future' : `${span(seconds)} ago`;
  }
}

showAges();
setInterval(showAges, 60_000);
