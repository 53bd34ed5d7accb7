// A heat map that is gone, or cannot be shown, is said instead of drawn as a broken picture.

function sayMissing(image) {
  image.closest('.frame').replaceChildren(element('span', 'soft small', 'the heat map is not there any more'));
}

for (const image of document.querySelectorAll('.frame img')) {
  if (image.complete && !image.naturalWidth) sayMissing(image);
  else image.addEventListener('error', () => sayMissing(image));
}
