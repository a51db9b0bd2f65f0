// The search in the bar. The index is loaded when it is first wanted; sections that have every word come first by title.
"use strict";
{
  const box = document.getElementById("search"), list = document.getElementById("found");
  const escaped = text => text.replace(/[&<>]/g, sign => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);

  let script = null;

  function index() {
    if (typeof INDEX !== "undefined") return show();
    if (script) return;
    script = document.createElement("script");
    script.src = "index.js";
    script.onload = show;
    document.head.append(script);
  }

  function show() {
    const wanted = box.value.toLowerCase().split(/\s+/).filter(word => word.length > 1);
    const has = text => wanted.every(word => text.includes(word));
    const ranked = wanted.length ? INDEX.map(([address, title, text]) => {
      const low = title.toLowerCase();
      return { address, title, text, rank: has(low) ? 2 : has(low + " " + text.toLowerCase()) ? 1 : 0 };
    }).filter(entry => entry.rank).sort((a, b) => b.rank - a.rank).slice(0, 12) : [];
    list.innerHTML = ranked.map(({ address, title, text }) => {
      const at = Math.max(0, text.toLowerCase().indexOf(wanted[0]) - 40);
      return `<li><a href="${address}"><b>${escaped(title)}</b> ${escaped(text.slice(at, at + 110))}</a></li>`;
    }).join("");
    list.hidden = !wanted.length;
    if (wanted.length && !ranked.length) list.innerHTML = "<li>No section has these words.</li>";
  }

  box.addEventListener("input", index);
  box.closest("form").addEventListener("submit", event => {
    event.preventDefault();
    list.querySelector("a")?.click();
  });
  document.addEventListener("keydown", event => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
      event.preventDefault();
      box.focus();
    }
    if (event.key === "Escape") list.hidden = true;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], links = [box, ...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (step && !list.hidden && at >= 0) {
      event.preventDefault();
      links[Math.min(links.length - 1, Math.max(0, at + step))].focus();
    }
  });
  document.addEventListener("click", event => { if (!event.target.closest(".search")) list.hidden = true; });
  box.closest("form").hidden = false; // without scripts there is no search
}
