// A click on a heading, or Enter, sorts the table by that column; empty cells come last.
function sort(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], i = heading.cellIndex;
  const first = heading.dataset.first ?? (i ? "-1" : "1");
  const direction = { "1": "-1", "-1": "1" }[heading.dataset.dir] ?? first;
  for (const other of table.querySelectorAll("thead th")) delete other.dataset.dir;
  heading.dataset.dir = direction;
  const key = row => row.cells[i].dataset.value ?? row.cells[i].textContent;
  [...body.rows].sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    return direction * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
  }).forEach(row => body.append(row));
}
for (const heading of document.querySelectorAll("table.sortable thead th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sort(heading));
  heading.addEventListener("keydown", event => { if (event.key === "Enter") sort(heading); });
}

// A link to a record opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

// The hint to scroll stands above a table that is wider than the window.
function showHints() {
  for (const box of document.querySelectorAll(".scroll")) {
    const hint = box.previousElementSibling;
    if (hint) hint.hidden = box.scrollWidth <= box.clientWidth;
  }
}
addEventListener("resize", showHints);
showHints();
