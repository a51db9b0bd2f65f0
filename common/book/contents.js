// The contents in the margin say which section is being read.
"use strict";
{
  const links = [...document.querySelectorAll(".contents a")].map(link => [document.getElementById(link.hash.slice(1)), link]);

  function mark() {
    const begun = links.filter(([section]) => section.getBoundingClientRect().top < innerHeight / 3);
    const now = begun.length ? begun[begun.length - 1][1] : null;
    for (const [, link] of links) {
      if (link === now) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  if (links.length) {
    addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });
    mark();
  }
}
