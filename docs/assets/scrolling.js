// Tables that are wider than the screen can be scrolled by keyboard.
new MutationObserver(() => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) wrap.tabIndex = 0;
}).observe(document.documentElement, { childList: true, subtree: true });
