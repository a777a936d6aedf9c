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
  function valueOf(cell) {
    return cell.hasAttribute("data-sort") ? cell.getAttribute("data-sort") : cell.textContent.trim();
  }

  function sortBy(table, head, column, words) {
    var rows = Array.from(table.tBodies[0].rows);
    var descending = head.getAttribute("aria-sort") === "ascending";
    rows.sort(function (one, other) {
      var left = valueOf(one.cells[column]), right = valueOf(other.cells[column]);
      return (words ? left.localeCompare(right) : compare(left, right)) * (descending ? -1 : 1);
    });
    Array.from(table.tHead.rows[0].cells).forEach(function (cell) { if (cell.hasAttribute("aria-sort")) { cell.setAttribute("aria-sort", "none"); } });
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
  }

  function sortable(table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      if (!head.textContent.trim()) { return; }
      var button = make("button", { type: "button" });
      while (head.firstChild && head.firstChild.nodeName.toLowerCase() !== "svg") { button.appendChild(head.firstChild); }
      head.insertBefore(button, head.firstChild);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () { sortBy(table, head, column, column === 0 || head.classList.contains("words")); });
    });
    if (table.tBodies[0].rows.length <= 8) { return; }
    var input = make("input", { type: "search", autocomplete: "off" });
    var tools = toolsOf(table), count = make("span", { "class": "soft", role: "status" });
    tools.appendChild(labelled("Only rows with", input));
    tools.appendChild(count);
    input.addEventListener("input", function () {
      var wanted = input.value.toLowerCase(), shown = 0, rows = Array.from(table.tBodies[0].rows);
      rows.forEach(function (row) {
        row.hidden = row.textContent.toLowerCase().indexOf(wanted) < 0;
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = wanted ? shown + " of " + rows.length : "";
    });
  }

  // A bar of tools before a table, made once.
  function toolsOf(table) {
    var scroll = table.parentNode, before = scroll.previousElementSibling;
    if (before && before.classList.contains("tools")) { return before; }
    var tools = make("div", { "class": "tools" });
    scroll.parentNode.insertBefore(tools, scroll);
    return tools;
  }

  // Downloads: made of what the page holds, so that they work from disk and load nothing.
  function download(text, type, name) {
    var url = URL.createObjectURL(new Blob([text], { type: type })), link = make("a", { href: url, download: name });
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(function () { URL.revokeObjectURL(url); }, 10000);
  }

  function fileName(title, ending) {
    var words = (document.body.getAttribute("data-run") + "-" + title).toLowerCase().replace(/[^a-z0-9]+/g, "-");
    return words.replace(/^-|-$/g, "").slice(0, 100) + "." + ending;
  }

  // A field of a CSV file. Minus signs become such as programs read; what a spreadsheet would take for a formula stays text.
  function field(text) {
    var plain = text.replace(/\u2212(?=[\d.])/g, "-").replace(/\s+/g, " ").trim();
    var isNumber = /^[-+]?\d+(\.\d+)?%?$/.test(plain);
    if (!isNumber && /^[=+\-@\t\r|\uFF1D\uFF0B\uFF0D\uFF20\u2212]/.test(plain)) { plain = "'" + plain; }
    return '"' + plain.replace(/"/g, '""') + '"';
  }

  function csv(table) {
    var lines = Array.from(table.rows).map(function (row) {
      return Array.from(row.cells).filter(function (cell) {
        // A drawing's numbers are in a table of their own.
        return !cell.hasAttribute("data-chart") && !cell.classList.contains("strip");
      }).map(function (cell) { return field(cell.textContent); }).join(",");
    });
    // The mark tells spreadsheets that this is UTF-8.
    return "\uFEFF" + lines.join("\r\n") + "\r\n";
  }

  function saver(text, title, save) {
    var button = make("button", { type: "button", "class": "save", "aria-label": "Download " + title + " as " + text }, text);
    button.addEventListener("click", save);
    return button;
  }

  function savableTable(table) {
    var title = table.parentNode.getAttribute("aria-label") || "table";
    var tools = toolsOf(table);
    if (!tools.children.length) { tools.classList.add("bare"); }
    tools.appendChild(saver("CSV", title, function () {
      download(csv(table), "text/csv;charset=utf-8", fileName(title, "csv"));
    }));
  }

  function svg(chart) {
    var copy = chart.cloneNode(true), box = chart.viewBox.baseVal;
    copy.setAttribute("width", box.width);
    copy.setAttribute("height", box.height);
    // Its colours without a stylesheet are those for paper.
    var paper = document.createElementNS(chart.namespaceURI, "rect");
    paper.setAttribute("width", box.width);
    paper.setAttribute("height", box.height);
    paper.setAttribute("fill", "#fff");
    copy.insertBefore(paper, copy.firstElementChild.nextSibling);
    return new XMLSerializer().serializeToString(copy);
  }

  function savableChart(chart) {
    var title = chart.getAttribute("data-chart");
    chart.parentNode.appendChild(saver("SVG", title, function () { download(svg(chart), "image/svg+xml", fileName(title, "svg")); }));
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

  // Tools are made when what they are for is first seen: a run of hundreds of pairs has thousands of tables, most of them folded.
  var equipped = new WeakSet();
  function equip(part) {
    function each(selector, what) {
      part.querySelectorAll(selector).forEach(function (element) {
        var folded = element.parentElement.closest("details:not([open])");
        if (folded || equipped.has(element)) { return; }
        equipped.add(element);
        what(element);
      });
    }
    each("table", function (table) {
      if (table.hasAttribute("data-sortable")) { sortable(table); }
      savableTable(table);
    });
    each("svg[data-chart]", savableChart);
    each("ul.images", filterable);
    each(".again .command", copyable);
  }

  var opened = [];
  addEventListener("beforeprint", function () {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    opened.forEach(function (part) { part.open = true; });
  });
  addEventListener("afterprint", function () { opened.forEach(function (part) { part.open = false; }); });
  addEventListener("hashchange", reveal);
  document.addEventListener("toggle", function (event) { if (event.target.open) { equip(event.target); } }, true);
  equip(document);
  reveal();
})();
