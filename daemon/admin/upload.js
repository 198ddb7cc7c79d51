// The form that uploads an archive of images. Works without this script as well.
(function () {
  "use strict";

  function byId(id) { return document.getElementById(id); }

  // Shows how much of an archive has been sent, and then its result in place of the form.
  var form = byId("import");
  if (!form || !window.FormData || !window.DOMParser) { return; }
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    var request = new XMLHttpRequest(), button = form.querySelector("button");
    var error = byId("import-error"), bar = byId("import-bar"), state = byId("import-state");
    function show(isSending, text) {
      button.disabled = isSending;
      byId("import-progress").hidden = !isSending;
      error.hidden = isSending;
      error.textContent = isSending ? "" : text;
      state.textContent = isSending ? text : "";
    }
    request.upload.onprogress = function (sent) {
      if (!sent.lengthComputable) { return; }
      var percent = Math.floor(sent.loaded * 100 / sent.total);
      bar.value = percent;
      if (percent % 10 === 0) { state.textContent = percent < 100 ? percent + "%" : "Checking…"; }
    };
    request.onload = function () {
      var page = new DOMParser().parseFromString(request.responseText, "text/html");
      var fresh = page.getElementById("main"), failure = page.getElementById("error");
      if (failure || !fresh) { return show(false, failure ? failure.textContent : "Unexpected answer (status " + request.status + "). A proxy may limit uploads."); }
      var main = byId("main");
      main.parentNode.replaceChild(document.importNode(fresh, true), main);
      byId("main").focus();
    };
    request.onerror = function () { show(false, "The connection broke. Try again."); };
    show(true, "0%");
    request.open("POST", form.getAttribute("action"));
    request.send(new FormData(form));
  });
})();
