// Search, filter and sort the table of claims. Our own, as no text or code of others may enter the repository: no table library.
(() => {
  "use strict";

  const words = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
  const value = (cell) => (cell.firstChild ? cell.firstChild.textContent.trim() : "");
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, text]) => made.setAttribute(key, text));
    made.append(...children);
    return made;
  }

  // Numbers by size, then texts; numbers come first and empty cells last whichever way a column is sorted.
  function compare(a, b, column, sign) {
    const [x, y] = [a.cells[column], b.cells[column]];
    if (!x.text || !y.text) return Boolean(y.text) - Boolean(x.text);
    const [p, q] = [x.number, y.number];
    if (p !== null && q !== null) return sign * (p - q);
    if (p !== null || q !== null) return p === null ? 1 : -1;
    return sign * collator.compare(x.text, y.text);
  }

  function read(row, place) {
    const cells = [...row.cells].map((cell) => ({
      text: value(cell),
      number: "number" in cell.dataset ? Number(cell.dataset.number) : null,
    }));
    const said = [...row.cells].map((cell) => [...cell.childNodes].map((node) => node.textContent).join(" "));
    return { row, place, cells, said: words(said.join(" ")) };
  }

  function start(region) {
    const table = region.querySelector("table");
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const names = heads.map((head) => head.dataset.column);
    const items = [...body.rows].map(read);
    // Not named "q": the book's own search empties every field of that name.
    const search = element("input", { type: "search", name: "find", autocomplete: "off", spellcheck: "false" });
    const count = element("output", { "aria-live": "polite" });
    const reset = element("button", { type: "button" }, "Reset");
    const lists = heads.filter((head) => "filter" in head.dataset).map(list);
    const fields = [search, ...lists];
    const labels = fields.map((field) => element("label", {}, field === search ? "Search" : heading(field.name), field));
    const form = element("form", { class: "claims-controls", role: "search", "aria-label": "Claims" }, ...labels, reset, count);
    let order = { name: "", sign: 1 };

    function heading(name) {
      return heads[names.indexOf(name)].textContent.trim();
    }

    function list(head) {
      const column = heads.indexOf(head);
      const found = new Set(items.map((item) => item.cells[column].text).filter(Boolean));
      const options = [...found].sort(collator.compare).map((text) => element("option", { value: text }, text));
      return element("select", { name: head.dataset.column }, element("option", { value: "" }, "all"), ...options);
    }

    function show() {
      const wanted = words(search.value).split(/\s+/).filter(Boolean);
      const chosen = lists.filter((field) => field.value).map((field) => [names.indexOf(field.name), field.value]);
      const fits = (item) =>
        wanted.every((word) => item.said.includes(word)) && chosen.every(([n, text]) => item.cells[n].text === text);
      items.forEach((item) => (item.row.hidden = !fits(item)));
      count.value = `${items.filter((item) => !item.row.hidden).length} of ${items.length} claims`;
    }

    function sort(name = "", sign = 1) {
      const column = names.indexOf(name);
      if (order.name === name && order.sign === sign) return;
      order = { name: column < 0 ? "" : name, sign };
      items.sort((a, b) => (column < 0 ? 0 : compare(a, b, column, sign)) || a.place - b.place);
      body.append(...items.map((item) => item.row));
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      if (column >= 0) heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    }

    function turn(name) {
      if (order.name !== name) sort(name);
      else if (order.sign > 0) sort(name, -1);
      else sort();
    }

    // The choice stands in the address, so that a link can open it: #class=closed+data&sort=-published
    function write() {
      const state = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, field.value]));
      if (order.name) state.set("sort", (order.sign < 0 ? "-" : "") + order.name);
      const hash = String(state);
      history.replaceState(null, "", location.pathname + location.search + (hash ? `#${hash}` : ""));
    }

    function open() {
      const hash = location.hash.slice(1);
      if (hash && !hash.includes("=")) return reveal(hash);
      const state = new URLSearchParams(hash);
      fields.forEach((field) => choose(field, state.get(field.name) || ""));
      const [, down, name] = (state.get("sort") || "").match(/^(-?)(.*)$/);
      sort(name, down ? -1 : 1);
      show();
      if (hash) form.scrollIntoView({ inline: "nearest" });
    }

    // What a link asks for and no claim has becomes a choice too, so that the page says "0 of" and not "all".
    function choose(field, text) {
      field.value = text;
      if (field.value === text) return;
      field.append(element("option", { value: text }, text));
      field.value = text;
    }

    // A link to one claim shows it, also where the choice hides it.
    function reveal(id) {
      const item = items.find((one) => one.row.id === id);
      if (!item) return;
      if (item.row.hidden) clear();
      item.row.scrollIntoView({ block: "center", inline: "nearest" });
    }

    function clear() {
      form.reset();
      sort();
      show();
    }

    heads.forEach((head, n) => {
      const button = element("button", { type: "button", title: "Sort: up, down, as in the ledger" }, ...head.childNodes);
      button.addEventListener("click", () => (turn(names[n]), write()));
      head.append(button);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => (show(), write()));
    reset.addEventListener("click", () => (clear(), write(), search.focus()));
    window.addEventListener("hashchange", open);
    region.before(form);
    show();
    open();
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("div.claims").forEach(start));
})();
