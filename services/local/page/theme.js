// Runs before the first paint, so that the page never flashes in the other colours.
(() => {
  "use strict";
  let chosen = null;
  try {
    chosen = localStorage.getItem("zibrato-theme");
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
