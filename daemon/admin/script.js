// Conveniences: copy buttons, search as you type, selection, folding, progress. Every page works without this script.
(function () {
  "use strict";

  function all(selector, within) {
    return Array.prototype.slice.call((within || document).querySelectorAll(selector));
  }

  function byId(id) {
    return document.getElementById(id);
  }

  // Copy buttons.
  function copy(text, button) {
    var before = button.getAttribute("data-text");
    function done(copied) {
      button.textContent = copied ? "Copied" : "Copy failed";
      setTimeout(function () { button.textContent = before; }, 1500);
    }
    function copyBySelection() {
      var area = document.createElement("textarea");
      area.value = text;
      area.setAttribute("readonly", "");
      area.className = "hidden";
      document.body.appendChild(area);
      area.select();
      var copied = false;
      try { copied = document.execCommand("copy"); } catch (error) { copied = false; }
      document.body.removeChild(area);
      button.focus();
      done(copied);
    }
    // Browsers offer this only over TLS and on loopback.
    if (navigator.clipboard && navigator.clipboard.writeText) {
      navigator.clipboard.writeText(text).then(function () { done(true); }, copyBySelection);
    } else {
      copyBySelection();
    }
  }

  function addCopyButton(place, text, label, name) {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "small copier";
    button.textContent = name || "Copy";
    button.setAttribute("data-text", button.textContent);
    button.setAttribute("aria-label", button.textContent + ": " + label);
    button.addEventListener("click", function () { copy(text, button); });
    place(button);
  }

  function addCopyButtons(within) {
    all("pre.copy", within).forEach(function (pre) {
      var text = pre.textContent.trim();
      addCopyButton(function (button) { pre.appendChild(button); }, text, text.split("\n")[0]);
    });
    all("[data-copy]", within).forEach(function (code) {
      code.title = code.getAttribute("data-copy");
      addCopyButton(function (button) {
        code.parentNode.insertBefore(button, code.nextSibling);
      }, code.getAttribute("data-copy"), "the digest");
    });
    all("#tags tbody th a", within).forEach(function (link) {
      var image = byId("tags").getAttribute("data-image") + ":" + link.textContent;
      // Brackets are a pattern in zsh.
      var command = "docker pull " + (image.indexOf("[") < 0 ? image : "'" + image + "'");
      addCopyButton(function (button) {
        link.parentNode.insertBefore(button, link.nextSibling);
      }, command, command, "Copy pull");
    });
  }

  // Search as you type: filters the rows of this page at once, and loads the results of all pages after a pause.
  function searchLists() {
    all("input[data-filter]").forEach(function (input) {
      var timer = null, requested = input.value.trim();
      input.addEventListener("input", function () {
        filter(byId(input.getAttribute("data-filter")), input.value.trim().toLowerCase());
        clearTimeout(timer);
        timer = setTimeout(function () {
          var wanted = input.value.trim();
          if (wanted !== requested) {
            requested = wanted;
            loadResults(input.form, input);
          }
        }, 250);
      });
    });
  }

  function filter(list, wanted) {
    if (!list) { return; }
    all(".row, tbody tr", list).forEach(function (row) {
      var link = row.className === "row" && row.querySelector("a");
      var name = link ? link.getAttribute("href") : row.textContent;
      row.hidden = name.toLowerCase().indexOf(wanted) < 0;
    });
    all("details", list).reverse().forEach(function (details) {
      details.hidden = !details.querySelector(".row:not([hidden])");
    });
  }

  // Loads the page that the form would open, and replaces the results.
  function loadResults(form, input) {
    var wanted = input.value;
    var query = all("input[name], select[name]", form).map(function (field) {
      return encodeURIComponent(field.name) + "=" + encodeURIComponent(field.value);
    }).join("&");
    var address = form.getAttribute("action") + "?" + query;
    load(address, function (page) {
      var fresh = page.getElementById("results"), old = byId("results");
      if (!fresh || !old || input.value !== wanted) { return; }
      fresh = document.importNode(fresh, true);
      old.parentNode.replaceChild(fresh, old);
      enhance(fresh);
      if (window.history && history.replaceState) { history.replaceState(null, "", address); }
    });
  }

  function load(address, then, always) {
    var request = new XMLHttpRequest();
    request.open("GET", address);
    request.setRequestHeader("Accept", "text/html");
    request.responseType = "document";
    request.onload = function () {
      if (request.status === 200 && request.response) { then(request.response); }
    };
    request.onloadend = always || null;
    request.send();
  }

  // A checkbox that selects all, and ranges with the shift key.
  function addSelection() {
    var form = byId("select");
    var boxes = form ? all("tbody input[type=checkbox]", form) : [];
    var button = byId("delete-selected");
    var head = form && form.querySelector("thead th.check");
    if (!boxes.length || !button || !head) { return; }
    var noun = form.getAttribute("data-noun");
    var selectAll = document.createElement("input");
    selectAll.type = "checkbox";
    selectAll.id = "select-all";
    selectAll.setAttribute("aria-label", "Select all " + noun + "s on this page");
    head.appendChild(selectAll);
    var last = null;
    function visibleBoxes() {
      return boxes.filter(function (box) { return !box.parentNode.parentNode.hidden; });
    }
    function update() {
      var number = boxes.filter(function (box) { return box.checked; }).length;
      button.disabled = number === 0;
      button.textContent = number ? "Delete " + number + " " + noun + (number === 1 ? "…" : "s…") : "Delete selected " + noun + "s…";
      selectAll.checked = number > 0 && visibleBoxes().every(function (box) { return box.checked; });
    }
    selectAll.addEventListener("change", function () {
      visibleBoxes().forEach(function (box) { box.checked = selectAll.checked; });
      update();
    });
    boxes.forEach(function (box) {
      box.addEventListener("click", function (event) {
        var visible = visibleBoxes();
        var from = visible.indexOf(last), to = visible.indexOf(box);
        if (event.shiftKey && from >= 0 && to >= 0) {
          visible.slice(Math.min(from, to), Math.max(from, to) + 1).forEach(function (one) {
            one.checked = box.checked;
          });
        }
        last = box;
        update();
      });
      box.addEventListener("change", update);
    });
    update();
  }

  // Folded namespaces stay folded until the tab is closed.
  function rememberFolding(within) {
    all("details[data-fold]", within).forEach(function (details) {
      var key = "fold " + details.getAttribute("data-fold");
      try {
        if (sessionStorage.getItem(key)) { details.open = false; }
        details.addEventListener("toggle", function () {
          if (details.open) { sessionStorage.removeItem(key); } else { sessionStorage.setItem(key, "1"); }
        });
      } catch (error) { /* Storage is blocked. */ }
    });
  }

  // Reloads a running job or upload until it has finished.
  function poll(section) {
    load(section.getAttribute("data-poll"), function (page) {
      var fresh = page.getElementById(section.id);
      if (!fresh) { return; }
      var wasRunning = section.hasAttribute("data-running");
      section.parentNode.replaceChild(document.importNode(fresh, true), section);
      if (wasRunning && !fresh.hasAttribute("data-running")) { location.replace(location.pathname); }
    }, schedulePoll);
  }

  function schedulePoll() {
    var running = document.querySelector("[data-poll][data-running]") ||
      document.querySelector("#uploads progress") && byId("uploads");
    if (running) {
      setTimeout(function () { poll(running); }, running.hasAttribute("data-running") ? 1000 : 3000);
    }
  }

  // Warns if the clocks of the registry and the browser differ by five minutes.
  function compareClocks() {
    var seconds = Math.abs(Date.now() / 1000 - Number(document.body.getAttribute("data-now")));
    var warning = byId("clock-warning");
    // The time in a page that was kept open, or restored by the browser, is old.
    var entry = window.performance && performance.timing;
    if (!warning || !entry || Date.now() - performance.timing.navigationStart > 60000 || seconds < 300) { return; }
    var hours = Math.round(seconds / 3600);
    warning.querySelector("span").textContent = hours ? hours + (hours === 1 ? " hour" : " hours") : Math.round(seconds / 60) + " minutes";
    warning.hidden = false;
  }

  // The key / goes to the search field; Escape and a click elsewhere close an open menu.
  function addKeys() {
    var field = byId("find");
    document.addEventListener("keydown", function (event) {
      var at = event.target, isText = /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName) && !/^(checkbox|radio)$/.test(at.type);
      if (event.key === "/" && field && !isText && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        field.focus();
        field.select();
      } else if (event.key === "Escape") {
        closeMenus(null);
      }
    });
    document.addEventListener("click", function (event) { closeMenus(event.target); });
  }

  function closeMenus(except) {
    all("details.menu[open]").forEach(function (menu) {
      if (!except || !menu.contains(except)) { menu.open = false; }
    });
  }

  // Remembers the chosen tab of each set until it is chosen again: the client of the commands, for example.
  function rememberTabs(within) {
    all(".tabset[data-remember]", within).forEach(function (set) {
      var key = "tab " + set.getAttribute("data-remember"), tabs = all("input[type=radio]", set);
      try {
        tabs.forEach(function (tab) {
          if (tab.value === localStorage.getItem(key)) { tab.checked = true; }
          tab.addEventListener("change", function () { localStorage.setItem(key, tab.value); });
        });
      } catch (error) { /* Storage is blocked. */ }
    });
  }

  function enhance(within) {
    addCopyButtons(within);
    addSelection();
    rememberFolding(within);
    rememberTabs(within);
  }

  enhance(document);
  searchLists();
  addKeys();
  compareClocks();
  schedulePoll();
})();
