"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  root.classList.add("scripted");

  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // Sorting: a button in every head; what was not measured stays last either way.
  const table = $("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent.trim().toLowerCase();
    return value === "" ? null : Number(value);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return ascending ? compare(a, b) : compare(b, a);
      });
      body.append(...rows.map(([, row]) => row));
    });
  });

  // Filtering: words on the rows, buttons on the models; everything of a model without rows goes.
  const toggles = [...document.querySelectorAll("[data-toggle]")];
  const filter = $("filter");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const off = new Set(toggles.filter((b) => b.getAttribute("aria-pressed") === "false").map((b) => b.dataset.toggle));
    const shown = new Set();
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const visible = !off.has(row.dataset.model) && words.every((word) => text.includes(word));
      row.hidden = !visible;
      if (visible) { shown.add(row.dataset.model); count += 1; }
    }
    for (const part of document.querySelectorAll("[data-model]")) {
      if (part.parentNode !== body) part.classList.toggle("off", !shown.has(part.dataset.model));
    }
    $("nothing").hidden = count > 0;
    $("count").textContent = count === body.rows.length ? "" : `${count} of ${body.rows.length} rows`;
  };
  filter.addEventListener("input", apply);
  for (const button of toggles) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
      apply();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== filter) { event.preventDefault(); filter.focus(); }
    if (event.key === "Escape" && document.activeElement === filter) { filter.value = ""; apply(); }
  });

  // Downloads out of the page itself.
  const data = JSON.parse($("data").textContent);
  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const csvCell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const objects = () => data.rows.map((row) => Object.fromEntries(row.map((value, i) => [data.columns[i], value])));
  $("save-json").addEventListener("click", () => save(`${data.name}.json`, "application/json", JSON.stringify(objects(), null, 1)));
  $("save-csv").addEventListener("click", () => {
    const lines = [data.columns, ...data.rows];
    save(`${data.name}.csv`, "text/csv", lines.map((line) => line.map(csvCell).join(",")).join("\n") + "\n");
  });
})();
