// What makes the pages more comfortable. All of them work without it, so that nothing here may be needed.
(function () {
  "use strict";

  function all(selector, within) {
    return Array.prototype.slice.call((within || document).querySelectorAll(selector));
  }

  function byId(id) {
    return document.getElementById(id);
  }

  // Buttons that copy what stands beside them.
  function copy(text, button) {
    var before = button.getAttribute("data-text");
    function done(well) {
      button.textContent = well ? "Copied" : "Not copied";
      setTimeout(function () { button.textContent = before; }, 1500);
    }
    function byHand() {
      var area = document.createElement("textarea");
      area.value = text;
      area.setAttribute("readonly", "");
      area.className = "hidden";
      document.body.appendChild(area);
      area.select();
      var well = false;
      try { well = document.execCommand("copy"); } catch (error) { well = false; }
      document.body.removeChild(area);
      button.focus();
      done(well);
    }
    // Browsers have this only over TLS and on their own machine.
    if (navigator.clipboard && navigator.clipboard.writeText) {
      navigator.clipboard.writeText(text).then(function () { done(true); }, byHand);
    } else {
      byHand();
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
      // In zsh, brackets are a pattern.
      var command = "docker pull " + (image.indexOf("[") < 0 ? image : "'" + image + "'");
      addCopyButton(function (button) {
        link.parentNode.insertBefore(button, link.nextSibling);
      }, command, command, "Copy pull");
    });
  }

  // Lists that are searched while one types: what is on the page at once, and then all pages.
  function searchLists() {
    all("input[data-filter]").forEach(function (input) {
      var waiting = null, asked = input.value.trim();
      input.addEventListener("input", function () {
        filter(byId(input.getAttribute("data-filter")), input.value.trim().toLowerCase());
        clearTimeout(waiting);
        waiting = setTimeout(function () {
          var wanted = input.value.trim();
          if (wanted !== asked) {
            asked = wanted;
            ask(input.form, input);
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

  // Asks for the page that the form would show, and takes its results.
  function ask(form, input) {
    var wanted = input.value;
    var query = all("input[name]", form).map(function (field) {
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

  // Select all, and ranges with shift.
  function addSelection() {
    var form = byId("select");
    var boxes = form ? all("tbody input[type=checkbox]", form) : [];
    var button = byId("delete-selected");
    var head = form && form.querySelector("thead th.check");
    if (!boxes.length || !button || !head) { return; }
    var every = document.createElement("input");
    every.type = "checkbox";
    every.id = "select-all";
    every.setAttribute("aria-label", "Select all tags on this page");
    head.appendChild(every);
    var last = null;
    function shown() {
      return boxes.filter(function (box) { return !box.parentNode.parentNode.hidden; });
    }
    function count() {
      var number = boxes.filter(function (box) { return box.checked; }).length;
      button.disabled = number === 0;
      button.textContent = number ? "Delete " + number + (number === 1 ? " tag…" : " tags…") : "Delete selected tags…";
      every.checked = number > 0 && shown().every(function (box) { return box.checked; });
    }
    every.addEventListener("change", function () {
      shown().forEach(function (box) { box.checked = every.checked; });
      count();
    });
    boxes.forEach(function (box) {
      box.addEventListener("click", function (event) {
        var visible = shown();
        var from = visible.indexOf(last), to = visible.indexOf(box);
        if (event.shiftKey && from >= 0 && to >= 0) {
          visible.slice(Math.min(from, to), Math.max(from, to) + 1).forEach(function (one) {
            one.checked = box.checked;
          });
        }
        last = box;
        count();
      });
      box.addEventListener("change", count);
    });
    count();
  }

  // Which namespaces are folded is remembered for this visit.
  function rememberFolding(within) {
    all("details[data-fold]", within).forEach(function (details) {
      var key = "fold " + details.getAttribute("data-fold");
      try {
        if (sessionStorage.getItem(key)) { details.open = false; }
        details.addEventListener("toggle", function () {
          if (details.open) { sessionStorage.removeItem(key); } else { sessionStorage.setItem(key, "1"); }
        });
      } catch (error) { /* A browser that keeps nothing folds nothing. */ }
    });
  }

  // What goes on is asked for again until it has ended.
  function poll(section) {
    load(section.getAttribute("data-poll"), function (page) {
      var fresh = page.getElementById(section.id);
      if (!fresh) { return; }
      var wasRunning = section.hasAttribute("data-running");
      section.parentNode.replaceChild(document.importNode(fresh, true), section);
      if (wasRunning && !fresh.hasAttribute("data-running")) { location.replace(location.pathname); }
    }, later);
  }

  function later() {
    var running = document.querySelector("[data-poll][data-running]") ||
      document.querySelector("#uploads progress") && byId("uploads");
    if (running) {
      setTimeout(function () { poll(running); }, running.hasAttribute("data-running") ? 1000 : 3000);
    }
  }

  // A browser has a clock of its own.
  function compareClocks() {
    var seconds = Math.abs(Date.now() / 1000 - Number(document.body.getAttribute("data-now")));
    var warning = byId("clock-warning");
    // A page that was kept open, or that the browser shows again from its memory, is no news.
    var entry = window.performance && performance.timing;
    if (!warning || !entry || Date.now() - performance.timing.navigationStart > 60000 || seconds < 300) { return; }
    var hours = Math.round(seconds / 3600);
    warning.querySelector("span").textContent = hours ? hours + (hours === 1 ? " hour" : " hours") : Math.round(seconds / 60) + " minutes";
    warning.hidden = false;
  }

  function enhance(within) {
    addCopyButtons(within);
    addSelection();
    rememberFolding(within);
  }

  enhance(document);
  searchLists();
  compareClocks();
  later();
})();
