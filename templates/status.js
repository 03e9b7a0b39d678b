// Keeps the page live without a reload: fetches it again and swaps the main element. Without this
// script the page reloads itself every ten seconds.
"use strict";
(() => {
  const EVERY = 3000;
  let busy = false;

  async function refresh() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      const old = document.getElementById("main");
      // A selection would be lost in the swap: whoever copies a line is left in peace.
      if (fresh && old && getSelection().isCollapsed) old.replaceWith(fresh);
      document.body.classList.remove("lost");
    } catch {
      const clock = document.getElementById("clock");
      document.body.classList.add("lost");
      if (clock && !clock.dataset.lost) {
        clock.dataset.lost = "yes";
        clock.textContent += ", no answer since";
      }
    } finally {
      busy = false;
    }
  }

  setInterval(refresh, EVERY);
  document.addEventListener("visibilitychange", refresh);
})();
