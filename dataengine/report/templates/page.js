"use strict";
(() => {
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const rows = [...document.querySelectorAll("tbody tr, .card")].map(row => ({ row, text: null }));
  const sections = [...document.querySelectorAll("main section")];

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of rows) {
      if (words.length && one.text === null) one.text = one.row.textContent.toLowerCase();
      const fits = words.every(word => one.text.includes(word));
      one.row.hidden = !fits;
      shown += fits;
    }
    for (const section of sections) {
      section.hidden = words.length > 0 && !section.querySelector("tbody tr:not([hidden]), .card:not([hidden])");
      for (const table of section.querySelectorAll("table")) {
        const box = table.closest("figure") || table.closest(".scroll") || table;
        box.hidden = words.length > 0 && !table.querySelector("tbody tr:not([hidden])");
      }
    }
    found.textContent = words.length ? `${shown} of ${rows.length}` : "";
  }

  function value(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  }

  const compareTexts = new Intl.Collator(undefined, { numeric: true }).compare;
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return (Number.isNaN(a) - Number.isNaN(b)) || a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return compareTexts(a, b);
  }

  // The first click sorts upwards, or numbers from the greatest; the second turns it; the third is the page's own order.
  function sort(table, head) {
    const body = table.tBodies[0];
    body.order ??= [...body.rows];
    const column = head.cellIndex;
    const first = head.classList.contains("num") ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const next = now === first ? second : now === second ? null : first;
    for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
    if (next) head.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    const order = next
      ? body.order.map(row => [value(row, column), row]).sort((a, b) => sign * compare(a[0], b[0])).map(pair => pair[1])
      : body.order;
    body.append(...order);
  }

  for (const head of document.querySelectorAll("thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head.closest("table"), head));
  }

  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  }
  function nameTheme() {
    theme.textContent = isDark() ? "Light theme" : "Dark theme";
  }
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  dark.addEventListener("change", nameTheme);
  nameTheme();

  let waiting = 0;
  search.addEventListener("input", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(filter);
  });
  document.addEventListener("keydown", event => {
    if (event.key === "/" && document.activeElement !== search && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape" && document.activeElement === search) {
      search.value = "";
      filter();
    }
  });
  // A link to what the search has hidden shows everything again.
  document.addEventListener("click", event => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)));
    if (target && target.hidden) {
      search.value = "";
      filter();
    }
  });
  document.getElementById("tools").hidden = false;
})();
