// Find a question by a few of its letters. Without this script the page is the same list, whole.
(() => {
  "use strict";

  const words = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, text]) => made.setAttribute(key, text));
    made.append(...children);
    return made;
  }

  function start(list) {
    const entries = [...list.querySelectorAll("details")];
    const asked = entries.map((entry) => words(entry.querySelector("summary").firstChild.textContent));
    // Not named "q": the book's own search empties every field of that name.
    const field = element("input", { type: "search", name: "find", autocomplete: "off", spellcheck: "false" });
    const count = element("output", { "aria-live": "polite" });
    const label = element("label", {}, "A few letters of a question", field);
    const form = element("form", { class: "claims-controls", role: "search", "aria-label": "Questions" }, label, count);

    function show() {
      const wanted = words(field.value).split(/\s+/).filter(Boolean);
      entries.forEach((entry, n) => (entry.hidden = !wanted.every((part) => asked[n].includes(part))));
      const left = entries.filter((entry) => !entry.hidden);
      if (left.length === 1) left[0].open = true;
      count.value = `${left.length} of ${entries.length} shown`;
    }

    // What was typed stands in the address, so that a link can show it: #find=atrial+fibrillation
    function open() {
      field.value = new URLSearchParams(location.hash.slice(1)).get("find") || "";
      show();
      if (field.value) form.scrollIntoView();
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      show();
      const hash = field.value ? `#${new URLSearchParams({ find: field.value })}` : "";
      history.replaceState(null, "", location.pathname + location.search + hash);
    });
    window.addEventListener("hashchange", open);
    list.before(form);
    open();
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("div.look").forEach(start));
})();
