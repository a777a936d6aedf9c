(function () {
  "use strict";

  function make(tag, attributes, text) {
    var element = document.createElement(tag);
    Object.keys(attributes).forEach(function (name) { element.setAttribute(name, attributes[name]); });
    if (text !== undefined) { element.textContent = text; }
    return element;
  }

  function labelled(text, control) {
    var label = make("label", {}, text);
    label.appendChild(control);
    return label;
  }

  function number(text) {
    var found = /[-+\u2212]?\d[\d,]*(\.\d+)?/.exec(text);
    return found ? parseFloat(found[0].replace("\u2212", "-").replace(/,/g, "")) : null;
  }

  function compare(one, other) {
    var left = number(one), right = number(other);
    if (left !== null && right !== null && left !== right) { return left - right; }
    if ((left === null) !== (right === null)) { return left === null ? 1 : -1; }
    return one.localeCompare(other);
  }

  // Tables: a click on a head sorts, and long ones can be searched.
  function sortBy(table, head, column, words) {
    var rows = Array.from(table.tBodies[0].rows);
    var descending = head.getAttribute("aria-sort") === "ascending";
    rows.sort(function (one, other) {
      var left = one.cells[column].textContent.trim(), right = other.cells[column].textContent.trim();
      return (words ? left.localeCompare(right) : compare(left, right)) * (descending ? -1 : 1);
    });
    Array.from(table.tHead.rows[0].cells).forEach(function (cell) { if (cell.hasAttribute("aria-sort")) { cell.setAttribute("aria-sort", "none"); } });
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
  }

  function sortable(table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      if (head.hasAttribute("data-plain") || !head.textContent.trim()) { return; }
      var button = make("button", { type: "button" }, head.textContent.trim());
      head.textContent = "";
      head.appendChild(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () { sortBy(table, head, column, column === 0 || head.classList.contains("words")); });
    });
    if (table.tBodies[0].rows.length <= 8) { return; }
    var input = make("input", { type: "search", autocomplete: "off" });
    var tools = make("div", { "class": "tools" });
    tools.appendChild(labelled("Only rows with", input));
    var count = make("span", { "class": "soft", role: "status" });
    tools.appendChild(count);
    input.addEventListener("input", function () {
      var wanted = input.value.toLowerCase(), shown = 0, rows = Array.from(table.tBodies[0].rows);
      rows.forEach(function (row) {
        row.hidden = row.textContent.toLowerCase().indexOf(wanted) < 0;
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = wanted ? shown + " of " + rows.length : "";
    });
    var scroll = table.parentNode;
    scroll.parentNode.insertBefore(tools, scroll);
  }

  // Images: by class, by failure kind, by why they are shown.
  var FILTERS = [["label", "Class"], ["kind", "Failure kind"], ["reasons", "Shown because"]];

  function said(item, name) {
    var text = item.getAttribute("data-" + name) || "";
    // Labels may have any sign in them; reasons are this report's own words, and several.
    return name === "reasons" ? text.split("|") : [text];
  }

  function values(items, name) {
    var found = new Map();
    items.forEach(function (item) {
      said(item, name).forEach(function (value) { if (value) { found.set(value, (found.get(value) || 0) + 1); } });
    });
    return found;
  }

  function filterable(list) {
    var items = Array.from(list.children), chosen = {}, tools = make("div", { "class": "tools" });
    var count = make("span", { "class": "soft", role: "status" });
    function apply() {
      var shown = 0;
      items.forEach(function (item) {
        item.hidden = Object.keys(chosen).some(function (name) {
          return chosen[name] && said(item, name).indexOf(chosen[name]) < 0;
        });
        shown += item.hidden ? 0 : 1;
      });
      count.textContent = shown + " of " + items.length + " images";
    }
    FILTERS.forEach(function (filter) {
      var found = values(items, filter[0]), names = Array.from(found.keys()).sort();
      if (names.length < 2) { return; }
      var select = make("select", { "data-filter": filter[0] });
      select.appendChild(make("option", { value: "" }, "all"));
      names.forEach(function (name) { select.appendChild(make("option", { value: name }, name + " (" + found.get(name) + ")")); });
      select.addEventListener("change", function () { chosen[filter[0]] = select.value; apply(); });
      tools.appendChild(labelled(filter[1], select));
    });
    if (!tools.children.length) { return; }
    tools.appendChild(count);
    list.parentNode.insertBefore(tools, list);
  }

  // A link to anything inside a closed part opens it.
  function reveal() {
    var name = location.hash.slice(1), target;
    try { name = decodeURIComponent(name); } catch (error) { /* A fragment that is no code for anything names itself. */ }
    target = name && document.getElementById(name);
    if (!target) { return; }
    for (var part = target; part; part = part.parentElement) { if (part.tagName === "DETAILS") { part.open = true; } }
    target.scrollIntoView();
  }

  function copyable(command) {
    if (!navigator.clipboard) { return; }
    var button = make("button", { type: "button", "class": "copy" }, "Copy");
    button.addEventListener("click", function () {
      navigator.clipboard.writeText(command.textContent).then(function () { button.textContent = "Copied"; });
    });
    command.parentNode.insertBefore(button, command.nextSibling);
  }

  var opened = [];
  addEventListener("beforeprint", function () {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    opened.forEach(function (part) { part.open = true; });
  });
  addEventListener("afterprint", function () { opened.forEach(function (part) { part.open = false; }); });
  addEventListener("hashchange", reveal);
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  document.querySelectorAll("ul.images").forEach(filterable);
  document.querySelectorAll("#provenance > .card .command").forEach(copyable);
  reveal();
})();
