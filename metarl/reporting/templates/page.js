"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.getElementById("theme");
  const name = () => { button.textContent = dark() ? "Light page" : "Dark page"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();

  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number.parseFloat(text.replaceAll(",", "").replace("\u2212", "-"));
    return { text, number };
  };
  const compare = (a, b) => {
    const numbers = [a, b].map((x) => !Number.isNaN(x.number));
    if (numbers[0] && numbers[1]) return a.number - b.number;
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    return a.text.localeCompare(b.text);
  };
  const sort = (table, heading) => {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => ({ row, ...value(row, heading.cellIndex) }));
    const known = keyed.filter((each) => each.text !== "");
    const empty = keyed.filter((each) => each.text === "");
    known.sort((a, b) => (falling ? compare(b, a) : compare(a, b)));
    body.append(...[...known, ...empty].map((each) => each.row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.tHead.rows[0].cells) {
      const click = document.createElement("button");
      click.type = "button";
      click.textContent = heading.textContent;
      click.addEventListener("click", () => sort(table, heading));
      heading.replaceChildren(click);
    }
  }
})();
