// What the theme leaves out for people who use a keyboard or a screen reader.

// Tables that are wider than the screen can be scrolled by keyboard.
new MutationObserver(() => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) wrap.tabIndex = 0;
}).observe(document.documentElement, { childList: true, subtree: true });

// The dialog of the search has a name.
document.querySelector('.md-search[role="dialog"]')?.setAttribute("aria-label", "Search");
